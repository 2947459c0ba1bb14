"""CLIP's loss: each image is to find its caption among those of the batch, and each caption its image.

    L = -1/2N Σ_i [ log softmax_j(s_ij)_i + log softmax_j(s_ji)_i ],   s_ij = τ f_i·g_j, ‖f‖ = ‖g‖ = 1
                                                                            [Radford et al. 2021, Fig. 3]

Its optimum is known: s*(x, T) = log p(x, T)/(p(x) p(T)), the pointwise mutual information, up to a constant. A softmax
along one axis only would leave a function of x, or of T, free. With any scores E L ≥ log N - I(x; T), so that a batch
of N pairs shows at most log N of the information.   [van den Oord et al. 2018, Sec. 2.3]
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from ddpm.tools import check


def loss_of_logits(s: jax.Array) -> jax.Array:
    """L of scores s (N, N), the pairs on the diagonal: a number."""
    if s.ndim != 2 or s.shape[0] != s.shape[1]:
        raise ValueError(f"s has shape {s.shape}; give the scores of N images and their N captions, (N, N)")
    finds_text, finds_image = (jnp.diagonal(jax.nn.log_softmax(s, axis=axis)) for axis in (1, 0))
    return -(finds_text + finds_image).mean() / 2


def cosines(f: jax.Array, g: jax.Array) -> jax.Array:
    """f_i·g_j/(‖f_i‖ ‖g_j‖): (N, d) and (M, d) -> (N, M)"""
    if f.ndim != 2 or g.ndim != 2 or f.shape[1] != g.shape[1]:
        raise ValueError(f"f has shape {f.shape} and g {g.shape}; give vectors of one length, (N, d) and (M, d)")
    f, g = (a * jax.lax.rsqrt((a**2).sum(1, keepdims=True) + 1e-12) for a in (f, g))
    return f @ g.T


def clip_loss(f: jax.Array, g: jax.Array, log_tau: jax.Array | float) -> jax.Array:
    """L of embeddings f (N, d) of images and g (N, d) of their captions, of any length: a number.

    log_tau: log τ, learned, at first log(1/.07), and kept in [0, log 100] as by the authors. With log τ = 0 it is the
    loss as QuiltNet prints it, without a temperature   [Ikezogwo et al. 2023].
    """
    return loss_of_logits(jnp.exp(jnp.clip(log_tau, 0, math.log(100))) * cosines(f, g))


def lowest_loss(N: int, tau: float = 1.0) -> float:
    """log(1 + (N-1) e^(-τN/(N-1))): the least L of N pairs of unit vectors in enough dimensions.

    The N pairs are then the corners of a simplex, whose other corners have the cosine -1/(N-1). With τ = 1 it tends to
    log N - 1: without a temperature no more than one nat can be learned, whatever N.
    """
    N = check.whole("N", N, 2)
    tau = check.number("tau", tau, 0)
    return math.log1p((N - 1) * math.exp(-tau * N / (N - 1)))
