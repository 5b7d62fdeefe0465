"""Slow versions of what the library computes, from the equations: loops, 40 digits, other packages.

Nothing here imports `lsd_nb`. Matrices are NumPy arrays in double precision; latents are rows.
"""

import math

import mpmath
import numpy as np
import scipy.linalg as sl

mpmath.mp.dps = 40


def exact(a: np.ndarray) -> mpmath.matrix:
    "The same numbers with 40 digits."
    return mpmath.matrix([[mpmath.mpf(float(v)) for v in row] for row in a])


def rounded(a: mpmath.matrix) -> np.ndarray:
    return np.array([[float(a[i, j]) for j in range(a.cols)] for i in range(a.rows)])


# ---- orthogonalisation, with 40 digits


def gram_schmidt(means: np.ndarray) -> np.ndarray:
    "Equations (4)–(7): each mean without its components along those before it, at norm √M."
    done: list[list] = []
    for row in exact(means).tolist():
        v = list(row)
        for u in done:
            share = mpmath.fdot(u, v)
            v = [a - share * b for a, b in zip(v, u, strict=True)]
        length = mpmath.sqrt(mpmath.fdot(v, v))
        done.append([a / length for a in v])
    return rounded(mpmath.matrix(done) * mpmath.sqrt(means.shape[1]))


def polar(rows: mpmath.matrix) -> mpmath.matrix:
    "(A Aᵀ)^(−½) A: the orthonormal rows that are closest to A."
    e, v = mpmath.eigsy(rows * rows.T)
    root = v * mpmath.diag([1 / mpmath.sqrt(x) for x in e]) * v.T
    return root * rows


def units(means: np.ndarray) -> mpmath.matrix:
    "Rows of norm 1."
    rows = exact(means)
    for i in range(rows.rows):
        length = mpmath.sqrt(mpmath.fdot(rows[i, :], rows[i, :]))
        rows[i, :] = rows[i, :] / length
    return rows


def lowdin(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    "The polar factor of diag(w)·η̂, at norm √M."
    rows = mpmath.diag([mpmath.mpf(float(w)) for w in weights]) * units(means)
    return rounded(polar(rows) * mpmath.sqrt(means.shape[1]))


def setwise(means: np.ndarray, first: list[bool]) -> np.ndarray:
    "Löwdin inside set 1, then Löwdin of what is left of the others outside its span."
    rows, m = units(means), means.shape[1]
    own, rest = ([i for i, f in enumerate(first) if f is side] for side in (True, False))
    found = mpmath.matrix(rows.rows, m)
    inside = polar(mpmath.matrix([rows[i, :].tolist()[0] for i in own]))
    for k, i in enumerate(own):
        found[i, :] = inside[k, :]
    left = mpmath.matrix([rows[i, :].tolist()[0] for i in rest])
    outside = polar(left - left * inside.T * inside)
    for k, i in enumerate(rest):
        found[i, :] = outside[k, :]
    return rounded(found * mpmath.sqrt(m))


# ---- amplitudes and operators, one number after the other


def dot(a: np.ndarray, b: np.ndarray) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def amplitudes(z: np.ndarray, duals: np.ndarray, center: np.ndarray) -> np.ndarray:
    "Equation (10): ⟨ξ_k|z − centre⟩ / C with C = M."
    return np.array([[dot(d, row - center) / len(row) for d in duals] for row in z])


def synthesis(c: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    "Equation (9)."
    k, m = vectors.shape
    return np.array(
        [[math.fsum(row[i] * vectors[i, j] for i in range(k)) for j in range(m)] for row in c]
    )


def projector(write: np.ndarray, read: np.ndarray) -> np.ndarray:
    "Equation (11): |write⟩⟨read| / C, one entry after the other."
    m = len(write)
    return np.array([[write[a] * read[b] / m for b in range(m)] for a in range(m)])


def rank_one(v: np.ndarray, w: np.ndarray, theta: float, dtheta: float) -> np.ndarray:
    "Equation (12): reads at angle θ between two vectors, writes at θ + dθ."
    now = math.cos(theta) * v + math.sin(theta) * w
    then = math.cos(theta + dtheta) * v + math.sin(theta + dtheta) * w
    return projector(then, now)


def turn(v: np.ndarray, w: np.ndarray, angle: float) -> np.ndarray:
    "A rotation in the plane of two vectors as the exponential of its generator."
    return sl.expm(angle * (projector(w, v) - projector(v, w)))


def at_distance(z: np.ndarray, radius: float, center: np.ndarray) -> np.ndarray:
    "The point of the ray from the centre through z at this distance."
    found = []
    for row in z:
        arm = row - center
        found.append(center + radius * arm / math.sqrt(dot(arm, arm)))
    return np.array(found)


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    "Shoemake's formula with 40 digits; lengths in between."
    found = []
    for x, y in zip(a, b, strict=True):
        x, y = ([mpmath.mpf(float(v)) for v in row] for row in (x, y))
        p, q = (mpmath.sqrt(mpmath.fdot(v, v)) for v in (x, y))
        angle = mpmath.acos(mpmath.fdot(x, y) / p / q)
        one, two = (mpmath.sin(s * angle) / mpmath.sin(angle) for s in (1 - t, t))
        size = (1 - t) * p + t * q
        found.append([float(size * (one * u / p + two * v / q)) for u, v in zip(x, y, strict=True)])
    return np.array(found)


def largest(c: np.ndarray, k: int) -> np.ndarray:
    "Each row without all but its k largest |c|."
    kept = np.zeros_like(c)
    for i, row in enumerate(c):
        for j in sorted(range(len(row)), key=lambda j: -abs(row[j]))[:k]:
            kept[i, j] = row[j]
    return kept


# ---- statistics of labelled latents


def by_group(z: np.ndarray, groups: list) -> dict:
    "The rows of each group, in order."
    found: dict = {}
    for row, g in zip(z, groups, strict=True):
        found.setdefault(g, []).append(row)
    return {g: np.array(rows) for g, rows in found.items()}


def dealt(labels: list[int], n_sets: int, per_set: int) -> list:
    "(set, label) of each latent in the order of arrival; None once all sets are full."
    have: dict[int, int] = {}
    places = []
    for y in labels:
        k = have.get(y, 0)
        places.append((k // per_set, y) if k < n_sets * per_set else None)
        have[y] = k + 1
    return places


def pooled(z: np.ndarray, groups: list, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Covariance within groups and of all, each latent with its weight."
    m, total = z.shape[1], float(sum(weights))
    mean = sum(w * row for w, row in zip(weights, z, strict=True)) / total
    centers = {}
    for g in set(groups):
        mine = [i for i, h in enumerate(groups) if h == g]
        centers[g] = sum(weights[i] * z[i] for i in mine) / sum(weights[i] for i in mine)
    within, all_ = np.zeros((m, m)), np.zeros((m, m))
    for row, g, w in zip(z, groups, weights, strict=True):
        within += w * np.outer(row - centers[g], row - centers[g])
        all_ += w * np.outer(row - mean, row - mean)
    return within / total, all_ / total


def shrunk(covariance: np.ndarray, share: float) -> np.ndarray:
    "Correlations times 1 − s, variances as they are."
    found = covariance.copy()
    for i in range(len(found)):
        for j in range(len(found)):
            found[i, j] *= 1.0 if i == j else 1 - share
    return found


def distances(z: np.ndarray, means: np.ndarray, metric: np.ndarray) -> np.ndarray:
    "Squared Mahalanobis distances (N, l)."
    inverse = np.linalg.inv(metric)
    return np.array([[(row - mu) @ inverse @ (row - mu) for mu in means] for row in z])


def roots(metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "W^(−½) and W^½, symmetric."
    root = np.real(sl.sqrtm(metric))
    return np.linalg.inv(root), root


def transport(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    "Σ_a^(−½) (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^(−½)."
    back, root = roots(a)
    return back @ np.real(sl.sqrtm(root @ b @ root)) @ back


# ---- measures


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    s, t = (np.cov(x.T).reshape(x.shape[1], -1) for x in (a, b))
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(s + t - 2 * np.real(sl.sqrtm(s @ t))))


def mmd2(a: np.ndarray, b: np.ndarray) -> float:
    "Unbiased, Gaussian kernel; the median of squared distances of different points is its scale."
    both = np.concatenate([a, b])
    n, m = len(a), len(b)
    d2 = [[float(((x - y) ** 2).sum()) for y in both] for x in both]
    scale = float(np.median([d2[i][j] for i in range(n + m) for j in range(i + 1, n + m)]))
    sums = [0.0, 0.0, 0.0]
    for i in range(n + m):
        for j in range(n + m):
            if i != j:
                part = 0 if i < n and j < n else 1 if i >= n and j >= n else 2
                sums[part] += math.exp(-d2[i][j] / scale)
    return sums[0] / n / (n - 1) + sums[1] / m / (m - 1) - sums[2] / n / m


def inside_share(points: np.ndarray, of: np.ndarray, neighbours: int) -> float:
    "Share of points within the radius of the k-th other neighbour of some member of `of`."
    radii = []
    for i, x in enumerate(of):
        radii.append(sorted(math.dist(x, y) for j, y in enumerate(of) if j != i)[neighbours - 1])
    near = [any(math.dist(p, x) <= r for x, r in zip(of, radii, strict=True)) for p in points]
    return sum(near) / len(near)


def style(image: np.ndarray) -> tuple[float, float]:
    "Slant in degrees by central moments; width as twice the area over the outline, of (H, W)."
    g = [[min(1.0, max(0.0, (float(v) + 1) / 2)) for v in row] for row in image]
    h, w = len(g), len(g[0])
    at = [(r, c, g[r][c]) for r in range(h) for c in range(w)]
    mass = math.fsum(v for _, _, v in at)
    r0, c0 = (math.fsum(p[k] * p[2] for p in at) / mass for k in (0, 1))
    mixed = math.fsum(v * (c - c0) * (r - r0) for r, c, v in at)
    high = math.fsum(v * (r - r0) ** 2 for r, _, v in at)

    def ink(r, c):
        return g[r][c] if 0 <= r < h and 0 <= c < w else 0.0

    outline = math.fsum(
        math.hypot(ink(r + 1, c) - ink(r, c), ink(r, c + 1) - ink(r, c))
        for r in range(-1, h)
        for c in range(-1, w)
    )
    return math.degrees(math.atan2(-mixed, high)), 2 * mass / outline


def softmax(scores: np.ndarray) -> np.ndarray:
    found = []
    for row in scores:
        shares = [math.exp(a - max(row)) for a in row]
        found.append([share / math.fsum(shares) for share in shares])
    return np.array(found)


def overlap(mu: np.ndarray, y: list[int]) -> float:
    "Squared cosines of the mean codes of each label with those of all others, summed, averaged."
    means = [rows.mean(0) for rows in by_group(mu, y).values()]
    total = 0.0
    for i, a in enumerate(means):
        for j, b in enumerate(means):
            total += (dot(a, b) ** 2 / dot(a, a) / dot(b, b)) if i != j else 0.0
    return total / len(means)


def divergence(mu: np.ndarray, log_sigma: np.ndarray) -> np.ndarray:
    "KL of N(μ, σ²) from N(0, I): entropies and cross-entropies, one coordinate after the other."
    found = []
    for m, s in zip(mu, log_sigma, strict=True):
        pairs = zip(m, s, strict=True)
        cross = [0.5 * (math.log(2 * math.pi) + a * a + math.exp(2 * b)) for a, b in pairs]
        own = [0.5 * math.log(2 * math.pi * math.e) + b for b in s]
        found.append(math.fsum(cross) - math.fsum(own))
    return np.array(found)


def grid(images: np.ndarray, columns: int, border: int, paper: float) -> np.ndarray:
    "Pixel by pixel, (C, rows · (H + 2b), columns · (W + 2b))."
    n, c, h, w = images.shape
    rows, high, wide = math.ceil(n / columns), h + 2 * border, w + 2 * border
    found = np.full((c, rows * high, columns * wide), paper)
    for k in range(n):
        for i in range(h):
            for j in range(w):
                top, left = k // columns * high + border, k % columns * wide + border
                found[:, top + i, left + j] = images[k, :, i, j]
    return found
