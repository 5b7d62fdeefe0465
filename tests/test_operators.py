"""Properties and bad input of `lsd_nb.operators` that a notebook should not hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_nb.basis import LatentBasis, amplitudes, orthogonalise
from lsd_nb.core import LSDError
from lsd_nb.operators import (
    Operator,
    householder_swap,
    plane_rotation,
    projector,
    rank_one_rotation,
    rotation_path,
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
close = lambda a, b, tol=1e-10: torch.testing.assert_close(a, b, atol=tol, rtol=0)
quick = settings(max_examples=25, deadline=None, derandomize=True)


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
    at = lambda t: math.cos(t) * XI[p[0]] + math.sin(t) * XI[p[1]]
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
        (lambda: rotation_path(Z, XI, [0, 1], steps=0), "one step"),
        (lambda: rotation_path(Z, XI, [0, 1], kind="both"), "unknown kind"),
        (lambda: rotation_path(Z, XI, [0, 1, 1]), "different"),
        (lambda: rotation_path(0 * Z, XI, [0, 1]), "no component"),
        (lambda: rotation_path(Z[:, :3], XI, [0, 1]), "3 features"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LSDError, match=says) as e:
        call()
    assert "\n" not in str(e.value)
