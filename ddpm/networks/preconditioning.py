"""EDM's preconditioning: a network whose input, output and target have unit size at every noise level.

    x̄ = x_t/√ᾱ = x0 + σ ε, σ² = (1-ᾱ)/ᾱ       x̂0 = c_skip x̄ + c_out F(c_in x̄, t)          [Karras et al. 2022, Eq. 7]
    c_skip = σ_d²/(σ² + σ_d²)      c_out = σ σ_d/√(σ² + σ_d²)      c_in = 1/√(σ² + σ_d²)         [their Table 1]

For data N(0, σ_d² I) the best F is 0: the network learns what the Gaussian leaves. In the states of the chain, with
r² = 1-ᾱ + ᾱ σ_d², nothing is divided by ᾱ or 1-ᾱ: x̂0 = (√ᾱ σ_d² x_t + r √(1-ᾱ) σ_d F(x_t/r, t))/r². With σ_d = 1 it
is v-prediction, F = -v. The network is given t, and not log σ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, partial_of, technique
from ddpm.forward import at, eps_from_v
from ddpm.schedule import Schedule

SIGMA_DATA = 0.5  # σ_d   [Karras et al. 2022, Table 1]


class InputScale(NamedTuple):
    """What the input x_t is divided by at each time."""

    r: jax.Array  # (T+1,) √(1-ᾱ + ᾱ σ_d²)


def input_scale(schedule: Schedule) -> InputScale:
    """r_t = √(1-ᾱ_t + ᾱ_t σ_d²), so that c_in x̄ = x_t/r_t."""
    return InputScale(jnp.sqrt(schedule.std**2 + schedule.alpha_bar * SIGMA_DATA**2))


@technique(net=partial_of)
def scaled_input(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """F = net(c_in x̄, t, c) = net(x_t/r_t, t, c)"""
    return net(x_t / at(input_scale(schedule).r, t, x_t), t, c)


def edm_target(schedule: Schedule, x0: jax.Array, t: Any, noise: jax.Array) -> jax.Array:
    """F = (x0 - c_skip x̄)/c_out, what the network should predict: like x0   [Karras et al. 2022, Eq. 8]

    The squared error of F is λ(σ) ‖x0 - x̂0‖² with the weight λ = 1/c_out² of the paper.
    """
    a, b = jnp.sqrt(at(schedule.alpha_bar, t, x0)), at(schedule.std, t, x0)
    skip, r = _skip(schedule, t, x0)
    return (skip * (a * x0 + b * noise) - (a * noise - b * x0)) * r / SIGMA_DATA  # (skip x_t - v) r/σ_d


@technique(net=partial_of)
def edm_head(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """Make a preconditioned network a denoiser: ε̂ of x̂0 = c_skip x̄ + c_out F(c_in x̄, t).   [Karras et al. 2022]"""
    return eps_from_v(schedule, x_t, t, _v_of_edm(net, schedule)(x_t, t, c))


@technique(net=partial_of)
def _v_of_edm(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, schedule: Schedule) -> jax.Array:
    """v̂ = √ᾱ ε̂ - √(1-ᾱ) x̂0 = (√(ᾱ(1-ᾱ)) (1 - σ_d²) x_t - r σ_d F)/r²"""
    skip, r = _skip(schedule, t, x_t)
    return skip * x_t - SIGMA_DATA / r * net(x_t / r, t, c)


def _skip(schedule: Schedule, t: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b, r = jnp.sqrt(at(schedule.alpha_bar, t, x)), at(schedule.std, t, x), at(input_scale(schedule).r, t, x)
    return a * b * (1 - SIGMA_DATA**2) / r**2, r


edm_head.__wrapped__.v_form = _v_of_edm  # type: ignore[attr-defined]
