"""Answers against slow reference versions (`slow.py`): drawn problems, the largest difference.

"right" where both agree to the tolerance beside the check, "wrong" where they do not: an answer
that is wrong and says nothing.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slow
import torch

from lsd_nb import (
    attributes,
    basis,
    data,
    decomposition,
    encoder,
    image_files,
    large,
    latents,
    metrics,
    models,
    noise,
    operators,
    pictures,
)
from lsd_nb.basis import LatentBasis

CHECKS: dict[str, tuple[Callable, float]] = {}


def close(tolerance: float) -> Callable:
    "A check gives triples (what, ours, theirs), which differ by at most so much of their size."

    def register(check: Callable) -> Callable:
        CHECKS[check.__name__] = check, tolerance
        return check

    return register


def numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def off(ours: Any, theirs: Any) -> float:
    "Largest difference over the largest entry, or 1 if that is smaller; infinite for other shapes."
    a, b = numpy(ours), numpy(theirs)
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind in "UOb" or b.dtype.kind in "UOb":
        return float((a != b).any())
    a, b = a.astype(float), b.astype(float)
    size = max(1.0, float(np.abs(b).max(initial=0.0)))
    return float(np.abs(a - b).max(initial=0.0)) / size if np.isfinite(a).all() else float("inf")


class Problem:
    "Labelled latents of random sizes: every label has some in every set."

    def __init__(self, rng: random.Random, n_sets: int = 1):
        self.rng, self.np = rng, np.random.default_rng(rng.randrange(2**32))
        self.l, self.n_sets = rng.randrange(2, 6), n_sets
        self.m = rng.randrange(self.l * n_sets, self.l * n_sets + 8)
        n = rng.randrange(8, 20) * self.l * n_sets
        self.y = self.np.permutation(np.arange(n) % self.l)
        self.sets = 1 + dealt(self.y, n_sets)
        size = 10.0 ** rng.uniform(-2, 2)
        turns = np.linalg.qr(self.np.normal(size=(2, self.m, self.m)))[0]
        mixing = turns[0] * 10.0 ** self.np.uniform(-1, 1, self.m) @ turns[1]
        centers = rng.uniform(1, 6) * self.np.normal(size=(self.l, self.m))
        self.z = size * ((centers[self.y] + self.np.normal(size=(n, self.m))) @ mixing)
        self.z += size * rng.uniform(0, 5) * self.np.normal(size=self.m)
        if rng.random() < 0.3:  # both hold the same numbers, in single precision
            self.z = self.z.astype(np.float32)

    def normal(self, *shape: int) -> np.ndarray:
        return self.np.normal(size=shape)

    @property
    def groups(self) -> list:
        return list(zip(self.sets.tolist(), self.y.tolist(), strict=True))

    @property
    def means(self) -> np.ndarray:
        "By set, then label, each in order."
        found = slow.by_group(self.z.astype(float), self.groups)
        return np.array([found[g].mean(0) for g in sorted(found)])


def dealt(y: np.ndarray, n_sets: int) -> np.ndarray:
    "Every label's latents in turn into the sets, counted from 0."
    have, found = {}, []
    for label in y.tolist():
        have[label] = have.get(label, -1) + 1
        found.append(have[label] % n_sets)
    return np.array(found)


def rows(rng: random.Random) -> tuple[np.ndarray, np.random.Generator]:
    "Means (K, M), K ≤ M, of moderate condition."
    source = np.random.default_rng(rng.randrange(2**32))
    m = rng.randrange(2, 9)
    k = rng.randrange(1, m + 1)
    lengths = 10.0 ** source.uniform(-3, 3, size=(k, 1))
    return (source.normal(size=(k, m)) + 2 * np.eye(k, m)) * lengths, source


def frame(rng: random.Random, k: int = 2) -> tuple[np.ndarray, np.random.Generator]:
    "Orthogonal vectors (K, M) of norm √M, at least `k`."
    source = np.random.default_rng(rng.randrange(2**32))
    m = rng.randrange(k + 1, 10)
    q = np.linalg.qr(source.normal(size=(m, m)))[0]
    return q[: rng.randrange(k, m + 1)] * m**0.5, source


def kind(a: np.ndarray, rng: random.Random) -> Any:
    "As an array or as a tensor."
    return torch.tensor(a) if rng.random() < 0.5 else a


# ---- step 6: orthogonalisation


@close(1e-9)
def gram_schmidt(rng: random.Random):
    means, _ = rows(rng)
    theirs = slow.gram_schmidt(means)
    for method in ("gram_schmidt", "modified_gram_schmidt", "qr"):
        yield method, basis.orthogonalise(kind(means, rng), method), theirs
    for f in (basis.gram_schmidt, basis.modified_gram_schmidt):
        yield f.__name__, f(torch.tensor(means), rng.choice((1, 2))), theirs


@close(1e-9)
def lowdin(rng: random.Random):
    means, source = rows(rng)
    w = 10.0 ** source.uniform(-2, 2, size=len(means))
    theirs = slow.lowdin(means, w)
    yield "lowdin", basis.lowdin(torch.tensor(means), torch.tensor(w)), theirs
    ones = np.ones(len(means))
    yield "plain", basis.orthogonalise(kind(means, rng), "lowdin"), slow.lowdin(means, ones)
    first = np.arange(len(means)) < max(1, len(means) // 2)
    sets, weight = np.where(first, 1, 2), rng.uniform(0.5, 50)
    heavy = np.where(first, weight, 1.0)
    found = basis.orthogonalise(means, "lowdin", sets, weight)
    yield f"weight {weight}", found, slow.lowdin(means, heavy)


@close(1e-9)
def lowdin_setwise(rng: random.Random):
    means, _ = rows(rng)
    first = [i < max(1, len(means) // 2) for i in range(len(means))]
    sets = [1 if f else rng.choice((2, 3)) for f in first]
    if all(first):
        return
    found = basis.orthogonalise(kind(means, rng), "lowdin", sets, float("inf"))
    yield "set-wise", found, slow.setwise(means, first)


@close(1e-9)
def complement(rng: random.Random):
    xi, _ = frame(rng, 1)
    m = xi.shape[1]
    rest = numpy(basis.orthonormal_complement(torch.tensor(xi)))
    yield "projector", rest.T @ rest / m, np.eye(m) - xi.T @ xi / m
    yield "orthonormal", rest @ rest.T / m, np.eye(m - len(xi))


@close(1e-10)
def products(rng: random.Random):
    xi, source = frame(rng)
    z, c = source.normal(size=(3, xi.shape[1])), source.normal(size=(3, len(xi)))
    yield "amplitudes", basis.amplitudes(kind(z, rng), xi), slow.amplitudes(z, xi, 0 * xi[0])
    yield "synthesise", basis.synthesise(kind(c, rng), xi), slow.synthesis(c, xi)


# ---- the basis, read and edited


@close(1e-5)
def as_published(rng: random.Random):
    "The paper's: Gram–Schmidt of means set by set, the largest |amplitude| of all is the label."
    p = Problem(rng, rng.choice((1, 2)))
    p.z = p.z.astype(float)
    b = LatentBasis.as_published(p.n_sets).fit(kind(p.z, rng), p.y, sets=p.sets)
    xi = slow.gram_schmidt(p.means)
    yield "vectors", b.vectors_, xi
    c = slow.amplitudes(p.z[:9], xi, 0 * xi[0])
    yield "amplitudes", b.transform(p.z[:9]), c
    label = [int(np.abs(row).argmax()) % p.l for row in c]
    yield "labels", b.predict(p.z[:9]), np.array(label)
    own = [sorted(np.abs(r))[::-1] for r in c]
    best = [
        max(abs(r[k]) for k in range(len(r)) if k % p.l == y)
        for r, y in zip(c, p.y[:9], strict=True)
    ]
    rank = [1 + sum(v > s + 1e-12 for v in o) for o, s in zip(own, best, strict=True)]
    yield "rank", b.label_rank(p.z[:9], p.y[:9]), np.array(rank)


def recommended(p: Problem, share: float) -> dict:
    "Whitened means from their centre, lifted to right angles, their polar factor, and back."
    z = p.z.astype(float)
    within, _ = slow.pooled(z, p.groups, np.ones(len(z)))
    metric = slow.shrunk(within, share)
    white, colour = slow.roots(metric)
    means = p.means
    center = means.mean(0)
    away = (means - center) @ white
    size = np.sqrt((away**2).sum() / len(away) / (len(away) - 1))
    s, vh = np.linalg.svd(away)[1:]
    span = vh[: (s > 1e-10 * s[0]).sum()]
    up = center @ white
    up = up - up @ span.T @ span
    up = size * up / np.linalg.norm(up)
    lifted = away + up
    u, _, v = np.linalg.svd(lifted, full_matrices=False)
    xi = u @ v * p.m**0.5
    return {
        "metric": metric,
        "vectors": xi @ colour,
        "duals": xi @ white,
        "center": center - up @ colour,
    }


@close(1e-5)
def default_basis(rng: random.Random):
    "`LatentBasis()`: whitening by scipy's square root, an SVD, distances one after the other."
    p = Problem(rng)
    p.m = p.z.shape[1]
    if p.m <= p.l:
        return
    share = rng.uniform(0, 1)
    b = LatentBasis(shrinkage=share).fit(kind(p.z, rng), p.y)
    z, r = p.z.astype(float), recommended(p, share)
    for name in ("vectors", "duals", "center"):
        yield name, getattr(b, f"{name}_"), r[name]
    c = slow.amplitudes(z[:9], r["duals"], r["center"])
    yield "amplitudes", b.transform(z[:9]), c
    d = slow.distances(z[:9], p.means, r["metric"])
    yield "labels", b.predict(z[:9]), d.argmin(1)
    scores = -d / 2 / p.m
    ours = numpy(LatentBasis(shrinkage=share).fit(z, p.y).predict_proba(z[:9]))
    yield "probabilities", ours, slow.softmax(scores / 0.1)
    if p.l > 2:
        gaps = numpy(b.decision_function(z[:9]))
        yield "score differences", gaps - gaps[:, :1], scores - scores[:, :1]
    yield (
        "score",
        b.score(z, p.y),
        np.mean(slow.distances(z, p.means, r["metric"]).argmin(1) == p.y),
    )


@close(1e-9)
def against_lda(rng: random.Random):
    "Without shrinkage the reader is scikit-learn's LDA with equal priors."
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    p = Problem(rng)
    z = p.z.astype(float)
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / p.l] * p.l).fit(z, p.y)
    new = z[:40] + p.normal(min(40, len(z)), p.m) * z.std(0)
    scores = lda.decision_function(new)
    top = np.sort(scores, 1) if p.l > 2 else np.abs(scores)
    clear = (top[:, -1] - top[:, -2] if p.l > 2 else top) > 1e-6
    ours = numpy(LatentBasis(shrinkage=0.0).fit(z, p.y).predict(new))
    yield "labels", ours[clear], lda.predict(new)[clear]


@close(1e-6)
def edits(rng: random.Random):
    "Move, inverse transform and single amplitudes by the vectors and duals, number by number."
    p = Problem(rng)
    z = p.z.astype(float)
    b = LatentBasis(reading=rng.choice(("nearest", "signed"))).fit(z, p.y)
    vectors, duals, center = (numpy(getattr(b, f"{n}_")) for n in ("vectors", "duals", "center"))
    label, amount = rng.randrange(p.l), rng.uniform(-3, 3)
    yield "move", b.move(kind(z, rng), label, amount), z + amount * vectors[label]
    each = p.normal(len(z))
    yield "move each", b.move(z, label, each), z + np.outer(each, vectors[label])
    c = slow.amplitudes(z[:5], duals, center)
    yield "amplitude", b.amplitude(z[:5], label), c[:, label]
    yield "direction", b.direction(label), vectors[label]
    wanted = p.normal(5, len(vectors))
    theirs = slow.synthesis(wanted, vectors) + center
    yield "inverse", b.inverse_transform(wanted), theirs
    theirs = z[:5] + slow.synthesis(wanted - c, vectors)
    yield "inverse, rest kept", b.inverse_transform(wanted, z[:5]), theirs


@close(1e-4)
def erasure(rng: random.Random):
    "LEACE by the package of its authors: all labels, and one of them."
    from concept_erasure import LeaceFitter

    p = Problem(rng)
    z, one_hot = torch.tensor(p.z).double(), torch.eye(p.l).double()[torch.tensor(p.y)]
    if p.m <= p.l:
        return
    b, label = LatentBasis().fit(z, p.y), rng.randrange(p.l)
    for name, ours, columns in (
        ("all", b.erase(z), one_hot),
        ("one", b.erase(z, label), one_hot[:, [label]]),
    ):
        eraser = LeaceFitter.fit(z, columns, svd_tol=1e-6, shrinkage=False).eraser
        yield name, ours / z.std(), eraser(z) / z.std()
        left = (columns - columns.mean(0)).T @ (ours - ours.mean(0)) / len(z) / z.std()
        yield f"{name}: covariance", left, 0 * left


@close(1e-7)
def in_pieces(rng: random.Random):
    "`partial_fit` in pieces, and statistics, are `fit` of the whole."
    p = Problem(rng, rng.choice((1, 2)))
    z, cut = p.z.astype(float), rng.randrange(1, len(p.z))
    if p.m <= p.l * p.n_sets:
        return
    whole = LatentBasis(shrinkage=0.2, n_sets=p.n_sets).fit(z, p.y, sets=p.sets)
    parts = LatentBasis(shrinkage=0.2, n_sets=p.n_sets)
    for piece in (slice(cut), slice(cut, None)):
        labels = range(p.l)
        parts.partial_fit(z[piece], p.y[piece], classes=list(labels), sets=p.sets[piece])
    found = latents.LabelledMeans.empty(p.l, p.m, len(z), p.n_sets)
    for i in range(p.n_sets):
        mine = torch.tensor(p.sets == i + 1)
        flat = (found.counts[i], found.sums[i], found.moments[i])
        latents.add_by_label(torch.tensor(z)[mine], torch.tensor(p.y)[mine], *flat)
    merged = LatentBasis.from_statistics(found, shrinkage=0.2, n_sets=p.n_sets)
    for name in ("vectors_", "duals_", "center_", "means_"):
        size = max(1.0, np.abs(numpy(getattr(whole, name))).max())
        yield f"parts: {name}", getattr(parts, name) / size, getattr(whole, name) / size
        yield f"statistics: {name}", getattr(merged, name) / size, getattr(whole, name) / size


# ---- statistics


@close(1e-10)
def moments(rng: random.Random):
    p = Problem(rng, rng.choice((1, 2, 3)))
    z, w = p.z.astype(float), p.np.uniform(0.1, 3, len(p.z))
    codes, sets = torch.tensor(p.y), torch.tensor(p.sets)
    shape, full = (p.n_sets, p.l), rng.random() < 0.7
    found = basis.label_moments(torch.tensor(z), codes, sets, shape, torch.tensor(w), full=full)
    mean = z.mean(0)
    counts, sums = np.zeros(shape), np.zeros((*shape, p.m))
    second = np.zeros((p.n_sets, p.m, p.m))
    for row, (s, y), v in zip(z, p.groups, w, strict=True):
        counts[s - 1, y] += v
        sums[s - 1, y] += v * (row - mean)
        second[s - 1] += v * np.outer(row - mean, row - mean)
    scale = max(1.0, np.abs(second).max())
    yield "counts", found.counts, counts
    yield "sums", found.sums / scale**0.5, sums / scale**0.5
    second = second if full else np.array([x.diagonal() for x in second])
    yield "second", found.second / scale, second / scale
    for ours, theirs in zip(basis.covariances(found), slow.pooled(z, p.groups, w), strict=True):
        theirs = theirs if full else theirs.diagonal()
        yield "covariances", ours / scale, theirs / scale


@close(1e-8)
def shrinkage(rng: random.Random):
    "OAS of scikit-learn on standardised latents; whitening by scipy's square root."
    from sklearn.covariance import OAS

    p = Problem(rng)
    z = p.z.astype(float)
    z = (z - z.mean(0)) / z.std(0)
    theirs = OAS(assume_centered=True).fit(z).shrinkage_
    covariance = torch.tensor(z.T @ z / len(z))
    found, share = basis.shrunk(covariance, len(z))
    yield "share", share, min(theirs, (p.m / len(z)) ** 2)
    yield "matrix", found, slow.shrunk(numpy(covariance), share)
    white, colour = basis.whitening(found)
    yield "white", white @ white.T, np.linalg.inv(numpy(found))
    yield "colour", colour.T @ colour, found
    yield "inverse", white @ colour, np.eye(p.m)


@close(1e-9)
def labelled_sums(rng: random.Random):
    "Latents in batches, in order of arrival, into sets; collections that add and join."
    p = Problem(rng)
    n_sets, per_set = rng.randrange(1, 4), rng.randrange(1, 9)
    z, y = torch.tensor(p.z), torch.tensor(p.y)
    found = latents.LabelledMeans.empty(p.l, p.m, per_set, n_sets, rng.choice(("full", "diagonal")))
    size = rng.randrange(1, len(z) + 1)
    for a, b in zip(z.split(size), y.split(size), strict=True):
        found.add(a, b)
    places = slow.dealt(p.y.tolist(), n_sets, per_set)
    used = [i for i, g in enumerate(places) if g is not None]
    groups = slow.by_group(p.z[used].astype(float), [places[i] for i in used])
    for i in range(n_sets):
        for k in range(p.l):
            mine = groups.get((i, k), np.zeros((0, p.m)))
            yield "counts", found.counts[i, k], len(mine)
            yield "sums", found.sums[i, k], mine.sum(0)
            yield "squares", found.squares[i, k], (mine**2).sum(0)
    if (found.counts > 1).all():
        spread = np.array([groups[g].std(0, ddof=1) for g in sorted(groups)])
        yield "deviations", found.deviations / spread, np.ones_like(spread)
        yield "means", found.raw_means, np.array([groups[g].mean(0) for g in sorted(groups)])
        if found.moments.ndim == 4:
            each = np.array([np.cov(groups[g].T).reshape(p.m, p.m) for g in sorted(groups)])
            scale = np.abs(each).max()
            yield "covariances", found.covariances / scale, each / scale


@close(1e-9)
def merged_parts(rng: random.Random):
    "Parts of sets, added in any grouping, are the sums of all their latents."
    p = Problem(rng, rng.choice((1, 2)))
    parts, z, y = [], torch.tensor(p.z), torch.tensor(p.y)
    for i in range(p.n_sets):
        mine = np.flatnonzero(p.sets == i + 1)
        for k, piece in enumerate(np.array_split(mine, rng.randrange(1, 4))):
            part = latents.LabelledMeans.empty(p.l, p.m, len(z))
            part.add(z[piece], y[piece])
            parts.append(((i + 1, k), part))
    whole, groups = latents.add_parts(parts), slow.by_group(p.z.astype(float), p.groups)
    for (s, k), mine in groups.items():
        yield "counts", whole.counts[s - 1, k], len(mine)
        yield "sums", whole.sums[s - 1, k], mine.sum(0)
        yield "moments", whole.moments[s - 1, k], mine.T @ mine
    yield "draws", whole.draws, len(z)


@close(1e-6)
def streamed(rng: random.Random):
    "Statistics of many dimensions: all directions kept is the covariance itself."
    p = Problem(rng)
    z = torch.tensor(p.z).double()
    z = z - z.mean(0)
    block = rng.randrange(1, p.m + 1)
    a, b = (large.StreamedMoments.empty(p.l, p.m, block=block, sketch=p.m) for _ in range(2))
    cut = rng.randrange(0, len(z))
    a.add(z[:cut], p.y[:cut])
    found = a + b.add(z[cut:], p.y[cut:])
    within, _ = slow.pooled(numpy(z), p.y.tolist(), np.ones(len(z)))
    scale = np.abs(within).max()
    yield "diagonal", found.metric("diagonal") / scale, within.diagonal() / scale
    rows = p.normal(3, p.m)
    full = found.metric("low_rank", p.m).apply(torch.tensor(rows)) / scale
    yield "low rank, all kept", full, rows @ (within + 1e-3 * np.diag(within.diagonal())) / scale


# ---- operators


@close(1e-9)
def matrices(rng: random.Random):
    "Projector, both rotations, swap and subspace as dense matrices, their products and inverses."
    xi, source = frame(rng)
    i, j = rng.sample(range(len(xi)), 2)
    m, (a, b) = xi.shape[1], source.uniform(-3, 3, 2)
    gap = (xi[j] - xi[i]) / 2**0.5
    keep = rng.sample(range(len(xi)), rng.randrange(1, len(xi) + 1))
    pairs = {
        "projector": (operators.projector(xi, i, j), slow.projector(xi[j], xi[i])),
        "paper": (
            operators.rank_one_rotation(xi, i, j, a, b),
            slow.rank_one(xi[i], xi[j], a, b),
        ),
        "plane": (operators.plane_rotation(xi, i, j, a), slow.turn(xi[i], xi[j], a)),
        "swap": (operators.householder_swap(xi, i, j), np.eye(m) - 2 * slow.projector(gap, gap)),
        "subspace": (operators.subspace(xi, keep), sum(slow.projector(xi[k], xi[k]) for k in keep)),
        "dense": (operators.Operator(xi.T @ xi + np.eye(m)), xi.T @ xi + np.eye(m)),
    }
    z = source.normal(size=(3, m))
    for name, (ours, theirs) in pairs.items():
        yield name, ours.matrix, theirs
        applied = np.array([[slow.dot(line, row) for line in theirs] for row in z])
        yield f"{name} of latents", ours(kind(z, rng)), applied
    names = rng.sample(list(pairs), 2)
    yield (
        " @ ".join(names),
        ((pairs[names[0]][0] @ pairs[names[1]][0]).matrix),
        pairs[names[0]][1] @ pairs[names[1]][1],
    )
    for name in ("plane", "swap", "dense"):
        back = np.linalg.inv(pairs[name][1])
        yield f"{name}, inverse", pairs[name][0].inverse().matrix, back


@close(1e-7)
def in_a_metric(rng: random.Random):
    "Operators of a fitted basis act on z − centre, read by the duals and write the vectors."
    p = Problem(rng)
    z = p.z.astype(float)
    b = LatentBasis().fit(z, p.y)
    if p.m <= p.l:
        return
    v, d, center = (numpy(getattr(b, f"{n}_")) for n in ("vectors", "duals", "center"))
    i, j = rng.sample(range(p.l), 2)
    size = np.abs(z).max()
    both = slow.projector(v[j], d[i]) + slow.projector(v[i], d[j])
    own = slow.projector(v[i], d[i]) + slow.projector(v[j], d[j])
    swap = np.eye(p.m) - own + both
    for name, ours, theirs in (
        ("projector", operators.projector(b, i, j), slow.projector(v[j], d[i])),
        ("swap", operators.householder_swap(b, i, j), swap),
    ):
        yield name, ours(z) / size, (center + (z - center) @ theirs.T) / size


@close(1e-8)
def on_the_sphere(rng: random.Random):
    source = np.random.default_rng(rng.randrange(2**32))
    n, m = rng.randrange(1, 6), rng.randrange(2, 9)
    z, center = source.normal(size=(n, m)), source.normal(size=m)
    radius = rng.uniform(0.1, 9)
    there = operators.on_sphere(kind(z, rng), radius, center)
    yield "on_sphere", there, slow.at_distance(z, radius, center)
    yield "default", operators.on_sphere(z), slow.at_distance(z, m**0.5, 0 * center)
    t, other = rng.random(), source.normal(size=(n, m))
    yield "slerp", operators.slerp(kind(z, rng), kind(other, rng), t), slow.arc(z, other, t)
    found, distance = operators.sphere_of(np.concatenate([z, other]))
    both = np.concatenate([z, other])
    yield "centre", found, both.sum(0) / len(both)
    gaps = [slow.dot(r - both.mean(0), r - both.mean(0)) for r in both]
    yield "radius", distance, (sum(gaps) / len(gaps)) ** 0.5


@close(1e-8)
def cut_and_swapped(rng: random.Random):
    "The k largest amplitudes alone; two exchanged on the sphere; the path of algorithm 1."
    xi, source = frame(rng)
    m, n = xi.shape[1], 4
    z = source.normal(size=(n, m))
    k = rng.randrange(1, len(xi) + 1)
    c = slow.amplitudes(z, xi, 0 * xi[0])
    short = slow.synthesis(slow.largest(c, k), xi)
    yield "truncate", operators.truncate(kind(z, rng), xi, k), short
    i, j = rng.sample(range(len(xi)), 2)
    u = slow.at_distance(z, m**0.5, 0 * xi[0])
    c = slow.amplitudes(u, xi, 0 * xi[0])
    least = rng.choice((0.0, 0.5, 2.0))
    new = c.copy()
    new[:, i] = c[:, j]
    new[:, j] = np.maximum(c[:, i], least) if least else c[:, i]
    theirs = slow.at_distance(u + slow.synthesis(new - c, xi), m**0.5, 0 * xi[0])
    yield "amplitude_swap", operators.amplitude_swap(kind(z, rng), xi, i, j, least), theirs
    steps, path = rng.randrange(1, 4), [i, j]
    frames = [z]
    for r in range(steps):
        d = np.pi / 2 / steps
        turned = frames[-1] @ slow.rank_one(xi[i], xi[j], r * d, d).T
        frames.append(slow.at_distance(turned, m**0.5, 0 * xi[0]))
    yield "rotation_path", operators.rotation_path(z, xi, path, steps), np.stack(frames, 1)


@close(1e-5)
def transport(rng: random.Random):
    source = np.random.default_rng(rng.randrange(2**32))
    m = rng.randrange(2, 7)
    a, b = (x @ x.T + np.eye(m) for x in source.normal(size=(2, m, m)))
    mu, nu = source.normal(size=(2, m))
    op, theirs = operators.optimal_transport_map(mu, a, nu, b), slow.transport(a, b)
    yield "matrix", op.matrix, theirs
    yield "offset", op.offset, nu - theirs @ mu


# ---- attributes


@close(1e-6)
def regressions(rng: random.Random):
    "Partial effects and readers by least squares of NumPy and scikit-learn."
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    p = Problem(rng)
    z, n = p.z.astype(float), len(p.z)
    z = (z - z.mean(0)) / z.std(0)
    number = z @ p.normal(p.m) + p.normal(n)
    found = [attributes.as_attribute(number, "number", "number")]
    found.append(attributes.as_attribute(p.y, "label", "category"))
    joint = attributes.joint_covariances(torch.tensor(z), found)
    columns = np.column_stack([(number - number.mean()) / number.std(), np.eye(p.l)[p.y]])
    columns = columns - columns.mean(0)
    yield "effects", attributes.partial_effects(joint, found), np.linalg.pinv(columns) @ z
    row, offset = attributes.linear_reader(torch.tensor(z), found[0], 0.0)
    theirs = np.linalg.lstsq(np.column_stack([z, np.ones(n)]), number, rcond=None)[0]
    read = z @ numpy(row)[0] + float(offset[0])
    yield "number", read, np.column_stack([z, np.ones(n)]) @ theirs
    row, offset = attributes.linear_reader(torch.tensor(z), found[1], 0.0)
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / p.l] * p.l).fit(z, p.y)
    ours = z @ numpy(row).T + numpy(offset)
    if p.l > 2:
        theirs = lda.decision_function(z)
        yield "label", ours - ours[:, :1], theirs - theirs[:, :1]


# ---- measures, losses, noise, pictures


@close(1e-5)
def measures(rng: random.Random):
    source = np.random.default_rng(rng.randrange(2**32))
    n, f = rng.randrange(12, 25), rng.randrange(1, 5)
    a, b = source.normal(size=(n, f)), rng.uniform(0.5, 2) * source.normal(size=(n + 3, f)) + 0.3
    ta, tb = torch.tensor(a), torch.tensor(b)
    yield "frechet", metrics.frechet_distance(ta, tb), slow.frechet(a, b)
    yield "mmd2", metrics.mmd_test(a, b, permutations=1)["mmd2"], slow.mmd2(a, b)
    k = rng.randrange(1, 5)
    both = metrics.precision_recall(a, b, k)
    yield "precision", both["precision"], slow.inside_share(b, a, k)
    yield "recall", both["recall"], slow.inside_share(a, b, k)
    ours = metrics.variation(ta.float(), tb.float())
    yield "variation", ours, a.var(0, ddof=1).sum() / b.var(0, ddof=1).sum()
    logits, y = source.normal(size=(n, 4)), source.integers(0, 4, n)
    hits = [max(range(4), key=row.__getitem__) == t for row, t in zip(logits, y, strict=True)]
    right = 100 * sum(hits) / n
    found = torch.tensor(logits)
    yield "accuracy", metrics.accuracy(lambda x: x, found, torch.tensor(y)), right
    sure = sum(max(row) > 0.5 for row in slow.softmax(logits)) / n
    yield "confident", metrics.confident_share(lambda x: x, found, 0.5), sure


@close(1e-8)
def handwriting(rng: random.Random):
    source = np.random.default_rng(rng.randrange(2**32))
    x = source.uniform(-1, 1, size=(2, 1, rng.randrange(4, 12), rng.randrange(4, 12)))
    found, theirs = metrics.image_style(torch.tensor(x)), [slow.style(image[0]) for image in x]
    yield "slant", found["slant"], np.array([t[0] for t in theirs])
    yield "stroke width", found["stroke_width"], np.array([t[1] for t in theirs])


@close(1e-6)
def losses(rng: random.Random):
    source = np.random.default_rng(rng.randrange(2**32))
    n, m, l = rng.randrange(5, 20), rng.randrange(2, 9), rng.randrange(2, 5)
    mu, log_sigma = source.normal(size=(n, m)), source.normal(size=(n, m))
    y = np.arange(n) % l
    t, s = torch.tensor(mu), torch.tensor(log_sigma)
    yield "kl", models.kl_divergence(t, s), slow.divergence(mu, log_sigma)
    yield "overlap", encoder.mean_overlap(t, torch.tensor(y)), slow.overlap(mu, y.tolist())
    seed = rng.randrange(2**31)
    ours = models.sample_latents(t, s, torch.Generator().manual_seed(seed))
    drawn = numpy(torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=t.dtype))
    yield "sample", ours, mu + np.exp(log_sigma) * drawn
    q = np.linalg.qr(source.normal(size=(m, m)))[0][: min(l, m)]
    y = np.arange(n) % len(q)
    scores = [[abs(slow.dot(r, v)) / slow.dot(r, r) ** 0.5 / 0.05 for v in q] for r in mu]
    p = slow.softmax(np.array(scores) - np.max(scores))
    theirs = -np.mean([np.log(max(row[k], 1e-300)) for row, k in zip(p, y, strict=True)])
    yield "reading", encoder.reading_loss(t, torch.tensor(y), torch.tensor(q)), theirs


@close(1e-6)
def noises(rng: random.Random):
    "What changes, and by how much, seen from the pictures alone."
    n, h, w = rng.randrange(1, 4), rng.randrange(3, 12), rng.randrange(3, 12)
    g = torch.Generator().manual_seed(rng.randrange(2**31))
    x = torch.rand(n, 2, h, w, generator=g) * 1.8 - 0.9
    side = rng.randrange(0, min(h, w) + 1)
    black = numpy((noise.occlude(x, side, g) == -1).all(1))
    for picture in black:
        where = np.argwhere(picture)
        yield "pixels", len(where), side * side
        if side:
            low, high = where.min(0), where.max(0)
            yield "square", high - low + 1, np.array([side, side])
    amount, big = rng.random(), torch.zeros(4, 2, 60, 60)
    hit = noise.add_salt_and_pepper(big, amount, g)
    changed = numpy(hit[:, 0])
    yield "channels alike", hit[:, 0], hit[:, 1]
    yield "values", np.setdiff1d(changed, [-1, 0, 1]), np.zeros(0)
    spread = 6 * (amount * (1 - amount) / changed.size) ** 0.5 + 1e-9
    share = (changed != 0).mean()
    yield "share, within 6 deviations", float(abs(share - amount) <= spread), 1.0
    white = (changed == 1).mean()
    spread = 6 * (amount / 2 * (1 - amount / 2) / changed.size) ** 0.5 + 1e-9
    yield "white, within 6 deviations", float(abs(white - amount / 2) <= spread), 1.0
    sigma = rng.uniform(0.01, 1)
    added = numpy(noise.add_gaussian(big, sigma, False, g))
    near = abs(added.std() / (2 * sigma) - 1) < 6 / (2 * added.size) ** 0.5
    yield "deviation, within 6 of its own", float(near), 1.0
    clipped = noise.add_gaussian(x, sigma, True, torch.Generator().manual_seed(1))
    free = noise.add_gaussian(x, sigma, False, torch.Generator().manual_seed(1))
    yield "clipped", clipped, np.minimum(1, np.maximum(-1, numpy(free)))


@close(1e-6)
def layouts(rng: random.Random):
    "Grids, bytes and pictures, pixel by pixel."
    import io

    from PIL import Image

    source = np.random.default_rng(rng.randrange(2**32))
    n, c, h, w = rng.randrange(1, 8), rng.choice((1, 3)), rng.randrange(1, 6), rng.randrange(1, 6)
    x = source.uniform(-1.1, 1.1, size=(n, c, h, w)).astype(np.float32)
    columns, border, paper = rng.randrange(1, 6), rng.randrange(0, 3), rng.uniform(-1, 1)
    ours = pictures.image_grid(torch.tensor(x), columns, border, paper)
    yield "grid", ours[0], slow.grid(x, columns, border, paper)
    exact = (np.clip(x.astype(float), -1, 1) + 1) * 127.5
    found = numpy(image_files.to_bytes(torch.tensor(x))).astype(float)
    yield "bytes, nearest", float((np.abs(found - exact) <= 0.5 + 1e-4).all()), 1.0
    every = np.arange(256, dtype=np.uint8)
    theirs = [v / 255 * 2 - 1 for v in range(256)]
    yield "from bytes", image_files.from_bytes(every), np.array(theirs)
    yield "and back", image_files.to_bytes(image_files.from_bytes(every)), every
    scale = rng.randrange(1, 4)
    with Image.open(io.BytesIO(pictures.png_bytes(torch.tensor(x[0]), scale))) as opened:
        seen = np.asarray(opened)
    seen = seen[None] if seen.ndim == 2 else seen.transpose(2, 0, 1)
    theirs = np.array(
        [
            [[plane[i // scale, j // scale] for j in range(w * scale)] for i in range(h * scale)]
            for plane in found[0]
        ]
    )
    yield "png", seen, theirs


@close(1e-9)
def orders(rng: random.Random):
    "Batches of all processes together are a permutation, resumed in the middle too."
    n, world, seed = rng.randrange(4, 40), rng.choice((1, 2, 3)), rng.randrange(2**31)
    size = world * rng.randrange(1, max(2, n // world))
    size = min(size, n // world * world)
    x = torch.arange(n)
    how = dict(batch_size=size, seed=seed, epoch=rng.randrange(5), drop_last=False)
    whole = [b for (b,) in data.batches(x, **how)]
    yield "a permutation", sorted(torch.cat(whole).tolist()), list(range(n))
    parts = [[b for (b,) in data.batches(x, shard=(r, world), **how)] for r in range(world)]
    for b, mine in zip(whole, zip(*parts, strict=True), strict=True):
        yield "shards", torch.cat(mine), b
    start = rng.randrange(len(whole))
    rest = [b for (b,) in data.batches(x, start=start, **how)]
    yield "resumed", torch.cat(rest), torch.cat(whole[start:])
    names = [rng.choice("abc") for _ in range(n)] + ["a", "b"]
    labels, codes = decomposition.label_codes(names, len(names))
    yield "labels", labels[codes], np.array(names)


NAMES = list(CHECKS)


def draw(name: str, folder: Path, rng: random.Random) -> tuple[str, str]:
    "One drawn problem: right if ours and theirs are close in every part."
    check, tolerance = CHECKS[name]
    try:
        for what, ours, theirs in check(rng):
            if not (error := off(ours, theirs)) <= tolerance:
                return "wrong", f"{name}, {what}: off by {error:.1e}, allowed {tolerance:.0e}"
    except Exception as e:
        return "obscure", f"{name}: {type(e).__name__}: {str(e)[:300]}"
    return "right", name
