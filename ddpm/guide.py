"""Guidance: functions that take a denoiser and return a denoiser, so that they stack.

Order matters where clipping is among them: `clip_x0(cfg(eps, s), schedule)` clips what the sampler will use; the other
way round the sum of two clipped predictions leaves the range again. So: combine first, clip last. More in `compose.py`
(several conditions) and `adaptive.py` (stop guiding when it no longer matters).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm import check
from ddpm.forward import at, eps_from_mu, eps_from_v, eps_from_x0, x0_from_eps
from ddpm.pytree import Eps, Partial, partial_of
from ddpm.schedule import Schedule


def cfg(eps: Eps, scale: Any) -> Partial:
    """Classifier-free guidance: ε̂_∅ + s (ε̂_c - ε̂_∅).   [Ho and Salimans 2022, Eq. 6, with s = 1 + w]

    scale: a number, or one for each image (B,). s = 1 is conditional, s = 0 unconditional; the paper's w is s - 1.
    Two network calls a step. For s = 1 or 0 leave this wrapper away: the same answer for one call.
    """
    return Partial(_cfg, partial_of(eps), jnp.asarray(check.scale(scale), dtype=float))


def _cfg(eps: Eps, scale: jax.Array, x_t: jax.Array, t: jax.Array, c: jax.Array | None) -> jax.Array:
    if c is None:
        raise ValueError("cfg needs labels c to guide towards; without labels call eps itself")
    scale = per_image_scale(scale, x_t)
    eps_null, eps_c = eps(x_t, t, None), eps(x_t, t, c)
    return eps_null + scale * (eps_c - eps_null)


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


def retime(eps: Eps, times: Any) -> Partial:
    """A denoiser for a respaced schedule: its time i = 0…n is the i-th from the end of a list that falls to 0.

    `retime(net, times)` and `respace(schedule, times)` make a chain of n times out of one of T.
    """
    return Partial(_retime, partial_of(eps), jnp.asarray(times)[::-1])


def _retime(eps: Eps, times: jax.Array, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    return eps(x_t, times[t], c)


def distillation_loss(
    student: Eps, teacher: Eps, x_t: jax.Array, t: jax.Array, c: jax.Array, scale: jax.Array
) -> jax.Array:
    """‖ε̂_student(x_t, t, (c, s)) - sg[ε̂_∅ + s (ε̂_c - ε̂_∅)]‖², mean over pixels, (B,).   [Meng et al. 2023]

    One call that has learned what guidance does: the student is given the scale s (B,) beside the label.
    """
    target = jax.lax.stop_gradient(cfg(teacher, scale)(x_t, t, c))
    return ((student(x_t, t, (c, scale)) - target) ** 2).reshape(x_t.shape[0], -1).mean(1)


def per_image_scale(scale: jax.Array, x: jax.Array) -> jax.Array:
    """A scale () as it is, or one for each image (B,) shaped to multiply x (B, ...)."""
    if scale.ndim == 0:
        return scale
    if scale.shape != x.shape[:1]:
        raise ValueError(f"scale has shape {scale.shape}; give one number () or one for each of {x.shape[0]} images")
    return scale.reshape(scale.shape + (1,) * (x.ndim - 1))


def v_head(net: Eps, schedule: Schedule) -> Partial:
    """The denoiser of a network that predicts v: ε̂ = √ᾱ_t v̂ + √(1-ᾱ_t) x_t.   [Salimans and Ho 2022, App. D]"""
    return Partial(_v_head, partial_of(net), schedule)


def _v_head(net: Eps, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    return eps_from_v(schedule, x_t, t, net(x_t, t, c))


def x0_head(net: Eps, schedule: Schedule) -> Partial:
    """The denoiser of a network that predicts x0: ε̂ = (x_t - √ᾱ_t x̂0)/√(1-ᾱ_t), for t ≥ 1."""
    return Partial(_x0_head, partial_of(net), schedule)


def _x0_head(net: Eps, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    return eps_from_x0(schedule, x_t, t, net(x_t, t, c))


def mu_head(net: Eps, schedule: Schedule) -> Partial:
    """The denoiser of a network that predicts the mean of the step t → t-1, for t ≥ 1.   [Ho et al. 2020, Eq. 11]"""
    return Partial(_mu_head, partial_of(net), schedule)


def _mu_head(net: Eps, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    return eps_from_mu(schedule, x_t, t, net(x_t, t, c))


def head(net: Eps, schedule: Schedule, predict: str) -> Partial:
    """The denoiser of a network that predicts `eps`, `x0`, `v` or `mu`."""
    heads = {"eps": lambda net, _: partial_of(net), "x0": x0_head, "v": v_head, "mu": mu_head}
    return heads[check.choice("predict", predict, heads)](net, schedule)


def w_to_s(w: float) -> float:
    """The papers' guidance weight w, (1+w) ε_c - w ε_∅, as our scale s = 1 + w."""
    return 1.0 + w


def clip_x0(eps: Eps, schedule: Schedule, low: float = -1.0, high: float = 1.0) -> Partial:
    """Clip the predicted image x̂0 to the data's range and derive ε̂ from it again.   [Ho et al. 2020, released code]

    Data lie in [-1, 1]; a prediction outside cannot be right. With the cosine schedule this is needed near t = T,
    where x̂0 = (x_t - √(1-ᾱ) ε̂)/√ᾱ magnifies an error of ε̂ twenty thousand times. t ≥ 1; not for DDIM inversion,
    which clipping makes irreversible.
    """
    if check.known(low) and check.known(high) and not low < high:
        raise ValueError(f"low is {low} and high is {high}; give low < high")
    return Partial(_clip_x0, partial_of(eps), schedule, low, high)


def _clip_x0(
    eps: Eps, schedule: Schedule, low: jax.Array, high: jax.Array, x_t: jax.Array, t: jax.Array, c: jax.Array | None
) -> jax.Array:
    x0 = jnp.clip(x0_from_eps(schedule, x_t, t, eps(x_t, t, c)), low, high)
    return eps_from_x0(schedule, x_t, t, x0)


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
