"""Langevin dynamics: random steps uphill that leave p_t as it is.

    x ← x + (δ/2) ∇ log p_t(x) + √δ z,   z ~ N(0, I)

On a direction in which p_t is N(·, v) the stationary distribution has variance v/(1 - δ/4v), not v: δ must be small
compared with the smallest v, which at time t is at least 1-ᾱ_t. So δ = r (1-ᾱ_t): at most r/4 too much variance.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Step, falls, partial_of, technique
from ddpm.forward import x0_and_eps
from ddpm.schedule import Schedule
from ddpm.tools import check, keys
from ddpm.tools.partials import check_denoiser


def langevin(
    eps: Eps, schedule: Schedule, key: jax.Array, x: jax.Array, t: jax.Array, c: Any = None, *, n: Any = 1, r: Any = 0.1
) -> jax.Array:
    """n Langevin steps at the noise level t ≥ 1, of size δ = r (1-ᾱ_t); ∇ log p_t = -ε̂/√(1-ᾱ_t)."""
    check_denoiser(t, eps=eps, c=c)
    std = schedule.std[t]  # δ/2 ∇ log p = -r/2 √(1-ᾱ) ε̂

    def body(i: jax.Array, x: jax.Array) -> jax.Array:
        z = keys.normal_like(keys.fold_in(key, i), x)
        drift = eps(x, jnp.broadcast_to(t, x.shape[:1]), c)
        new = x - 0.5 * r * std * drift + jnp.sqrt(r) * std * z
        return new.astype(x.dtype)  # a float64 schedule keeps float32 images

    return jax.lax.fori_loop(0, n, body, x)


def _count(n: int) -> jax.Array:
    check.whole("n", n, 1)
    return jnp.asarray(n)


def _size(r: float) -> jax.Array:
    return jnp.asarray(check.number("r", r, 1e-9, 2), float)


@technique(step=partial_of, eps=partial_of, n=_count, r=_size)
@falls
def corrected(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /,
    step: Step, eps: Eps, schedule: Schedule, c: Any = None, *, n: int = 1, r: float = 0.1,
) -> jax.Array:  # fmt: skip
    """Take a step, then n Langevin steps at the level it arrives at: predictor and corrector.

    [Song et al. 2021, SDE, Alg. 1; their "signal-to-noise ratio" ρ is r ≈ 2ρ²]   At s = 0 there is no correction.
    """
    key_step, key_langevin = keys.split(key)
    x_s = step(key_step, x_t, t, s)
    if not isinstance(x_s, jax.Array):
        raise TypeError("a corrector wraps steps that carry an image alone, not a history")
    return langevin(eps, schedule, key_langevin, x_s, s, c, n=jnp.where(s == 0, 0, n), r=r)


@technique(eps=partial_of, n=_count, r=_size)
@falls
def annealed_langevin(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /,
    eps: Eps, schedule: Schedule, c: Any = None, *, n: int = 10, r: float = 0.1,
) -> jax.Array:  # fmt: skip
    """Take n Langevin steps at the new level and no predictor: x_s begins as x_t.   [Song and Ermon 2019, Alg. 1]

    x is scaled by √(ᾱ_s/ᾱ_t) between levels, which in the paper's coordinates, x/√ᾱ, is nothing. To s = 0 it ends with
    x̂0, one step of noise removal.   [Jolicoeur-Martineau et al. 2021]
    """
    a_t, a_s = schedule.alpha_bar[t], schedule.alpha_bar[s]

    def clean() -> jax.Array:
        return x0_and_eps(eps, schedule, x_t, t, c)[0]

    def noisy() -> jax.Array:
        scale = jnp.where(a_t > 0, jnp.sqrt(a_s / jnp.where(a_t > 0, a_t, 1)), 1)  # pure noise has no scale to keep
        return langevin(eps, schedule, key, scale * x_t, jnp.maximum(s, 1), c, n=n, r=r)

    return jax.lax.cond(s == 0, clean, noisy)
