"""Diffusion around a draft: a coarse image x̂, as a VAE draws it, to which the chain adds the rest.   [DiffuseVAE]

    q(x_t | x0, x̂) = N(√ᾱ_t x0 + (1 - √ᾱ_t) x̂, (1 - ᾱ_t) I)          [Pandey et al. 2022, their second form]

The chain begins at N(x̂, I) and not at N(0, I). With r = x - x̂ this is q(r_t | r_0) of DDPM, r_0 = x0 - x̂: the second
form *is* DDPM on the residual, for every sampler and every loss. So there is nothing to learn but a denoiser of the
residual, and any step of this library serves, moved by the draft.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Partial, partial_of
from ddpm.forward import q_sample
from ddpm.schedule import Schedule
from ddpm.tools import check


def q_around(schedule: Schedule, x0: jax.Array, draft: jax.Array, t: Any, eps: Any) -> jax.Array:
    """Draw x_t ~ N(√ᾱ_t x0 + (1 - √ᾱ_t) x̂, (1-ᾱ_t) I), given the noise.   x0, draft, eps: (B, ...);  t: () or (B,)"""
    check.same_shape("x0", x0, "draft", draft)
    return draft + q_sample(schedule, x0 - draft, t, eps)


def around(step: Any, draft: jax.Array) -> Partial:
    """The step on x = x̂ + r of a step on the residual r; begin it at x̂ + ε.   draft: (B, ...), like x"""
    return Partial(_around, partial_of(step), jnp.asarray(draft))


def _around(step: Any, draft: jax.Array, key: jax.Array, x_t: jax.Array, t: Any, s: Any) -> jax.Array:
    check.same_shape("x_t", x_t, "draft", draft)
    return draft + step(key, x_t - draft, t, s)
