"""What 97_noise should not hold: many cases, and wrong arguments."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydata import one_line

from lsd_nb.core import LSDError
from lsd_nb.noise import add_gaussian, add_salt_and_pepper, occlude

few = settings(max_examples=40, deadline=None)


# ---- noise


@few
@given(
    n=st.integers(1, 3),
    size=st.integers(0, 6),
    sigma=st.floats(0, 4),
    amount=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_noise_keeps_shape_range_and_input(n, size, sigma, amount, seed):

    def g():
        return torch.Generator().manual_seed(seed)

    x = torch.rand(n, 1, 6, 9, generator=g()) * 2 - 1
    before = x.clone()
    for noisy in (
        add_gaussian(x, sigma, generator=g()),
        add_salt_and_pepper(x, amount, g()),
        occlude(x, size, g()),
    ):
        assert noisy.shape == x.shape and noisy.dtype == x.dtype and noisy.abs().max() <= 1
    assert torch.equal(x, before)
    assert ((occlude(x.clamp(min=-0.9), size, g()) == -1).sum((1, 2, 3)) == size**2).all()


def test_noise_levels():
    x, g = torch.zeros(200, 1, 28, 28), torch.Generator().manual_seed(0)
    assert (add_gaussian(x, 0.3, clip=False, generator=g).std() / 2).item() == pytest.approx(
        0.3, rel=0.01
    )
    assert (add_salt_and_pepper(x, 0.3, g) != 0).float().mean().item() == pytest.approx(
        0.3, rel=0.02
    )


@pytest.mark.parametrize(
    "bad",
    [
        lambda x: occlude(x, -1),
        lambda x: occlude(x, 29),
        lambda x: add_salt_and_pepper(x, 1.5),
        lambda x: occlude(x, 1.5),
        lambda x: add_gaussian(x, float("nan")),
        lambda x: add_gaussian(x, -1),
        lambda x: add_gaussian(x[0], 1),
        lambda x: add_gaussian(x.long(), 1),
        lambda x: add_salt_and_pepper(x.numpy(), 0.1),
        lambda x: add_salt_and_pepper(x, float("nan")),
    ],
)
def test_bad_noise(bad):
    with pytest.raises(LSDError, match="expected") as e:
        bad(torch.zeros(1, 1, 28, 28))
    one_line(e)
