"""How far apart two sets of images are, measured in their features: float64 NumPy, without a network in this file.

Every function takes features a (n, d) and b (m, d): of a classifier, or pixels, or whatever the caller brings. Large
matrices are made in pieces. Whoever prints one of these numbers prints its floor beside it: the same number for real
images that the model has not seen, at the same n (`ddpm.evaluate` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

CHUNK = 1000  # rows of a distance or kernel matrix that exist at a time


def pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features as float64, or an error that says why they cannot be compared."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, f in (("a", a), ("b", b)):
        if f.ndim != 2 or f.shape[0] < 2:
            raise ValueError(f"{name} has shape {f.shape}; give features (n, d) of at least two images")
        if not np.all(np.isfinite(f)):
            raise ValueError(f"{name} holds NaN or infinite features; look at the images they come from")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a has {a.shape[1]} features an image and b has {b.shape[1]}; use one network for both")
    return a, b


def _pieces(n: int, chunk: int = CHUNK) -> Iterator[slice]:
    return (slice(i, min(i + chunk, n)) for i in range(0, n, chunk))


def stratified_subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices of n rows at random, of each class the same share: (n,) int."""
    rng, place = np.random.default_rng(seed), np.empty(len(y))
    for k in np.unique(y):
        mine = np.flatnonzero(y == k)
        place[rng.permutation(mine)] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return np.argsort(place, kind="stable")[:n]


# --- Fréchet distance -------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Mean and covariance of a set of features, and how many they were taken from."""

    mean: np.ndarray  # (d,)
    cov: np.ndarray  # (d, d), divided by n - 1
    n: int


def moments(f: Any) -> Moments:
    """Mean and unbiased covariance of features (n, d)."""
    f = np.asarray(f, dtype=np.float64)
    mean = f.mean(0)
    cov = sum((f[i] - mean).T @ (f[i] - mean) for i in _pieces(len(f), 10_000)) / (len(f) - 1)
    return Moments(mean, np.asarray(cov), len(f))


def _sqrt(cov: np.ndarray) -> np.ndarray:
    lam, U = np.linalg.eigh(cov)
    return (U * np.sqrt(np.maximum(lam, 0))) @ U.T


def frechet_moments(p: Moments, q: Moments) -> float:
    """‖μ_p - μ_q‖² + tr Σ_p + tr Σ_q - 2 tr (Σ_p^½ Σ_q Σ_p^½)^½: W₂² of two Gaussians.   [Heusel et al. 2017, Eq. 6]

    The matrix under the last root is symmetric and not negative, so its eigenvalues are real: no `sqrtm` is needed.
    """
    root = _sqrt(p.cov)
    lam = np.linalg.eigvalsh(root @ q.cov @ root)
    cross = np.sqrt(np.maximum(lam, 0)).sum()
    return float(((p.mean - q.mean) ** 2).sum() + np.trace(p.cov) + np.trace(q.cov) - 2 * cross)


def frechet(a: Any, b: Any) -> float:
    """The Fréchet distance of two sets of features. It is squared, as always in this field, and biased upwards in n."""
    a, b = pair(a, b)
    return frechet_moments(moments(a), moments(b))


def frechet_floor(cov: Any, n: float, m: float = np.inf) -> float:
    """What the Fréchet distance of n and m draws from one and the same Gaussian is on average, to first order in 1/n:

        (1/n + 1/m) [ tr Σ + ½ (tr Σ + Σ_{i≠j} λ_i λ_j/(λ_i + λ_j)) ]      for Σ = I:  (1/n + 1/m) (d + d(d+1)/4)

    λ: eigenvalues of Σ; the first term is that of the means, the second of the covariances, from the second-order
    expansion of W₂² (½ Σ_ij E_ij²/(λ_i + λ_j) for a small change E of Σ). Real features are not Gaussian, so the
    measured floor differs; this says how it grows with the width d.
    """
    lam = np.maximum(np.linalg.eigvalsh(np.asarray(cov, dtype=np.float64)), 0)
    total = lam[:, None] + lam[None, :]
    ratio = np.divide(lam[:, None] * lam[None, :], total, out=np.zeros_like(total), where=total > 0)
    bures = 0.5 * (ratio.sum() + ratio.trace())  # E over the sampled covariance: off the diagonal once, on it twice
    return float((1 / n + 1 / m) * (lam.sum() + bures))


def frechet_curve(
    a: Any, q: Moments, sizes: Any, seed: int = 0, repeats: int = 10, strata: Any = None
) -> tuple[np.ndarray, float]:
    """The distance at smaller n, and where its line over 1/n meets n = ∞.   [Chong and Forsyth 2020]

    a: (n, d);  q: the reference;  strata: (n,) classes, each with its share at every size  ->  mean distance at each
    size, and the extrapolated one, without its bias in n.
    """
    a, sizes = np.asarray(a, dtype=np.float64), np.asarray(sizes)
    strata = np.zeros(len(a), dtype=int) if strata is None else np.asarray(strata)
    if sizes.ndim != 1 or len(sizes) < 2 or sizes.min() <= a.shape[1] or sizes.max() > len(a):
        raise ValueError(f"sizes are {sizes}; give at least two, above the width {a.shape[1]}, at most {len(a)}")
    seeds = range(seed * 1000, seed * 1000 + repeats)
    values = np.array(
        [np.mean([frechet_moments(moments(a[stratified_subset(strata, n, s)]), q) for s in seeds]) for n in sizes]
    )
    slope_and_limit = np.polyfit(1 / sizes, values, 1)
    return values, float(slope_and_limit[1])


def bootstrap(
    f: np.ndarray, statistic: Callable[[np.ndarray], float], draws: int = 100, seed: int = 0, strata: Any = None
) -> float:
    """Standard error of a statistic of the rows of f: its standard deviation over sets drawn from f with replacement.

    Used for ± only. Its mean is not: a set with repeated images looks poorer than it is.   [Efron 1979]
    strata: (n,) classes whose numbers were fixed when f was made, and stay fixed in every drawn set.
    """
    rng = np.random.default_rng(seed)
    strata = np.zeros(len(f), dtype=int) if strata is None else np.asarray(strata)
    parts = [np.flatnonzero(strata == k) for k in np.unique(strata)]
    values = [statistic(f[np.concatenate([p[rng.integers(len(p), size=len(p))] for p in parts])]) for _ in range(draws)]
    return float(np.std(values, ddof=1))


# --- kernel distance --------------------------------------------------------------------------------------------------


def cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """k(x, y) = (xᵀy/d + 1)³, (n, d), (m, d) -> (n, m)   [Bińkowski et al. 2018, Eq. 4]"""
    k = a @ b.T / a.shape[1] + 1
    return k * k * k


def kernel_distance(a: Any, b: Any, groups: int = 20) -> tuple[float, float]:
    """MMD² with the cubic kernel, unbiased (it can be negative), and its standard error.   [Gretton et al. 2012, Eq. 3]

        mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) - 2 mean_{ij} k(a_i, b_j)

    All pairs are used. The error is a jackknife that leaves out one of `groups` parts of each set in turn; near zero
    it is too large rather than too small (Efron and Stein 1981).
    """
    a, b = (np.random.default_rng(0).permutation(f) for f in pair(a, b))  # sorted images would make unequal parts
    G = min(groups, len(a) // 2, len(b) // 2)
    part_a, part_b = (np.arange(len(f)) * G // len(f) for f in (a, b))
    n, m = np.bincount(part_a), np.bincount(part_b)

    def sums(x: np.ndarray, part_x: np.ndarray, y: np.ndarray, part_y: np.ndarray) -> np.ndarray:  # (G, G) of k
        starts_y, total = np.searchsorted(part_y, np.arange(G)), np.zeros((G, G))
        for i in _pieces(len(x)):
            np.add.at(total, part_x[i], np.add.reduceat(cubic(x[i], y), starts_y, axis=1))
        return total

    aa, bb, ab = sums(a, part_a, a, part_a), sums(b, part_b, b, part_b), sums(a, part_a, b, part_b)
    own_a, own_b = (np.bincount(p, ((f * f).mean(1) + 1) ** 3) for p, f in ((part_a, a), (part_b, b)))

    def estimate(w: np.ndarray) -> float:  # w: (G,) 1 for the parts that are used
        N, M = w @ n, w @ m
        within_a = (w @ aa @ w - w @ own_a) / (N * (N - 1))
        within_b = (w @ bb @ w - w @ own_b) / (M * (M - 1))
        return float(within_a + within_b - 2 * (w @ ab @ w) / (N * M))

    value = estimate(np.ones(G))
    if G < 3:
        return value, float("nan")
    left = np.array([estimate(1.0 - np.eye(G)[g]) for g in range(G)])
    return value, float(np.sqrt((G - 1) / G * ((left - left.mean()) ** 2).sum()))


# --- neighbours -------------------------------------------------------------------------------------------------------


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """‖a_i - b_j‖², (n, d), (m, d) -> (n, m), never negative."""
    d = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(d, 0)


def nearest(a: Any, b: Any, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a the k nearest rows of b: their distances, rising, and their indices, (n, k) each."""
    a, b = np.asarray(a), np.asarray(b)
    shift = b.mean(0, keepdims=True)  # near the origin fewer digits cancel
    a, b = a - shift, b - shift
    distance, index = np.empty((len(a), k)), np.empty((len(a), k), dtype=np.int64)
    b_squared = (b * b).sum(1)[None, :]
    for i in _pieces(len(a), 500):
        d = b_squared - 2 * (a[i] @ b.T)  # the term that is one for the whole row waits
        near = np.argpartition(d, k - 1, axis=1)[:, :k] if k > 1 else d.argmin(1)[:, None]
        for j in range(k):
            distance[i, j] = ((a[i] - b[near[:, j]]).astype(np.float64) ** 2).sum(1)  # exact for those that are kept
        order = np.argsort(distance[i], axis=1, kind="stable")
        distance[i] = np.sqrt(np.take_along_axis(distance[i], order, 1))
        index[i] = np.take_along_axis(near, order, 1)
    return distance, index


def radii(f: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, for each k: (n, d) -> (len(ks), n)"""
    out = np.empty((len(ks), len(f)))
    for i in _pieces(len(f)):
        d = squared_distances(f[i], f)
        d[np.arange(len(d)), np.arange(len(f))[i]] = -1.0  # itself comes first, before exact copies
        out[:, i] = np.partition(d, ks, axis=1)[:, list(ks)].T
    return out


class Overlap(NamedTuple):
    """How two sets cover each other, image by image; the means of the four are the numbers that are printed."""

    precision: np.ndarray  # (n,) bool: this sample lies in the ball of some real image
    recall: np.ndarray  # (m,) bool: this real image lies in the ball of some sample
    density: np.ndarray  # (n,) in how many real balls this sample lies, over k
    coverage: np.ndarray  # (m,) bool: this real image has a sample in its ball


def overlap(real: Any, fake: Any, k_precision: int = 3, k_density: int = 5) -> Overlap:
    """Precision and recall (k = 3), density and coverage (k = 5); a ball reaches to the k-th neighbour in its own set.

    [Kynkäänniemi et al. 2019, Eqs. 1-2; Naeem et al. 2020, Eqs. 3-4]. real: (m, d), fake: (n, d). All four depend on
    n and m: use the same n for both. Density is not bounded by 1.
    """
    real, fake = pair(real, fake)
    most = max(k_precision, k_density)
    if min(len(real), len(fake)) <= most:
        raise ValueError(
            f"{len(real)} real and {len(fake)} generated images; k = {most} needs more than {most} of each"
        )
    shift = real.mean(0)
    real, fake = real - shift, fake - shift
    ball_p, ball_d = radii(real, (k_precision, k_density))  # (m,), (m,)
    ball_fake = radii(fake, (k_precision,))[0]  # (n,)
    n, m = len(fake), len(real)
    precision, density, recall, coverage = np.zeros(n, bool), np.zeros(n), np.zeros(m, bool), np.zeros(m, bool)
    for i in _pieces(n):
        d = squared_distances(fake[i], real)  # (chunk, m)
        precision[i] = (d <= ball_p).any(1)
        recall |= (d <= ball_fake[i, None]).any(0)
        inside = d <= ball_d
        density[i] = inside.sum(1) / k_density
        coverage |= inside.any(0)
    return Overlap(precision, recall, density, coverage)


def closer(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """P(a < b) + ½ P(a = b) for numbers a (n,) and b (m,), and its standard error.   [Mann and Whitney 1947]"""
    low, high = np.searchsorted(np.sort(b), a, "left"), np.searchsorted(np.sort(b), a, "right")
    of_a = 1 - (low + high) / (2 * len(b))  # (n,) share of b above each a
    low, high = np.searchsorted(np.sort(a), b, "left"), np.searchsorted(np.sort(a), b, "right")
    of_b = (low + high) / (2 * len(a))  # (m,) share of a below each b
    return float(of_a.mean()), float(np.sqrt(of_a.var(ddof=1) / len(a) + of_b.var(ddof=1) / len(b)))


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share p of n, which stays in [0, 1] and is not empty at p = 1.   [Wilson 1927]"""
    centre, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))
