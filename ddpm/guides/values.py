"""Guides that follow a value V_t(x_t), a measure of how good the image will be that x_t leads to.

With the exact value log E[e^r(x0) | x_t] (`ddpm.oracles.rewards`) the sum of the score and ∇V_t is the score of the
noised p(x0) e^r(x0)/Z at every t. What is used where it is not known: the reward of the predicted image, `plug_in`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.forward import at, x0_and_eps
from ddpm.guide import per_image_scale
from ddpm.schedule import Schedule
from ddpm.tools import check

Value = Callable[..., jax.Array]  # (x_t (B, ...), t, c) -> V_t (B,)


@technique(eps=partial_of, value=partial_of, scale=check.scale_array)
def by_value(
    x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, schedule: Schedule, value: Value, scale: Any = 1.0
) -> jax.Array:
    """ε̂ - s √(1-ᾱ_t) ∇V_t(x_t): the denoiser of p e^r/Z, if V is exact and s = 1.

    value: (x_t, t, c) -> (B,);  scale: a number, or one for each image.
    """
    return eps(x_t, t, c) - push(value, schedule, scale, x_t, t, c)


def push(value: Value, schedule: Schedule, scale: jax.Array, x_t: jax.Array, t: jax.Array, c: Any) -> jax.Array:
    """s √(1-ᾱ_t) ∇_x V_t(x_t), like x_t: what a guide takes from ε̂ to raise V."""
    gradient = jax.grad(lambda x: value(x, t, c).sum())(x_t)
    return per_image_scale(scale, x_t) * at(schedule.std, t, x_t) * gradient


@technique(eps=partial_of, reward=partial_of)
def plug_in(x_t: jax.Array, t: Any, c: Any = None, /, *, reward: Value, eps: Eps, schedule: Schedule) -> jax.Array:
    """V ≈ r(x̂0(x_t)), the reward of the mean image in place of the mean of e^r, (B,).

    reward: x0 (B, ...) -> (B,).   [Chung et al. 2023, DPS, Eq. 10]   At t = 0 it is r itself.
    """
    t = jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1])
    x0 = x0_and_eps(eps, schedule, x_t, jnp.maximum(t, 1), c)[0]
    clean = (t == 0).reshape(-1, *(1,) * (x_t.ndim - 1))
    return reward(jnp.where(clean, x_t, x0))


def misfit(A: Any, y: Any, weight: float) -> Partial:
    """r(x0) = -½ w ‖A x0 - y‖², the log-likelihood of y = A x0 + N(0, I/w) up to a constant, for `plug_in`.

    A: (n, D);  y: (n,).
    """
    A, y = jnp.asarray(A), jnp.asarray(y)
    if A.ndim != 2 or y.shape != A.shape[:1]:
        raise ValueError(f"A has shape {A.shape} and y {y.shape}; give (n, D) and (n,)")
    return Partial(_misfit, A=A, y=y, weight=jnp.asarray(check.number("weight", weight, 0)))


def _misfit(x0: jax.Array, A: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    gap = jnp.matmul(x0.reshape(len(x0), -1), A.T, precision="highest") - y[None]
    return -0.5 * weight * (gap**2).sum(1)
