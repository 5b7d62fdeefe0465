"""Physics: cluster updates against counting, exact formulas, crossings and operators one knows."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from house import ROOT

from lsd_nb.attributes import AttributeBasis
from lsd_nb.basis import LatentBasis
from lsd_nb.core import LSDError
from lsd_nb.operators import Operator
from lsd_nb.studies.autoencoders import mean_codes
from lsd_nb.studies.heatmaps import measured_factors
from lsd_nb.studies.physics import (
    T_CRITICAL,
    IsingVAEConfig,
    binder,
    cluster_step,
    crossing,
    energy,
    exact_energy,
    exact_magnetisation,
    fit_operator,
    fold,
    heatmap_images,
    ising_dataset,
    ising_parts,
    magnetisation,
    moved_covariance,
    quadratic_lift,
    simulate,
)
from lsd_nb.training import load_or_train


def states(size):
    "All configurations of a small lattice (2^(L·L), L, L)."
    n = size * size
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).reshape(-1, size, size) * 2 - 1


def boltzmann(size, t):
    "All configurations and their probabilities."
    s = states(size)
    weight = np.exp(-(size**2) * (energy(s) + 2) / t)
    return s, weight / weight.sum()


# ---- exact formulas


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("t", [0.8, 2.0, T_CRITICAL, 6.0])
def test_kaufman_counts_all_states(size, t):
    s, p = boltzmann(size, t)
    assert exact_energy(t, size) == pytest.approx(p @ energy(s), abs=1e-5)


def test_onsager_is_the_limit_and_knows_its_ends():
    t = np.array([1.2, 1.8, 3.0, 5.0])
    assert np.allclose(exact_energy(t, 96), exact_energy(t), atol=1e-6)
    assert exact_energy(0.2) == pytest.approx(-2, abs=1e-6) and abs(exact_energy(500.0)) < 0.01
    assert exact_energy(T_CRITICAL - 1e-9) == pytest.approx(-math.sqrt(2), abs=1e-5)
    assert exact_magnetisation(0.3) == pytest.approx(1) and exact_magnetisation(2.27) == 0
    assert exact_energy(t.reshape(2, 2), 8).shape == exact_magnetisation(t.reshape(2, 2)).shape


def test_energy_by_a_double_loop():
    s = np.random.default_rng(0).choice([-1, 1], (5, 6, 6))
    slow = [
        -sum(x[i, j] * (x[(i + 1) % 6, j] + x[i, (j + 1) % 6]) for i in range(6) for j in range(6))
        for x in s
    ]
    assert np.allclose(energy(s), np.array(slow) / 36)
    assert torch.allclose(energy(torch.tensor(s, dtype=torch.double)), torch.tensor(energy(s)))
    assert energy(np.ones((4, 4))) == -2 and magnetisation(-np.ones((4, 4))) == -1


# ---- clusters


@pytest.mark.parametrize("kind", ["wolff", "swendsen_wang"])
@pytest.mark.parametrize("t", [1.7, 4.0])
def test_detailed_balance_on_four_sites(kind, t):
    "From Boltzmann's distribution, moves a → b are as frequent as b → a, and it stays what it is."
    rng, n = np.random.default_rng(3), 200_000
    s, p = boltzmann(2, t)
    before = rng.choice(16, n, p=p)
    after = cluster_step(s[before], np.full(n, t), rng, kind).reshape(n, 4)
    after = (after > 0) @ (2 ** np.arange(4))
    flow = np.zeros((16, 16))
    np.add.at(flow, (before, after), 1)
    both = flow + flow.T
    off = np.abs(flow - flow.T)[both > 20] / np.sqrt(both[both > 20])
    assert off.max() < 4.5 and np.abs(flow.sum(0) - n * p).max() < 5 * np.sqrt(n * p.max())
    assert (both > 20).sum() > 40  # it goes to many places


def test_wrong_bonds_are_noticed():
    "The same test on a lattice that is updated at another temperature."
    rng, n = np.random.default_rng(3), 200_000
    s, p = boltzmann(2, 4.0)
    after = cluster_step(s[rng.choice(16, n, p=p)], np.full(n, 3.0), rng).reshape(n, 4)
    counts = np.bincount((after > 0) @ (2 ** np.arange(4)), minlength=16)
    assert np.abs(counts - n * p).max() > 5 * np.sqrt(n * p.max())


@pytest.mark.parametrize("kind", ["wolff", "swendsen_wang"])
def test_chains_find_the_average(kind):
    t = np.array([1.5, 2.5, 4.0])
    found = energy(simulate(4, t, 120, 60, burn_in=40, seed=5, kind=kind)).mean(2)
    error = found.std(1, ddof=1) / 120**0.5
    assert (np.abs(found.mean(1) - exact_energy(t, 4)) < 4 * error).all() and error.max() < 0.02


def test_wolff_turns_one_cluster():
    rng, up = np.random.default_rng(0), np.ones((400, 6, 6), np.int8)
    cold = cluster_step(up, np.full(400, 0.1), rng, "wolff")
    assert (cold == -1).all()
    hot = cluster_step(up, np.full(400, 1e6), rng, "wolff")
    assert ((hot == -1).sum((1, 2)) == 1).mean() > 0.99


def test_simulations_repeat():
    a, b, c = (simulate(4, [2.0, 3.0], 2, 3, seed=s) for s in (1, 1, 2))
    assert a.shape == (2, 2, 3, 4, 4) and set(np.unique(a)) == {-1, 1}
    assert np.array_equal(a, b) and not np.array_equal(a, c)


# ---- data, networks, labels


def test_parts_share_no_chain():
    data = ising_dataset(4, 6, 5, 1)
    chain = torch.arange(len(data.images)) // 5
    parts = [set(chain[p].tolist()) for p in (data.train, data.valid, data.test)]
    assert [len(p) for p in parts] == [160, 40, 40] and len(set.union(*parts)) == 240
    assert len(np.unique(data.temperature)) == 40 and data.images.shape == (1200, 1, 4, 4)


def test_a_linear_encoder_is_odd():
    net = IsingVAEConfig(encoder="linear", size=8, latent_dim=3).network()
    x = torch.sign(torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    both = mean_codes(net, x) + mean_codes(net, -x)
    assert torch.allclose(both, both[:1].expand_as(both), atol=1e-5)
    trunk, n, decoder = ising_parts(3, 2, 64, "conv")
    assert trunk(torch.ones(1, 1, 64, 64)).shape == (1, n)
    assert decoder(torch.zeros(1, 3)).shape == (1, 1, 64, 64)


def test_convolutions_have_periodic_borders():
    trunk = ising_parts(3, 4, 16, "conv")[0][:4]
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(trunk(x.roll(4, -1)), trunk(x).roll(1, -1), atol=1e-5)


def test_fold_reflects_at_the_centre():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(400, 3, generator=g) + 5
    z[:200, 0] += 4
    label = np.where(torch.arange(400) < 200, "up", "down")
    sign = LatentBasis().fit(z, label)
    once = fold(z, sign)
    assert (sign.predict(once) == "up").all() and torch.allclose(fold(once, sign), once)
    down = sign.decision_function(z) < 0
    assert torch.allclose((once + z)[down] / 2, torch.as_tensor(sign.center_).float(), atol=1e-4)
    with pytest.raises(LSDError, match="two labels"):
        fold(z, LatentBasis().fit(z, torch.arange(400) % 3))
    with pytest.raises(LSDError, match="two labels"):
        fold(z, LatentBasis())


@pytest.fixture(scope="module")
def fresh():
    "New configurations, which no bundled network has seen."
    return ising_dataset(16, 5, 20, seed=77)


@pytest.mark.parametrize("encoder", ["conv", "linear"])
def test_bundled_networks_know_new_configurations(fresh, encoder):
    net = load_or_train(IsingVAEConfig(encoder=encoder), "cpu", train=False)
    z, m = mean_codes(net, fresh.images), magnetisation(fresh.images)[:, 0]
    order = AttributeBasis().fit(z[fresh.train], {"m": m[fresh.train].numpy()})
    r = np.corrcoef(order.amplitude(z[fresh.test], "m"), m[fresh.test])[0, 1]
    assert r > 0.99
    cold = torch.from_numpy(fresh.temperature < 2.1) & (m != 0)
    train, test = (p[cold[p]] for p in (fresh.train, fresh.test))
    for basis in (LatentBasis(), LatentBasis(reading="nearest")):
        assert basis.fit(z[train], m[train] > 0).score(z[test], m[test] > 0) > 0.99


def test_stored_results_are_of_these_networks():
    stored = json.loads((ROOT / "results" / "physics.json").read_text(encoding="utf-8"))
    keys = set(stored["header"]["keys"])
    wanted = itertools.product(("conv", "linear"), (16, 32), range(3))
    assert keys == {IsingVAEConfig(encoder=e, size=s, seed=k).key for e, s, k in wanted}
    peers = {"nearest mean", "LDA", "logistic regression", "kNN-5", "recommended", "as published"}
    assert all(peers <= row.keys() for row in stored["rows"]) and len(stored["rows"]) == 36
    assert stored["exact"]["T_c"] == pytest.approx(2.269185314)


# ---- crossing


def lattices(slope, t, rng, shape=(30, 150)):
    away = (1.5 - slope * (t - 2.3))[:, None, None]
    size = (len(t), *shape)
    return away * rng.choice([-1, 1], size) + rng.normal(size=size)


def test_crossing_finds_where_they_cross():
    t, found = np.linspace(2.0, 2.6, 8), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found.append(crossing(t, lattices(1, t, rng), lattices(3, t, rng), draws=50))
    at, error = np.array(found).T
    assert abs(at.mean() - 2.3) < 4 * error.mean() / 8**0.5
    assert 0.4 < at.std(ddof=1) / error.mean() < 2.5  # the error is that of repetition


def test_no_crossing_is_said():
    t, rng = np.linspace(2.4, 2.6, 6), np.random.default_rng(0)
    with pytest.raises(LSDError, match="do not cross"):
        crossing(t, lattices(1, t, rng), lattices(6, t, rng), draws=20)


def test_binder_of_known_distributions():
    rng = np.random.default_rng(0)
    assert binder(rng.normal(size=(2, 100, 2000))) == pytest.approx([0, 0], abs=0.02)
    assert binder(rng.choice([-2.0, 2.0], (1, 5, 50))) == pytest.approx([2 / 3])
    uniform = binder(rng.uniform(-1, 1, (1, 100, 2000)))
    assert uniform == pytest.approx([1 - 9 / 15], abs=0.01)  # ⟨p⁴⟩ = 1/5, ⟨p²⟩ = 1/3


# ---- propagator


def density(c, x, y):
    "A Gaussian density with covariance c."
    inverse = np.linalg.inv(c)
    square = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
    return np.exp(-square / 2) / (2 * np.pi * np.sqrt(np.linalg.det(c)))


@pytest.mark.parametrize("drift", [(0.0, 0.0), (0.5, 0.25), (0.7, 0.0)])
def test_solution_solves_the_equation(drift):
    "Finite differences of ∂h/∂t against Σ D ∂²h + γ ∂(x h)."
    start, d, h, t = np.array([[0.8, 0.3], [0.3, 0.5]]), (0.75, 0.4), 1e-3, 0.6
    x, y = (v.ravel() for v in np.meshgrid(*[np.linspace(-1.5, 1.5, 7)] * 2))

    def at(time, dx=0.0, dy=0.0):
        return density(moved_covariance(start[None], time, d, drift)[0], x + dx, y + dy)

    left = (at(t + h) - at(t - h)) / (2 * h)
    right = np.zeros_like(left)
    for k, (dx, dy) in enumerate(((h, 0), (0, h))):
        plus, minus, place = at(t, dx, dy), at(t, -dx, -dy), (x, y)[k]
        right += d[k] * (plus - 2 * at(t) + minus) / h**2
        right += drift[k] * ((place + h) * plus - (place - h) * minus) / (2 * h)
    assert np.abs(left - right).max() < 1e-5 < np.abs(left).max()


def test_heatmaps_measure_what_was_moved():
    c = moved_covariance(np.array([[[0.5, 0.2], [0.2, 0.9]]]), 0.7, (0.5, 0.5), (0.3, 0.1))
    (rho, vx, vy) = measured_factors(heatmap_images(c))[0][0]
    assert [vx, vy] == pytest.approx([c[0, 0, 0], c[0, 1, 1]], abs=0.01)
    assert rho == pytest.approx(c[0, 0, 1] / math.sqrt(vx * vy), abs=0.01)


def test_operator_is_found_and_composes():
    g = torch.Generator().manual_seed(0)
    true = Operator(torch.randn(5, 5, generator=g) / 3, torch.randn(5, generator=g))
    z = torch.randn(200, 5, generator=g).double()
    noisy = true(z) + 1e-3 * torch.randn(200, 5, generator=g)
    found = fit_operator(z, noisy)
    assert torch.allclose(found.matrix, true.matrix, atol=1e-3)
    ours = torch.linalg.lstsq(torch.cat([z, torch.ones(200, 1)], 1), noisy).solution
    assert torch.allclose(found.matrix, ours[:5].T, atol=1e-6)
    assert torch.allclose(found.offset, ours[5], atol=1e-6)
    assert torch.allclose((found @ found)(z), found(found(z)))
    assert torch.allclose(found.inverse()(found(z)), z, atol=1e-6)
    assert fit_operator(z, noisy, ridge=1e6).matrix.abs().max() < 1e-3
    of_arrays = fit_operator(z.numpy(), noisy.numpy())
    assert torch.allclose(of_arrays.matrix, found.matrix)


def test_lifting_makes_a_square_linear():
    g = torch.Generator().manual_seed(0)
    z = torch.rand(300, 2, generator=g).double()

    def flow(z):
        return torch.stack([0.9 * z[:, 0], 0.5 * z[:, 1] + (0.9**2 - 0.5) * z[:, 0] ** 2], 1)

    plain = fit_operator(z, flow(z))
    assert (plain(z) - flow(z)).abs().max() > 0.01
    now, then = quadratic_lift(z), quadratic_lift(flow(z))
    lifted = fit_operator(now, then, ridge=1e-12)
    assert (lifted(now) - then)[:, :2].abs().max() < 1e-6
    assert quadratic_lift(z).shape == (300, 5)


# ---- errors


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: exact_energy(-1), "above 0"),
        (lambda: exact_energy([1, math.nan]), "above 0"),
        (lambda: exact_energy(2, 1), "2 sites"),
        (lambda: exact_magnetisation(0), "above 0"),
        (lambda: simulate(4, [2], 1, 1, kind="metropolis"), "swendsen_wang or wolff"),
        (lambda: simulate(1, [2], 1, 1), "size"),
        (lambda: simulate(4, [2], 0, 1), "chains"),
        (lambda: simulate(4, [0], 1, 1), "above 0"),
        (
            lambda: cluster_step(np.ones((2, 3, 3)), np.ones(3), np.random.default_rng(0)),
            "one temp",
        ),
        (lambda: ising_dataset(4, 2), "3 chains"),
        (lambda: IsingVAEConfig(size=12), "unknown size"),
        (lambda: IsingVAEConfig(encoder="mlp"), "unknown encoder"),
        (lambda: IsingVAEConfig(chains=2), "chains is 2"),
        (lambda: IsingVAEConfig(beta=-1), "beta is -1"),
        (lambda: crossing(np.ones(3), np.ones((3, 2, 2)), np.ones((3, 2, 2))), "T ≥ 4"),
        (lambda: moved_covariance(np.eye(2)[None], -1), "expected ≥ 0"),
        (lambda: moved_covariance(np.eye(2)[None], 1, (-1, 0)), "expected ≥ 0"),
        (lambda: heatmap_images(-np.eye(2)[None]), "not positive definite"),
        (lambda: fit_operator(torch.ones(4), torch.ones(4)), "twice"),
        (lambda: fit_operator(torch.ones(4, 2), torch.ones(4, 3)), "twice"),
        (lambda: fit_operator(torch.ones(4, 2), torch.ones(4, 2), -1), "ridge is -1"),
        (lambda: quadratic_lift(torch.ones(3)), "(N, L)"),
    ],
)
def test_bad_arguments_are_one_line(call, match):
    with pytest.raises(LSDError) as e:
        call()
    assert match in str(e.value) and "\n" not in str(e.value)
