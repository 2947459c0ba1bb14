"""The linear VAE, solved: probabilistic PCA, and collapse as water filling.

    p(x | z) = N(W z + μ, r² I),   q(z | x) = N(Eᵀ(x - μ), diag v);   loss = E ‖x - x̂‖²/(2r²) + B KL

Let λ_j, u_j be the eigenvalues and eigenvectors of the data's covariance. With r² fixed and weight B on the KL, the
best encoder and decoder use direction j if and only if λ_j > B r², as water fills a basin up to the level B r²:

    KL = Σ_j ½ log⁺ (λ_j/(B r²)),     E ‖x - x̂‖² = Σ_j min(λ_j, B r²)         [Lucas et al. 2019]

So every wrong scaling of the two terms is a level. A mean over D pixels next to a sum over codes is B r² = D/2: where
that is above λ_1, KL = 0 for every image, exactly. With r² learned (B = 1) it becomes the mean of the λ_j that are left
out, nothing collapses, and the bound is the log-likelihood.   [Tipping and Bishop 1999]
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.tools import check


class Codes(NamedTuple):
    """What the best linear VAE does in each direction: (D,) float64 each, in the order of λ."""

    kl: np.ndarray  # nats; 0 where the direction is not used
    error: np.ndarray  # E (x - x̂)² along it, with the code drawn from q

    @property
    def active(self) -> int:
        """The number of directions in use."""
        return int((self.kl > 0).sum())


def water_filling(var: Any, level: float, k: int | None = None) -> Codes:
    """The optimum at level B r² with k codes (D of them if None).   var: (D,) λ, falling"""
    var = check.eigenvalues("var", var)
    check.number("level", level, 1e-300)
    k = len(var) if k is None else check.whole("k", k, 0, len(var))
    used = (np.arange(len(var)) < k) & (var > level)
    return Codes(np.where(used, 0.5 * np.log(np.maximum(var, 1e-300) / level), 0.0), np.where(used, level, var))


class LinearVAE(NamedTuple):
    """μ, E, log v and W: an encoder and a decoder as `ddpm.generators.variational` wants them. A pytree to train."""

    mean: jax.Array  # (D,)  μ
    encoder: jax.Array  # (D, k)  E
    log_var: jax.Array  # (k,)  log v
    decoder: jax.Array  # (D, k)  W

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """m = Eᵀ(x - μ) and log v: (B, D) -> (B, k) twice"""
        m = jnp.matmul(x - self.mean[None], self.encoder, precision="highest")
        return m, jnp.broadcast_to(self.log_var, m.shape)

    def decode(self, z: jax.Array) -> jax.Array:
        """W z + μ: (B, k) -> (B, D)"""
        return jnp.matmul(z, self.decoder.T, precision="highest") + self.mean[None]


def best_linear_vae(
    basis: Any, var: Any, k: int, mean: Any = 0.0, level: float | None = None
) -> tuple[LinearVAE, float]:
    """The optimum and its level B r².   basis: (D, D) u_j as columns;  var: (D,) λ, falling;  mean: (D,) μ

    level: B r²; None: r² learned with B = 1, the mean of the λ_j that are left out. The columns of W are
    √(λ_j - level) u_j, those of E are √(λ_j - level)/λ_j u_j, and v_j = level/λ_j: with B = 1 q is the true posterior.
    """
    var, basis = check.eigenvalues("var", var), np.asarray(basis, np.float64)
    D = len(var)
    check.whole("k", k, 1, D if level is not None else D - 1)
    if basis.shape != (D, D):
        raise ValueError(f"basis has shape {basis.shape}; give all eigenvectors as columns, ({D}, {D})")
    level = float(var[k:].mean()) if level is None else float(check.number("level", level, 1e-300))
    gain = np.sqrt(np.maximum(var[:k] - level, 0))
    lam = np.maximum(var[:k], level)  # of a direction that is not used v = 1
    parts = np.broadcast_to(mean, (D,)), basis[:, :k] * (gain / lam), np.log(level / lam), basis[:, :k] * gain
    return LinearVAE(*(jnp.asarray(a, dtype=float) for a in parts)), level


def expected_terms(vae: LinearVAE, cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E ‖x - x̂‖² and E KL over data with mean μ and this covariance (D, D) and over the codes; differentiable.

    tr Σ - 2 tr(Wᵀ Σ E) + tr(Eᵀ Σ E WᵀW) + Σ_j v_j ‖w_j‖²   and   ½ (tr(Eᵀ Σ E) + Σ_j (v_j - 1 - log v_j))
    """
    E, W, v = vae.encoder, vae.decoder, jnp.exp(vae.log_var)
    through = jnp.matmul(cov, E, precision="highest")  # Σ E
    code = jnp.matmul(E.T, through, precision="highest")  # the covariance of m
    error = jnp.trace(cov) - 2 * (W * through).sum() + (code * (W.T @ W)).sum() + (v * (W * W).sum(0)).sum()
    return error, 0.5 * (jnp.trace(code) + (v - 1 - vae.log_var).sum())


def log_likelihood(var: Any, k: int, level: float | None = None) -> float:
    """E log p(x) of probabilistic PCA with k directions on the data it is fitted to, in nats an image.

    -½ [D log 2π + Σ_{j≤k} log λ_j + (D-k) log r² + D];  level: r², None for the best, the mean of the λ_j left out.
    """
    var = check.eigenvalues("var", var)
    D = len(var)
    check.whole("k", k, 0, D - 1)
    if level is None:
        level = float(var[k:].mean())
        return -0.5 * (D * math.log(2 * math.pi) + float(np.log(var[:k]).sum()) + (D - k) * math.log(level) + D)
    model = np.where(np.arange(D) < k, np.maximum(var, level), level)
    return -0.5 * float((math.log(2 * math.pi) + np.log(model) + var / model).sum())
