"""The ideal denoiser of a finite set of images: what a network would be that memorised its training set.

If x0 is one of N images with equal probability, then p_t(x_t) = 1/N Σ_n N(x_t; √ᾱ_t x_n, (1-ᾱ_t) I) and the best x̂0 is

    E[x0 | x_t] = Σ_n p(n | x_t) x_n,      p(n | x_t) = softmax_n( -‖x_t - √ᾱ_t x_n‖² / (2(1-ᾱ_t)) ).

It minimises L_simple on the set and can only give its images back. The sum runs over chunks with an online softmax, so
that 60,000 images fit: memory is one chunk of weights, and images may stay uint8. The squared distance is computed as
‖x_t‖² - 2√ᾱ x_t·x_n + ᾱ‖x_n‖²; in float32 that costs about 1e-6 of D/(1-ᾱ_t) nats, which matters only between images
that are that near each other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.forward import eps_from_x0, score_from_eps
from ddpm.schedule import Schedule
from ddpm.tools import check


class FiniteSet(NamedTuple):
    """p(x0) = 1/N Σ_n δ(x0 - x_n), in chunks; the last chunk is filled up with images of weight 0."""

    image: jax.Array  # (n, chunk, D)  float in [-1, 1], or uint8
    label: jax.Array  # (n, chunk) int, -1 where filled up
    log_prior: jax.Array  # (K,)  log of each class's share

    def answer(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> Answer:
        """Everything the set predicts about x_t (B, ...) at t ≥ 1, given the class c (B,), or over all classes."""
        check.times(t, x_t, schedule.T)
        K = self.log_prior.shape[0]
        if c is not None:
            c = check.labels(c, x_t.shape[0], K)
        return _answer(self, schedule, x_t, jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1]), c)

    def eps(self, schedule: Schedule) -> Partial:
        """The denoiser ε*(x_t, t, c); c = None or the null label: over all classes."""
        return Partial(_finite_eps, self, schedule)

    def score(self, schedule: Schedule) -> Partial:
        """∇ log p_t(x_t | c) = (√ᾱ_t E[x0 | x_t, c] - x_t)/(1-ᾱ_t), as a function of (x_t, t, c), for t ≥ 1."""
        return Partial(_finite_score, self, schedule)

    def log_prob(self, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
        """log p_t(x_t | c), in nats, (B,); t ≥ 1"""
        return self.answer(schedule, x_t, t, c).log_prob

    def class_posterior(self, schedule: Schedule, x_t: jax.Array, t: Any) -> jax.Array:
        """p(c | x_t), (B, K); t ≥ 1"""
        return self.answer(schedule, x_t, t).class_posterior


class Answer(NamedTuple):
    """The posterior over the images, summed up."""

    x0: jax.Array  # (B, ...)  E[x0 | x_t, c]
    log_prob: jax.Array  # (B,)  log p_t(x_t | c), nats
    effective: jax.Array  # (B,)  1/Σ_n p(n | x_t, c)²: how many images take part
    class_posterior: jax.Array  # (B, K)  p(class | x_t, c)


def finite(images: Any, labels: Any = None, chunk: int = 2000) -> FiniteSet:
    """The set of these images.

    images: (N, ...), floats in [-1, 1], or uint8, kept as such;  labels: (N,) in 0…K-1, all 0 if None;  chunk: how many
    at a time.
    """
    images = np.asarray(images)
    if images.ndim < 2 or len(images) < 1:
        raise ValueError(f"images has shape {images.shape}; give at least one image, (N, ...)")
    N = len(images)
    images = images.reshape(N, -1)
    if images.dtype != np.uint8 and not np.all(np.isfinite(images)):
        raise ValueError("images has entries that are not finite")
    labels = check.classes("labels", np.zeros(N, dtype=int) if labels is None else labels, N)
    count = np.bincount(labels)
    if np.any(count == 0):
        raise ValueError(f"labels lack class {int(np.argmin(count))}; number the classes 0…K-1 without a gap")
    chunk = min(check.whole("chunk", chunk, 1), N)
    fill = -N % chunk
    return FiniteSet(
        jnp.asarray(np.pad(images, ((0, fill), (0, 0))).reshape(-1, chunk, images.shape[1])),
        jnp.asarray(np.pad(labels, (0, fill), constant_values=-1).reshape(-1, chunk)),
        jnp.asarray(np.log(count / N)),
    )


@jax.jit
def _answer(m: FiniteSet, schedule: Schedule, x_t: jax.Array, t: jax.Array, c: jax.Array | None) -> Answer:
    B, (_, _, D), K = x_t.shape[0], m.image.shape, m.log_prior.shape[0]
    x = x_t.reshape(B, -1)
    if x.shape[1] != D:
        raise ValueError(f"x_t has shape {x_t.shape}, {x.shape[1]} numbers an image; this oracle has {D}")
    alpha_bar = schedule.alpha_bar[t][:, None]  # (B, 1)
    square = (x * x).sum(1, keepdims=True)

    def body(carry: Any, chunk: Any) -> tuple[Any, None]:
        top, mass, mass2, x0, by_class = carry
        image, label = chunk
        image = image.astype(x.dtype) / 127.5 - 1 if image.dtype == jnp.uint8 else image.astype(x.dtype)
        # log p(x_t | image), without the constant
        distance = (
            square
            - 2 * jnp.sqrt(alpha_bar) * jnp.matmul(x, image.T, precision="highest")
            + alpha_bar * (image * image).sum(1)[None]
        )
        logit = -0.5 * distance / (1 - alpha_bar)  # (B, chunk)
        included = jnp.broadcast_to(label[None] >= 0, logit.shape)
        if c is not None:
            included = included & ((label[None] == c[:, None]) | (c == K)[:, None])
        logit = jnp.where(included, logit, -jnp.inf)
        # The online softmax
        new = jnp.maximum(top, logit.max(1))  # the greatest logit so far; what was summed is rescaled to it
        old = jnp.exp(top - jnp.where(jnp.isinf(new), 0, new))  # 0 as long as no image was included
        p = jnp.exp(logit - jnp.where(jnp.isinf(new), 0, new)[:, None])
        one_hot = jax.nn.one_hot(label, K, dtype=x.dtype)
        carry = (
            new,
            old * mass + p.sum(1),
            old**2 * mass2 + (p * p).sum(1),
            old[:, None] * x0 + jnp.matmul(p, image, precision="highest"),
            old[:, None] * by_class + p @ one_hot,
        )
        return carry, None

    # All chunks, then the normalised answer
    zero = jnp.zeros((B,), x.dtype)
    start = (zero - jnp.inf, zero, zero, jnp.zeros_like(x), jnp.zeros((B, K), x.dtype))
    (top, mass, mass2, x0, by_class), _ = jax.lax.scan(body, start, (m.image, m.label))
    log_n = jnp.log((m.label >= 0).sum())
    log_share = 0.0 if c is None else jnp.append(m.log_prior, 0.0)[c]
    log_normal = -0.5 * D * (math.log(2 * math.pi) + jnp.log(1 - alpha_bar[:, 0]))
    return Answer(
        (x0 / mass[:, None]).reshape(x_t.shape),
        top + jnp.log(mass) - log_n - log_share + log_normal,
        mass**2 / mass2,
        by_class / mass[:, None],
    )


def _finite_eps(m: FiniteSet, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    x0 = m.answer(schedule, x_t, t, c).x0
    return eps_from_x0(schedule, x_t, t, x0)


_finite_eps.labels = lambda m, *_: m.log_prior.shape[0]  # type: ignore[attr-defined]


def _finite_score(m: FiniteSet, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    return score_from_eps(schedule, jnp.asarray(t), _finite_eps(m, schedule, x_t, t, c))
