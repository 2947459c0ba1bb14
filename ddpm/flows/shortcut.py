"""Shortcut models: a network that is told how far to jump learns from two of its own jumps.   [Frans et al. 2024]

    s(x, t, 0) = û(x, t)                      x_{t-d} = x_t - d s(x_t, t, d)                                [Eqs. 2-3]
    s(x, t, 2d) = ½ [s(x, t, d) + s(x_{t-d}, t-d, d)]                                                          [Eq. 4]

on the linear path, with data at t = 0 (in the paper at 1). A shortcut is a function (x, t, d, c) -> s with t, d of
shape (B,). No derivative of the network is needed. For the smallest step 1/M the network is given d = 0, so its jumps
converge to M steps of Euler's method and not to the flow: on a Gaussian to `ddpm.flows.errors.linear_solution`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import partial_of, technique
from ddpm.flows.conversions import shaped
from ddpm.flows.meanflow import Average
from ddpm.loss import per_image
from ddpm.tools import check

Shortcut = Callable[..., jax.Array]  # (x (B, ...), t (B,), d (B,), c | None) -> s (B, ...)


def self_consistency_loss(
    shortcut: Shortcut, x: jax.Array, t: jax.Array, d: jax.Array, c: Any = None, M: int = 128
) -> jax.Array:
    """‖s(x, t, 2d) - sg ½ [s(x, t, d) + s(x - d s, t-d, d)]‖²/D: (B,)   [Frans et al. 2024, Eq. 5]

    x: x_t (B, ...);  t, d: (B,) with 2d ≤ t;  M: steps of the finest grid, whose 1/M is given to the network as 0.
    0 at the exact shortcut. The other share of each batch, at d = 0, is `flow_matching_loss`, with its floor.
    """
    if check.known(t) and check.known(d) and bool(jnp.any(2 * d > t + 1e-6)):
        raise ValueError(f"d is {d} and t is {t}; two jumps of d end at t - 2d, which must not be below 0")
    asked = jnp.where(d < 1.5 / M, 0.0, d)  # the finest jump is that of the velocity
    first = shortcut(x, t, asked, c)
    second = shortcut(x - shaped(d, x) * first, t - d, asked, c)
    target = jax.lax.stop_gradient((first + second) / 2)
    return per_image((shortcut(x, t, 2 * d, c) - target) ** 2)


def draw_jumps(key: jax.Array, B: int, M: int = 128) -> tuple[jax.Array, jax.Array]:
    """Draw d = 2^-k with 1/M ≤ d ≤ 1/2, and t a multiple of 2d in (0, 1]: (B,), (B,)  ->  (t, d)"""
    check.whole("M", M, 2)
    if M & (M - 1):
        raise ValueError(f"M is {M}; the jumps are halves of halves, so give a power of 2, such as 128")
    key_d, key_t = jax.random.split(key)
    k = jax.random.randint(key_d, (B,), 1, M.bit_length())  # d = 1/2 … 1/M
    d = 0.5**k
    jumps = jax.random.uniform(key_t, (B,)) * (0.5 / d)  # in [0, 1/(2d))
    return (jnp.floor(jumps) + 1) * 2 * d, d


@technique(shortcut=partial_of)
def as_average(x: jax.Array, r: jax.Array, t: jax.Array, c: Any = None, /, *, shortcut: Shortcut) -> jax.Array:
    """u(x, r, t) = s(x, t, t-r): a shortcut is an average velocity, and `meanflow.jump` samples with it."""
    return shortcut(x, t, t - r, c)


@technique(average=partial_of)
def as_shortcut(x: jax.Array, t: jax.Array, d: jax.Array, c: Any = None, /, *, average: Average) -> jax.Array:
    """s(x, t, d) = u(x, t-d, t)"""
    return average(x, t - d, t, c)
