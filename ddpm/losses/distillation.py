"""The loss of guided distillation: one network call that reproduces classifier-free guidance."""

from __future__ import annotations

import jax

from ddpm.contracts import Eps
from ddpm.guide import cfg


def distillation_loss(
    student: Eps, teacher: Eps, x_t: jax.Array, t: jax.Array, c: jax.Array, scale: jax.Array
) -> jax.Array:
    """‖ε̂_student(x_t, t, (c, s)) - sg[ε̂_∅ + s (ε̂_c - ε̂_∅)]‖², mean over pixels, (B,).   [Meng et al. 2023]

    One call that has learned what guidance does: the student is given the scale s (B,) in addition to the label.
    """
    target = jax.lax.stop_gradient(cfg(teacher, scale)(x_t, t, c))
    return ((student(x_t, t, (c, scale)) - target) ** 2).reshape(x_t.shape[0], -1).mean(1)
