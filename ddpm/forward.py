"""The forward process q, its posterior, and equivalent forms of a prediction: ε, x0, v, μ, score.

    x_t = √ᾱ_t x0 + √(1-ᾱ_t) ε,   ε ~ N(0, I)                                                [Ho et al. 2020, Eq. 4]

A time is either shared by all images, shape (), or given for each, shape (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.partials import v_form


def at(a: jax.Array, t: Any, x: jax.Array) -> jax.Array:
    """a[t], shaped to multiply images x (B, ...): () stays (), (B,) becomes (B, 1, ...). a: (T+1,);  t in 0..T"""
    a_t = a[check.times(t, x, a.shape[0] - 1, low=0)]
    return a_t if a_t.ndim == 0 else a_t.reshape(a_t.shape + (1,) * (x.ndim - 1))


def q_sample(schedule: Schedule, x0: jax.Array, t: Any, eps: Any) -> jax.Array:
    """Draw x_t ~ q(x_t | x0) = N(√ᾱ_t x0, (1-ᾱ_t) I), given the noise.   [Ho et al. 2020, Eq. 4]

    x0: (B, ...) data in [-1, 1];  t: () or (B,) int in 0..T;  eps: like x0, ~ N(0, I)  ->  x_t: like x0
    """
    check.same_shape("x0", x0, "eps", eps)
    return jnp.sqrt(at(schedule.alpha_bar, t, x0)) * x0 + at(schedule.std, t, x0) * eps


def q_step(schedule: Schedule, x_s: Any, s: Any, t: Any, eps: Any) -> jax.Array:
    """Draw x_t ~ q(x_t | x_s) = N(√(ᾱ_t/ᾱ_s) x_s, (1 - ᾱ_t/ᾱ_s) I) for s ≤ t.   [Ho et al. 2020, Eq. 2 composed]"""
    check.same_shape("x_s", x_s, "eps", eps)
    if check.known(s) and check.known(t) and np.any(np.asarray(s) > np.asarray(t)):
        raise ValueError(f"s is {s} and t is {t}; q goes from s up to t, so s <= t")
    alpha_bar_s, alpha_bar_t = at(schedule.alpha_bar, s, x_s), at(schedule.alpha_bar, t, x_s)
    ratio = alpha_bar_t / alpha_bar_s
    return jnp.sqrt(ratio) * x_s + jnp.sqrt(1 - ratio) * eps


def q_posterior(schedule: Schedule, x_t: Any, x0: jax.Array, t: Any, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute mean and variance of q(x_s | x_t, x0) for any s < t.   [Ho et al. 2020, Eqs. 6-7, for s = t-1]

        β = 1 - ᾱ_t/ᾱ_s      mean = (√ᾱ_s β x0 + √(ᾱ_t/ᾱ_s) (1-ᾱ_s) x_t) / (1-ᾱ_t)      β̃ = β (1-ᾱ_s)/(1-ᾱ_t)

    x_t, x0: (B, ...)  ->  mean: like x_t;  variance: () or (B, 1, ...). At s = 0 the mean is x0 and the variance 0.
    """
    check.same_shape("x_t", x_t, "x0", x0)
    check.falling(t, s)
    alpha_bar_t, alpha_bar_s = at(schedule.alpha_bar, t, x_t), at(schedule.alpha_bar, s, x_t)
    beta = 1 - alpha_bar_t / alpha_bar_s
    mean = (jnp.sqrt(alpha_bar_s) * beta * x0 + jnp.sqrt(alpha_bar_t / alpha_bar_s) * (1 - alpha_bar_s) * x_t) / (
        1 - alpha_bar_t
    )
    return mean, beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)


# --- equivalent predictions -------------------------------------------------------------------------------------------


def x0_from_eps(schedule: Schedule, x_t: Any, t: Any, eps: Any) -> jax.Array:
    """x̂0 = (x_t - √(1-ᾱ_t) ε) / √ᾱ_t   [Ho et al. 2020, Eq. 15]"""
    return (x_t - at(schedule.std, t, x_t) * eps) / jnp.sqrt(at(schedule.alpha_bar, t, x_t))


def eps_from_x0(schedule: Schedule, x_t: Any, t: Any, x0: jax.Array) -> jax.Array:
    """ε = (x_t - √ᾱ_t x0) / √(1-ᾱ_t), for t ≥ 1"""
    return (x_t - jnp.sqrt(at(schedule.alpha_bar, t, x_t)) * x0) / at(schedule.std, t, x_t)


def score_from_eps(schedule: Schedule, t: Any, eps: Any) -> jax.Array:
    """∇ log p_t(x_t) = -ε*(x_t, t) / √(1-ᾱ_t), for t ≥ 1   [Dhariwal and Nichol 2021, Eq. 11]"""
    return -eps / at(schedule.std, t, eps)


def x0_and_eps(eps: Any, schedule: Schedule, x_t: Any, t: Any, c: Any = None) -> tuple[jax.Array, jax.Array]:
    """Predict x̂0 and ε̂ with one call. A network for v or x0 gives both without dividing by √ᾱ_t: ᾱ_t = 0 is allowed."""
    t_all = jnp.broadcast_to(t, x_t.shape[:1])
    if (v_hat := v_form(eps)) is None:
        eps_t = eps(x_t, t_all, c)
        return x0_from_eps(schedule, x_t, t, eps_t), eps_t
    v = v_hat(x_t, t_all, c)
    return x0_from_v(schedule, x_t, t, v), eps_from_v(schedule, x_t, t, v)


def eps_from_v(schedule: Schedule, x_t: Any, t: Any, v: jax.Array) -> jax.Array:
    """ε = √ᾱ_t v + √(1-ᾱ_t) x_t   [Salimans and Ho 2022, App. D]"""
    return jnp.sqrt(at(schedule.alpha_bar, t, x_t)) * v + at(schedule.std, t, x_t) * x_t


def x0_from_v(schedule: Schedule, x_t: jax.Array, t: Any, v: jax.Array) -> jax.Array:
    """x̂0 = √ᾱ_t x_t - √(1-ᾱ_t) v: finite even where ᾱ_t = 0   [Salimans and Ho 2022, App. D]"""
    return jnp.sqrt(at(schedule.alpha_bar, t, x_t)) * x_t - at(schedule.std, t, x_t) * v


def v_from_x0(schedule: Schedule, x_t: jax.Array, t: Any, x0: jax.Array) -> jax.Array:
    """v = (√ᾱ_t x_t - x0) / √(1-ᾱ_t), for t ≥ 1   [Salimans and Ho 2022, App. D]"""
    return (jnp.sqrt(at(schedule.alpha_bar, t, x_t)) * x_t - x0) / at(schedule.std, t, x_t)


def from_x0(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Make a rule (x_t, t, c, eps, schedule, …) -> x̂0 a guide, which derives ε̂, or v̂, from the new x̂0."""

    def guide(x_t: jax.Array, t: jax.Array, c: Any = None, /, **bound: Any) -> jax.Array:
        return eps_from_x0(bound["schedule"], x_t, t, f(x_t, t, c, **bound))

    def v_hat(x_t: jax.Array, t: jax.Array, c: Any = None, /, **bound: Any) -> jax.Array:
        return v_from_x0(bound["schedule"], x_t, t, f(x_t, t, c, **bound))

    guide.v_form = lambda **bound: None if v_form(bound["eps"]) is None else Partial(v_hat, **bound)  # type: ignore
    return wraps(f)(guide)
