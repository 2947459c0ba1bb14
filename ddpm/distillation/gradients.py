"""Gradients of score distillation, as functions (key, x) -> gradient in the images x (B, ...).

    x_t = √ᾱ_t x + √(1-ᾱ_t) ε,   t uniform in (low·T, high·T],   w_t = 1-ᾱ_t unless given

    SDS   w_t (ε̂(x_t, t, c) - ε)                                          [Poole et al. 2023, Eq. 3]
    VSD   w_t (ε̂(x_t, t, c) - ε̂_own(x_t, t))                              [Wang et al. 2023, Eq. 9]
    DDS   w_t (ε̂(x_t, t, c) - ε̂(x_ref,t, t, c_ref)), with the same ε       [Hertz et al. 2023, Eq. 5]

No derivative of ε̂ is taken, and there is no loss whose value would tell of progress. `pulled_back` brings a gradient
from pictures to what they show, through any renderer. The √ᾱ_t of ∂x_t/∂x is taken into w_t.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.forward import at, q_sample
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.typicality import time_window

WINDOW = (0.02, 0.98)  # of the times, as shares of T


def weights(schedule: Schedule, weight: Any) -> jax.Array:
    """w_t as a table (T+1,): 1-ᾱ_t if None."""
    if weight is None:
        return 1 - schedule.alpha_bar
    return jnp.asarray(check.by_time("weight", weight, schedule.T))


def _checked(schedule: Schedule, t_range: tuple[float, float], weight: Any, **_: Any) -> dict[str, Any]:
    low, end = time_window(schedule.T, t_range)
    return {"t_range": (low, end), "weight": weights(schedule, weight)}


def _noised(key: jax.Array, x: jax.Array, schedule: Schedule, window: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """t (B,), ε and x_t: each image has its own."""
    key_t, key_eps = jax.random.split(key)
    t = jax.random.randint(key_t, x.shape[:1], *window)
    eps = jax.random.normal(key_eps, x.shape, x.dtype)
    return t, eps, q_sample(schedule, x, t, eps)


@technique(_checked, eps=partial_of)
def sds(
    key: jax.Array, x: jax.Array, /, eps: Eps, schedule: Schedule, c: Any = None,
    t_range: tuple[float, float] = WINDOW, weight: Any = None,
) -> jax.Array:  # fmt: skip
    """w_t (ε̂(x_t, t, c) - ε): on average the slope of -log p_t, averaged over t, at the image. It is no sampler.

    The -ε changes nothing on average, and takes away most of the noise. c: labels (B,), or None.
    """
    t, noise, x_t = _noised(key, x, schedule, t_range)
    return at(weight, t, x) * (eps(x_t, t, c) - noise)


@technique(_checked, eps=partial_of, own=partial_of)
def vsd(
    key: jax.Array, x: jax.Array, /, eps: Eps, own: Eps, schedule: Schedule, c: Any = None,
    t_range: tuple[float, float] = WINDOW, weight: Any = None,
) -> jax.Array:  # fmt: skip
    """w_t (ε̂(x_t, t, c) - ε̂_own(x_t, t)): many images x as draws of a distribution, whose own denoiser is `own`.

    It is 0 where both distributions are equal, so that the images spread as the data do.
    """
    t, _, x_t = _noised(key, x, schedule, t_range)
    return at(weight, t, x) * (eps(x_t, t, c) - own(x_t, t, None))


@technique(_checked, eps=partial_of)
def dds(
    key: jax.Array, x: jax.Array, /, eps: Eps, schedule: Schedule, c: Any, x_ref: jax.Array, c_ref: Any,
    t_range: tuple[float, float] = WINDOW, weight: Any = None,
) -> jax.Array:  # fmt: skip
    """w_t (ε̂(x_t, t, c) - ε̂(x_ref,t, t, c_ref)) with the same t and ε: an edit of x_ref from c_ref to c.

    At x = x_ref and c = c_ref it is 0 for every draw. For classes N(μ_c, Σ) it ends at x_ref + μ_c - μ_ref: what the
    reference has beyond the mean of its class stays.
    """
    check.same_shape("x", x, "x_ref", x_ref)
    t, noise, x_t = _noised(key, x, schedule, t_range)
    return at(weight, t, x) * (eps(x_t, t, c) - eps(q_sample(schedule, x_ref, t, noise), t, c_ref))


@technique(gradient=partial_of, render=partial_of)
def pulled_back(key: jax.Array, psi: Any, /, gradient: Any, render: Any) -> Any:
    """(∂g/∂ψ)ᵀ gradient(key, g(ψ)): from pictures g(ψ) (B, ...) to the parameters ψ of what they show."""
    x, back = jax.vjp(render, psi)
    return back(gradient(key, x))[0]


def descend(gradient: Any, key: jax.Array, x: Any, steps: int, rate: float) -> Any:
    """x ← x - rate · gradient(key_i, x), as one compiled loop; step i uses fold_in(key, i)."""
    check.whole("steps", steps, 1)
    check.number("rate", rate, 0)
    return _descend(partial_of(gradient), key, x, jnp.asarray(steps), jnp.asarray(rate))


@jax.jit
def _descend(gradient: Partial, key: jax.Array, x: Any, steps: jax.Array, rate: jax.Array) -> Any:
    def step(i: jax.Array, x: Any) -> Any:
        return jax.tree.map(lambda a, g: (a - rate * g).astype(a.dtype), x, gradient(jax.random.fold_in(key, i), x))

    return jax.lax.fori_loop(0, steps, step, x)
