"""Saliency of a plain classifier: where its prediction is sensitive, a baseline for typicality maps.

    gradient        |∂z_c/∂x|                                                  [Simonyan et al. 2014, Sec. 3]
    gradient_input  x ⊙ ∂z_c/∂x, signed: for a linear z_c it sums to z_c - b   [Shrikumar et al. 2017, Sec. 3.2]
    smooth          |mean_k ∂z_c/∂x at x + σ ε_k|                              [Smilkov et al. 2017, SmoothGrad]

z_c is the logit of class c, not its probability, whose gradient vanishes where the classifier is confident.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.classifiers.classifier import Classifier, build
from ddpm.contracts import Partial, partial_of
from ddpm.tools import check
from ddpm.tools.batches import parts

METHODS = ("gradient", "gradient_input", "smooth")


def logits_fn(classifier: Classifier) -> Partial:
    """Return a classifier of clean images as a function x (B, H, W, C) -> logits (B, K)."""
    if classifier.config.schedule:
        raise ValueError("this classifier is p(c | x_t, t); give one of clean images (no schedule)")
    return Partial(_logits, Partial(build(classifier.config)[1]), classifier.params)


def _logits(apply: Partial, params: dict, x: jax.Array) -> jax.Array:
    return apply(params, x)[0]


def saliency(
    logits: Any,
    x0: Any,
    c: Any,
    *,
    method: str = "gradient_input",
    key: jax.Array | None = None,
    draws: int = 25,
    sigma: float = 0.2,
    batch: int = 100,
) -> np.ndarray:
    """Compute saliency maps (B, H, W), higher where the class is seen.

    x0: (B, H, W, C);  c: the classes, () or (B,);  logits: x -> (B, K), a function or `logits_fn(classifier)`;
    key, draws and sigma (in the units of x) are for `smooth`; the default of sigma is a tenth of the range [-1, 1].
    Channels are combined by the maximum for absolute values, and by the sum for signed ones.
    """
    # Validation
    check.choice("method", method, METHODS)
    x0 = np.asarray(check.images(x0))
    c = check.classes("c", c, len(x0), one=True)
    K = jax.eval_shape(partial_of(logits), x0).shape[-1]
    if c.max(initial=0) >= K:
        raise ValueError(f"c contains {c.max()}; the classes are 0..{K - 1}")
    check.whole("draws", draws, 1)
    check.number("sigma", sigma, 0)
    if method == "smooth" and key is None:
        raise ValueError("smooth draws noise: give it a key")
    draws, sigma = (draws, sigma) if method == "smooth" else (1, 0.0)
    key = jax.random.key(0) if key is None else key
    # One batch at a time; the channels become one value per pixel
    found = []
    for ids, m in parts(len(x0), batch):
        g = np.asarray(_gradient(partial_of(logits), x0[ids], c[ids], key, jnp.float32(sigma), draws))[:m]
        x = x0[ids[:m]]
        found.append((g * x).sum(-1) if method == "gradient_input" else np.abs(g).max(-1))
    return np.concatenate(found) if found else np.zeros(x0.shape[:3], np.float32)


@partial(jax.jit, static_argnames="draws")
def _gradient(logits: Any, x0: jax.Array, c: jax.Array, key: jax.Array, sigma: jax.Array, draws: int) -> jax.Array:
    def own(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(logits(x), c[:, None], 1).sum()

    def add(k: jax.Array, total: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, k), x0.shape[1:], x0.dtype)  # shared by all images
        return total + jax.grad(own)(x0 + sigma * noise[None])

    return jax.lax.fori_loop(0, draws, add, jnp.zeros_like(x0)) / draws
