"""Heatmaps: the images, what is measured on them, latents whose answers are known."""

import json
import math

import numpy as np
import pytest
import torch
from house import ROOT
from scipy.stats import multivariate_normal

from lsd_nb.core import LSDError
from lsd_nb.studies.autoencoders import Autoencoder, mean_codes
from lsd_nb.studies.heatmaps import (
    HeatmapAEConfig,
    HeatmapVAEConfig,
    LatentDensity,
    aligned_distance,
    dci_scores,
    edit_leakage,
    factor_basis,
    heatmap,
    heatmap_dataset,
    heatmap_loss,
    measured_factors,
    mutual_information_gap,
)
from lsd_nb.training import find_artifact, load_or_train, train


def covariance(rho, vx, vy):
    return [[vx, rho * math.sqrt(vx * vy)], [rho * math.sqrt(vx * vy), vy]]


def image(*factors, df=None):
    return torch.from_numpy(2 * heatmap(covariance(*factors), df) - 1)[None, None].float()


@pytest.fixture(scope="module")
def data():
    return heatmap_dataset()


@pytest.mark.parametrize("rho, vx, vy", [(0.0, 1.0, 1.0), (-0.95, 0.1, 4.9), (0.85, 4.9, 0.1)])
def test_heatmap_is_the_density(rho, vx, vy):
    side = np.linspace(-3, 3, 36)
    exact = np.array(
        [
            [multivariate_normal.pdf([x, y], cov=covariance(rho, vx, vy)) for x in side]
            for y in side[::-1]
        ]
    )
    assert np.allclose(heatmap(covariance(rho, vx, vy)), exact / exact.max(), atol=1e-12)


def test_wide_tall_and_tilted():
    h = heatmap(covariance(0, 4, 0.2))
    assert (h[17] > 0.5).sum() > (h[:, 17] > 0.5).sum()  # a large v_x is wide
    h = heatmap(covariance(0.9, 1, 1))
    assert h[:18, 18:].sum() > h[:18, :18].sum()  # ρ > 0 leans to the upper right


def test_many_degrees_of_freedom_are_nearly_normal_and_few_are_not():
    c = covariance(0.2, 1, 2)
    assert (
        np.abs(heatmap(c, 200) - heatmap(c)).max()
        < 0.01
        < 0.1
        < np.abs(heatmap(c, 2) - heatmap(c)).max()
    )


def test_grid_and_split(data):
    assert (
        data.images.shape == (11_875, 1, 36, 36)
        and data.images.max() == 1
        and data.images.min() >= -1
    )
    assert (
        sorted(torch.cat([data.train, data.valid, data.test]).tolist()) == list(range(11_875))
        and len(data.test) == 2375
    )
    k = 5000
    assert torch.allclose(data.images[k], image(*data.factors[k])[0], atol=1e-6)
    assert torch.equal(heatmap_dataset(seed=0).test, data.test) and not torch.equal(
        heatmap_dataset(seed=1).test, data.test
    )


@pytest.mark.parametrize("factors", [(0.5, 1.0, 2.0), (-0.9, 0.3, 0.3), (0.0, 4.9, 0.1)])
def test_factors_are_read_back(factors):
    seen, misfit = measured_factors(image(*factors))
    assert np.allclose(seen[0], factors, atol=0.01) and misfit[0] < 0.01


def test_misfit_of_what_is_no_ellipse():
    assert measured_factors(image(0, 1, 1, df=2))[1][0] > 0.3
    assert measured_factors(torch.zeros(1, 1, 36, 36))[1].shape == (1,)


def test_aligned_distance_ignores_turns():
    a, b = image(0, 0.8, 0.2), image(0, 0.2, 0.8)
    assert aligned_distance(a, b)[0] < 0.1 < 1 < (a - b).norm() / 2
    assert aligned_distance(a, a)[0] < 1e-3 and aligned_distance(a, image(0, 0.8, 0.8))[0] > 1


def test_density_knows_empty_places():
    z = np.random.default_rng(0).standard_normal((3000, 3))
    d = LatentDensity(z)
    assert d.empty([[0, 0, 0], [9, 0, 0]]).tolist() == [False, True]
    exact = multivariate_normal(cov=np.eye(3)).logpdf(z[:200])
    assert np.abs(d.log_density(z[:200]) - exact).mean() < 0.4 and d.sample(5, 1).shape == (5, 3)
    scaled = LatentDensity(
        z * [10, 1, 0.1]
    )  # densities are per unit of volume, so the scale cancels here
    assert np.abs(scaled.log_density(z[:50] * [10, 1, 0.1]) - d.log_density(z[:50])).max() < 0.2


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_scores_of_latents_that_are_the_factors(data, order):
    f = data.factors[::4]
    z = f[:, order] * [1, -3, 0.2]
    assert (
        mutual_information_gap(z, f).mean() > 0.9
        and min(dci_scores(z, f, trees=15).values()) > 0.95
    )


def test_scores_of_noise(data):
    z, f = np.random.default_rng(0).standard_normal((2969, 3)), data.factors[::4]
    assert (
        mutual_information_gap(z, f).mean() < 0.05
        and max(dci_scores(z, f, trees=15).values()) < 0.1
    )


def test_a_factor_in_two_latents_has_no_gap(data):
    f = data.factors[::4]
    z = np.c_[f[:, 0], f[:, 0], f[:, 1]]
    assert (
        mutual_information_gap(z, f)[0] == pytest.approx(0, abs=1e-9)
        and mutual_information_gap(z, f)[1] > 0.9
    )


def test_factor_basis_finds_planted_directions():
    rng = np.random.default_rng(0)
    f = rng.uniform(0, 1, (2000, 2))
    planted = np.linalg.qr(rng.standard_normal((5, 5)))[0][:2]
    basis = factor_basis(f @ planted, f, ["a", "b"])
    assert np.allclose(
        np.abs(basis.vectors_[:2] @ planted.T) / 5**0.5, np.eye(2), atol=0.1
    ) and list(basis.labels_[:2]) == ["a", "b"]


class Painter(Autoencoder):
    "Decodes (correlation, variance x, variance y) to exactly that heatmap."

    def __init__(self):
        super().__init__(3)

    def decode(self, z):
        return torch.cat([image(*row) for row in z.tolist()])


def test_leakage_of_a_painter():
    z = torch.tensor([[0.0, 1.0, 2.0], [0.2, 2.0, 1.0], [-0.1, 1.5, 1.5]])
    straight, back = (edit_leakage(Painter(), z, d, 0) for d in ([1, 0, 0], [-1, 0, 0]))
    assert (
        straight["leak"] < 1e-3
        and straight["change"] == pytest.approx(back["change"])
        and straight["step"] == pytest.approx(-back["step"])
    )
    assert math.isnan(
        edit_leakage(Painter(), z, [0, 1, 0], 0)["leak"]
    )  # this direction never changes the correlation


def test_training_stops_early_and_keeps_the_best(tmp_path):
    config = HeatmapAEConfig(
        epochs=8, batch_size=512, width=4, lr=5.0, patience=1, plateau=1
    )  # a step size that can't learn
    train(config, "cpu", progress=False, folder=tmp_path)
    record = find_artifact(config)[1]
    losses = [h["valid"] for h in record["history"]]
    assert len(losses) < 8 and record["metrics"]["valid_loss"] == pytest.approx(
        min(losses), rel=0.05
    )


def test_the_best_sigma_and_both_likelihoods(data):
    "Half the log of the mean squared error under the normal distribution; none of the Bernoulli."
    net, x = HeatmapVAEConfig(width=4).network(), data.images[:40]
    losses = {}
    for kind in ("gaussian", "bernoulli"):
        torch.manual_seed(0)
        losses[kind] = heatmap_loss(net, x, kind, beta=2.0)
    torch.manual_seed(0)
    logits, target = net(x)[0], (x + 1) / 2
    sigma = (logits.sigmoid() - target).square().mean().sqrt()
    nll = 1296 * (sigma.log() + 0.5 + 0.5 * math.log(2 * math.pi))
    assert losses["gaussian"]["reconstruction"].item() == pytest.approx(nll.item(), rel=1e-4)
    coin = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    assert losses["bernoulli"]["reconstruction"].item() == pytest.approx(coin.item() / 40, rel=1e-4)
    for parts in losses.values():
        whole = parts["reconstruction"] + 2 * parts["kl"]
        assert parts["loss"].item() == pytest.approx(whole.item(), rel=1e-5)


def test_bundled_networks(data):
    for config in (
        HeatmapVAEConfig(),
        HeatmapAEConfig(),
        HeatmapVAEConfig(likelihood="bernoulli", beta=4.0),
        HeatmapVAEConfig(family="t"),
        HeatmapAEConfig(family="t"),
    ):
        net = load_or_train(config, "cpu", train=False)
        some = data.images[data.test[:200]]
        assert ((net.decode(mean_codes(net, some)) - some).flatten(1).norm(dim=1) / 2).median() < 2


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: heatmap([[1, 1], [1, 1]]), "not positive definite"),
        (lambda: heatmap([[-1, 0], [0, 1]]), "not positive definite"),
        (lambda: heatmap([[1, 0.5], [0, 1]]), "not positive definite"),
        (lambda: heatmap([[math.nan, 0], [0, 1]]), "not positive definite"),
        (lambda: heatmap(np.eye(2), df=-1), "positive"),
        (lambda: heatmap_dataset("gamma"), "unknown family"),
        (lambda: HeatmapVAEConfig(beta=-1.0), "beta"),
        (lambda: HeatmapVAEConfig(beta=math.nan), "beta"),
        (lambda: HeatmapAEConfig(latent_dim=0), "latent_dim"),
        (lambda: LatentDensity(np.zeros((9, 2))), "N ≥ 50"),
        (lambda: LatentDensity(np.ones((99, 2))), "subspace"),
        (lambda: LatentDensity(np.eye(60), level=2), "level"),
        (
            lambda: factor_basis(np.zeros((20, 2)), np.repeat([0.0, 1.0], 10), ["a"], bins=4),
            "empty",
        ),
        (lambda: factor_basis(np.zeros((20, 2)), np.zeros((20, 2)), ["a"]), "one name"),
        (lambda: mutual_information_gap(np.zeros((9, 2)), np.zeros((9, 2))), "N ≥ 10"),
        (lambda: dci_scores(np.zeros((20, 2)), np.full((20, 2), math.nan)), "NaN"),
        (lambda: dci_scores(np.full((20, 2), math.inf), np.zeros((20, 2))), "infinity"),
        (lambda: aligned_distance(torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 8)), "same shape"),
        (
            lambda: mean_codes(HeatmapVAEConfig().network(), torch.full((1, 1, 36, 36), math.nan)),
            "NaN",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_stored_results_are_of_the_bundled_networks(data):
    rows = json.loads((ROOT / "results" / "heatmaps.json").read_text(encoding="utf-8"))["rows"]
    assert set(rows) == {
        *("VAE", "VAE, Bernoulli", "β-VAE, β = 4"),
        *("autoencoder", "autoencoder, faster"),
    }
    assert all(len(runs) == 3 for runs in rows.values())
    real = data.images[data.test]
    for name, config in {
        "VAE": HeatmapVAEConfig(),
        "β-VAE, β = 4": HeatmapVAEConfig(likelihood="bernoulli", beta=4.0),
        "autoencoder": HeatmapAEConfig(),
    }.items():
        net = load_or_train(config, "cpu", train=False)
        with torch.inference_mode():
            error = (real - net.decode(mean_codes(net, real))).flatten(1).norm(
                dim=1
            ).mean().item() / 2
        assert rows[name][0]["Frobenius"]["mean"] == pytest.approx(error, rel=1e-2), (
            f"{name}: run chapter 22 with --slow"
        )
    drawn = {name: np.mean([r["sampled"] for r in runs]) for name, runs in rows.items()}
    assert drawn["VAE"] < 0.25 < 0.5 < drawn["VAE, Bernoulli"]
    mean = {name: np.mean([r["Frobenius"]["mean"] for r in runs]) for name, runs in rows.items()}
    assert mean["VAE"] < 0.12 and mean["autoencoder"] < 0.1
