"""Extreme numbers: weights, norms and condition numbers at the ends of double precision."""

import random
from pathlib import Path

import torch

from lsd_nb.basis import LatentBasis, lowdin, orthogonalise
from lsd_nb.core import LSDError

METHODS = ("gram_schmidt", "modified_gram_schmidt", "qr", "lowdin")


def off(rows: torch.Tensor) -> float:
    "How far rows (K, M) are from orthogonal with norm √M."
    return float((rows @ rows.T / rows.shape[1] - torch.eye(len(rows))).abs().max())


def noise(rng: random.Random, *shape: int) -> torch.Tensor:
    "Normal numbers in double precision."
    g = torch.Generator().manual_seed(rng.randrange(2**31))
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def sizes(rng: random.Random) -> tuple[int, int]:
    "How many means, in how many dimensions."
    m = rng.choice((5, 20, 64, 100))
    return rng.randrange(2, min(m, 40) + 1), m


def weights(rng: random.Random) -> tuple[str, float]:
    "Löwdin with weights from 1e-14 to 1e300."
    k, m = sizes(rng)
    powers = [rng.choice((-300, -14, -8, 0, 8, 150, 300)) + rng.random() for _ in range(k)]
    return f"weights 10^{powers}", off(
        lowdin(noise(rng, k, m), 10 ** torch.tensor(powers).double())
    )


def setwise(rng: random.Random) -> tuple[str, float]:
    "The weight of set 1 on its way to infinity."
    k, m = sizes(rng)
    weight = rng.choice((1e-14, 1e-8, 1e8, 1e14, 1e300, float("inf")))
    sets = [1 if i < k / 2 else 2 for i in range(k)]
    rows = orthogonalise(noise(rng, k, m), "lowdin", sets, weight)
    return f"set_weight {weight}", off(rows)


def norms(rng: random.Random) -> tuple[str, float]:
    "Means whose squared norm overflows, or is nearly nothing."
    k, m = sizes(rng)
    power, method = rng.choice((-300, -154, 154, 300)), rng.choice(METHODS)
    return f"{method}, norm 1e{power}", off(orthogonalise(noise(rng, k, m) * 10.0**power, method))


def condition(rng: random.Random) -> tuple[str, float]:
    "Condition numbers up to 1e12."
    k, m = sizes(rng)
    power, method = rng.uniform(0, 12), rng.choice(METHODS)
    u, _, vh = torch.linalg.svd(noise(rng, k, m), full_matrices=False)
    s = torch.logspace(0, -power, k, dtype=torch.float64)
    return f"{method}, condition 1e{power:.1f}", off(orthogonalise(u @ torch.diag(s) @ vh, method))


def from_means(rng: random.Random) -> tuple[str, float]:
    "A basis of such means: amplitudes of its own vectors are those of the identity."
    k, m = sizes(rng)
    scale = 10.0 ** rng.choice((-100, -12, 0, 12, 100))
    b = LatentBasis.from_means(noise(rng, k, m) * scale, list(range(k)))
    return f"scale {scale}", float((b.transform(b.vectors_) - torch.eye(k)).abs().max())


CHECKS = {f.__name__: f for f in (weights, setwise, norms, condition, from_means)}


NAMES = list(CHECKS)


def draw(name: str, folder: Path, rng: random.Random) -> tuple[str, str]:
    "One drawn problem: right if it is orthogonal to 1e-10."
    try:
        what, error = CHECKS[name](rng)
    except LSDError as e:
        return "rejected", f"{name}: {e}"
    except Exception as e:
        return "obscure", f"{name}: {type(e).__name__}: {e}"
    return ("right" if error <= 1e-10 else "inexact"), f"{name}, {what}: off by {error:.1e}"
