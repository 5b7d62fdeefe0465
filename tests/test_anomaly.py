"""Anomalies: detectors with known answers, errors for empty numbers, the way back to normal."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from scipy.stats import chi2
from torch import nn

from lsd_nb.basis import LatentBasis
from lsd_nb.core import LSDError
from lsd_nb.data import Split, load_dataset
from lsd_nb.studies import anomaly
from lsd_nb.studies.anomaly import (
    DeepSVDD,
    DeepSVDDConfig,
    LeNet,
    LeNetAEConfig,
    LeNetAutoencoder,
    NormalBox,
    amplitude_scores,
    anomaly_auc,
    code_spread,
    global_contrast,
    one_class_split,
    outlier_models,
    svdd_loss,
)
from lsd_nb.training import find_artifact, load_or_train, train

RESULTS = Path(__file__).resolve().parents[1] / "results" / "anomaly.json"
TINY = dict(channels=2, epochs=1, train_images=256, normal=1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blobs(distance=4.0, n=1000):
    "A normal blob, and a strange one at right angles to it."
    return torch.tensor([distance, 0.0]) + 0.5 * noise(n, 2), torch.tensor(
        [0.0, distance]
    ) + 0.5 * noise(n, 2, seed=1)


@pytest.fixture(scope="module")
def data():
    return load_dataset(progress=False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path


# ---- known answers


@pytest.mark.parametrize(
    "objective, nu", [("one_class", 0.1), ("soft_boundary", 0.1), ("soft_boundary", 0.3)]
)
def test_deep_svdd_on_two_blobs(objective, nu):
    normal, strange = blobs()
    torch.manual_seed(0)
    svdd = DeepSVDD(
        nn.Sequential(nn.Linear(2, 16, bias=False), nn.LeakyReLU(), nn.Linear(16, 8, bias=False)), 8
    )
    svdd.set_centre(normal)
    centre, adam = svdd.centre.clone(), torch.optim.Adam(svdd.parameters(), 1e-2)
    for step in range(200):
        d = svdd(normal)
        loss = svdd_loss(d, objective, svdd.radius2, nu)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step > 20:
            svdd.set_radius(svdd(normal).detach(), nu)
    assert torch.equal(svdd.centre, centre)  # fixed after initialisation
    scores = svdd(torch.cat([normal, strange])).detach()
    assert anomaly_auc(scores, np.repeat([0, 1], 1000), 0) > 98
    assert (svdd(normal) > svdd.radius2).float().mean().item() == pytest.approx(nu, abs=0.01)
    assert code_spread(svdd.encoder, torch.cat([normal, strange])) > 0.1


@pytest.mark.parametrize("nu", [0.05, 0.2, 0.5])
def test_radius_is_the_chi_square_quantile_and_the_minimum(nu):
    svdd, x = DeepSVDD(nn.Identity(), 3), noise(20_000, 3)
    svdd.set_radius(svdd(x), nu)
    assert svdd.radius2.item() == pytest.approx(chi2.ppf(1 - nu, 3), rel=0.04)
    best, others = (
        svdd_loss(svdd(x), "soft_boundary", svdd.radius2, nu),
        [svdd_loss(svdd(x), "soft_boundary", svdd.radius2 * f, nu) for f in (0.9, 0.98, 1.02, 1.1)],
    )
    assert all(best < o for o in others)


def test_centre_is_kept_away_from_the_origin():
    svdd = DeepSVDD(nn.Identity(), 4)
    svdd.set_centre(torch.tensor([[0.01, -0.02, 3.0, -2.0]]).repeat(5, 1))
    assert torch.allclose(svdd.centre, torch.tensor([0.1, -0.1, 3.0, -2.0]))


def test_gradient_of_the_soft_boundary_comes_from_outside_alone():
    d = torch.tensor([0.5, 2.0, 3.0], requires_grad=True)
    svdd_loss(d, "soft_boundary", 1.0, 0.25).backward()
    assert torch.allclose(d.grad, torch.tensor([0.0, 4 / 3, 4 / 3]))


def test_auc_is_the_share_of_pairs_in_order():
    scores, labels = noise(60).numpy(), np.arange(60) % 3
    pairs = [(a > b) for a in scores[labels != 1] for b in scores[labels == 1]]
    assert anomaly_auc(scores, labels, 1) == pytest.approx(100 * np.mean(pairs))
    assert anomaly_auc(-scores, labels, 1) == pytest.approx(100 - 100 * np.mean(pairs))


def test_contrast_and_bias_free():
    x = noise(6, 1, 28, 28).clamp(-1, 1)
    assert torch.allclose(global_contrast(x), global_contrast(0.3 * x + 0.2), atol=1e-5)
    for net in (LeNet(), LeNetAutoencoder()):
        assert not [n for n, _ in net.named_parameters() if "bias" in n]
    net = LeNet().eval()
    zero = torch.zeros(1, 1, 28, 28)
    assert net(zero).abs().max() == 0  # no bias: nothing comes from nothing


def test_hybrid_models_know_a_gaussian():
    x = np.random.default_rng(0).standard_normal((800, 6)) * [5, 1, 1, 1, 1, 0.05]
    far = np.array(
        [[0, 0, 0, 0, 0, 0.0], [0, 0, 0, 0, 0, 1.0]]
    )  # small in size, twenty deviations away
    for name, f in outlier_models(x, ("PCA", "OC-SVM", "isolation forest", "Gaussian")).items():
        assert np.diff(f(far)) > 0, name
    assert outlier_models(x, ["Gaussian"])["Gaussian"](x).mean() == pytest.approx(
        6, rel=1e-3
    )  # the mean squared Mahalanobis distance is the dimension
    train = outlier_models(x, ["kNN"])["kNN"](x[:3])
    d = np.sort(np.linalg.norm(x[:3, None] - x[None], axis=2), 1)[:, :5].mean(1)
    assert np.allclose(train, d, atol=1e-3)


def test_amplitudes_of_a_known_basis():
    basis = LatentBasis.from_means(
        torch.eye(4) * 2, torch.tensor([0, 1, 0, 1]), torch.tensor([1, 1, 2, 2])
    )
    c = torch.tensor([[1.0, 0.2, 9.0, 0.0], [0.1, -2.0, 0.0, 0.0]])
    assert torch.allclose(
        amplitude_scores(c, basis, 0), torch.tensor([-0.8, 1.9])
    )  # set 2 has no say, the sign neither
    assert torch.allclose(amplitude_scores(c, basis, 1), torch.tensor([0.8, -1.9]))


def test_nearest_normal_point():
    c = noise(500, 5) * torch.tensor([1.0, 2.0, 3.0, 0.1, 0.0])
    box, point = NormalBox(c, 0.02), 4 * noise(3, 5, seed=1)
    for p, q in zip(point, box.project(point), strict=True):
        low, high = (
            box.low.numpy(),
            np.maximum(box.high.numpy(), box.low.numpy() + 1e-9),
        )  # SciPy wants an interval
        assert np.allclose(q, lsq_linear(np.eye(5), p.numpy(), (low, high)).x, atol=1e-4)
    inside = box.distance(c) == 0
    assert torch.equal(box.project(c)[inside], c[inside]) and 0.8 < inside.float().mean() < 0.95
    assert (
        torch.equal(box.distance(box.project(point)), torch.zeros(3))
        and (NormalBox(c, 0.0).distance(c) == 0).all()
    )


# ---- training


def test_tiny_networks_train_resume_and_reproduce(cache):
    config = DeepSVDDConfig.preset(
        "tiny", **{**TINY, "epochs": 2}, objective="soft_boundary", warm_up=0
    )
    first = train(config, "cpu", False, folder=cache / "a")
    assert find_artifact(config.autoencoder()) is not None
    weights = find_artifact(config)[0]
    train(config, "cpu", False, folder=cache / "b")
    assert all(torch.equal(v, find_artifact(config)[0][k]) for k, v in weights.items())
    net = load_or_train(config, "cpu", train=False)
    m = net.record["metrics"]
    assert (
        first.exists()
        and net.radius2 > 0
        and m["moved"] > 0
        and 0 <= m["outside"] < 1
        and m["train_images"] == 256
    )
    before = load_or_train(config.autoencoder(), "cpu", train=False).encoder
    assert torch.equal(before.range, net.encoder.range) and not torch.equal(
        before.layers[0].weight, net.encoder.layers[0].weight
    )


def test_one_class_has_no_radius_and_a_fixed_centre(cache, data):
    config = DeepSVDDConfig.preset("tiny", **TINY)
    net = load_or_train(config, "cpu", progress=False)
    images = one_class_split(data.train, 1).images
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))][:256]
    start = DeepSVDD(load_or_train(config.autoencoder(), "cpu", train=False).encoder)
    start.set_centre(images)
    assert torch.allclose(net.centre, start.centre, atol=1e-4) and net.radius2 == 0


def test_weights_that_do_not_move_are_an_error(cache, monkeypatch):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: None)
    with pytest.raises(LSDError, match="no weight moved"):
        train(LeNetAEConfig.preset("tiny", **TINY), "cpu", False)


def test_collapse_is_an_error(cache, monkeypatch):
    class Constant(LeNet):
        def forward(self, x):
            return super().forward(x) * 1e-9 + 1

    monkeypatch.setattr(anomaly, "LeNet", Constant)
    with pytest.raises(LSDError, match="collapsed"):
        train(LeNetAEConfig.preset("tiny", **TINY), "cpu", False)


def test_polluted_training_set(data):
    split = one_class_split(data.train, 5, 7, 0.1, seed=3)
    assert (split.labels == 7).float().mean().item() == pytest.approx(0.1, abs=1e-3) and set(
        split.labels.tolist()
    ) == {5, 7}
    again, other = (
        one_class_split(data.train, 5, 7, 0.1, seed=3),
        one_class_split(data.train, 5, 7, 0.1, seed=4),
    )
    assert torch.equal(again.images, split.images) and not torch.equal(other.images, split.images)
    assert set(one_class_split(data.train, 5).labels.tolist()) == {5}


def test_key_knows_the_pretraining():
    keys = [
        DeepSVDDConfig().key,
        DeepSVDDConfig(objective="soft_boundary").key,
        DeepSVDDConfig(pretraining="paper").key,
        DeepSVDDConfig(normal=3).key,
        LeNetAEConfig().key,
    ]
    assert len(set(keys)) == 5


# ---- what was measured


def test_bundled_networks_are_those_of_the_table(data):
    "The stored AUC of one digit comes out again from the bundled weights."
    runs = {(r["normal"], r["share"]): r for r in json.loads(RESULTS.read_text())["runs"]}
    assert len(runs) == 11
    for name, config in (
        ("Deep SVDD, one class", DeepSVDDConfig(normal=1)),
        ("Deep SVDD, one class", DeepSVDDConfig(normal=8)),
        ("Deep SVDD, one class, 150 epochs", DeepSVDDConfig.preset("paper", normal=8)),
    ):
        net, normal = load_or_train(config, "cpu", train=False), config.normal
        with torch.inference_mode():
            scores = torch.cat([net(x) for x in data.test.images.split(1000)])
        assert anomaly_auc(scores, data.test.labels, normal) == pytest.approx(
            runs[normal, 0.0]["auc"][name][0], abs=0.1
        )


def test_results_reach_what_was_asked():
    record = json.loads(RESULTS.read_text())
    runs, seeds = [r for r in record["runs"] if r["share"] == 0], record["header"]["seeds"]
    names = [n for n in runs[0]["auc"] if n.startswith(("hybrid", "Deep SVDD"))]

    def mean(name, what):
        return np.mean([np.mean(r[what][name]) for r in runs])

    best = max(names, key=lambda n: mean(n, "valid"))
    assert mean(best, "auc") >= 95.5 and mean("Deep SVDD, whitened", "auc") >= 94.8
    assert all(
        len(r["auc"][n]) == seeds
        for r in runs
        for n in (
            "autoencoder, error",
            "Deep SVDD, one class",
            "Deep SVDD, soft boundary",
            "Deep SVDD, one class, 150 epochs",
            "PyOD Deep SVDD",
        )
    )
    assert mean("Deep SVDD, one class, 150 epochs", "auc") > mean("Deep SVDD, one class", "auc"), (
        "longer training pays"
    )


# ---- bad input


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: svdd_loss(torch.ones(2), "soft_boundary", 1.0, 0.0), "nu is 0"),
        (lambda: svdd_loss(torch.ones(2), "soft_boundary", 1.0, math.nan), "nu is nan"),
        (lambda: svdd_loss(torch.ones(2), "rude"), "unknown objective"),
        (lambda: DeepSVDDConfig(nu=1.0), "nu is 1.0"),
        (lambda: DeepSVDDConfig(nu=-0.1), "nu is -0.1"),
        (lambda: DeepSVDDConfig(objective="firm"), "unknown objective"),
        (lambda: DeepSVDDConfig.preset("huge"), "unknown preset"),
        (lambda: LeNet(0), "code_dim is 0"),
        (lambda: LeNet(32, 1), "channels 1"),
        (
            lambda: one_class_split(Split(noise(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])), 2),
            "class 2 has no samples",
        ),
        (
            lambda: one_class_split(
                Split(noise(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])), 0, 5, 0.1
            ),
            "class 5 has no samples",
        ),
        (
            lambda: one_class_split(
                Split(noise(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])), 0, 1, -0.1
            ),
            "share is -0.1",
        ),
        (
            lambda: one_class_split(
                Split(noise(4, 1, 2, 2), torch.tensor([0, 0, 0, 1])), 0, 1, 0.9
            ),
            "lower share",
        ),
        (lambda: anomaly_auc([1.0, 1.0, 1.0], [0, 1, 1], 0, "x"), "x: all 3 scores are 1"),
        (lambda: anomaly_auc([1.0, math.nan], [0, 1], 0), "NaN"),
        (lambda: anomaly_auc([1.0, math.inf], [0, 1], 0), "infinity"),
        (lambda: anomaly_auc([1.0, 2.0], [0, 1, 1], 0), "one label per score"),
        (lambda: anomaly_auc([1.0, 2.0], [1, 1], 0), "class 0 has 0 of 2"),
        (lambda: anomaly_auc(np.zeros((2, 2)), [0, 1], 0), "expected (N,)"),
        (lambda: outlier_models(noise(9, 3), ["magic"]), "unknown model magic"),
        (lambda: outlier_models(noise(9)), "finite rows"),
        (lambda: outlier_models(torch.full((9, 3), math.nan)), "finite rows"),
        (lambda: outlier_models(noise(9, 3), ["kNN"])["kNN"](np.zeros((4, 3))), "all 4 scores"),
        (lambda: NormalBox(noise(5)), "expected finite"),
        (lambda: NormalBox(torch.full((5, 2), math.nan)), "expected finite"),
        (lambda: NormalBox(noise(5, 2), 0.5), "level is 0.5"),
        (lambda: NormalBox(noise(5, 2)).project(noise(3, 4)), "expected (N, 2)"),
        (
            lambda: amplitude_scores(
                noise(2, 4),
                LatentBasis.from_means(torch.eye(4), torch.arange(4), torch.ones(4).long()),
                9,
            ),
            "class 9 has no vector",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.full((2, 1, 28, 28), math.nan), "NaN"),
        (torch.zeros(2, 3, 28, 28), "expected (N, 1, 28, 28)"),
        (torch.zeros(2, 1, 20, 20), "expected (N, 1, 28, 28)"),
    ],
)
def test_networks_refuse_bad_images(images, words):
    for net in (LeNet(), LeNetAutoencoder(), DeepSVDD(LeNet())):
        with pytest.raises(LSDError) as caught:
            net.eval()(images)
        assert words in str(caught.value)


# ---- from a shell


def test_train_from_the_shell(cache):
    from typer.testing import CliRunner

    from lsd_nb import cli

    def run(*args):
        return CliRunner().invoke(cli.app, ["train", *args])

    done = run(
        "deep_svdd",
        "--preset",
        "tiny",
        "--normal",
        "3",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--json",
    )
    report = json.loads(done.stdout)["networks"]["deep_svdd"]
    assert (
        report["file"].endswith(
            f"{DeepSVDDConfig.preset('tiny', normal=3, epochs=1).filename}.safetensors"
        )
        and report["metrics"]["moved"] > 0
    )
    wrong = run("deep_svdd", "--preset", "tiny", "--normal", "12", "--device", "cpu")
    assert wrong.exit_code == 1 and "class 12 has no samples" in wrong.stderr
    assert (
        run("deep_svdd", "--normal", "-1").exit_code == 2
        and run("gan", "--normal", "3").exit_code == 1
    )
