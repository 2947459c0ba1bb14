"""Higher-order solvers of the probability-flow ODE: fewer steps for the same error.

In x̄ = x/√ᾱ and σ̄ = √((1-ᾱ)/ᾱ) the flow is  dx̄/dσ̄ = ε(x, t)                             [Song et al. 2021, DDIM, Eq. 14]

DDIM is Euler's method for it: first order. Here are three of second order, as step functions of two times:

    heun_step     trapezoid: ε at both ends, two calls a step                               [Karras et al. 2022, Alg. 1]
    midpoint_step ε at a time between, two calls a step                                 [Lu et al. 2022, DPM-Solver-2]
    multistep     x̂0 of this step and the last, one call a step; carries its history next to x
                                                                            [Lu et al. 2023, DPM-Solver++(2M), Alg. 2]

The last step, to s = 0, is DDIM's: there all of them return x̂0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, falls, partial_of, technique
from ddpm.forward import x0_and_eps
from ddpm.schedule import Schedule

PURE = 1e-6  # ᾱ_t below this is noise: σ̄_t > 1000, where one long step by a trapezoid multiplies ε's error by σ̄_t


def _call(eps: Eps, x: jax.Array, t: jax.Array, c: Any) -> jax.Array:
    return eps(x, jnp.broadcast_to(t, x.shape[:1]), c)


def sigma_bar(schedule: Schedule, t: Any) -> jax.Array:
    """σ̄_t = √((1-ᾱ_t)/ᾱ_t), the noise's deviation where the image is not scaled down: EDM's σ."""
    return schedule.std[t] / jnp.sqrt(schedule.alpha_bar[t])


def _towards(schedule: Schedule, x0: jax.Array, eps_t: jax.Array, bend: Any, t: Any, s: Any) -> jax.Array:
    """x_s = √ᾱ_s (x̄_t + (σ̄_s - σ̄_t)(ε_t + bend)): the exact solution for a constant slope, DDIM's step for bend = 0.

    It is written with x̂0 = x̄_t - σ̄_t ε_t, so that ᾱ_t = 0 is allowed where nothing bends.
    """
    root_s, std_s = jnp.sqrt(schedule.alpha_bar[s]), schedule.std[s]
    sigma_t = jnp.where(schedule.alpha_bar[t] > 0, sigma_bar(schedule, t), 0)
    return root_s * x0 + std_s * eps_t + (std_s - root_s * sigma_t) * bend


# --- two calls a step -------------------------------------------------------------------------------------------------


@technique(eps=partial_of)
def heun_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /, eps: Eps, schedule: Schedule, c: Any = None
) -> jax.Array:
    """x̄_s = x̄_t + (σ̄_s - σ̄_t) ½(ε_t + ε_s), ε_s at Euler's guess of x̄_s.   [Karras et al. 2022, Alg. 1]

    It may climb (DDIM inversion of second order). Where s = 0 it is Euler's step, as in the paper, and where
    ᾱ_t < PURE: σ̄_t is infinite or very large there.
    """
    x0, eps_t = x0_and_eps(eps, schedule, x_t, t, c)
    euler = _towards(schedule, x0, eps_t, 0.0, t, s)
    first_order = (s == 0) | (schedule.alpha_bar[t] < PURE)
    eps_s = jax.lax.cond(first_order, lambda: eps_t, lambda: _call(eps, euler, s, c))
    return _towards(schedule, x0, eps_t, 0.5 * (eps_s - eps_t), t, s)


@technique(eps=partial_of)
@falls
def midpoint_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /, eps: Eps, schedule: Schedule, c: Any = None
) -> jax.Array:
    """ε at a time m between t and s as well, by the rule of any r = (λ_m - λ_t)/(λ_s - λ_t), λ = ½ log SNR.

    x_s = √(ᾱ_s/ᾱ_t) x_t - √(1-ᾱ_s) (e^h - 1) (ε_t + (ε_m - ε_t)/(2r)),  h = λ_s - λ_t   [Lu et al. 2022, DPM-Solver-2]
    m is the schedule's time whose λ is nearest the middle, so t - s must be 2 at least. Otherwise, and
    where ᾱ_t < PURE, it is DDIM's step.
    """
    lam = -jnp.log(sigma_bar(schedule, jnp.arange(schedule.T + 1)))  # (T+1,), infinite at 0
    between = (jnp.arange(schedule.T + 1) < t) & (jnp.arange(schedule.T + 1) > s)
    m = jnp.argmin(jnp.where(between, jnp.abs(lam - 0.5 * (lam[t] + lam[s])), jnp.inf))
    first_order = (s == 0) | (t - s < 2) | (schedule.alpha_bar[t] < PURE)
    m = jnp.where(first_order, t, m)
    x0, eps_t = x0_and_eps(eps, schedule, x_t, t, c)
    x_m = _towards(schedule, x0, eps_t, 0.0, t, m)
    eps_m = jax.lax.cond(first_order, lambda: eps_t, lambda: _call(eps, x_m, m, c))
    r = jnp.where(first_order, 1.0, (lam[m] - lam[t]) / (lam[s] - lam[t]))
    return _towards(schedule, x0, eps_t, (eps_m - eps_t) / (2 * r), t, s)


# --- one call a step, with a memory -----------------------------------------------------------------------------------


class History(NamedTuple):
    """What a two-step method carries through `walk`."""

    x: jax.Array  # (B, ...)  the image
    x0: jax.Array  # (B, ...)  x̂0 of the step before
    t: jax.Array  # () int  the time of the step before; -1: there was none


def begin(x_T: jax.Array) -> History:
    """The state that `multistep` starts from; the result of the walk is its field `x`."""
    return History(x_T, jnp.zeros_like(x_T), jnp.int32(-1))


@technique(eps=partial_of)
@falls
def multistep(
    key: jax.Array, state: History, t: jax.Array, s: jax.Array, /, eps: Eps, schedule: Schedule, c: Any = None
) -> History:
    """x_s = √((1-ᾱ_s)/(1-ᾱ_t)) x_t - √ᾱ_s (e^-h - 1) D,  D = (1 + 1/2r) x̂0_t - 1/(2r) x̂0_before.

    h = λ_s - λ_t, r = h_before/h, λ = ½ log SNR.   [Lu et al. 2023, DPM-Solver++(2M), Alg. 2]
    walk(multistep(eps, schedule), key, begin(x_T), times).x: the first step and the last (s = 0) take D = x̂0_t.
    """
    if not isinstance(state, History):
        raise TypeError("multistep carries a history: give walk `begin(x_T)` and take `.x` of its result")
    alpha_bar, x_t = schedule.alpha_bar, state.x
    x0, _ = x0_and_eps(eps, schedule, x_t, t, c)
    first_order = (state.t < 0) | (s == 0)
    before = jnp.where(first_order, t, state.t)
    lam_before, lam_t, lam_s = (-jnp.log(sigma_bar(schedule, k)) for k in (before, t, jnp.where(s == 0, t, s)))
    r = jnp.where(first_order, 1.0, (lam_t - lam_before) / jnp.where(first_order, 1.0, lam_s - lam_t))
    d = jnp.where(first_order, x0, x0 + (x0 - state.x0) / (2 * r))
    std = schedule.std[s] / schedule.std[t]  # σ_s/σ_t; e^-h = (σ_s/σ_t) √(ᾱ_t/ᾱ_s)
    x_s = std * x_t + (jnp.sqrt(alpha_bar[s]) - std * jnp.sqrt(alpha_bar[t])) * d
    return History(x_s, x0, jnp.asarray(t, state.t.dtype))


multistep.__wrapped__.begin = begin  # type: ignore[attr-defined]


def begun(step: Partial, x_T: jax.Array) -> Any:
    """The state that a step starts from: the image itself, unless the step is one that carries more."""
    return getattr(step.func, "begin", lambda x: x)(x_T)


def image(state: Any) -> jax.Array:
    """The image in the state of a walk."""
    return getattr(state, "x", state)
