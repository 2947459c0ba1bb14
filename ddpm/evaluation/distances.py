"""Measure distances between two sets of images in feature space, with float64 NumPy.

This file has the Fréchet and kernel distances; precision, recall and neighbours are in `neighbours.py`, standard errors
in `statistics.py`.

Every function takes features a (n, d) and b (m, d): of a classifier, pixels, or any others. Large matrices are computed
in chunks. Report a distance together with its floor: the same distance for real images that the model has not seen, at
the same n (as `ddpm.evaluation.model` does).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ddpm.evaluation.statistics import pair, pieces, stratified_subset

# --- Fréchet distance -------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Mean and covariance of a set of features, and the size of the set."""

    mean: np.ndarray  # (d,)
    cov: np.ndarray  # (d, d), divided by n - 1
    n: int


def moments(f: Any) -> Moments:
    """Compute the mean and unbiased covariance of features (n, d)."""
    f = np.asarray(f, dtype=np.float64)
    mean = f.mean(0)
    cov = sum((f[i] - mean).T @ (f[i] - mean) for i in pieces(len(f), 10_000)) / (len(f) - 1)
    return Moments(mean, np.asarray(cov), len(f))


def _sqrt(cov: np.ndarray) -> np.ndarray:
    lam, U = np.linalg.eigh(cov)
    return (U * np.sqrt(np.maximum(lam, 0))) @ U.T


def frechet_moments(p: Moments, q: Moments) -> float:
    """‖μ_p - μ_q‖² + tr Σ_p + tr Σ_q - 2 tr (Σ_p^½ Σ_q Σ_p^½)^½: W₂² of two Gaussians.   [Heusel et al. 2017, Eq. 6]

    The matrix under the last root is symmetric and positive semidefinite, so its eigenvalues suffice and no `sqrtm` is
    needed.
    """
    root = _sqrt(p.cov)
    lam = np.linalg.eigvalsh(root @ q.cov @ root)
    cross = np.sqrt(np.maximum(lam, 0)).sum()
    return float(((p.mean - q.mean) ** 2).sum() + np.trace(p.cov) + np.trace(q.cov) - 2 * cross)


def frechet(a: Any, b: Any) -> float:
    """Compute the Fréchet distance of two sets of features.

    It is squared, as usual in the literature. Its bias is positive and falls with n.
    """
    a, b = pair(a, b)
    return frechet_moments(moments(a), moments(b))


def frechet_floor(cov: Any, n: float, m: float = np.inf) -> float:
    """Compute the expected Fréchet distance of n and m draws from one Gaussian, to first order in 1/n:

        (1/n + 1/m) [ tr Σ + ½ (tr Σ + Σ_{i≠j} λ_i λ_j/(λ_i + λ_j)) ]      for Σ = I:  (1/n + 1/m) (d + d(d+1)/4)

    λ: eigenvalues of Σ. The first term comes from the means, the second from the covariances, by the second-order
    expansion of W₂² (½ Σ_ij E_ij²/(λ_i + λ_j) for a small change E of Σ). Real features are not Gaussian, so the
    measured floor differs; the formula shows how it grows with the width d.
    """
    lam = np.maximum(np.linalg.eigvalsh(np.asarray(cov, dtype=np.float64)), 0)
    return float((1 / n + 1 / m) * floors_by_size(lam)[-1])


def floors_by_size(lam: Any) -> np.ndarray:
    """Compute n times the expected distance of n draws in the first k of these directions, k = 0…D: (D+1,)

    lam: (D,) eigenvalues of Σ;  the bracket of `frechet_floor` for every k at once.
    """
    lam = np.asarray(lam, dtype=np.float64)
    total = lam[:, None] + lam[None, :]
    ratio = np.divide(lam[:, None] * lam[None, :], total, out=np.zeros_like(total), where=total > 0)
    own = np.diag(ratio)
    bures = np.tril(ratio, -1).sum(1) + own  # expectation over sampled covariances: the diagonal counts twice
    return np.concatenate([[0.0], np.cumsum(lam + bures)])


def frechet_curve(
    a: Any, q: Moments, sizes: Any, seed: int = 0, repeats: int = 10, strata: Any = None
) -> tuple[np.ndarray, float]:
    """Compute the distance at smaller n, and extrapolate it linearly in 1/n to n = ∞.   [Chong and Forsyth 2020]

    a: (n, d);  q: the reference;  strata: (n,) classes, whose shares are the same at every size  ->  the mean distance
    at each size, and the extrapolated distance, without its bias in n.
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


# --- kernel distance --------------------------------------------------------------------------------------------------


def cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """k(x, y) = (xᵀy/d + 1)³, (n, d), (m, d) -> (n, m)   [Bińkowski et al. 2018, Eq. 4]"""
    k = a @ b.T / a.shape[1] + 1
    return k * k * k


def kernel_distance(a: Any, b: Any, groups: int = 20) -> tuple[float, float]:
    """MMD² with the cubic kernel, unbiased (it can be negative), and its standard error.   [Gretton et al. 2012, Eq. 3]

        mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) - 2 mean_{ij} k(a_i, b_j)

    All pairs are used. The error is a jackknife that leaves out one of `groups` parts of each set in turn; near zero
    it is conservative, too large rather than too small (Efron and Stein 1981).
    """
    a, b = (np.random.default_rng(0).permutation(f) for f in pair(a, b))  # sorted images would give unequal parts
    # parts of both sets
    G = min(groups, len(a) // 2, len(b) // 2)
    part_a, part_b = (np.arange(len(f)) * G // len(f) for f in (a, b))
    n, m = np.bincount(part_a), np.bincount(part_b)

    def sums(x: np.ndarray, part_x: np.ndarray, y: np.ndarray, part_y: np.ndarray) -> np.ndarray:  # (G, G) of k
        starts_y, total = np.searchsorted(part_y, np.arange(G)), np.zeros((G, G))
        for i in pieces(len(x)):
            np.add.at(total, part_x[i], np.add.reduceat(cubic(x[i], y), starts_y, axis=1))
        return total

    # sums of the kernel, by pairs of parts
    aa, bb, ab = sums(a, part_a, a, part_a), sums(b, part_b, b, part_b), sums(a, part_a, b, part_b)
    own_a, own_b = (np.bincount(p, ((f * f).mean(1) + 1) ** 3) for p, f in ((part_a, a), (part_b, b)))

    def estimate(w: np.ndarray) -> float:  # w: (G,) 1 for each part used
        N, M = w @ n, w @ m
        within_a = (w @ aa @ w - w @ own_a) / (N * (N - 1))
        within_b = (w @ bb @ w - w @ own_b) / (M * (M - 1))
        return float(within_a + within_b - 2 * (w @ ab @ w) / (N * M))

    # estimate and jackknife error
    value = estimate(np.ones(G))
    if G < 3:
        return value, float("nan")
    left = np.array([estimate(1.0 - np.eye(G)[g]) for g in range(G)])
    return value, float(np.sqrt((G - 1) / G * ((left - left.mean()) ** 2).sum()))
