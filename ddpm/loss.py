"""L_simple: the error of ε̂ as a prediction of the noise.

    L_simple = E_{t, x0, ε} ‖ε - ε̂(√ᾱ_t x0 + √(1-ᾱ_t) ε, t, c)‖²,  t ~ U{1…T}             [Ho et al. 2020, Eq. 14]

The mean over pixels is taken, not the sum, so that the learning rate does not depend on the image's size.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps
from ddpm.forward import q_sample
from ddpm.schedule import Schedule
from ddpm.tools import check


def squared_error(
    eps: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array, c: jax.Array | None = None
) -> jax.Array:
    """L_t(x0, ε, c) = (ε - ε̂(x_t, t, c))², pixel by pixel: like x0.

    x0: (B, ...) in [-1, 1];  t: (B,) int in 1..T;  noise: like x0, ~ N(0, I);  c: (B,) int, or None for ∅
    """
    t = jnp.broadcast_to(check.times(t, x0, schedule.T), x0.shape[:1])
    return (noise - eps(q_sample(schedule, x0, t, noise), t, c)) ** 2


def per_image(a: jax.Array) -> jax.Array:
    """Average over all axes but the first: (B, ...) -> (B,)"""
    return a.reshape(a.shape[0], -1).mean(1)


def uniform_times(key: jax.Array, B: int, T: int) -> jax.Array:
    """Draw B independent times ~ U{1…T}.   [Ho et al. 2020, Alg. 1]"""
    return jax.random.randint(key, (B,), 1, T + 1)


def stratified_times(key: jax.Array, B: int, T: int) -> jax.Array:
    """Draw B times, each ~ U{1…T}, spread evenly over the range: one shift of a grid.   [Kingma et al. 2021, App. I.1]

    The loss keeps its expectation and loses most of the variance that comes from t.
    """
    u = (jax.random.uniform(key) + jnp.arange(B) / B) % 1  # (B,) in [0, 1)
    return jnp.minimum(1 + jnp.floor(u * T).astype(jnp.int32), T)


def drop_labels(key: jax.Array, c: jax.Array, null: int, rate: float) -> jax.Array:
    """Replace labels by the null label with probability `rate`, to learn both ε̂(·, c) and ε̂(·, ∅).

    [Ho and Salimans 2022, Alg. 1, p_uncond]
    """
    check.number("rate", rate, 0, 1)
    return jnp.where(jax.random.uniform(key, c.shape) < rate, null, c)


def simple_loss(eps: Eps, schedule: Schedule, key: jax.Array, x0: jax.Array, c: jax.Array | None = None) -> jax.Array:
    """Draw one Monte-Carlo sample of L_simple on a batch: a number.   [Ho et al. 2020, Eq. 14]"""
    return weighted_loss(eps, schedule, key, x0, c)


def weighted_loss(
    eps: Eps, schedule: Schedule, key: jax.Array, x0: jax.Array, c: jax.Array | None = None, weight: Any = None
) -> jax.Array:
    """Draw one Monte-Carlo sample of E_t[w_t ‖ε - ε̂‖²]: a number. weight: (T+1,), as in ddpm.losses.weighting."""
    key_t, key_noise = jax.random.split(key)
    t = stratified_times(key_t, x0.shape[0], schedule.T)
    noise = jax.random.normal(key_noise, x0.shape, x0.dtype)
    error = squared_error(eps, schedule, x0, t, noise, c)
    if weight is None:
        return error.mean()
    return (jnp.asarray(check.by_time("weight", weight, schedule.T))[t] * per_image(error)).mean()
