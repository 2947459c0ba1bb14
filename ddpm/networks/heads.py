"""Heads: the denoiser ε̂ of a network that predicts x0, v, μ, a flow's velocity or EDM's F, and their conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.forward import at, eps_from_v, eps_from_x0, v_from_x0
from ddpm.forward import x0_from_v as x0_from_v
from ddpm.networks.preconditioning import edm_head
from ddpm.schedule import Schedule
from ddpm.tools import check


def v_from_eps(schedule: Schedule, x_t: Any, t: Any, eps: Any) -> jax.Array:
    """v = √ᾱ_t ε - √(1-ᾱ_t) x0 = (ε - √(1-ᾱ_t) x_t) / √ᾱ_t   [Salimans and Ho 2022, App. D]"""
    return (eps - at(schedule.std, t, x_t) * x_t) / jnp.sqrt(at(schedule.alpha_bar, t, x_t))


def mu_from_eps(schedule: Schedule, x_t: Any, t: Any, eps: Any) -> jax.Array:
    """μ = (x_t - β_t ε/√(1-ᾱ_t)) / √α_t: the mean of q(x_{t-1} | x_t, x̂0), for t ≥ 1   [Ho et al. 2020, Eq. 11]"""
    beta = at(schedule.beta, t, x_t)
    return (x_t - beta / at(schedule.std, t, x_t) * eps) / jnp.sqrt(1 - beta)


def eps_from_mu(schedule: Schedule, x_t: Any, t: Any, mu: Any) -> jax.Array:
    """ε = (x_t - √α_t μ) √(1-ᾱ_t)/β_t, for t ≥ 1   [Ho et al. 2020, Eq. 11]"""
    beta = at(schedule.beta, t, x_t)
    return (x_t - jnp.sqrt(1 - beta) * mu) * at(schedule.std, t, x_t) / beta


def velocity(schedule: Schedule, x0: jax.Array, t: Any, eps: jax.Array) -> jax.Array:
    """v = √ᾱ_t ε - √(1-ᾱ_t) x0, where both are known: finite at every t   [Salimans and Ho 2022, Sec. 4]"""
    check.same_shape("x0", x0, "eps", eps)
    return jnp.sqrt(at(schedule.alpha_bar, t, x0)) * eps - at(schedule.std, t, x0) * x0


def x0_from_mu(schedule: Schedule, x_t: jax.Array, t: jax.Array, mu: jax.Array) -> jax.Array:
    """x0 = ((1-ᾱ_t) μ - √α_t (1-ᾱ_{t-1}) x_t) / (√ᾱ_{t-1} β_t): finite even where ᾱ_t = 0   [Ho et al. 2020, Eq. 7]"""
    beta, alpha_bar = at(schedule.beta, t, x_t), at(schedule.alpha_bar, t, x_t)
    before = at(schedule.alpha_bar, t - 1, x_t)
    return ((1 - alpha_bar) * mu - jnp.sqrt(1 - beta) * (1 - before) * x_t) / (jnp.sqrt(before) * beta)


def x0_from_score(schedule: Schedule, x_t: jax.Array, t: Any, score: jax.Array) -> jax.Array:
    """E[x0 | x_t] = (x_t + (1-ᾱ_t) ∇ log p_t(x_t)) / √ᾱ_t: Tweedie's formula   [Robbins 1956; Efron 2011]"""
    return (x_t + at(schedule.std, t, x_t) ** 2 * score) / jnp.sqrt(at(schedule.alpha_bar, t, x_t))


def eps_from_score(schedule: Schedule, t: Any, score: jax.Array) -> jax.Array:
    """ε = -√(1-ᾱ_t) ∇ log p_t(x_t)"""
    return -at(schedule.std, t, score) * score


# The velocity u = ε - x0 of the linear path (1-τ) x0 + τ ε, τ = √(1-ᾱ)/(√ᾱ + √(1-ᾱ)): that path passes through
# x_t/(√ᾱ + √(1-ᾱ)), so a flow is a chain with one more name for its prediction. `ddpm.flows` has other paths.


def u_from_eps(schedule: Schedule, x_t: Any, t: Any, eps: Any) -> jax.Array:
    """u = ε - x0 = ((√ᾱ_t + √(1-ᾱ_t)) ε - x_t) / √ᾱ_t   [Liu et al. 2023; Lipman et al. 2023]"""
    a, b = _a_b(schedule, x_t, t)
    return ((a + b) * eps - x_t) / a


def eps_from_u(schedule: Schedule, x_t: Any, t: Any, u: Any) -> jax.Array:
    """ε = (x_t + √ᾱ_t u) / (√ᾱ_t + √(1-ᾱ_t)), finite at every t"""
    a, b = _a_b(schedule, x_t, t)
    return (x_t + a * u) / (a + b)


def x0_from_u(schedule: Schedule, x_t: Any, t: Any, u: Any) -> jax.Array:
    """x0 = (x_t - √(1-ᾱ_t) u) / (√ᾱ_t + √(1-ᾱ_t)), finite at every t"""
    a, b = _a_b(schedule, x_t, t)
    return (x_t - b * u) / (a + b)


def v_from_u(schedule: Schedule, x_t: Any, t: Any, u: Any) -> jax.Array:
    """v = (u - (√(1-ᾱ_t) - √ᾱ_t) x_t) / (√ᾱ_t + √(1-ᾱ_t)), finite at every t"""
    a, b = _a_b(schedule, x_t, t)
    return (u - (b - a) * x_t) / (a + b)


def _a_b(schedule: Schedule, x_t: Any, t: Any) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(at(schedule.alpha_bar, t, x_t)), at(schedule.std, t, x_t)


# --- denoisers --------------------------------------------------------------------------------------------------------


@technique(net=partial_of)
def v_head(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """Make a network that predicts v a denoiser: ε̂ = √ᾱ_t v̂ + √(1-ᾱ_t) x_t.   [Salimans and Ho 2022, App. D]"""
    return eps_from_v(schedule, x_t, t, net(x_t, t, c))


@technique(net=partial_of)
def x0_head(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """Make a network that predicts x0 a denoiser: ε̂ = (x_t - √ᾱ_t x̂0)/√(1-ᾱ_t), for t ≥ 1."""
    return eps_from_x0(schedule, x_t, t, net(x_t, t, c))


@technique(net=partial_of)
def mu_head(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """Make a network that predicts the mean of the step t → t-1 a denoiser, for t ≥ 1.   [Ho et al. 2020, Eq. 11]"""
    return eps_from_mu(schedule, x_t, t, net(x_t, t, c))


@technique(net=partial_of)
def flow_head(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """Make a network that predicts the velocity ε - x0 a denoiser: ε̂ = (x_t + √ᾱ_t û)/(√ᾱ_t + √(1-ᾱ_t))."""
    return eps_from_u(schedule, x_t, t, net(x_t, t, c))


# The forms in v̂ (`ddpm.tools.partials.v_form`), which stay finite where ᾱ_t = 0 and ε̂ no longer holds the image.


@technique(net=partial_of)
def _v_of_x0(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    return v_from_x0(schedule, x_t, t, net(x_t, t, c))


@technique(net=partial_of)
def _v_of_mu(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    return v_from_x0(schedule, x_t, t, x0_from_mu(schedule, x_t, t, net(x_t, t, c)))


@technique(net=partial_of)
def _v_of_u(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    return v_from_u(schedule, x_t, t, net(x_t, t, c))


v_head.__wrapped__.v_form = lambda net, schedule: net  # type: ignore[attr-defined]
x0_head.__wrapped__.v_form = _v_of_x0  # type: ignore[attr-defined]
mu_head.__wrapped__.v_form = _v_of_mu  # type: ignore[attr-defined]
flow_head.__wrapped__.v_form = _v_of_u  # type: ignore[attr-defined]


HEADS: dict[str, Callable[[Eps, Schedule], Partial]] = {
    "eps": lambda net, _: partial_of(net),
    "x0": x0_head,
    "v": v_head,
    "mu": mu_head,
    "flow": flow_head,
    "edm": edm_head,
}


def head(net: Eps, schedule: Schedule, predict: str) -> Partial:
    """Make a network that predicts `eps`, `x0`, `v`, `mu`, `flow` (ε - x0) or `edm` (preconditioned) a denoiser."""
    return HEADS[check.choice("predict", predict, HEADS)](net, schedule)
