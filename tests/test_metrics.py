"""Metrics against the formulas they stand for."""

import numpy as np
import pytest

from lsd_nb.core import LSDError
from lsd_nb.metrics import mmd_test, precision_recall


def test_two_sample_test():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((150, 4)), rng.standard_normal((150, 4))
    assert mmd_test(a, b, 99)["p"] > 0.05 and mmd_test(a, b + 1, 99)["p"] == pytest.approx(0.01)
    assert mmd_test(a, b * 2, 99)["p"] < 0.05  # same mean, other spread


def test_mmd_is_that_of_the_formula():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((12, 2)), rng.standard_normal((15, 2)) + 1
    both = np.r_[a, b]
    d2 = ((both[:, None] - both[None]) ** 2).sum(-1)
    k = np.exp(-d2 / np.median(d2[np.triu_indices(27, 1)]))

    def within(m):
        return (m.sum() - np.trace(m)) / (len(m) * (len(m) - 1))

    assert mmd_test(a, b, 1)["mmd2"] == pytest.approx(
        within(k[:12, :12]) + within(k[12:, 12:]) - 2 * k[:12, 12:].mean()
    )


def test_precision_and_recall():
    rng = np.random.default_rng(0)
    near, far = rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 30
    assert precision_recall(near, far) == {"precision": 0.0, "recall": 0.0}
    assert precision_recall(near, near) == {"precision": 1.0, "recall": 1.0}
    narrow = precision_recall(np.r_[near, far], near[:100])
    assert narrow["precision"] == 1.0 and 0.3 < narrow["recall"] < 0.6


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mmd_test(np.zeros((20, 2)), np.zeros((20, 3))), "one shape"),
        (lambda: precision_recall(np.zeros((20, 2)), np.zeros((20, 2)), 30), "neighbours"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
