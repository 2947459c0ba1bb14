"""The best list of times for few DDIM steps, found on the covariance of the data alone.

On N(μ, Σ) every DDIM step is linear along each eigenvector. With √ᾱ_t = a, √(1-ᾱ_t) = b, v_t = a²λ + b² and the angle
θ_t = atan(b/(a√λ)), noise N(0, I) that is declared to be x_{t_0} and walks t_0 > t_1 > … > t_n = 0 ends with

    deviation √λ g   and mean (1 - √λ g a_{t_0}) μ,   g = ∏ cos(θ_{i-1} - θ_i)/√v_{t_0}

so the squared Wasserstein distance to the data is a sum over eigenvectors, without a network and without images:

    W₂²(t_0, …, t_n) = Σ_d (√λ_d - √λ_d g_d)² + (√λ_d g_d a_{t_0} μ_d)²            [after Li et al. 2023, AutoDiffusion]

A walk from t_0 = T starts from the noise of the training. A *free start* also searches t_0: the noise is taken for x_t
of a smaller t, where its variance is right for the small directions, which few steps would not reach from T.

Directions of nearly the same variance may be one entry with their number (`ddpm.oracles.spectrum.axes`): 24 entries
give the lists of all 784 or 3,072 directions of our images, within a thousandth of the distance, in .1 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm.oracles.spectrum import Axes
from ddpm.schedule import Schedule
from ddpm.tools import check


def w2_of_times(schedule: Schedule, var: Any, times: Any, mean: Any = 0.0, number: Any = 1) -> float:
    """W₂² between N(mean, diag var) and what the DDIM steps of `times` make of N(0, I), with the exact denoiser.

    var: (D,) eigenvalues λ;  mean: (D,) μ in the eigenbasis, or a number;  times: falling, t_0 … 0;  number: (D,) how
    many directions each entry stands for, or 1
    """
    root, shift, theta = _angles(schedule, var, mean)
    times = np.asarray(times)
    gain = np.cos(np.diff(theta[times], axis=0)).prod(0)
    return float((_error(gain, root, shift[times[0]], _start(schedule, root)[times[0]]) * number).sum())


def searched(
    schedule: Schedule, var: Any, steps: int, mean: Any = 0.0, free: bool = True, sweeps: int = 100, number: Any = 1
) -> np.ndarray:
    """The times t_0 > … > t_steps = 0 of least `w2_of_times`: (steps+1,) int.   [after Li et al. 2023, AutoDiffusion]

    One time after the other is put where the distance is least, with the others held, until none moves: from several
    first lists, of which the best result is returned.   free: also search t_0; else t_0 = T.
    """
    T, var = schedule.T, np.asarray(var, dtype=np.float64)
    if var.ndim != 1 or not np.all(var >= 0) or not np.all(np.isfinite(var)):
        raise ValueError(f"var is {var!r}; give the eigenvalues (D,) of a covariance")
    if check.whole("steps", steps, 1) > T:
        raise ValueError(f"steps is {steps}; a chain with T = {T} has at most {T}")
    tables = _angles(schedule, np.maximum(var, 1e-12), mean)
    whole = (*tables, _start(schedule, tables[0]), np.broadcast_to(number, var.shape))
    found = [_descend(first, whole, free, sweeps) for first in _first_lists(schedule, steps)]
    return min(found, key=lambda pair: pair[1])[0]


def rule(axes: Axes) -> Callable[[Schedule, int], np.ndarray]:
    """Return (schedule, steps) -> the searched times of data with these axes, for `Sampling(rule=…)`."""

    def searched_times(schedule: Schedule, steps: int) -> np.ndarray:
        return searched(schedule, axes.var, steps, axes.mean, number=axes.number)

    return searched_times


def _angles(schedule: Schedule, var: Any, mean: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """√λ (D,), a_t μ (T+1, D), and θ_t (T+1, D)"""
    root = np.sqrt(np.asarray(var, dtype=np.float64))
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)[:, None]
    a, b = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    return root, a * np.broadcast_to(mean, root.shape), np.arctan2(b, a * root)


def _start(schedule: Schedule, root: np.ndarray) -> np.ndarray:
    """√v_t: (T+1, D)"""
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)[:, None]
    return np.sqrt(alpha_bar * root**2 + 1 - alpha_bar)


def _error(gain: np.ndarray, root: np.ndarray, shift: np.ndarray, start: np.ndarray) -> Any:
    """W₂² of each direction, (..., D)."""
    scale = root * gain / start
    return (root - scale) ** 2 + (scale * shift) ** 2


def _first_lists(schedule: Schedule, steps: int) -> list[np.ndarray]:
    """Even times, and times even in angle, log-SNR, and between the two: each list strictly falls to 0."""
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)
    angle = np.arctan2(np.sqrt(1 - alpha_bar), np.sqrt(alpha_bar))
    lists = []
    for scale in (np.arange(schedule.T + 1.0), angle, np.log(np.tan(np.clip(angle, 1e-3, np.pi / 2 - 1e-3)))):
        at = np.interp(np.linspace(scale[-1], scale[0], steps + 1), scale, np.arange(schedule.T + 1))
        lists.append(_falling(np.round(at).astype(int), schedule.T))
    return lists


def _falling(times: np.ndarray, T: int) -> np.ndarray:
    """The list with equal times moved apart, ending at 0."""
    n = len(times) - 1
    times = np.minimum(times, T - np.arange(n + 1))
    times[-1] = 0
    for i in range(n - 1, -1, -1):
        times[i] = max(times[i], times[i + 1] + 1)
    return times


def _descend(times: np.ndarray, tables: tuple[np.ndarray, ...], free: bool, sweeps: int) -> tuple[np.ndarray, float]:
    """One time after the other to its best place, until none moves; and the distance there."""
    root, shift, theta, start, number = tables
    times, n, T = times.copy(), len(times) - 1, len(theta) - 1
    cos, sin = np.cos(theta), np.sin(theta)
    if not free:
        times[0] = T
    for _ in range(sweeps):
        before = times.copy()
        for i in range(0 if free else 1, n):
            between = slice(times[i + 1] + 1, times[i - 1] if i else T + 1)
            steps = np.cos(np.diff(theta[times], axis=0))  # (n, D)
            gain = np.delete(steps, [i - 1, i] if i else [0], axis=0).prod(0)
            for j in (i + 1, i - 1) if i else (1,):  # cos(θ_j - θ) = cos θ_j cos θ + sin θ_j sin θ
                gain = gain * (cos[times[j]] * cos[between] + sin[times[j]] * sin[between])
            t_0 = times[0] if i else between
            times[i] = between.start + np.argmin(_error(gain, root, shift[t_0], start[t_0]) @ number)
        if np.array_equal(before, times):
            break
    gain = np.cos(np.diff(theta[times], axis=0)).prod(0)
    return times, float(_error(gain, root, shift[times[0]], start[times[0]]) @ number)
