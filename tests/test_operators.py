"""Properties and bad input of `lsd_nb.operators` that a notebook should not hold."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_nb.basis import LatentBasis, amplitudes, orthogonalise
from lsd_nb.core import LSDError
from lsd_nb.operators import (
    Operator,
    amplitude_swap,
    householder_swap,
    on_sphere,
    optimal_transport_map,
    plane_rotation,
    projector,
    rank_one_rotation,
    rotation_path,
    slerp,
    sphere_of,
    subspace,
    truncate,
)

M = 8
XI = orthogonalise(
    torch.randn(M, M, generator=torch.Generator().manual_seed(0), dtype=torch.float64), "lowdin"
)
Z = torch.randn(20, M, generator=torch.Generator().manual_seed(1))
EYE = torch.eye(M, dtype=torch.float64)
pairs = st.tuples(st.integers(0, M - 1), st.integers(0, M - 1)).filter(lambda p: p[0] != p[1])
angles = st.floats(-7, 7)
quick = settings(max_examples=25, deadline=None, derandomize=True)


def close(a, b, tol=1e-10):
    torch.testing.assert_close(a, b, atol=tol, rtol=0)


@quick
@given(pairs, angles, angles)
def test_plane_rotations_are_a_group(p, a, b):
    ra, rb = plane_rotation(XI, *p, a), plane_rotation(XI, *p, b)
    close(ra.matrix @ ra.matrix.T, EYE)
    assert abs(torch.linalg.det(ra.matrix).item() - 1) < 1e-10
    close((ra @ rb).matrix, plane_rotation(XI, *p, a + b).matrix)
    close((ra.inverse() @ ra).matrix, EYE)
    close(
        amplitudes(ra(XI[p[0]]), XI)[list(p)],
        torch.tensor([math.cos(a), math.sin(a)], dtype=torch.float64),
    )


@quick
@given(pairs)
def test_projector_and_swap(p):
    i, j = p
    close(
        projector(XI, i, j)(XI), (torch.arange(M) == i).double()[:, None] * XI[j]
    )  # P_ij ξ_k = δ_ik ξ_j
    close((projector(XI, j, i) @ projector(XI, i, j)).matrix, projector(XI, i, i).matrix)
    swap = householder_swap(XI, i, j)
    close(swap(XI[i]), XI[j])
    close((swap @ swap).matrix, EYE)


@quick
@given(pairs, st.integers(1, 7), st.sampled_from(["paper", "plane"]))
def test_any_number_of_steps_reaches_the_target(p, steps, kind):
    walk = rotation_path(XI[p[0]], XI, p, steps, kind)
    assert walk.shape == (steps + 1, M)
    close(walk[-1], XI[p[1]])
    close(walk.norm(dim=1), torch.full((steps + 1,), M**0.5, dtype=torch.float64))


@quick
@given(pairs, angles, angles)
def test_rank_one_rotation_turns_its_direction(p, theta, d):

    def at(t):
        return math.cos(t) * XI[p[0]] + math.sin(t) * XI[p[1]]

    op = rank_one_rotation(XI, *p, theta, d)
    close(op(at(theta)), at(theta + d))
    assert torch.linalg.matrix_rank(op.matrix) == 1


def test_composition_is_associative_and_acts_right_to_left():
    a, b, c = plane_rotation(XI, 0, 1, 0.3), projector(XI, 1, 2), householder_swap(XI, 2, 5)
    close(((a @ b) @ c).matrix, (a @ (b @ c)).matrix)
    close((a @ b @ c)(Z), a(b(c(Z))), 1e-5)


@pytest.mark.parametrize(
    "act",
    [
        plane_rotation(XI, 0, 1, 0.3),
        lambda z: truncate(z, XI, 3),
        lambda z: rotation_path(z, XI, [0, 1]),
    ],
)
def test_answers_in_kind(act):
    for dtype in (torch.float32, torch.float64):
        z = Z.to(dtype)
        assert act(z).dtype == dtype and act(z.numpy()).dtype == z.numpy().dtype
        close(torch.as_tensor(act(z.numpy())), act(z), 1e-6)
        close(act(z[3]), act(z)[3], 1e-5)  # one latent as in a batch


def test_truncation_and_subspace():
    for k in range(1, M + 1):
        c, full = amplitudes(truncate(Z, XI, k), XI), amplitudes(Z, XI)
        assert ((c.abs() > 1e-6).sum(1) == k).all()
        smallest_kept = torch.where(c.abs() > 1e-6, full.abs(), math.inf).amin(1)
        largest_dropped = torch.where(c.abs() > 1e-6, 0, full.abs()).amax(1)
        assert (smallest_kept >= largest_dropped).all()
    keep = subspace(XI, [1, 4, 4])
    assert torch.linalg.matrix_rank(keep.matrix) == 2
    close((keep @ keep).matrix, keep.matrix)
    close(keep.matrix, keep.matrix.T)


def test_a_basis_will_do_for_vectors():
    for given_ in (XI, XI.numpy()):
        basis = LatentBasis.from_means(given_, range(M), method="lowdin")
        close(plane_rotation(basis, 0, 1, 0.3).matrix, plane_rotation(XI, 0, 1, 0.3).matrix)
        close(truncate(Z, basis, 2), truncate(Z, XI, 2), 1e-6)
        assert rotation_path(Z, basis, [0, 1, 2]).shape == (20, 7, M)


@pytest.mark.parametrize(
    "call,says",
    [
        (lambda: projector(XI, 0, M), f"no vector {M}"),
        (lambda: projector(XI, -1, 0), "no vector -1"),
        (lambda: plane_rotation(XI, 2, 2, 0.1), "different"),
        (lambda: rank_one_rotation(XI, 2, 2, 0, 0.1), "different"),
        (lambda: householder_swap(XI, 2, 2), "different"),
        (lambda: projector(XI / M**0.5, 0, 1), "norm"),
        (lambda: projector(torch.randn(M, M), 0, 1), "orthogonal"),
        (lambda: projector(XI * math.nan, 0, 1), "NaN"),
        (lambda: Operator(torch.zeros(3, 4)), "square"),
        (lambda: Operator(EYE) @ Operator(torch.eye(3)), "composed"),
        (lambda: Operator(EYE) @ EYE, "call the operator"),
        (lambda: Operator(EYE)(Z[:, :5]), "5 features"),
        (lambda: Operator(EYE)(Z * math.nan), "NaN"),
        (lambda: Operator(EYE)(Z[None]), "shape"),
        (lambda: projector(XI, 0, 1).inverse(), "rank 1"),
        (lambda: Operator(0 * EYE).inverse(), "rank 0"),
        (lambda: truncate(Z, XI, 0), "k=0"),
        (lambda: truncate(Z, XI, M + 1), f"k={M + 1}"),
        (lambda: subspace(XI, []), "at least one"),
        (lambda: subspace(XI, [0, 99]), "no vector 99"),
        (lambda: rotation_path(Z, XI, []), "one vector"),
        (lambda: rotation_path(Z, XI, [0, 1], steps=0), "1 to 10,000 steps"),
        (lambda: rotation_path(Z, XI, [0, 1], steps=10**30), "1 to 10,000 steps"),
        (lambda: slerp(Z, -2 * Z.flip(0), 1e28), "t is 1e"),
        (lambda: rotation_path(Z, XI, [0, 1], kind="both"), "unknown kind"),
        (lambda: rotation_path(Z, XI, [0, 1, 1]), "different"),
        (lambda: rotation_path(0 * Z, XI, [0, 1]), "no component"),
        (lambda: rotation_path(Z[:, :3], XI, [0, 1]), "3 features"),
        (lambda: amplitude_swap(Z, torch.randn(M, M), 0, 1), "orthogonal"),
        (lambda: truncate(Z, torch.randn(M, M), 2), "orthogonal"),
        (lambda: subspace(torch.randn(M, M), [0, 1]), "orthogonal"),
        (lambda: on_sphere(Z, radius=0.0), "radius"),
        (lambda: on_sphere(Z, center=torch.zeros(3)), "3 features"),
        (lambda: on_sphere(Z[0], center=Z[0]), "zero vector"),
        (lambda: sphere_of(Z[:1]), "at least 2"),
        (lambda: sphere_of(Z[:1].expand(5, M)), "the same"),
        (lambda: Operator(EYE, offset=torch.zeros(3)), "3 features"),
        (lambda: optimal_transport_map(Z[0], 0 * EYE, Z[1], EYE), "singular"),
        (lambda: optimal_transport_map(Z[0], EYE[:3], Z[1], EYE), "expected M"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LSDError, match=says) as e:
        call()
    assert "\n" not in str(e.value)


def test_a_swap_exchanges_whatever_the_signs():
    "Negative amplitudes were set to zero, so half of all latents were not exchanged."
    swapped, u = amplitude_swap(Z, XI, 2, 5), on_sphere(Z)
    order = list(range(M))
    order[2], order[5] = 5, 2
    close(amplitudes(swapped, XI), amplitudes(u, XI)[:, order], 1e-5)
    assert (amplitudes(u, XI)[:, 2] < 0).any()
    close(swapped, householder_swap(XI, 2, 5)(u), 1e-5)
    close(amplitude_swap(swapped, XI, 2, 5), u, 1e-5)


def test_the_opposite_of_a_vector_is_swapped():
    "It was called the zero vector."
    close(amplitude_swap(-XI[:1], XI, 0, 1), -XI[1:2])
    close(amplitude_swap(-XI[:1], XI, 0, 1, minimum=0.5), XI[1:2])


def test_each_latent_swaps_its_own_vector():
    i = torch.arange(20) % 4
    each = amplitude_swap(Z, XI, i, 5, minimum=0.7)
    for k in range(20):
        close(each[k : k + 1], amplitude_swap(Z[k : k + 1], XI, int(i[k]), 5, minimum=0.7), 1e-6)
    same = amplitude_swap(Z, XI, 5, 5, amplitude=2.0)  # from a label to itself
    change = amplitudes(same, XI) / amplitudes(on_sphere(Z), XI)
    others = [k for k in range(M) if k != 5]
    close(change[:, others], change[:, :1].expand(-1, M - 1), 1e-4)


@pytest.mark.parametrize(
    "act",
    [
        plane_rotation(XI, 0, 1, 0.3),
        plane_rotation(XI, 0, 1, 0.3) @ Operator(2 * EYE, offset=XI[0]),
        lambda z: truncate(z, XI, 3),
        lambda z: rotation_path(z, XI, [0, 1, 2]),
        lambda z: rotation_path(z, XI, [0, 1], kind="plane", radius=2.0, center=XI[4]),
        lambda z: amplitude_swap(z, XI, 0, 1, minimum=0.5),
        lambda z: on_sphere(z, 2.0, XI[0]),
        lambda z: slerp(z, z.flip(0), 0.3),
    ],
)
def test_gradients_pass_through(act):
    z = Z[:4].double().requires_grad_()
    assert torch.autograd.gradcheck(act, (z,))


def test_gradient_at_two_ends_that_are_the_same():
    z = Z[:2].double().requires_grad_()
    slerp(z, z.detach(), 0.5).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_few_terms_and_no_large_matrix():
    m = 20_000
    xi = torch.linalg.qr(torch.randn(m, 3, dtype=torch.float64))[0].T * m**0.5
    z, started = torch.randn(100, m), time.perf_counter()
    op = plane_rotation(xi, 0, 1, 0.4) @ householder_swap(xi, 1, 2)
    close(op.inverse()(op(z)), z, 1e-3)
    assert len(op.write) == 3 and op.write.shape[1] == m
    assert time.perf_counter() - started < 5  # a matrix of this size has 3 gigabytes


@quick
@given(pairs, angles)
def test_terms_and_matrix_are_the_same_map(p, a):
    for op in (plane_rotation(XI, *p, a), projector(XI, *p), subspace(XI, p)):
        close(Operator(op.matrix)(Z), op(Z), 1e-5)
        chain = op @ plane_rotation(XI, 0, 3, 0.2) @ op
        close(chain.matrix, op.matrix @ plane_rotation(XI, 0, 3, 0.2).matrix @ op.matrix)


def test_inverse_of_an_affine_map():
    a = torch.randn(M, M, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    op = Operator(a, offset=XI[0])
    close((op.inverse() @ op).matrix, EYE)
    close((op.inverse() @ op).offset, torch.zeros(M, dtype=torch.float64), 1e-9)
    half = Operator.of_terms(1.0, -XI[:1] / M, XI[:1])  # removes one dimension
    with pytest.raises(LSDError, match=f"rank {M - 1} of {M}"):
        half.inverse()


class Metric:
    "A basis in a metric of its own, around a centre: vectors write, their duals read."

    def __init__(self):
        g = torch.Generator().manual_seed(3)
        a = torch.randn(M, M, dtype=torch.float64, generator=g)
        self.vectors_ = XI @ a.T
        self.duals_ = XI @ torch.linalg.inv(a)
        self.center_ = torch.randn(M, dtype=torch.float64, generator=g)

    def read(self, z):
        return (z - self.center_) @ self.duals_.T / M


def test_a_basis_with_a_metric_and_a_centre():
    basis, z = Metric(), Z.double()
    c = basis.read(z)
    turned = basis.read(plane_rotation(basis, 0, 1, 0.7)(z))
    close(turned[:, 2:], c[:, 2:], 1e-8)
    close(turned[:, 0], math.cos(0.7) * c[:, 0] - math.sin(0.7) * c[:, 1], 1e-8)
    close(basis.read(householder_swap(basis, 0, 1)(z))[:, [1, 0]], c[:, :2], 1e-8)
    close(plane_rotation(basis, 0, 1, 0.7)(basis.center_), basis.center_, 1e-10)
    kept = basis.read(truncate(z, basis, 2))
    assert ((kept.abs() > 1e-8).sum(1) == 2).all()
    close(truncate(z, basis, M), z, 1e-8)
    given_ = amplitude_swap(z, basis, 0, 1, amplitude=2.0, radius=3.0, center=basis.center_)
    close((given_ - basis.center_).norm(dim=1), torch.full((20,), 3.0, dtype=torch.float64))
    assert (basis.read(given_)[:, 1] > 0).all()


@pytest.mark.parametrize("params", [{}, {"center": False}, {"metric": "identity"}])
def test_every_kind_of_basis(params):
    "Amplitudes after an operator, by the basis itself."
    g = torch.Generator().manual_seed(4)
    y = torch.arange(400) % 4
    x = torch.randn(400, M, generator=g, dtype=torch.float64) + 3 * XI[y] + torch.arange(M)
    basis = LatentBasis(**params).fit(x, y)
    c = torch.as_tensor(basis.transform(x))
    turned = torch.as_tensor(basis.transform(plane_rotation(basis, 0, 1, 0.7)(x)))
    close(turned[:, 2:], c[:, 2:], 1e-6)
    close(turned[:, 1], math.sin(0.7) * c[:, 0] + math.cos(0.7) * c[:, 1], 1e-6)
    swapped = torch.as_tensor(basis.transform(householder_swap(basis, 0, 1)(x)))
    close(swapped[:, [1, 0]], c[:, :2], 1e-6)
    only = torch.as_tensor(basis.transform(subspace(basis, [0, 2])(x)))
    close(only[:, [0, 2]], c[:, [0, 2]], 1e-6)
    close(only[:, [1]], 0 * c[:, [1]], 1e-6)


@pytest.mark.parametrize("scale,shift", [(0.25, 0.0), (0.25, 3.0), (4.0, -1.0)])
def test_edits_stay_on_the_sphere_of_a_mapping_network(scale, shift):
    "‖w‖ of 2.07 became 8.00 when the norm of a normal prior was taken for granted."
    mapping = torch.nn.Linear(M, M).double()
    torch.nn.init.orthogonal_(mapping.weight, scale)
    torch.nn.init.constant_(mapping.bias, shift)
    with torch.no_grad():
        w = mapping(torch.randn(5000, M, dtype=torch.float64))
    center, radius = sphere_of(w)
    where = {"radius": radius, "center": center}
    for edited in (
        amplitude_swap(w[:50], XI, 0, 1, minimum=0.5, **where),
        rotation_path(w[:50], XI, [0, 1, 2], kind="plane", **where)[:, -1],
        on_sphere(w[:50], **where),
    ):
        close((edited - center).norm(dim=1), torch.full((50,), radius, dtype=torch.float64), 1e-6)
    own = (w - center).norm(dim=1)  # each latent at its own distance
    close(on_sphere(w, radius=own, center=center), w, 1e-8)


def test_optimal_transport_of_samples():
    g = np.random.default_rng(0)
    a = g.normal(size=(M, M)) / 2 + np.eye(M)
    x, y = g.normal(size=(4000, M)), g.normal(size=(4000, M)) @ a.T + 1
    op = optimal_transport_map(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    np.testing.assert_allclose(op(x).mean(0), y.mean(0), atol=1e-8)
    np.testing.assert_allclose(np.cov(op(x).T), np.cov(y.T), atol=1e-8)
    assert torch.linalg.eigvalsh(op.matrix)[0] > 0
