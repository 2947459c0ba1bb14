"""From images back to noise: DDIM inversion, and what to do with two codes.

DDIM with η = 0 is an ODE, so it also runs upwards: x_T encodes x_0, and decoding gives x_0 back but for the error of
the steps.   [Song et al. 2021, DDIM, Sec. 5.4]   Do not clip x̂0 on the way: a clipped step cannot be undone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, partial_of, technique
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule
from ddpm.tools import check


def encode(eps: Eps, schedule: Schedule, x0: jax.Array, times: Any, c: Any = None) -> jax.Array:
    """x_T of the images x0: DDIM up the list. times: (n+1,) as for sampling, falling to 0; it is walked from its end.

    The first step leaves t = 0, a time that a network was not trained for: there it is evaluated at t = 1.
    """
    times = check.falling_to_0(times, schedule.T)
    step = ddim_step(_at_least_one(eps), schedule, c)
    return walk(step, jax.random.key(0), x0, times[::-1])


@technique(eps=partial_of)
def _at_least_one(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps) -> jax.Array:
    return eps(x_t, jnp.maximum(t, 1), c)


def decode(eps: Eps, schedule: Schedule, x_T: jax.Array, times: Any, c: Any = None) -> jax.Array:
    """x_0 of the codes x_T: DDIM with η = 0 down the list."""
    return walk(ddim_step(eps, schedule, c), jax.random.key(0), x_T, times)


def slerp(a: jax.Array, b: jax.Array, u: Any) -> jax.Array:
    """The point at u ∈ [0, 1] of the arc from a to b, (sin((1-u)θ) a + sin(uθ) b)/sin θ.   [Song et al. 2021, App. D.5]

    a, b: (B, ...), one angle θ for each image;  u: a number, or (B,). Half way between two Gaussian codes the arc has a
    Gaussian code's length; the straight line has 1/√2 of it.
    """
    check.same_shape("a", a, "b", b)
    check.number("u", u, 0, 1)
    axes, ones = tuple(range(1, a.ndim)), (1,) * (a.ndim - 1)
    u = jnp.asarray(u, dtype=a.dtype)
    u = u if u.ndim == 0 else u.reshape(-1, *ones)
    dot = (a * b).sum(axes, keepdims=True)
    norms = jnp.sqrt((a * a).sum(axes, keepdims=True) * (b * b).sum(axes, keepdims=True))
    theta = jnp.arccos(jnp.clip(dot / norms, -1, 1))
    near = jnp.sin(theta) < 1e-6  # parallel: then the straight line
    sine = jnp.where(near, 1.0, jnp.sin(theta))
    wa = jnp.where(near, 1 - u, jnp.sin((1 - u) * theta) / sine)
    wb = jnp.where(near, u, jnp.sin(u * theta) / sine)
    return wa * a + wb * b
