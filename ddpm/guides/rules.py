"""Other guidance rules: negative label, interval, classifier guidance, dynamic thresholding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, partial_of
from ddpm.forward import at, eps_from_x0, x0_from_eps
from ddpm.guide import per_image_scale
from ddpm.schedule import Schedule
from ddpm.tools import check


def negative(eps: Eps, scale: Any, label: Any) -> Partial:
    """Away from a label instead of from ∅: ε̂_neg + s (ε̂_c - ε̂_neg).   label: () or (B,) int, what is not wanted"""
    return Partial(_negative, partial_of(eps), jnp.asarray(check.scale(scale), dtype=float), jnp.asarray(label))


def _negative(eps: Eps, scale: jax.Array, label: jax.Array, x_t: jax.Array, t: jax.Array, c: Any) -> jax.Array:
    if c is None:
        raise ValueError("negative needs labels c to guide towards")
    eps_neg = eps(x_t, t, jnp.broadcast_to(label, x_t.shape[:1]))
    return eps_neg + per_image_scale(scale, x_t) * (eps(x_t, t, c) - eps_neg)


def interval(guided: Eps, eps: Eps, low: Any, high: Any) -> Partial:
    """`guided` at the times low < t ≤ high, else `eps`: guidance where it helps, and its calls saved elsewhere.

    [Kynkäänniemi et al. 2024]   `interval(cfg(net, 4.0), net, 100, 700)`: outside, the conditional network alone.
    """
    if check.known(low) and check.known(high) and not 0 <= int(low) < int(high):
        raise ValueError(f"the interval is ({low}, {high}]; give times 0 <= low < high")
    return Partial(_interval, partial_of(guided), partial_of(eps), jnp.asarray(low), jnp.asarray(high))


def _interval(
    guided: Eps, eps: Eps, low: jax.Array, high: jax.Array, x_t: jax.Array, t: jax.Array, c: Any = None
) -> jax.Array:
    inside = jnp.broadcast_to((low < t) & (t <= high), x_t.shape[:1])
    mask = inside.reshape(-1, *(1,) * (x_t.ndim - 1))
    return jax.lax.cond(  # in a sampler all t are equal: one of the outer two is run, and no more
        inside.all(),
        lambda: guided(x_t, t, c),
        lambda: jax.lax.cond(
            inside.any(), lambda: jnp.where(mask, guided(x_t, t, c), eps(x_t, t, c)), lambda: eps(x_t, t, c)
        ),
    )


def classifier(eps: Eps, schedule: Schedule, log_prob: Callable[..., jax.Array], scale: Any = 1.0) -> Partial:
    """ε̂ - s √(1-ᾱ_t) ∇_x log p(c | x_t): classifier guidance.   [Dhariwal and Nichol 2021, Eq. 14, Alg. 2]

    log_prob: (x_t, t, c) -> (B,) log p(c | x_t) of a classifier trained on noisy images. With the exact one and s = 1
    an unconditional ε̂ becomes the conditional one; ε̂ itself is called with c = None.
    """
    scale = jnp.asarray(check.scale(scale), dtype=float)
    return Partial(_classifier, partial_of(eps), schedule, partial_of(log_prob), scale)


def _classifier(
    eps: Eps, schedule: Schedule, log_prob: Any, scale: jax.Array, x_t: jax.Array, t: jax.Array, c: Any
) -> jax.Array:
    if c is None:
        raise ValueError("classifier guidance needs labels c to guide towards")
    gradient = jax.grad(lambda x: log_prob(x, t, c).sum())(x_t)
    std = jnp.sqrt(1 - at(schedule.alpha_bar, t, x_t))
    return eps(x_t, t, None) - per_image_scale(scale, x_t) * std * gradient


def dynamic_threshold(eps: Eps, schedule: Schedule, percentile: float = 99.5, most: float = jnp.inf) -> Partial:
    """Clip x̂0 to [-q, q] and divide by q, q = max(1, percentile of each image's |x̂0|).   [Saharia et al. 2022]

    Strong guidance then saturates fewer pixels than `clip_x0`, which is `most` = 1. ε̂ is derived again.
    """
    check.number("percentile", percentile, 0, 100)
    if check.known(most) and not most >= 1:
        raise ValueError(f"most is {most}; the largest q is at least 1")
    return Partial(_dynamic_threshold, partial_of(eps), schedule, percentile, most)


def _dynamic_threshold(
    eps: Eps, schedule: Schedule, percentile: Any, most: Any, x_t: jax.Array, t: jax.Array, c: Any = None
) -> jax.Array:
    x0 = x0_from_eps(schedule, x_t, t, eps(x_t, t, c))
    q = jnp.percentile(jnp.abs(x0), percentile, axis=tuple(range(1, x0.ndim)), keepdims=True)
    q = jnp.clip(q, 1.0, most)
    return eps_from_x0(schedule, x_t, t, jnp.clip(x0, -q, q) / q)
