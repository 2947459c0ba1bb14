"""How often a training draws each time, by name: the cumulative distribution P(t ≤ i) of i = 0…T.

    uniform        t ~ U{1…T}                                                        [Ho et al. 2020, Alg. 1]
    logit_normal   t = ⌈T/(1 + e^-z)⌉, z ~ N(0, 1): more often in the middle          [Esser et al. 2024, Sec. 3.1]
    log_normal     the level nearest to ln σ ~ N(-1.2, 1.2²), σ² = (1-ᾱ)/ᾱ            [Karras et al. 2022, Table 1]

The loss is not divided by this frequency: it is the loss with the weight p_t/(1/T), and has another size and minimum
than with uniform times.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import logit, ndtr

from ddpm.config import TIMES
from ddpm.schedule import Schedule, log_snr
from ddpm.tools import check

P_MEAN, P_STD = -1.2, 1.2  # of ln σ   [Karras et al. 2022, Table 1]


def cumulative(schedule: Schedule, times: str) -> jax.Array:
    """P(t ≤ i) for i = 0…T: (T+1,), from 0 to 1"""
    check.choice("times", times, TIMES)
    share = jnp.arange(schedule.T + 1) / schedule.T
    if times == "uniform":
        return share
    if times == "logit_normal":
        return ndtr(logit(share))
    log_sigma = -log_snr(schedule)[1:] / 2
    between = (log_sigma[1:] + log_sigma[:-1]) / 2  # what lies between two levels belongs to the nearer one
    inner = ndtr((between - P_MEAN) / P_STD)
    return jnp.concatenate([jnp.zeros(1), inner, jnp.ones(1)])


def frequency(schedule: Schedule, times: str) -> jax.Array:
    """T p_t, which is 1 for uniform times: (T+1,), 0 at t = 0"""
    return jnp.append(0.0, schedule.T * jnp.diff(cumulative(schedule, times)))


def draw(key: jax.Array, B: int, schedule: Schedule, times: str) -> jax.Array:
    """Draw B times from this distribution, spread evenly over it: one shift of a grid, as `loss.stratified_times`."""
    return draw_from(key, B, cumulative(schedule, times))


def draw_from(key: jax.Array, B: int, cumulative: jax.Array) -> jax.Array:
    """Draw B times with P(t ≤ i) = cumulative[i], spread evenly.   cumulative: (T+1,) from 0 to 1"""
    u = (jax.random.uniform(key) + jnp.arange(B) / B) % 1
    t = jnp.searchsorted(cumulative, u, side="right")  # the first t with P(≤ t) > u
    return jnp.minimum(t, len(cumulative) - 1)
