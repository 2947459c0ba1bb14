"""Guidance: functions that take a denoiser and return a denoiser, so that they stack.

Order matters where clipping is among them: `clip_x0(cfg(eps, s), schedule)` clips what the sampler will use; the other
way round the sum of two clipped predictions leaves the range again. So: combine first, clip last. More in
`ddpm.guides`: several conditions, other rules, guidance that stops when it no longer matters.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, partial_of, technique
from ddpm.forward import from_x0, x0_and_eps
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.partials import affine


@technique(eps=partial_of, scale=check.scale_array)
@affine
def cfg(x_t: jax.Array, t: jax.Array, c: jax.Array | None, /, eps: Eps, scale: Any) -> jax.Array:
    """Classifier-free guidance: ε̂_∅ + s (ε̂_c - ε̂_∅).   [Ho and Salimans 2022, Eq. 6, with s = 1 + w]

    scale: a number, or one for each image (B,). s = 1 is conditional, s = 0 unconditional; the paper's w is s - 1.
    Two network calls a step. For s = 1 or 0 leave this wrapper away: the same answer for one call.
    """
    if c is None:
        raise ValueError("cfg needs labels c to guide towards; without labels call eps itself")
    scale = per_image_scale(scale, x_t)
    eps_null, eps_c = eps(x_t, t, None), eps(x_t, t, c)
    return eps_null + scale * (eps_c - eps_null)


def per_image_scale(scale: jax.Array, x: jax.Array) -> jax.Array:
    """A scale () as it is, or one for each image (B,) shaped to multiply x (B, ...)."""
    if scale.ndim == 0:
        return scale
    if scale.shape != x.shape[:1]:
        raise ValueError(f"scale has shape {scale.shape}; give one number () or one for each of {x.shape[0]} images")
    return scale.reshape(scale.shape + (1,) * (x.ndim - 1))


def w_to_s(w: float) -> float:
    """The papers' guidance weight w, (1+w) ε_c - w ε_∅, as our scale s = 1 + w."""
    return 1.0 + w


def _low_below_high(low: Any, high: Any, **_: Any) -> None:
    if check.known(low) and check.known(high) and not low < high:
        raise ValueError(f"low is {low} and high is {high}; give low < high")


@technique(_low_below_high, eps=partial_of)
@from_x0
def clip_x0(
    x_t: jax.Array, t: jax.Array, c: Any, /, eps: Eps, schedule: Schedule, low: float = -1.0, high: float = 1.0
) -> jax.Array:
    """Clip the predicted image x̂0 to the data's range and derive ε̂ from it again.   [Ho et al. 2020, released code]

    Data lie in [-1, 1]; a prediction outside cannot be right. With the cosine schedule this is needed near t = T,
    where x̂0 = (x_t - √(1-ᾱ) ε̂)/√ᾱ magnifies an error of ε̂ twenty thousand times. t ≥ 1; not for DDIM inversion,
    which clipping makes irreversible.
    """
    return jnp.clip(x0_and_eps(eps, schedule, x_t, t, c)[0], low, high)
