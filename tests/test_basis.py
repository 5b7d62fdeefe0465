"""Properties, estimator checks and bad input of `lsd_nb.basis` that a notebook should not hold."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from lsd_nb.basis import (
    LatentBasis,
    amplitudes,
    gram_schmidt,
    lowdin,
    modified_gram_schmidt,
    orthogonalise,
    orthonormal_complement,
    synthesise,
)
from lsd_nb.core import LSDError, save_tensors

METHODS = ["gram_schmidt", "modified_gram_schmidt", "qr", "lowdin"]
QUICK = dict(max_examples=12, deadline=None, derandomize=True)


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def overlap(xi):
    return ((xi @ xi.T / xi.shape[1]) - torch.eye(len(xi))).abs().max().item()


problems = st.tuples(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 8)).map(
    lambda t: draw(t[0], t[1], t[1] + t[2])
)


@settings(**QUICK)
@given(problems, st.sampled_from(METHODS))
def test_orthogonal_and_on_the_side_of_its_mean(means, method):
    xi = orthogonalise(means, method)
    assert overlap(xi) < 1e-12
    assert ((xi * means).sum(1) > 0).all()
    assert torch.linalg.matrix_rank(torch.cat([xi, means])) == len(means)  # the same span


@settings(**QUICK)
@given(problems, st.sampled_from(METHODS))
def test_scale_of_the_means_does_not_matter(means, method):
    scale = torch.logspace(-3, 3, len(means), dtype=means.dtype)[:, None]
    torch.testing.assert_close(
        orthogonalise(means * scale, method), orthogonalise(means, method), atol=1e-8, rtol=0
    )


@settings(**QUICK)
@given(problems, st.integers(0, 10**6))
def test_lowdin_is_permutation_equivariant_and_gram_schmidt_is_not(means, seed):
    p = torch.randperm(len(means), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(lowdin(means)[p], lowdin(means[p]), atol=1e-8, rtol=0)
    torch.testing.assert_close(
        gram_schmidt(means)[0] / means.shape[1] ** 0.5, means[0] / means[0].norm()
    )
    if (p != torch.arange(len(p))).any():
        assert not torch.allclose(gram_schmidt(means, 2)[p], gram_schmidt(means[p], 2))


@settings(**QUICK)
@given(problems, st.floats(0.2, 20), st.integers(0, 10**6))
def test_weighted_lowdin_minimises_its_criterion(means, w, seed):
    k, m = means.shape
    weights = torch.where(torch.arange(k) < (k + 1) // 2, w, 1.0)
    unit = means / means.norm(dim=1, keepdim=True)

    def cost(xi):
        return (weights * (xi / m**0.5 - unit).square().sum(1)).sum()

    best = lowdin(means, weights)
    small = 0.1 * draw(seed, m, m)
    nearby = best @ torch.matrix_exp(small - small.T)  # another orthogonal set
    assert (
        cost(best) <= cost(nearby) + 1e-10
        and cost(best) <= cost(orthogonalise(means, "qr")) + 1e-10
    )


@settings(**QUICK)
@given(problems)
def test_independent_sources(means):
    m = means.shape[1]
    q = torch.linalg.qr(means.T).Q.T * m**0.5
    q = q * (q * means).sum(1, keepdim=True).sign()
    for f in (gram_schmidt, modified_gram_schmidt):
        torch.testing.assert_close(f(means, 2), q, atol=1e-7, rtol=0)
    polar = scipy.linalg.polar((means / means.norm(dim=1, keepdim=True)).numpy())[0] * m**0.5
    np.testing.assert_allclose(lowdin(means).numpy(), polar, atol=1e-7)


@settings(**QUICK)
@given(problems, st.sampled_from([torch.float32, torch.float64]))
def test_reconstruction_from_all_amplitudes(means, dtype):
    xi = orthogonalise(means)
    full = torch.cat([xi, orthonormal_complement(xi)])
    z = draw(1, 5, means.shape[1], dtype=dtype)
    c = amplitudes(z, full)
    assert c.dtype == dtype and overlap(full) < 1e-12
    torch.testing.assert_close(synthesise(c, full), z, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "method,weight", [(m, 1.0) for m in METHODS] + [("lowdin", 7.0), ("lowdin", float("inf"))]
)
@pytest.mark.parametrize("k,m", [(100, 100), (30, 100)])
def test_ill_conditioned_means(method, weight, k, m):
    u, v = torch.linalg.qr(draw(0, k, k)).Q, torch.linalg.qr(draw(1, m, k)).Q
    means = u * torch.logspace(0, -8, k, dtype=torch.float64) @ v.T
    assert torch.linalg.cond(means) > 0.9e8
    assert (
        overlap(orthogonalise(means, method, sets=np.arange(k) // 10 + 1, set_weight=weight))
        <= 1e-6
    )


def test_setwise_ignores_other_sets_in_set_1():
    means, sets = draw(0, 12, 20), torch.arange(12) // 4 + 1
    xi = orthogonalise(means, "lowdin", sets, float("inf"))
    torch.testing.assert_close(xi[:4], lowdin(means[:4]))
    torch.testing.assert_close(
        orthogonalise(means[:4], "lowdin", sets[:4], float("inf")), lowdin(means[:4])
    )


def outcome(estimator, expected=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            estimator, expected_failed_checks=expected, on_skip=None, on_fail=None
        )
    return {
        s: {r["check_name"]: str(r["exception"]) for r in results if r["status"] == s}
        for s in ("failed", "xfail", "skipped")
    }


PLAIN = LatentBasis.as_published(n_sets=1, rank_deficient="complete")


@pytest.mark.parametrize("basis", [LatentBasis(), LatentBasis(reading="nearest"), PLAIN])
def test_check_estimator_without_any_expected_failure(basis):
    got = outcome(basis)
    assert not got["failed"], got["failed"]
    # optional packages
    assert set(got["skipped"]) <= {
        "check_array_api_input",
        "check_classifier_data_not_an_array",
        "check_sample_weights_pandas_series",
    }, got["skipped"]


@pytest.mark.parametrize("kind", ["int", "negative", "str", "object", "bool"])
@pytest.mark.parametrize("tensor", [False, True])
def test_kinds_of_labels_and_files(tmp_path, kind, tensor):
    words = {
        "int": np.array([3, 7, 9]),
        "negative": np.array([-1, 0, 1]),
        "str": np.array(["a", "bb", "c"]),
        "object": np.array(["a", "bb", "c"], object),
        "bool": np.array([False, True]),
    }[kind]
    code = np.arange(60) % len(set(words.tolist()))
    y, Z = words[code], (3 * np.eye(8)[code] + np.random.default_rng(0).normal(size=(60, 8)) * 0.3)
    if tensor:
        Z = torch.as_tensor(Z, dtype=torch.float32)
        y = y if y.dtype.kind in "UO" else torch.as_tensor(y)
    basis = LatentBasis("lowdin", set_weight=float("inf"), n_sets=2, random_state=3).fit(Z, y)
    back = LatentBasis.load(basis.save(tmp_path / "b.safetensors"))
    assert back.get_params() == basis.get_params()
    for name in ("vectors_", "labels_", "sets_", "means_", "classes_"):
        a, b = getattr(basis, name), getattr(back, name)
        assert type(a) is type(b) and (np.asarray(a) == np.asarray(b)).all()
    k = 2 * len(set(words.tolist()))
    assert len(basis.sets_) == k and (np.asarray(basis.sets_) > 0).all()
    assert basis.score(Z, y) == 1 and type(basis.transform(Z)) is type(Z)
    assert (np.asarray(back.predict(Z)) == np.asarray(y)).all()
    assert (np.asarray(basis.label_rank(Z, y)) == 1).all()


def test_complement_never_wins():
    basis = LatentBasis(complete=True).fit(
        *(lambda y: (torch.eye(6)[y] + 0.01 * draw(0, 20, 6, dtype=torch.float32), y))(
            torch.arange(20) % 2
        )
    )
    away = basis.vectors_[2:].float()  # pure complement
    assert set(basis.predict(away).tolist()) <= {0, 1} and (basis.top_vector(away) < 2).all()


def test_probabilities_follow_temperature():
    Z, y = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
    sharp, soft = (
        LatentBasis(temperature=t).fit(Z, y).predict_proba(Z).amax(1) for t in (0.01, 1.0)
    )
    assert (sharp > soft).all()


def test_sets_given_by_the_user_and_pipeline():
    Z, y, sets = draw(0, 40, 10), np.arange(40) % 2, np.arange(40) // 2 % 3 + 1
    basis = LatentBasis.as_published(method="lowdin").fit(Z.numpy(), y, sets=sets)
    assert basis.sets_.tolist() == [1, 1, 2, 2, 3, 3]
    assert LatentBasis(complete=True).fit(Z.numpy(), y, sets=sets).sets_.tolist() == [
        *(1, 1, 2, 2, 3, 3),
        *(-1, -1, -1, -1),
    ]
    mean = Z.numpy()[(y == 1) & (sets == 2)].mean(0)
    np.testing.assert_allclose(basis.means_[3], mean)
    again = LatentBasis.from_means(
        basis.means_, [0, 1] * 3, method="lowdin"
    )  # sets counted from the labels
    np.testing.assert_allclose(again.vectors_[:6], basis.vectors_[:6], atol=1e-12)
    assert again.sets_.tolist() == basis.sets_.tolist()
    make_pipeline(FunctionTransformer(), LatentBasis()).fit(Z.numpy(), y).predict(Z.numpy())


def test_same_seed_same_sets():
    Z, y = draw(0, 40, 10), torch.arange(40) % 2
    a, b, c = (LatentBasis(n_sets=3, random_state=s).fit(Z, y).vectors_ for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


DEPENDENT = torch.cat([torch.eye(4), torch.eye(4)[:1] + torch.eye(4)[1:2]])[:, :4]
Z, Y = draw(0, 30, 8), torch.arange(30) % 3


@pytest.mark.parametrize(
    "call,says",
    [
        (lambda: orthogonalise(torch.cat([draw(0, 3, 6), torch.zeros(1, 6)])), "vector 3"),
        (
            lambda: orthogonalise(
                draw(0, 3, 6)[[0, 1, 2, 1]].float(), "lowdin", labels=list("abcb")
            ),
            "label b",
        ),
        (lambda: orthogonalise(DEPENDENT), "5 means can't be independent with n_features = 4"),
        (lambda: orthogonalise(torch.zeros(0, 4)), "K, M"),
        (lambda: orthogonalise(draw(0, 3, 6) / 0), "NaN"),
        (lambda: orthogonalise(draw(0, 3, 6), "lowdin", set_weight=2), "sets"),
        (lambda: orthogonalise(draw(0, 3, 6), "lowdin", [1, 2], 2), "2 sets for 3 means"),
        (lambda: orthogonalise(draw(0, 3, 6), "lowdin", [1, 1, 2], -1), "positive"),
        (lambda: orthogonalise(draw(0, 3, 6), "qr", [1, 1, 2], 2), "lowdin"),
        (lambda: orthogonalise(draw(0, 3, 6), "svd"), "unknown method"),
        (lambda: LatentBasis().fit(Z.masked_fill(Z > 2, float("nan")), Y), "NaN"),
        (lambda: LatentBasis(n_sets=11).fit(Z, Y), "n_sets"),
        (lambda: LatentBasis(n_sets=3).fit(Z, Y), "l·n ≤ M"),
        (lambda: LatentBasis().fit(Z, Y, sets=[1, 2]), "2 sets"),
        (lambda: LatentBasis(rank_deficient="hope").fit(Z, Y), "rank_deficient"),
        (lambda: LatentBasis(temperature=0).fit(Z, Y).predict_proba(Z), "temperature"),
        (lambda: LatentBasis(rank_deficient="complete").fit(0 * Z, Y), "zero"),
        (lambda: LatentBasis.from_means(Z[:3], [0, 1]), "2 labels"),
        (lambda: LatentBasis.from_means(Z[:3], [0, 1, 2], sets=[1]), "1 sets"),
        (lambda: LatentBasis().fit(Z, Y).transform(Z[:, :5]), "5 features"),
        (lambda: LatentBasis().fit(Z, Y).transform(Z[0]), "Reshape"),
        (lambda: LatentBasis().fit(Z, Y).predict(Z * float("inf")), "NaN or infinity"),
        (lambda: LatentBasis().fit(Z, Y).label_rank(Z, Y + 1), "unknown"),
        (lambda: LatentBasis().fit(Z, Y).label_rank(Z, Y[:4]), "4 labels"),
        (lambda: LatentBasis().fit(Z, Y).inverse_transform(Z[:, :5]), "5 features"),
    ],
)
@pytest.mark.filterwarnings("ignore:left out")
def test_bad_input(call, says):
    with pytest.raises(LSDError, match=says) as e:
        call()
    assert "\n" not in str(e.value)


def test_a_file_of_another_kind(tmp_path):
    path = save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(LSDError, match="no LatentBasis"):
        LatentBasis.load(path)
    with pytest.raises(LSDError):
        LatentBasis.load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("y", "text"), [({"digit": [0, 1]}, "AttributeBasis"), (3, "inconsistent|labels|samples")]
)
def test_labels_that_are_no_row_are_refused(y, text):
    with pytest.raises(LSDError, match=text):
        LatentBasis().fit(torch.randn(20, 5), y)


def test_a_turned_basis_is_saved_with_its_vectors(tmp_path):
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (600,), generator=g)
    z = torch.randn(600, 12, generator=g) + 3 * torch.randn(4, 12, generator=g)[y]
    basis = LatentBasis(n_sets=2).fit(z, y)
    q = torch.linalg.qr(torch.randn(8, 8, generator=g, dtype=torch.float64)).Q
    turned = basis.turned(q)
    again = LatentBasis.load(turned.save(tmp_path / "turned.safetensors"))
    for name in ("vectors_", "duals_", "means_"):
        torch.testing.assert_close(getattr(again, name), getattr(turned, name))
    assert (again.predict(z) == basis.predict(z)).all()
    assert not torch.allclose(turned.vectors_, basis.vectors_, atol=0.1)
    moved = turned.move(z, 2, 0.5)
    one = torch.full((600,), 0.5)
    torch.testing.assert_close(turned.amplitude(moved, 2) - turned.amplitude(z, 2), one)
    full = basis.completed()
    assert np.isclose(full.turned(np.eye(12)).vectors_, full.vectors_).all()
    for bad in (q.float() + 0.01, q[0], torch.full((8, 8), torch.nan)):
        with pytest.raises(LSDError):
            basis.turned(bad)
