"""How much each time counts in the loss E_t[w_t ‖ε - ε̂‖²]: one function for each published weight, (T+1,) numbers.

The errors of the same prediction under its other names are multiples of each other,

    ‖ε - ε̂‖² = SNR ‖x0 - x̂0‖² = ᾱ ‖v - v̂‖² = α(1-ᾱ)/β² ‖μ - μ̂‖²      with SNR = ᾱ/(1-ᾱ),
             = ᾱ/(√ᾱ + √(1-ᾱ))² ‖u - û‖² = ᾱσ_d²/(1-ᾱ + ᾱσ_d²) ‖F - F̂‖²      for u = ε - x0 and EDM's F,

so a weight for one name becomes a weight for another with `for_target`. All are 0 at t = 0, where there is no noise.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ddpm.networks.heads import HEADS
from ddpm.networks.preconditioning import SIGMA_DATA, input_scale
from ddpm.schedule import Schedule
from ddpm.tools import check


def _from(schedule: Schedule, w: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.zeros(1, schedule.alpha_bar.dtype), w.astype(schedule.alpha_bar.dtype)])


def _snr(schedule: Schedule) -> jax.Array:
    alpha_bar = schedule.alpha_bar[1:]
    return alpha_bar / (1 - alpha_bar)


def simple(schedule: Schedule) -> jax.Array:
    """w = 1: L_simple.   [Ho et al. 2020, Eq. 14]"""
    return _from(schedule, jnp.ones(schedule.T))


def vlb(schedule: Schedule, sigma2: jax.Array | None = None) -> jax.Array:
    """w = β²/(2σ² α (1-ᾱ)) for t ≥ 2: the terms of the bound, in nats a pixel.   [Ho et al. 2020, Eq. 12]

    sigma2: (T+1,) the variance σ_t² of the reverse steps; β̃ if None. At t = 1 the bound has the decoder's likelihood in
    place of a squared error: w_1 is 0 here, and `ddpm.losses.bound` has that term.
    """
    beta, alpha_bar = schedule.beta[1:], schedule.alpha_bar[1:]
    if check.known(alpha_bar) and alpha_bar[-1] == 0:
        raise ValueError("alpha_bar ends at 0, where the weight of ε in the bound is infinite; train v on loss `vlb`")
    if sigma2 is None:
        var = beta * (1 - schedule.alpha_bar[:-1]) / (1 - alpha_bar)  # β̃; 0 at t = 1
    else:
        var = jnp.asarray(check.by_time("sigma2", sigma2, schedule.T))[1:]
    w = beta**2 / (2 * jnp.where(var > 0, var, 1) * (1 - beta) * (1 - alpha_bar))
    return _from(schedule, w.at[0].set(0))


def min_snr(schedule: Schedule, gamma: float = 5.0) -> jax.Array:
    """w = min(SNR, γ)/SNR: like L_simple where there is much noise, like an x0-loss where there is little.

    [Hang et al. 2023, Min-SNR-γ]   For x0-prediction this is min(SNR, γ), for v-prediction min(SNR, γ)/(SNR + 1).
    """
    check.number("gamma", gamma, 1e-9)
    return _from(schedule, jnp.minimum(1, gamma / _snr(schedule)))  # 1 where SNR = 0


def p2(schedule: Schedule, k: float = 1.0, gamma: float = 1.0) -> jax.Array:
    """w = (k + SNR)^-γ: less for times with little noise.   [Choi et al. 2022, P2]"""
    check.number("k", k, 1e-9)
    check.number("gamma", gamma, 0)
    return _from(schedule, (k + _snr(schedule)) ** -gamma)


def for_target(schedule: Schedule, weight: jax.Array, target: str) -> jax.Array:
    """The weight of ‖x0 - x̂0‖² (`x0`), ‖v - v̂‖² (`v`), … that makes the loss of `weight` ‖ε - ε̂‖².

    target: as above, `eps`, `x0`, `v`, `mu`, `flow` (u) or `edm` (F)
    """
    check.choice("target", target, HEADS)
    beta, alpha_bar, std = schedule.beta[1:], schedule.alpha_bar[1:], schedule.std[1:]
    factor = {
        "eps": jnp.ones(schedule.T),
        "x0": _snr(schedule),
        "v": alpha_bar,
        "mu": (1 - beta) * (1 - alpha_bar) / beta**2,  # [Ho et al. 2020, Eqs. 10-12]
        "flow": alpha_bar / (jnp.sqrt(alpha_bar) + std) ** 2,
        "edm": alpha_bar * (SIGMA_DATA / input_scale(schedule).r[1:]) ** 2,
    }[target]
    return _from(schedule, weight[1:] * factor)
