"""Muon: the momentum of each convolution's kernel, with its singular values made equal.   [Jordan et al. 2024]

    M ← β M + G;   W ← W - lr · orth(G + β M);   then W ← W √O/‖W‖        W as a matrix (k² I, O)

orth replaces the singular values of a matrix by about 1, so every direction of a kernel learns at the same rate, even
those whose gradient is small. In short trainings this saves more than half an epoch in five. With a batch norm after
the convolution the size of W does not matter to the network, so it is fixed, and lr is a relative step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax


def orthogonal(G: jax.Array, steps: int = 3) -> jax.Array:
    """Approximate U Vᵀ of G = U S Vᵀ: every singular value lands between about .5 and 1.2.   G: (..., O)

    X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, with a, b, c = 3.4445, -4.775, 2.0315: on each singular value s the polynomial
    a s + b s³ + c s⁵, whose slope at 0 is steep.   [Jordan et al. 2024; Newton-Schulz, Higham 2008, Ch. 8]
    """
    X = G.reshape(-1, G.shape[-1])
    tall = X.shape[0] > X.shape[1]
    X = X.T if tall else X
    X = X / (jnp.linalg.norm(X) + 1e-7)
    for _ in range(steps):
        A = X @ X.T
        X = 3.4445 * X + (-4.775 * A + 2.0315 * A @ A) @ X
    return (X.T if tall else X).reshape(G.shape)


def muon(rate: Any, momentum: float = 0.6) -> optax.GradientTransformation:
    """Return the update -rate · orth(Nesterov's momentum) for a tree of kernels."""

    def update(G: Any, M: Any, params: Any = None) -> tuple[Any, Any]:
        M = jax.tree.map(lambda g, m: g + momentum * m, G, M)
        return jax.tree.map(lambda g, m: orthogonal(g + momentum * m), G, M), M

    direction = optax.GradientTransformation(partial(jax.tree.map, jnp.zeros_like), update)
    return optax.chain(direction, optax.scale_by_learning_rate(rate))


def unit_kernels(params: dict) -> dict:
    """Scale each convolution's kernel (k, k, I, O) to the norm √O; leave all else unchanged."""

    def unit(W: jax.Array) -> jax.Array:
        return W * (W.shape[-1] ** 0.5 / jnp.linalg.norm(W)) if W.ndim == 4 else W

    return jax.tree.map(unit, params)
