"""Compute basic statistics of sets: checked pairs, stratified subsets, and standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

CHUNK = 1000  # rows of a distance or kernel matrix computed at a time


def pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert two sets of features to float64; refuse sets that cannot be compared."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, f in (("a", a), ("b", b)):
        if f.ndim != 2 or f.shape[0] < 2:
            raise ValueError(f"{name} has shape {f.shape}; give features (n, d) of at least two images")
        if not np.all(np.isfinite(f)):
            raise ValueError(f"{name} holds NaN or infinite features; look at the images they come from")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a has {a.shape[1]} features an image and b has {b.shape[1]}; use one network for both")
    return a, b


def pieces(n: int, chunk: int = 0) -> Iterator[slice]:
    """Split 0…n into slices of at most `chunk` rows (0: CHUNK)."""
    chunk = chunk or CHUNK
    return (slice(i, min(i + chunk, n)) for i in range(0, n, chunk))


def stratified_subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw the indices of n random rows, with the same share of each class: (n,) int"""
    rng, place = np.random.default_rng(seed), np.empty(len(y))
    for k in np.unique(y):
        of_class = np.flatnonzero(y == k)
        place[rng.permutation(of_class)] = (np.arange(len(of_class)) + rng.random()) / len(of_class)
    return np.argsort(place, kind="stable")[:n]


def bootstrap(
    f: np.ndarray, statistic: Callable[[np.ndarray], float], draws: int = 100, seed: int = 0, strata: Any = None
) -> float:
    """Estimate the standard error of a statistic of the rows of f by resampling.   [Efron 1979]

    This is its standard deviation over sets drawn from f with replacement. Their mean is not used: a set with repeated
    images looks poorer than it is. strata: (n,) classes whose counts were fixed in f, and stay fixed in every resample.
    """
    rng = np.random.default_rng(seed)
    strata = np.zeros(len(f), dtype=int) if strata is None else np.asarray(strata)
    parts = [np.flatnonzero(strata == k) for k in np.unique(strata)]
    values = [statistic(f[np.concatenate([p[rng.integers(len(p), size=len(p))] for p in parts])]) for _ in range(draws)]
    return float(np.std(values, ddof=1))


def closer(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """P(a < b) + ½ P(a = b) for samples a (n,) and b (m,), and its standard error.   [Mann and Whitney 1947]"""
    low, high = np.searchsorted(np.sort(b), a, "left"), np.searchsorted(np.sort(b), a, "right")
    of_a = 1 - (low + high) / (2 * len(b))  # (n,) the share of b above each a
    low, high = np.searchsorted(np.sort(a), b, "left"), np.searchsorted(np.sort(a), b, "right")
    of_b = (low + high) / (2 * len(a))  # (m,) the share of a below each b
    return float(of_a.mean()), float(np.sqrt(of_a.var(ddof=1) / len(a) + of_b.var(ddof=1) / len(b)))


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Compute the 95 % interval of a share p of n.   [Wilson 1927]

    It stays within [0, 1], and has positive width at p = 1.
    """
    centre, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))
