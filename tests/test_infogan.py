"""InfoGAN: the bound, the steps, matching codes to labels, what training stores, and bad input."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Normal, Uniform

from lsd_nb import cli
from lsd_nb.core import LSDError
from lsd_nb.data import load_dataset
from lsd_nb.studies import infogan
from lsd_nb.studies.infogan import (
    ConsistentInfoGANConfig,
    InfoGANConfig,
    InfoGenerator,
    Recogniser,
    RegularGANConfig,
    block_share,
    distort,
    info_d_step,
    info_g_step,
    infogan_scores,
    information_bound,
    match_codes,
    read_codes,
    reader_scores,
    shared_information,
    walk,
)
from lsd_nb.training import Config, find_artifact, load_or_train, train

TINY = dict(
    width=8,
    hidden=16,
    discriminator_width=4,
    features=16,
    head=8,
    noise_dim=4,
    train_images=640,
    epochs=1,
    warmup=5,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def categories(n, k=10, seed=0):
    return torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [2, 7, 10])
def test_copied_codes_give_the_entropy_and_ignored_ones_nothing(k):
    c1, none = categories(4000, k), torch.zeros(4000, 0)
    assert information_bound(50.0 * F.one_hot(c1, k), none, c1, none)[0].item() == pytest.approx(
        math.log(k), abs=1e-4
    )
    assert information_bound(torch.zeros(4000, k), none, c1, none)[0].item() == pytest.approx(
        0, abs=1e-5
    )
    assert information_bound(3 * noise(4000, k), none, c1, none)[0] < 0, (
        "a q that is sure and wrong promises less than nothing"
    )


def test_bound_is_what_torch_distributions_says():
    logits, means, c1, numbers = (
        noise(50, 5),
        noise(50, 3),
        categories(50, 5),
        noise(50, 3, seed=1).clamp(-1, 1),
    )
    for deviation in (1.0, 0.4):
        bound = information_bound(logits, means, c1, numbers, deviation)
        assert bound[0].item() == pytest.approx(
            (math.log(5) + Categorical(logits=logits).log_prob(c1).mean()).item(), rel=1e-4
        )
        exact = Uniform(-1.0, 1.0).entropy() + Normal(means, deviation).log_prob(numbers).mean(0)
        assert torch.allclose(bound[1:], exact, atol=1e-4)
    best = information_bound(logits, means, c1, numbers, None)[1:]
    for deviation in (0.3, 0.8, 1.0, 1.5, 3.0):
        assert (information_bound(logits, means, c1, numbers, deviation)[1:] <= best + 1e-5).all()


def test_draws_are_what_the_configuration_says():
    config = InfoGANConfig(noise_dim=5, categories=4, continuous=3, spread=0.2)
    z, c1, numbers = config.draw(3000, torch.Generator().manual_seed(0))
    assert (
        z.shape == (3000, 12) == (3000, config.latent_dim)
        and (z[:, config.block].argmax(1) == c1).all()
        and (z[:, config.block].sum(1) == 1).all()
    )
    assert (
        z[:, :5].abs().max() <= 0.2
        and z[:, :5].std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)
        and torch.equal(z[:, 9:], numbers)
    )
    assert torch.equal(
        config.draw(9, torch.Generator().manual_seed(3)).z,
        config.draw(9, torch.Generator().manual_seed(3)).z,
    )
    assert InfoGANConfig(continuous=0).draw(2).numbers.shape == (2, 0)


def step(information, seed=0):
    "Networks before and after one step of each player."
    torch.manual_seed(seed)
    config = InfoGANConfig(**{**TINY, "continuous": 1})
    net, real = config.parts(), noise(16, 1, 28, 28).tanh()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    made = info_d_step(
        net.generator,
        net.recogniser,
        torch.optim.SGD(net.recogniser.parameters(), 1.0),
        real,
        *config.draw(16),
        information,
    )
    between = {k: v.clone() for k, v in net.state_dict().items()}
    made |= info_g_step(
        net.generator,
        net.recogniser,
        torch.optim.SGD(net.generator.parameters(), 1.0),
        *config.draw(16),
        information,
    )
    return before, between, net.state_dict(), made, net


def weights_moved(a, b, part):
    return [
        k
        for k in a
        if k.startswith(part)
        and "running" not in k
        and "batches" not in k
        and not torch.equal(a[k], b[k])
    ]


def test_each_step_moves_its_own_player():
    before, between, after, made, net = step(1.0)
    assert (
        weights_moved(before, between, "recogniser.reader")
        and weights_moved(before, between, "recogniser.judge")
        and not weights_moved(before, between, "generator")
    )
    assert weights_moved(between, after, "generator") and not weights_moved(
        between, after, "recogniser"
    )
    assert set(made) == {"loss_d", "loss_g", "bound_c1", "bound_c2"} and all(
        p.requires_grad for p in net.parameters()
    )


def test_without_information_nobody_teaches_the_reader():
    before, _, after, *_ = step(0.0)
    assert (
        not weights_moved(before, after, "recogniser.reader")
        and weights_moved(before, after, "recogniser.judge")
        and weights_moved(before, after, "generator")
    )


def test_shared_information_is_that_of_scikit_learn_for_sure_readings():
    from sklearn.metrics import mutual_info_score

    a, b = categories(3000, 6), categories(3000, 6, seed=1)
    b = torch.where(torch.rand(3000, generator=torch.Generator().manual_seed(2)) < 0.7, a, b)
    both = torch.cat([a, b]), torch.cat([b, a])  # the order of the two readings does not matter

    def sure(k):
        return 50.0 * F.one_hot(k, 6)

    assert shared_information(sure(a), sure(b)).item() == pytest.approx(
        mutual_info_score(*both), abs=1e-3
    )
    assert shared_information(sure(a), sure(b)).item() == pytest.approx(
        shared_information(sure(b), sure(a)).item(), abs=1e-6
    )
    assert shared_information(noise(3000, 6), noise(3000, 6, seed=1)).item() == pytest.approx(
        0, abs=0.01
    )


def test_distorted_copies_keep_shape_range_and_ink():
    x = load_dataset(progress=False).valid.images[:200]
    torch.manual_seed(0)
    copies = distort(x)
    torch.manual_seed(0)
    assert torch.equal(copies, distort(x))
    assert (
        copies.shape == x.shape
        and copies.min() >= -1
        and copies.max() <= 1 + 1e-5
        and (copies - x).abs().mean() > 0.05
    )
    ink, first = ((t + 1).sum((1, 2, 3)) for t in (copies, x))
    ratio = ink / first
    assert (
        ratio.median().item() == pytest.approx(1, abs=0.1)
        and ratio.min() > 0.5
        and ratio.max() < 1.7
    )


def test_consistency_teaches_the_reader_on_real_images(tmp_path):
    "Without information only copies move Q's head, and the discriminator's part is the same."
    losses = {}
    for copies in (None, noise(16, 1, 28, 28, seed=1).tanh()):
        torch.manual_seed(0)
        net, real = InfoGANConfig(**TINY).parts(), noise(16, 1, 28, 28).tanh()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        torch.manual_seed(1)
        made = info_d_step(
            net.generator,
            net.recogniser,
            torch.optim.SGD(net.recogniser.parameters(), 1.0),
            real,
            *InfoGANConfig(**TINY).draw(16),
            0.0,
            copies=copies,
        )
        assert (
            ("shared" in made)
            == bool(weights_moved(before, net.state_dict(), "recogniser.reader"))
            == (copies is not None)
        )
        losses[copies is None] = made["loss_d"].item()
    assert losses[True] == pytest.approx(losses[False])
    config = ConsistentInfoGANConfig(seed=6, **TINY)
    x = noise(4, 1, 28, 28).tanh()
    assert config.key != InfoGANConfig(seed=6, **TINY).key
    assert config.also_read(x)["consistency"] == 1 and InfoGANConfig().also_read(x) == {}
    assert dataclasses.replace(config, consistency=0.0).also_read(x) == {}
    train(config, "cpu", progress=False, folder=tmp_path)
    assert "shared" in find_artifact(config)[1]["history"][0]


def test_consistency_of_generated_images_shows_the_reader_no_other(tmp_path):
    "What Q reads alike are a generated image and its copy; real images move D's verdict alone."
    torch.manual_seed(0)
    net, seen = InfoGANConfig(**TINY).parts(), []
    optimiser = torch.optim.SGD(net.recogniser.parameters(), 1.0)
    real, z = noise(16, 1, 28, 28).tanh(), InfoGANConfig(**TINY).draw(16)

    def change(x):
        seen.append(x)
        return x.flip(3)

    made = info_d_step(net.generator, net.recogniser, optimiser, real, *z, change=change)
    with torch.no_grad():
        assert torch.equal(seen[0], net.generator(z.z)) and "shared" in made and len(seen) == 1
    config = ConsistentInfoGANConfig(copied="generated", seed=6, **TINY)
    assert set(config.also_read(real)) == {"change", "consistency"}
    assert config.key != ConsistentInfoGANConfig(seed=6, **TINY).key
    train(config, "cpu", progress=False, folder=tmp_path)
    assert "shared" in find_artifact(config)[1]["history"][0]


def test_the_authors_form_has_their_layers():
    "Black is 0 inside and −1 outside, each unit is normalised by itself, slopes are 0.01."
    config = InfoGANConfig(form="code", **TINY)
    net = config.parts()
    norms = [m for m in net.generator.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert [m.num_features for m in norms] == [TINY["hidden"], 49 * TINY["width"]]
    leaky = [m for m in net.recogniser.modules() if isinstance(m, torch.nn.LeakyReLU)]
    assert {m.negative_slope for m in leaky} == {0.01}
    given = []
    net.recogniser.trunk[0].register_forward_hook(lambda m, x, y: given.append(x[0]))
    net.eval().recogniser(torch.full((1, 1, 28, 28), -1.0))
    assert (given[0] == 0).all()
    with torch.no_grad():
        net.generator.layers[-2].bias.fill_(-40.0)
        assert (net(config.draw(3).z) == -1).all()
    assert config.key != InfoGANConfig(**TINY).key
    old = InfoGANConfig(**TINY).parts()
    assert {m.negative_slope for m in old.recogniser.modules() if hasattr(m, "negative_slope")} == {
        0.1
    }
    reference, paper = InfoGANConfig.preset("reference"), InfoGANConfig.preset("paper")
    assert dataclasses.replace(reference, form="paper") == paper


def test_reading_is_scored_without_a_generator():
    data = load_dataset(progress=False)
    network = load_or_train(InfoGANConfig(), "cpu", train=False)
    state = torch.get_rng_state()
    found = reader_scores(network, data)
    assert torch.equal(state, torch.get_rng_state()), "the random numbers of others stay"
    assert found == reader_scores(network.recogniser, data)
    whole = infogan_scores(network, InfoGANConfig(), data)
    assert {k: whole[k] for k in found} == found and 0 < found["shared"] < math.log(10)


def test_matching_is_the_best_of_all():
    from itertools import permutations

    rng = np.random.default_rng(0)
    codes, labels = rng.integers(5, size=300), rng.integers(5, size=300)
    meaning, table = match_codes(codes, labels, 5, 5)

    def agree(m):
        return sum(table[k, m[k]] for k in range(5))

    assert (
        agree(meaning) == max(map(agree, permutations(range(5))))
        and table.sum() == 300
        and table[2, 3] == ((codes == 2) & (labels == 3)).sum()
    )


def test_training_stores_scores_and_can_be_repeated(tmp_path):
    config, data = InfoGANConfig(seed=3, **TINY), load_dataset(progress=False)
    first, again = (
        find_artifact(config)[0]
        for _ in [train(config, "cpu", progress=False, folder=tmp_path / str(i)) for i in range(2)]
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    network = load_or_train(config, "cpu", train=False)
    scores, stored = infogan_scores(network, config, data), network.record["metrics"]
    assert stored["bounds"] == pytest.approx(scores["bounds"], abs=1e-4) and stored[
        "error_test"
    ] == pytest.approx(scores["error_test"], abs=0.1)
    table, meaning = np.array(scores["table"]), scores["meaning"]
    assert table.sum() == 10_000 and scores["error_test"] == pytest.approx(
        100 - table[range(10), meaning].sum() / 100
    )


def test_no_label_is_read_in_training(tmp_path, monkeypatch):
    config = InfoGANConfig(seed=4, **TINY)
    train(config, "cpu", progress=False, folder=tmp_path / "a")
    true = find_artifact(config)[0]

    def shuffled(*args, **kwargs):
        data = load_dataset(*args, **kwargs)
        return dataclasses.replace(
            data,
            **{
                part: getattr(data, part)._replace(labels=getattr(data, part).labels.flip(0))
                for part in ("train", "valid", "test")
            },
        )

    monkeypatch.setattr(infogan, "load_dataset", shuffled)
    train(config, "cpu", progress=False, folder=tmp_path / "b")
    assert all(torch.equal(true[k], v) for k, v in find_artifact(config)[0].items())


def test_a_stopped_training_ends_like_a_whole_one(tmp_path, monkeypatch):
    config = InfoGANConfig(seed=5, **{**TINY, "epochs": 2})
    train(config, "cpu", progress=False, folder=tmp_path / "whole")
    whole = find_artifact(config)[0]
    done, real_step = [], infogan.info_g_step

    def dying(*args, **kwargs):
        done.append(1)
        if len(done) == 14:
            raise KeyboardInterrupt
        return real_step(*args, **kwargs)

    monkeypatch.setattr(infogan, "info_g_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(config, "cpu", progress=False, folder=tmp_path / "cut", every=0.0)
    train(config, "cpu", progress=False, folder=tmp_path / "cut", every=0.0)
    assert len(done) == 14 + 7, "it went on, it did not begin again"
    assert all(torch.equal(whole[k], v) for k, v in find_artifact(config)[0].items())


def test_the_regular_gan_has_the_same_size_and_stores_its_generator(tmp_path):
    config = RegularGANConfig(**TINY)
    assert config.information == 0 and config.key != InfoGANConfig(**TINY, information=0.0).key
    train(config, "cpu", progress=False, folder=tmp_path)
    network = load_or_train(config, "cpu", train=False)
    assert isinstance(network, InfoGenerator) and network.record["parameters"]["recogniser"] == sum(
        p.numel() for p in InfoGANConfig(**TINY).parts().recogniser.parameters()
    )


def test_share_of_a_block():
    share, cosine = block_share(torch.tensor([[3.0, 0, 4], [0, 1, 0]]), slice(1, 3))
    assert share.tolist() == pytest.approx([0.64, 1.0]) and cosine.tolist() == [
        pytest.approx([0, 0.8]),
        pytest.approx([1, 0]),
    ]


def test_the_paper_preset_has_the_papers_layers():
    net = InfoGANConfig.preset("paper").parts()

    def shapes(part):
        return [tuple(p.shape) for p in part.parameters() if p.ndim > 1]

    assert shapes(net.generator) == [(1024, 74), (6272, 1024), (128, 64, 4, 4), (64, 1, 4, 4)]
    assert shapes(net.recogniser) == [
        (64, 1, 4, 4),
        (128, 64, 4, 4),
        (1024, 6272),
        (1, 1024),
        (128, 1024),
        (12, 128),
    ]
    config = InfoGANConfig.preset("paper")
    assert (
        config.noise_dim,
        config.categories,
        config.continuous,
        config.batch_size,
        config.lr_d,
        config.lr_g,
        config.information,
    ) == (62, 10, 2, 128, 2e-4, 1e-3, 1.0)
    assert config.epochs * (55_000 // config.batch_size) >= 5000


def test_bundled_networks_are_those_of_the_results():
    from house import ROOT

    runs, data = (
        json.loads((ROOT / "results" / "infogan.json").read_text())["runs"],
        load_dataset(progress=False),
    )
    for kind, config in (
        ("InfoGAN, small", InfoGANConfig()),
        ("with consistency, small", ConsistentInfoGANConfig()),
    ):
        run, network = (
            next(r for r in runs if r["kind"] == kind),
            load_or_train(config, "cpu", train=False),
        )
        assert run["key"] == config.key and network.record["metrics"][
            "error_test"
        ] == pytest.approx(run["error_test"], abs=0.2)
        wrong = (
            np.array(run["meaning"])[read_codes(network, data.test.images)[0].argmax(1)]
            != data.test.labels.numpy()
        )
        assert 100 * wrong.mean() == pytest.approx(run["error_test"], abs=0.3)
        z = walk(config, 1, range(10), 2)
        assert (
            network(z).shape
            == load_or_train(RegularGANConfig(), "cpu", train=False)(z).shape
            == (20, 1, 28, 28)
        )


def test_results_reach_what_was_asked():
    "Five per cent by the improvement, the mean of three seeds; five of the faithful networks."
    from house import ROOT

    runs = json.loads((ROOT / "results" / "infogan.json").read_text())["runs"]
    errors = {
        kind: [r["error_test"] for r in runs if r["kind"] == kind]
        for kind in {r["kind"] for r in runs}
    }
    assert {k: len(e) for k, e in errors.items()} == {
        **dict.fromkeys(("InfoGAN, small", "with consistency, small"), 3),
        "InfoGAN, paper": 5,
    }
    assert np.mean(errors["with consistency, small"]) <= 5
    for r in runs:
        assert r["error_test"] == pytest.approx(
            100 - np.array(r["table"])[range(10), r["meaning"]].sum() / 100, abs=0.01
        )


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: InfoGANConfig(categories=1), "categories is 1: expected 2 or more"),
        (lambda: InfoGANConfig(spread=math.nan), "spread is nan"),
        (lambda: InfoGANConfig(information=-1.0), "information is -1"),
        (lambda: InfoGANConfig(form="ours"), "unknown form"),
        (lambda: ConsistentInfoGANConfig(copied="both"), "unknown copied"),
        (lambda: ConsistentInfoGANConfig(consistency=-1.0), "consistency is -1"),
        (lambda: ConsistentInfoGANConfig(consistency=math.nan), "consistency is nan"),
        (lambda: InfoGANConfig(width=7), "expected an even number"),
        (lambda: InfoGANConfig(warmup=-1), "warmup is -1"),
        (lambda: InfoGANConfig.preset("huge"), "unknown preset"),
        (lambda: Recogniser(1), "1 categories"),
        (lambda: InfoGenerator(0), "latent_dim 0"),
        (lambda: InfoGenerator(74, 5), "width 5"),
        (
            lambda: information_bound(noise(3, 4), noise(3, 2), categories(3, 4), noise(3, 1)),
            "don't fit",
        ),
        (
            lambda: information_bound(
                noise(3, 4), noise(3, 2), categories(3, 4), noise(3, 2), -1.0
            ),
            "deviation is -1",
        ),
        (lambda: match_codes([0, 1], [0]), "two lists of one length"),
        (lambda: match_codes([-1], [0]), "codes up to"),
        (lambda: walk(InfoGANConfig(), 4, [0.0]), "no code c4"),
        (lambda: walk(InfoGANConfig(), 0, [0.0]), "no code c0"),
        (lambda: block_share(torch.zeros(2, 74), slice(62, 72)), "zero vector"),
        (lambda: read_codes(Recogniser(), torch.full((2, 1, 28, 28), math.nan)), "NaN"),
        (lambda: read_codes(Recogniser(), torch.full((2, 1, 28, 28), 7.0)), "expected [-1, 1]"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError, match=words.replace("[", r"\[")) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_train_from_the_shell(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path))
    done = CliRunner().invoke(
        cli.app,
        [
            "train",
            "infogan",
            "--preset",
            "tiny",
            "--epochs",
            "1",
            "--device",
            "cpu",
            "--seed",
            "4",
            "--json",
        ],
    )
    report = json.loads(done.stdout)["networks"]["infogan"]
    assert (
        report["file"].endswith(
            f"{InfoGANConfig.preset('tiny', epochs=1, seed=4).filename}.safetensors"
        )
        and 0 < report["metrics"]["error_test"] < 100
    )
    assert {"infogan", "regular_gan", "consistent_infogan"} <= set(Config.kinds)


def test_keys_of_the_bundled_networks_stay():
    kinds = InfoGANConfig, RegularGANConfig, ConsistentInfoGANConfig
    assert [kind().filename for kind in kinds] == [
        "infogan-1216e7d744e9",
        "regular_gan-84eaff2ee9ab",
        "consistent_infogan-6e0852c2abba",
    ]
    assert RegularGANConfig.kept is not InfoGANConfig.kept
    record = find_artifact(ConsistentInfoGANConfig())[1]
    assert ConsistentInfoGANConfig(**record["config"]) == ConsistentInfoGANConfig()
