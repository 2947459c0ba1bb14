"""What every measure of sets needs: two sets that can be compared, subsets by class, and how sure a number is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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


def pieces(n: int, chunk: int = 0) -> Iterator[slice]:
    """0…n in slices of at most `chunk`; of CHUNK if that is 0."""
    chunk = chunk or CHUNK
    return (slice(i, min(i + chunk, n)) for i in range(0, n, chunk))


def stratified_subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices of n rows at random, of each class the same share: (n,) int."""
    rng, place = np.random.default_rng(seed), np.empty(len(y))
    for k in np.unique(y):
        mine = np.flatnonzero(y == k)
        place[rng.permutation(mine)] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return np.argsort(place, kind="stable")[:n]


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
