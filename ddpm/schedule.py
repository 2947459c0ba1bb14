"""Noise schedules: β_t, ᾱ_t, and lists of times for samplers.

    q(x_t | x_{t-1}) = N(√(1-β_t) x_{t-1}, β_t I)      ᾱ_t = ∏_{s≤t} (1-β_s)            [Ho et al. 2020, Eqs. 2, 4]

Times are those of the papers: t = 1…T are the noise levels and t = 0 is clean data, so ᾱ_0 = 1 and β_0 = 0, and the
arrays have T+1 entries. No formula in this library needs `t-1` as an index or a special case at t = 0.
Everything is computed in NumPy float64 and rounded once, at the end. In float32 1 - ᾱ_t has an error of 6e-8, which at
t = 1 (1-ᾱ = 1e-4) is a relative one of 1.7e-4; so √(1-ᾱ_t) is rounded by itself, and has all its digits at any level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.tools import check


class Schedule(NamedTuple):
    """The arrays that define a diffusion; a pytree, so it passes through `jit` as an argument."""

    beta: jax.Array  # (T+1,)  β_t, with β_0 = 0
    alpha_bar: jax.Array  # (T+1,)  ᾱ_t, falling from ᾱ_0 = 1
    std: jax.Array  # (T+1,)  √(1-ᾱ_t), rising from 0, with the digits that a rounded ᾱ_t ≈ 1 has lost

    @property
    def T(self) -> int:
        """The number T of noise levels."""
        return self.alpha_bar.shape[0] - 1


def rounded(beta: np.ndarray, alpha_bar: np.ndarray) -> Schedule:
    """Round β, ᾱ and √(1-ᾱ) once; beta, alpha_bar: (T+1,) float64."""
    return Schedule(*map(jnp.asarray, (beta, alpha_bar, np.sqrt(1 - alpha_bar))))


def from_beta(beta: Any) -> Schedule:
    """Build the schedule with the given β_1…β_T (T entries), each in (0, 1)."""
    beta = np.asarray(beta, dtype=np.float64)
    if beta.ndim != 1 or beta.size < 1:
        raise ValueError(f"beta has shape {beta.shape}; give β_1…β_T as one row of numbers")
    if not (np.all(beta > 0) and np.all(beta < 1)):  # a NaN fails too
        worst = int(np.argmax(~((beta > 0) & (beta < 1)))) + 1
        raise ValueError(f"beta at t = {worst} is {beta[worst - 1]:.6g}; every β must lie in (0, 1). Use more steps T")
    return rounded(np.concatenate([[0.0], beta]), np.concatenate([[1.0], np.cumprod(1.0 - beta)]))


def from_alpha_bar(alpha_bar: Any) -> Schedule:
    """Build the schedule with the given ᾱ_1…ᾱ_T, falling, each in (0, 1): β_t = 1 - ᾱ_t/ᾱ_{t-1}."""
    alpha_bar = np.asarray(alpha_bar, dtype=np.float64)
    if alpha_bar.ndim != 1 or alpha_bar.size < 1:
        raise ValueError(f"alpha_bar has shape {alpha_bar.shape}; give ᾱ_1…ᾱ_T as one row of numbers")
    whole = np.concatenate([[1.0], alpha_bar])
    good = (alpha_bar > 0) & (whole[1:] < whole[:-1])  # a NaN fails too
    if not good.all():
        t = int(np.argmin(good)) + 1
        raise ValueError(
            f"alpha_bar at t = {t} is {whole[t]:.6g} after {whole[t - 1]:.6g}; ᾱ must fall from 1 and stay above 0"
        )
    return rounded(np.concatenate([[0.0], 1 - whole[1:] / whole[:-1]]), whole)


def linear_ho(T: int = 1000) -> Schedule:
    """β_t from 1e-4 to 0.02 in equal steps, for any T.   [Ho et al. 2020, Sec. 4]

    It is designed for T = 1000. At T = 100 it ends at ᾱ_T = .364, which is not pure noise; use `linear` there.
    """
    return from_beta(np.linspace(1e-4, 0.02, check.whole("T", T, 1)))


def linear(T: int = 1000) -> Schedule:
    """β_t from 1e-4 to 0.02, scaled by 1000/T so that ᾱ_T stays near 4e-5.   [Nichol and Dhariwal 2021, released code]

    Below T = 21 a β would reach 1, so smaller T are refused.
    """
    check.whole("T", T, 1)
    if T <= 20:
        raise ValueError(f"T is {T}; the linear schedule scaled by 1000/T reaches β = {20 / T:.3g} >= 1. Use T >= 21")
    return from_beta(np.linspace(1e-4, 0.02, T) * (1000 / T))


def cosine(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2), with β_t ≤ .999.   [Nichol and Dhariwal 2021, Eq. 17]

    Exactly one β is clipped, the last. √(1/ᾱ_T) is then about 20,000, so clip x̂0 when you start from t = T.
    """
    t = np.arange(check.whole("T", T, 1) + 1, dtype=np.float64)
    f = np.cos((t / T + s) / (1 + s) * np.pi / 2) ** 2  # (T+1,)
    return from_beta(np.minimum(1 - f[1:] / f[:-1], max_beta))


def sigmoid(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, max_beta: float = 0.999
) -> Schedule:
    """ᾱ_t = (σ(end/τ) - σ(u_t/τ)) / (σ(end/τ) - σ(start/τ)), u_t evenly from start to end; σ logistic; β ≤ .999.

    A sigmoid of ᾱ, not of β (another published schedule of that name).   [Jabri et al. 2022, App. B; Chen 2023, Alg. 1]
    """
    check.number("tau", tau, 1e-3)
    if not start < end:
        raise ValueError(f"start is {start} and end is {end}; give start < end")
    u = np.linspace(start, end, check.whole("T", T, 1) + 1) / tau
    f = 1 / (1 + np.exp(-u[-1])) - 1 / (1 + np.exp(-u))  # (T+1,) falling to 0
    return from_beta(np.minimum(1 - f[1:] / f[:-1], max_beta))


SCHEDULES: dict[str, Callable[..., Schedule]] = {f.__name__: f for f in (linear, linear_ho, cosine, sigmoid)}


def make_schedule(name: str, T: int = 1000) -> Schedule:
    """Build the schedule of this name: `linear`, `linear_ho`, `cosine` or `sigmoid`."""
    return SCHEDULES[check.choice("schedule", name, SCHEDULES)](T)


# --- signal-to-noise ratio --------------------------------------------------------------------------------------------


def snr(schedule: Schedule) -> jax.Array:
    """SNR(t) = ᾱ_t / (1-ᾱ_t), (T+1,), infinite at t = 0.   [Kingma et al. 2021, Eq. 2]"""
    return schedule.alpha_bar / schedule.std**2


def log_snr(schedule: Schedule) -> jax.Array:
    """log SNR(t) = log ᾱ_t - log(1-ᾱ_t), (T+1,), infinite at t = 0.   [Kingma et al. 2021, Sec. 3.2]"""
    return jnp.log(schedule.alpha_bar) - 2 * jnp.log(schedule.std)


# --- lists of times ---------------------------------------------------------------------------------------------------


def _trailing(T: int, N: int) -> np.ndarray:
    return np.round(T - np.arange(N) * (T / N)).astype(int)


def _leading(T: int, N: int) -> np.ndarray:
    return np.arange(N)[::-1] * (T // N) + 1


def _linspace(T: int, N: int) -> np.ndarray:
    return np.round(np.linspace(0, T - 1, N))[::-1].astype(int) + 1


def _quad(T: int, N: int) -> np.ndarray:
    return np.unique((np.linspace(0, np.sqrt(0.8 * T), N) ** 2).astype(int))[::-1] + 1


def _stride(T: int, N: int) -> np.ndarray:
    for stride in range(1, T + 1):
        if len(range(0, T, stride)) == N:
            return np.arange(0, T, stride)[::-1] + 1
    raise ValueError(f"steps is {N}; no whole stride takes exactly {N} of {T} times. Use rule='trailing'")


TIME_RULES: dict[str, Callable[[int, int], np.ndarray]] = {
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "quad": _quad,
    "stride": _stride,
}


def make_times(T: int, steps: int, rule: str = "trailing") -> np.ndarray:
    """List the times that a sampler visits, from noise down to t = 0: (steps+1,) int32, ending in 0.

    `trailing` begins at T (pure noise) and is the default; `leading` ends at 1 and so never visits T; `linspace` visits
    both 1 and T; `quad` crowds the times near 0 (begins at .8T; repeated times are dropped, so it can be shorter);
    `stride` is improved-diffusion's "ddimN", the smallest whole stride that gives exactly N times from 1 up.
    The published rules count from 0; ours are those plus one.   [Lin et al. 2023, Table 2; Song et al. 2021, App. D.2]
    """
    check.whole("T", T, 1)
    check.choice("rule", rule, TIME_RULES)
    if not 1 <= check.whole("steps", steps, 1) <= T:
        raise ValueError(f"steps is {steps}; a chain of T = {T} times has 1..{T} steps to take")
    if steps == 1 < T and rule != "trailing":
        raise ValueError(f"rule {rule!r} with one step would begin at t = 1, not in the noise; use rule='trailing'")
    return np.append(TIME_RULES[rule](T, steps), 0).astype(np.int32)
