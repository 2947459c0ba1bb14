"""Schedules derived from a schedule: a chain of fewer times, and one that ends in pure noise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of, technique
from ddpm.schedule import Schedule, from_alpha_bar, rounded
from ddpm.tools import check
from ddpm.tools.partials import affine


def alpha_bar_in_float64(schedule: Schedule) -> np.ndarray:
    """ᾱ in float64, with the digits of √(1-ᾱ) where ᾱ is near 1."""
    alpha_bar, std = (np.asarray(a, dtype=np.float64) for a in (schedule.alpha_bar, schedule.std))
    return np.where(alpha_bar > 0.5, 1 - std**2, alpha_bar)


def respace(schedule: Schedule, times: Any) -> Schedule:
    """The schedule of the times in a list only: ᾱ'_i = ᾱ at the i-th of them.   [Nichol and Dhariwal 2021, Sec. 4]

    times: (n+1,) falling to 0, such as make_times(T, n)  ->  a schedule with T = n, and β' of whole jumps. Our steps
    know both of their times and need no respacing; this is for code that walks t = n…1 (see `guide.retime`).
    """
    times = check.falling_to_0(times, schedule.T)
    alpha_bar = alpha_bar_in_float64(schedule)[times[:-1]][::-1]
    return from_alpha_bar(alpha_bar) if alpha_bar[-1] > 0 else _ending_in_noise(alpha_bar)


def _ending_in_noise(alpha_bar: np.ndarray) -> Schedule:
    """The schedule with these ᾱ_1…ᾱ_T, of which the last is 0."""
    whole = np.concatenate([[1.0], alpha_bar])
    return rounded(np.concatenate([[0.0], 1 - whole[1:] / whole[:-1]]), whole)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """√ᾱ shifted and scaled so that √ᾱ_T = 0 and √ᾱ_1 stays: x_T is pure noise.   [Lin et al. 2023, Alg. 1]

    At t = T, ε̂ then tells nothing about x0 (x̂0 = 0/0): walk from T with a network that predicts v or x0, through
    `v_head` or `x0_head`, and from T-1 with one that predicts ε.
    """
    root = np.sqrt(alpha_bar_in_float64(schedule)[1:])
    if root.size < 2:
        raise ValueError("zero_terminal_snr needs a schedule with T >= 2")
    return _ending_in_noise(((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)


@technique(eps=partial_of, times=lambda times: jnp.asarray(times)[::-1])
@affine
def retime(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, times: Any) -> jax.Array:
    """Call a denoiser for a respaced schedule: time i = 0…n is the i-th from the end of a list that falls to 0.

    `retime(net, times)` and `respace(schedule, times)` make a chain of n times out of one of T.
    """
    return eps(x_t, times[t], c)
