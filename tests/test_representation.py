"""PCA, the linear autoencoder, and scores of pictures."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from lsd_nb.core import LSDError
from lsd_nb.studies.representation import (
    linear_autoencoder,
    picture_scores,
    principal_components,
    project_and_restore,
)


def data(n=300, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(4, 0.2, d) + 3


def test_components_are_scikit_learns():
    mean, components, variances = principal_components(data(), 4)
    pca = PCA(4).fit(data())
    assert np.allclose(mean, pca.mean_) and np.allclose(variances, pca.explained_variance_)
    assert np.allclose(np.abs((components.numpy() * pca.components_).sum(1)), 1)


def test_all_components_restore_everything():
    mean, components, _ = principal_components(data(), 8)
    codes, restored = project_and_restore(data(), mean, components)
    assert np.allclose(restored, data()) and torch.allclose(
        torch.cov(codes.T).fill_diagonal_(0), torch.zeros(8, 8, dtype=torch.float64), atol=1e-8
    )


def test_one_dimension():
    assert principal_components(data(d=1), 1)[1].abs().item() == pytest.approx(1)


@pytest.mark.parametrize("k", [1, 3])
def test_linear_autoencoder_spans_the_principal_subspace(k):
    encoder, decoder, trace = linear_autoencoder(data(), k)
    _, components, variances = principal_components(data(), 8)
    assert np.degrees(subspace_angles(decoder.numpy(), components[:k].T.numpy())).max() < 0.1
    assert (
        trace[-1] == pytest.approx(variances[k:].sum().item() * 299 / 300, rel=1e-6)
        and trace[0] > trace[-1]
    )
    x = torch.from_numpy(data())
    x = x - x.mean(0)
    assert (x - x @ encoder.T @ decoder.T).square().sum(1).mean().item() == pytest.approx(
        trace[-1], rel=1e-6
    )  # the loss is what it says


def test_picture_that_keeps_all_and_one_that_keeps_nothing():
    rng = np.random.default_rng(0)
    space, labels = (
        np.repeat(np.eye(3) * 9, 40, 0) + rng.standard_normal((120, 3)),
        np.repeat([0, 1, 2], 40),
    )
    kept, lost = (
        picture_scores(space, space, labels),
        picture_scores(space, rng.standard_normal((120, 2)), labels),
    )
    assert (
        kept["trustworthiness"] == 1
        and kept["knn"] == kept["knn_space"] > 95
        and kept["distances"] == pytest.approx(1)
    )
    assert lost["trustworthiness"] < 0.7 and lost["knn"] < 60 and abs(lost["distances"]) < 0.1


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: principal_components(data(), 9), "expected 1 to 8"),
        (lambda: principal_components(data(), 0), "expected 1 to 8"),
        (lambda: principal_components(np.zeros((1, 3)), 1), "N ≥ 2"),
        (lambda: principal_components(np.full((5, 3), np.nan), 1), "NaN"),
        (lambda: linear_autoencoder(data(), 0), "1 ≤ k"),
        (lambda: linear_autoencoder(data(), 2, iterations=0), "1 or more"),
        (
            lambda: project_and_restore(np.zeros((2, 5)), *principal_components(data(), 2)[:2]),
            "5 features",
        ),
        (lambda: picture_scores(data(), data(9), np.zeros(300)), "one label per point"),
        (lambda: picture_scores(data(), data(), np.zeros(300), 200), "neighbours"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError, match=words.replace("(", r"\(")) as caught:
        make()
    assert "\n" not in str(caught.value)
