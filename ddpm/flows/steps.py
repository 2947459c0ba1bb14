"""Samplers of few-step models as steps of the house: (key, x_t, t, s) -> x_s on the chain of the linear path.

    average velocity   x_s = x_t - (τ_t - τ_s) u(x_t, τ_s, τ_t)                      [Geng et al. 2025, Eq. 12]
    consistency        x_s ~ q(x_s | f(x_t)): its end, and new noise        [Song et al. 2023, Algorithm 1]

A network of the chain is given the state x/√((1-τ)² + τ²) of unit noise and the time t = τ T/.999. `velocity_of` and
`average_of` make it a function of the linear path's own x and τ, for the losses of this wing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, falls, partial_of, technique
from ddpm.flows.conversions import shaped
from ddpm.flows.paths import LAST
from ddpm.forward import q_sample, x0_and_eps
from ddpm.schedule import Schedule
from ddpm.tools import keys


def unit(tau: Any, x: jax.Array) -> jax.Array:
    """c = √((1-τ)² + τ²): x/c is the state of the chain; shaped to multiply x (B, ...)"""
    return shaped(jnp.sqrt((1 - tau) ** 2 + tau**2), x)


@technique(net=partial_of)
def velocity_of(x: jax.Array, tau: jax.Array, c: Any = None, /, *, net: Eps, T: int) -> jax.Array:
    """û(x, τ, c) on the linear path, of a network (x_t, t, c) on its chain of T times."""
    return net(x / unit(tau, x), tau * (T / LAST), c)


@technique(net=partial_of)
def average_of(x: jax.Array, r: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, T: int) -> jax.Array:
    """u(x, r, t, c) of a network (x_t, t, (c, h)) that is told h = t - r."""
    return net(x / unit(t, x), t * (T / LAST), (c, t - r))


@technique(net=partial_of)
def end_of(x: jax.Array, tau: jax.Array, c: Any = None, /, *, net: Eps, T: int) -> jax.Array:
    """f(x, τ, c) = x - τ û(x, τ, c): the consistency function of a network of velocities; f(x, 0) = x."""
    return x - shaped(tau, x) * velocity_of(net, T)(x, tau, c)


@technique(net=partial_of)
@falls
def jump_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /, net: Eps, schedule: Schedule, c: Any = None
) -> jax.Array:
    """x_s = x_t - (τ_t - τ_s) u(x_t, τ_s, τ_t, c) on the linear path, in the states of its chain.

    net: (x_t, t, (c, h)) -> u;  schedule: the chain of the path `linear`.   [Geng et al. 2025, Eq. 12]
    """
    B = x_t.shape[0]
    tau_t, tau_s = (jnp.full(B, LAST / schedule.T, x_t.dtype) * i for i in (t, s))
    x = x_t * unit(tau_t, x_t)
    u = average_of(net, schedule.T)(x, tau_s, tau_t, c)
    return (x - shaped(tau_t - tau_s, x) * u) / unit(tau_s, x)


@technique(eps=partial_of)
@falls
def consistency_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /, eps: Eps, schedule: Schedule, c: Any = None
) -> jax.Array:
    """x_s ~ q(x_s | x̂0), where x̂0 = f(x_t, t) is the end that a consistency model predicts.

    [Song et al. 2023, Algorithm 1]   At s = 0 it is x̂0.
    """
    x0, _ = x0_and_eps(eps, schedule, x_t, t, c)
    return q_sample(schedule, x0, s, keys.normal_like(key, x_t))
