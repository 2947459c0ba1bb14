"""How good drawn forecasts are: the CRPS, and how often a band holds what came.

    CRPS(F, y) = E|X - y| - ½ E|X - X'|,   X, X' ~ F        [Gneiting and Raftery 2007, Eq. 21]

It is least on average for the true distribution; for N(m, σ²) that is right, E CRPS = σ/√π. What came may have gaps,
NaN, anywhere: they are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.tools import check


def crps(draws: Any, y: Any) -> np.ndarray:
    """E|X - y| - ½ E|X - X'| without bias, at each point: NaN in a gap of y.   draws: (n, ...), n ≥ 2;  y: (...)"""
    x, y = _checked(draws, y)
    n = len(x)
    rank = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *(1,) * y.ndim)  # Σ_ij |x_i - x_j| = 2 Σ_i rank_i x_(i)
    return np.abs(x - y).mean(0) - (rank * np.sort(x, axis=0)).sum(0) / (n * (n - 1))


def coverage(draws: Any, y: Any, level: float = 0.9) -> float:
    """The share of points that lie in the central band of `level` of the draws.   draws: (n, ...);  y: (...)

    The band ends at the (n+1)(1 ± level)/2-th of the sorted draws. Where these are whole numbers, as with n = 19, 99 or
    999 for .9, the share is `level` on average if y is one more draw; between, nearly.
    """
    x, y = _checked(draws, y)
    check.number("level", level, 0, 1)
    if len(x) < (least := round(2 / max(1 - level, 1e-9) - 1, 6)):
        raise ValueError(f"a band of {level:g} needs {np.ceil(least):.0f} draws or more; there are {len(x)}")
    low, high = np.quantile(x, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    seen = ~np.isnan(y)
    return float(((low <= y) & (y <= high))[seen].mean())


def _checked(draws: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(draws, np.float64), np.asarray(y, np.float64)
    if x.ndim < 1 or len(x) < 2 or x.shape[1:] != y.shape:
        raise ValueError(f"draws has shape {x.shape} and y {y.shape}; give at least two draws, (n, ...), for y (...)")
    if not np.all(np.isfinite(x)):
        raise ValueError("draws holds NaN or infinite numbers; look at the sampler, which may diverge")
    if np.isnan(y).all() or np.isinf(y).any():
        raise ValueError(
            f"y has {np.isinf(y).sum()} infinite and {(~np.isnan(y)).sum()} known numbers; NaN marks a gap"
        )
    return x, y
