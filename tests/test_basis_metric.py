"""The basis against maps, shifts, kinds of labels, missing input and broken files."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from concept_erasure import LeaceEraser
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lsd_nb.basis import LatentBasis, amplitudes, label_moments, leace, lowdin, orthogonalise
from lsd_nb.core import LSDError, load_tensors, save_tensors

pd = pytest.importorskip("pandas")
QUICK = dict(max_examples=6, deadline=None, derandomize=True)


def latents(seed=0, n=1500, m=12, l=5, apart=3.0):
    "Latents of l labels with a covariance of their own, and labels."
    rng = np.random.default_rng(seed)
    centres = apart * rng.normal(size=(l, m))
    y = np.arange(n) % l
    return centres[y] + rng.normal(size=(n, m)) @ bent(seed, m, 10) / 3, y


def bent(seed, m, condition):
    "A matrix (m, m) with this condition number."
    rng = np.random.default_rng(seed)
    q1, q2 = (np.linalg.qr(rng.normal(size=(m, m)))[0] for _ in range(2))
    return q1 * np.logspace(0, np.log10(condition), m) @ q2


@settings(**QUICK)
@given(st.integers(0, 10**6), st.floats(1, 100), st.floats(0, 1e4))
def test_no_map_and_no_shift_changes_a_prediction(seed, condition, far):
    Z, y = latents(seed)
    change = bent(seed, 12, condition)
    shift = far * np.random.default_rng(seed + 1).normal(size=12)
    for shrinkage, allowed in ((0, 0.0), ("auto", 0.005)):
        plain = LatentBasis(shrinkage=shrinkage).fit(Z, y).predict(Z)
        shifted = LatentBasis(shrinkage=shrinkage).fit(Z + shift, y).predict(Z + shift)
        assert (plain == shifted).all()
        X = Z @ change + shift
        assert (LatentBasis(shrinkage=shrinkage).fit(X, y).predict(X) != plain).mean() <= allowed


@settings(**QUICK)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(0, 6))
def test_frames_and_corners(seed, l, more):
    rng = np.random.default_rng(seed)
    m = l - 1 + more
    y = np.arange(40 * l) % l
    Z = 4 * rng.normal(size=(l, m))[y] + rng.normal(size=(40 * l, m))
    basis = LatentBasis().fit(Z, y)
    gram = basis.duals_ @ basis.vectors_.T / m
    expected = np.eye(l) - (1 / l if l > m else 0)
    np.testing.assert_allclose(gram, expected, atol=1e-8)
    full = LatentBasis(complete=True).fit(Z, y)
    np.testing.assert_allclose(full.inverse_transform(full.transform(Z)), Z, atol=1e-8)
    np.testing.assert_allclose(basis.inverse_transform(basis.transform(Z), Z), Z, atol=1e-8)
    assert (full.predict(Z) == basis.predict(Z)).all()


def test_reading_is_that_of_lda_and_units_do_not_matter():
    Z, y = latents(3, apart=1.0)
    lda = LinearDiscriminantAnalysis().fit(Z[:1000], y[:1000]).score(Z[1000:], y[1000:])
    nearest = LatentBasis(reading="nearest", shrinkage=0).fit(Z[:1000], y[:1000])
    assert abs(nearest.score(Z[1000:], y[1000:]) - lda) < 0.01
    units = np.logspace(-6, 6, 12)
    plain = LatentBasis().fit(Z, y)
    assert (LatentBasis().fit(Z * units, y).predict(Z * units) == plain.predict(Z)).all()
    piped = make_pipeline(StandardScaler(), LatentBasis()).fit(Z, y)
    assert (piped.predict(Z) == plain.predict(Z)).all()
    assert plain.held_out_["n"] == 1500 and abs(plain.held_out_["lda"] - lda) < 0.1
    assert "LDA" in plain.report(Z, y, Z, y)


def test_statistics_are_enough_and_add():
    class Stats:
        pass

    Z, y = latents(1)
    sets = np.arange(len(Z)) // 5 % 2 + 1
    z, t, s = (torch.as_tensor(v) for v in (Z, y, sets))
    stats, found = Stats(), label_moments(z, t, s, (2, 5), origin=torch.zeros(12).double())
    stats.counts, stats.sums = found.counts.long(), found.sums
    stats.moments = torch.stack(
        [
            torch.stack([z[(t == k) & (s == i)].T @ z[(t == k) & (s == i)] for k in range(5)])
            for i in (1, 2)
        ]
    )
    stats.labels, stats.sets = torch.arange(5).repeat(2), torch.arange(1, 3).repeat_interleave(5)
    whole = LatentBasis().fit(Z, y, sets=sets)
    again = LatentBasis.from_statistics(stats)
    np.testing.assert_allclose(again.vectors_, whole.vectors_, atol=1e-6)
    stats.label_names = list("abcde")
    assert LatentBasis.from_statistics(stats).predict(Z)[:5].tolist() == list("abcde")
    parts = LatentBasis(n_sets=2)
    for i in range(0, len(Z), 300):
        j = slice(i, i + 300)
        parts.partial_fit(Z[j], y[j], classes=range(5), sets=sets[j])
    np.testing.assert_allclose(parts.vectors_, whole.vectors_, atol=1e-6)
    stats.moments = torch.diagonal(stats.moments, dim1=2, dim2=3)
    diagonal = LatentBasis.from_statistics(stats)
    assert diagonal.score(Z, np.array(list("abcde"))[y]) > 0.5


def test_erasing_is_that_of_the_package():
    Z, y = latents(2, apart=1.0)
    z, hot = torch.as_tensor(Z), torch.eye(5).double()[torch.as_tensor(y)]
    options = dict(shrinkage=False, constrain_cov_trace=False, svd_tol=1e-7)
    basis = LatentBasis().fit(Z, y)
    theirs = LeaceEraser.fit(z, hot, **options)(z)
    np.testing.assert_allclose(basis.erase(Z), theirs, atol=1e-6)
    theirs = LeaceEraser.fit(z, hot[:, 3:4], **options)(z)
    np.testing.assert_allclose(basis.erase(Z, 3), theirs, atol=1e-6)
    zero = basis.move(Z, 3, -basis.amplitude(Z, 3))

    def auc(x):
        read = LogisticRegression(max_iter=1000).fit(x, y == 3).decision_function(x)
        return roc_auc_score(y == 3, read)

    assert auc(zero) > 0.7 and abs(auc(basis.erase(Z, 3)) - 0.5) < 0.05
    with pytest.raises(LSDError, match="not enough"):
        LatentBasis.from_means(np.eye(3), [0, 1, 2]).erase(np.eye(3))
    assert leace(basis.moments_, torch.eye(5))[0].shape == (12, 4)


def test_every_sensible_mix_of_parameters_fits():
    Z, y = latents(4, n=200)
    grid = [
        {
            "method": ["lowdin", "gram_schmidt", "qr"],
            "center": [True, False],
            "metric": ["within", "identity"],
            "reading": ["signed", "absolute", "nearest"],
            "n_sets": [1, 2],
        },
        {"shrinkage": ["auto", 0, 0.3, 1], "set_weight": [1.0, 3.0, np.inf], "n_sets": [1, 2]},
        {"rank_deficient": ["frame", "raise", "complete"], "read_sets": ["first", "all"]},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LDA reads more than some of these
        search = GridSearchCV(LatentBasis(), grid, cv=2, n_jobs=1, error_score="raise").fit(Z, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    "y",
    [
        np.where(np.arange(60) % 2, 1, -1),
        np.array(["b", "a"])[np.arange(60) % 2],
        pd.Series(np.arange(60) % 2, dtype="Int64"),
        pd.Series(np.array(["b", "a"])[np.arange(60) % 2], dtype="category"),
        pd.Series(np.array(["b", "a"])[np.arange(60) % 2], dtype="string"),
        pd.Series(np.arange(60) % 2 == 0, dtype="boolean"),
        (np.arange(60) % 2).tolist(),
    ],
    ids=["-1/1", "text", "Int64", "category", "string", "boolean", "list"],
)
def test_kinds_of_labels(y):
    Z = np.random.default_rng(0).normal(size=(60, 6)) + 4 * (np.arange(60) % 2)[:, None]
    basis = LatentBasis().fit(Z, y)
    assert basis.score(Z, y) == 1.0 and (basis.predict(Z) == np.asarray(y)).all()
    column = np.asarray(y)[:, None]
    assert basis.score(Z, column) == 1.0 and (basis.label_rank(Z, column) == 1).all()
    with pytest.raises(LSDError, match=r"\(N,\)"):
        basis.score(Z, np.zeros((60, 2)))
    assert basis.transform(X=Z).shape == basis.transform(Z=Z).shape == (60, 2)
    assert (basis.predict(X=Z) == basis.predict(Z=Z)).all()


def test_the_label_minus_one_is_a_label():
    Z, y = latents(5, l=3)
    basis = LatentBasis(complete=True).fit(Z, y - 1)
    assert basis.index_of(-1) == 0 and basis.classes_.tolist() == [-1, 0, 1]
    assert basis.first_set.sum() == 3 and (basis.predict(Z) == y - 1).mean() > 0.9
    assert (np.asarray(basis.sets_)[3:] == -1).all()


def test_some_labels_weights_and_tables():
    Z, y = latents(6)
    some = LatentBasis(labels=[1, 3]).fit(Z, y)
    alone = LatentBasis().fit(Z[np.isin(y, [1, 3])], y[np.isin(y, [1, 3])])
    np.testing.assert_allclose(some.vectors_, alone.vectors_)
    weighted = LatentBasis().fit(Z, y, sample_weight=np.isin(y, [1, 3]).astype(float))
    assert len(weighted.vectors_) == 2
    table = some.set_output(transform="pandas").transform(
        pd.DataFrame(Z, columns=list("abcdefghijkl"))
    )
    assert list(table.columns) == ["label 1, set 1", "label 3, set 1"]
    crowded = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 9
    with pytest.raises(LSDError, match="labels="):
        LatentBasis().fit(*crowded)
    assert len(LatentBasis(labels=[0, 1, 2]).fit(*crowded).vectors_) == 3


def test_gradients_flow():
    Z, y = latents(7)
    basis = LatentBasis(complete=True).fit(torch.as_tensor(Z), y)
    z = torch.as_tensor(Z[:4]).requires_grad_()
    basis.inverse_transform(basis.transform(z)).sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))
    for f in (basis.decision_function, basis.predict_proba, lambda v: basis.erase(v, 1)):
        assert f(z).requires_grad
    xi = orthogonalise(torch.eye(3).double())
    assert amplitudes(z[:, :3], xi).requires_grad


@pytest.mark.parametrize("weight", [1e-300, 1e-14, 1e-8, 1e8, 1e14, 1e300])
def test_extreme_weights_are_the_limit(weight):
    means = torch.randn(8, 12, generator=torch.Generator().manual_seed(0)).double()
    first = torch.arange(8) < 4
    xi = lowdin(means, torch.where(first, torch.tensor(weight, dtype=torch.float64), 1.0))
    heavy = first if weight > 1 else ~first
    torch.testing.assert_close(xi[heavy], lowdin(means[heavy]), atol=1e-6, rtol=0)
    torch.testing.assert_close(xi @ xi.T / 12, torch.eye(8).double(), atol=1e-12, rtol=0)
    with pytest.raises(LSDError, match="weights"):
        lowdin(means, torch.full((8,), float("nan")))


def test_sizes_and_conditions():
    means = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).double()
    for scale in (1e-154, 1e154, 1e300):
        torch.testing.assert_close(orthogonalise(scale * means), orthogonalise(means))
    hard = torch.as_tensor(bent(0, 9, 1e12))
    condition = float(torch.linalg.cond(hard))
    assert 1e11 < condition < 1e13
    for method in ("lowdin", "gram_schmidt", "modified_gram_schmidt", "qr"):
        xi = orthogonalise(hard, method)
        assert (xi @ xi.T / 9 - torch.eye(9)).abs().max() < 1e-10
    basis = LatentBasis.from_means(hard, range(9), center=False)
    assert f"about {np.log10(basis.condition_):.0f} are lost" in basis.report()
    assert 1e8 < basis.condition_ <= 10 * condition  # of the means at one length
    assert "lost" not in LatentBasis.from_means(means, range(6)).report()


@pytest.mark.parametrize(
    "names,says",
    [
        ({}, "vector 2 "),
        ({"labels": list("abcd")}, "label c "),
        ({"sets": [1, 1, 2, 2]}, "set 2 "),
        ({"labels": list("abab"), "sets": [1, 1, 2, 2]}, "label a, set 2 "),
    ],
)
@pytest.mark.parametrize("method", ["lowdin", "gram_schmidt", "modified_gram_schmidt", "qr"])
def test_dependent_means_are_named(method, names, says):
    means = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    means[2] = means[0] + means[1]
    with pytest.raises(LSDError) as e:
        orthogonalise(means, method, **names)
    assert f"rank-deficient: {says}" in str(e.value)


def damaged(path, change):
    "A file with a right checksum and other contents."
    t, meta = load_tensors(path)
    change(t, meta)
    return save_tensors(path.with_name("damaged.safetensors"), t, meta)


@pytest.mark.parametrize(
    "change",
    [
        lambda t, m: t.pop("duals"),
        lambda t, m: t.update(more=torch.zeros(1)),
        lambda t, m: t.update(vectors=t["vectors"] * 0),
        lambda t, m: t.update(vectors=t["vectors"].int()),
        lambda t, m: t["vectors"].mul_(float("nan")),
        lambda t, m: t["vectors"][0].add_(1),
        lambda t, m: t.update(codes=t["codes"] + 7),
        lambda t, m: t.update(sets=t["sets"] * 0),
        lambda t, m: t.update(means=t["means"][:, :2]),
        lambda t, m: t.update(read=t["read"] + 99),
        lambda t, m: m.update(params={"method": "lowdin"}),
        lambda t, m: m["params"].update(method="hope"),
        lambda t, m: m["params"].update(shrinkage=[]),
        lambda t, m: m["params"].update(complete={}),
        lambda t, m: m.update(classes=None),
        lambda t, m: m.update(classes=[1, 1, 2]),
        lambda t, m: m.pop("torch"),
        lambda t, m: m.update(classes_dtype="no such type"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, change):
    path = LatentBasis().fit(*latents(8, l=3)).save(tmp_path / "b.safetensors")
    with pytest.raises(LSDError) as e:
        LatentBasis.load(damaged(path, change))
    assert "\n" not in str(e.value) and "damaged.safetensors" in str(e.value)


@pytest.mark.parametrize(
    "call,says",
    [
        (lambda b, Z, y: b.fit(scipy.sparse.csr_array(Z), y), "sparse"),
        (lambda b, Z, y: b.fit(Z + 1j, y), "[Cc]omplex"),
        (lambda b, Z, y: b.fit(Z, np.where(y, np.nan, 1.0)), "NaN"),
        (lambda b, Z, y: b.fit(Z, [None, *y[1:]]), "missing"),
        (lambda b, Z, y: b.fit(Z, pd.Series([pd.NA, *y[1:]], dtype="Int64")), "missing|NaN"),
        (lambda b, Z, y: b.fit(Z, y + 0.5), "[Uu]nknown label type"),
        (lambda b, Z, y: b.fit(Z, y, sets=y), "whole numbers from 1"),
        (lambda b, Z, y: b.fit(Z, y, sample_weight=-y), "[Nn]egative"),
        (lambda b, Z, y: b.fit(np.ones_like(Z), y), "one point"),
        (lambda b, Z, y: LatentBasis(labels=[7]).fit(Z, y), "labels="),
        (lambda b, Z, y: LatentBasis(reading="loud").fit(Z, y), "reading"),
        (lambda b, Z, y: LatentBasis(shrinkage=2).fit(Z, y), "shrinkage"),
        (lambda b, Z, y: LatentBasis(set_weight=0).fit(Z, y), "set_weight"),
        (lambda b, Z, y: LatentBasis.from_means(Z[:3], [0, 1, 2], metric="within"), "no covar"),
        (lambda b, Z, y: b.fit(Z, y).move(Z, 1, [1, 2]), "amount"),
        (lambda b, Z, y: b.fit(Z, y).direction(9), "no label"),
        (lambda b, Z, y: amplitudes(Z, 2 * Z[:3]), "orthogonal"),
        (lambda b, Z, y: amplitudes(["a"], np.eye(1)), "numbers"),
        (lambda b, Z, y: b.fit([[1, 2], [3]], [0, 1]), "."),
    ],
)
def test_bad_input_gets_one_line(call, says):
    with pytest.raises(LSDError, match=says) as e:
        call(LatentBasis(), *latents(9, l=3))
    assert "\n" not in str(e.value)


def test_enough_latents_for_a_covariance_but_not_half_of_them():
    y = torch.arange(16) % 2
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)).double() + 3 * y[:, None]
    b = LatentBasis(shrinkage=0.0).fit(z, y)
    assert b.held_out_ is None and b.score(z, y) > 0.8
    with pytest.raises(LSDError, match="singular"):
        LatentBasis(shrinkage=0.0).fit(z[:8], y[:8])
