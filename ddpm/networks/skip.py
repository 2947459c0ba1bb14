"""Gaussian skip: a network that is trained from where the best linear denoiser of some Gaussian stops.

    ε̂(x_t, t, c) = ε_G(x_t, t, c) + s_t net(x_t, t, c),   s_t² = E ‖ε - ε_G‖²/D if the data were that Gaussian

The output of a new network is 0, so its first loss is that of ε_G; what it has to predict has unit size at every t. One
formula, three priors G:

    N(0, I)               v-prediction: ε_G = √(1-ᾱ) x_t, s = √ᾱ, and the network predicts v     [Salimans and Ho 2022]
    N(m, σ² I)            EDM's preconditioning                                                    [Karras et al. 2022]
    low rank, by class    `ddpm.oracles.low_rank`: the mean and the large directions of each class are known at step 0

The richer G is, the better is its denoiser at high noise, where a class is decided, and the worse starts the network at
low noise, where edges count. So G may fade: with a weight w_t that falls to 0 at low noise, ε_G is replaced by

    w_t ε_G(x_t, t, c) + (1-w_t) ε_I(x_t, t),   I = N(m, σ² I) with the mean and the total variance of all images
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.forward import at, x0_from_eps
from ddpm.oracles.low_rank import LowRank, round_of
from ddpm.schedule import Schedule
from ddpm.tools import check


class Prior(NamedTuple):
    """What a training with a Gaussian skip knows of the data, fixed while the network learns."""

    gaussian: LowRank
    scale: jax.Array  # (T+1,) s_t
    weight: jax.Array | None = None  # (T+1,) w_t of a Gaussian that fades

    def eps(self, schedule: Schedule) -> Partial:
        """Return the denoiser from which the network continues: ε_G, or what it fades into at low noise."""
        eps = self.gaussian.eps(schedule)
        return eps if self.weight is None else faded(eps, round_of(self.gaussian).eps(schedule), self.weight)


def make_prior(gaussian: LowRank, schedule: Schedule, weight: jax.Array | None = None) -> Prior:
    """Return the Gaussian with its s_t.   weight: (T+1,) w_t, if it fades, as of `ramp`

    s_t² = w_t s_G² + (1-w_t) s_I² is then the error of the blend where w_t is 0 or 1, and more than it between them.
    """
    scale = skip_scale(gaussian, schedule)
    if weight is None:
        return Prior(gaussian, scale)
    check.by_time("weight", weight, schedule.T)
    other = skip_scale(round_of(gaussian), schedule)
    return Prior(gaussian, jnp.sqrt(weight * scale**2 + (1 - weight) * other**2), weight)


def ramp(T: int, low: int, high: int) -> jax.Array | None:
    """w_t, which rises in a line from 0 at t = low to 1 at t = high: (T+1,); None for 0, 0: nothing fades."""
    return jnp.clip((jnp.arange(T + 1.0) - low) / (high - low), 0, 1) if high else None


def skip_head(net: Eps, prior: Prior, schedule: Schedule, sees: bool = True) -> Partial:
    """Make ε̂ = ε_G + s_t net of a network that predicts what the Gaussian leaves a denoiser.

    sees: the network has x̂0_G as further channels of its input
    """
    eps = prior.eps(schedule)
    return gaussian_skip(sees_x0(net, eps, schedule) if sees else net, eps, prior.scale)


def skip_scale(gaussian: LowRank, schedule: Schedule) -> jax.Array:
    """s_t, the error that the Gaussian's own denoiser leaves on its own data: (T+1,)"""
    return jnp.sqrt(jnp.asarray(gaussian.loss(schedule), jnp.float32))


@technique(eps=partial_of, other=partial_of)
def faded(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, other: Eps, weight: jax.Array) -> jax.Array:
    """w_t ε_G(x_t, t, c) + (1-w_t) ε_I(x_t, t).   eps: ε_G;  other: ε_I;  weight: (T+1,) w_t"""
    w = at(weight, t, x_t)
    return w * eps(x_t, t, c) + (1 - w) * other(x_t, t)


@technique(net=partial_of, eps=partial_of)
def gaussian_skip(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, eps: Eps, scale: jax.Array) -> jax.Array:
    """ε̂ = ε_G(x_t, t, c) + s_t net(x_t, t, c).   eps: ε_G;  scale: (T+1,) s_t, as of `skip_scale`"""
    return eps(x_t, t, c) + at(scale, t, x_t) * net(x_t, t, c)


@technique(net=partial_of, eps=partial_of)
def sees_x0(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, eps: Eps, schedule: Schedule) -> jax.Array:
    """net(x_t ⊕ x̂0_G, t, c): the Gaussian's estimate of x0, clipped to ±1.5, as further channels of the input."""
    return net(with_x0(eps, schedule, x_t, t, c), t, c)


def with_x0(eps: Eps, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    """x_t ⊕ x̂0_G: (B, H, W, C) -> (B, H, W, 2C)"""
    x0 = x0_from_eps(schedule, x_t, t, eps(x_t, t, c))
    return jnp.concatenate([x_t, jnp.clip(x0, -1.5, 1.5)], axis=-1)
