"""Latent diffusion whose autoencoder is linear: the best k directions, and every error in closed form.

For x0 = U z + b with UᵀU = 1, diffusion of z is diffusion of x0, to the last digit: DDIM on z with its exact denoiser,
decoded, is DDIM on x0 with its exact denoiser and the singular covariance U Σ_z Uᵀ. From x_T the codes start at
z_T = Uᵀ(x_T - √ᾱ_T b).

Where the data are Gaussian with eigenvalues λ_1 ≥ λ_2 ≥ …, and k of them are kept, the Fréchet distance to the data is
a sum over orthogonal directions:

    Σ_{j>k} λ_j                       what the decoder has lost
    Σ_{j≤k} (√λ_j - √s_j)²            what the sampler does to those that are kept; s_j is the variance that it gives
    E W₂² of a Gaussian fitted to n   what the second stage has not learned from n images, to first order in 1/n

The first falls with k, the others grow. With few images there is a best k in between.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.evaluation.distances import floors_by_size
from ddpm.latents.codec import Codec
from ddpm.tools import check


class Errors(NamedTuple):
    """The parts of the Fréchet distance for each number k = 0…D of directions that are kept, (D+1,) each."""

    decoder: np.ndarray
    sampler: np.ndarray
    fitted: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Their sum: (D+1,)"""
        return self.decoder + self.sampler + self.fitted

    @property
    def best(self) -> int:
        """The k with the least sum."""
        return int(self.total.argmin())


def errors_by_size(var: Any, sampled: Any = None, n: float = math.inf) -> Errors:
    """The three errors of PCA-latent diffusion on N(·, diag λ), for every k at once.

    var: (D,) λ, falling;  sampled: (D,) the variance that the sampler gives each direction, None for a perfect sampler;
    n: the images that the second stage, a Gaussian in the latents, is fitted to (the decoder is that of λ).
    """
    var = check.eigenvalues("var", var)
    sampled = var if sampled is None else np.asarray(check.number("sampled", sampled, 0), np.float64)
    check.same_shape("var", var, "sampled", sampled)
    if not n >= 1:
        raise ValueError(f"n is {n}; give the number of images, >= 1")
    kept = np.concatenate([[0.0], np.cumsum((np.sqrt(var) - np.sqrt(sampled)) ** 2)])
    lost = np.concatenate([np.cumsum(var[::-1])[::-1], [0.0]])
    return Errors(lost, kept, floors_by_size(var) / n)


def subspace(basis: Any, mean: Any, std: float = 1.0) -> Codec:
    """The codec x0 = U z + b.   basis: (D, k) orthonormal columns U;  mean: (...) b, of D numbers;  std: of the codes

    Its codes are (B, k).
    """
    basis, mean = np.asarray(basis), np.asarray(mean)
    if basis.ndim != 2 or basis.shape[0] != mean.size or not 1 <= basis.shape[1] <= mean.size:
        raise ValueError(f"basis has shape {basis.shape}; give ({mean.size}, k) with k in 1..{mean.size}")
    if np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() > 1e-4:
        raise ValueError("the columns of basis are not orthonormal; give basis from pca, or np.linalg.qr(basis)[0]")
    check.number("std", std, 1e-12)
    b, U = jnp.asarray(mean), jnp.asarray(basis)
    return Codec(Partial(_encode, U, b), Partial(_decode, U, b), 0.0, std)


def _encode(U: jax.Array, b: jax.Array, x0: jax.Array) -> jax.Array:
    if x0.shape[1:] != b.shape:
        raise ValueError(f"x0 has shape {x0.shape}; this codec encodes (B, {', '.join(map(str, b.shape))})")
    return jnp.matmul(x0.reshape(len(x0), -1) - b.reshape(1, -1), U, precision="highest")


def _decode(U: jax.Array, b: jax.Array, z: jax.Array) -> jax.Array:
    if z.ndim != 2 or z.shape[1] != U.shape[1]:
        raise ValueError(f"z has shape {z.shape}; this codec decodes (B, {U.shape[1]})")
    return jnp.matmul(z, U.T, precision="highest").reshape(len(z), *b.shape) + b[None]


def pca(x0: Any, k: int) -> tuple[Codec, np.ndarray]:
    """The best linear codec of images x0 (N, ...) with k numbers a code, and all eigenvalues λ (D,), falling.

    Its mean squared error is Σ_{j>k} λ_j an image, which no linear autoencoder beats.   [Baldi and Hornik 1989]
    """
    x0 = np.asarray(x0, np.float64)
    flat = x0.reshape(len(x0), -1)
    check.whole("k", k, 1, flat.shape[1])
    var, basis = np.linalg.eigh(np.cov(flat, rowvar=False, bias=True).reshape(flat.shape[1], -1))
    var, basis = np.maximum(var[::-1], 0), basis[:, ::-1]
    return subspace(basis[:, :k], x0.mean(0), float(np.sqrt(var[:k].mean()))), var
