"""What a sampler does to Gaussian data, exactly: with a linear denoiser a step is x_s = a x_t + σ z, by direction.

It is computed twice: through the library's step functions (`by_steps`), and in NumPy with the formulas written out
(`by_formula`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.schedule import Schedule


def affine(step: Callable[..., Any], t: Any, s: Any, D: int = 1) -> tuple[jax.Array, jax.Array]:
    """Gain a and noise σ of a step whose denoiser is linear and diagonal, for each direction: (D,) each."""
    key = jax.random.key(0)
    at0, at1 = (step(key, jnp.full((1, D), x), t, s)[0] for x in (0.0, 1.0))
    return at1 - at0, at0 / jax.random.normal(key, (1, D), at0.dtype)[0]


def by_steps(make_step: Callable[..., Any], schedule: Schedule, lam: Any, times: Any, start: Any = 1.0) -> np.ndarray:
    """The variance that a sampler gives data N(0, diag(lam)), from x_T ~ N(0, start), direction by direction: (D,).

    make_step: (eps, schedule) -> step; the denoiser is ε* = √(1-ᾱ) x/(ᾱ λ + 1-ᾱ).
    """
    lam = np.asarray(lam)

    def eps(x_t: jax.Array, t: jax.Array, c: Any) -> jax.Array:
        a = schedule.alpha_bar[t][:, None]
        return jnp.sqrt(1 - a) * x_t / (a * lam[None] + 1 - a)

    step, var = make_step(eps, schedule), np.broadcast_to(start, lam.shape)
    one = jax.jit(lambda t, s: affine(step, t, s, len(lam)))
    for t, s in pairwise(times):
        a, sigma = one(jnp.asarray(t), jnp.asarray(s))
        var = np.asarray(a) ** 2 * var + np.asarray(sigma) ** 2
    return var


def by_formula(alpha_bar: np.ndarray, lam: Any, times: Any, eta: float | str, start: Any = 1.0) -> np.ndarray:
    """The same variance in closed form, for DDIM's η, or for "hat": η = 1 with the larger noise σ̂² = 1 - ᾱ_t/ᾱ_s.

    x_s = √ᾱ_s x̂0 + √(1-ᾱ_s-σ²) ε* + noise,   σ² = η² (1-ᾱ_s)/(1-ᾱ_t) (1-ᾱ_t/ᾱ_s)     [Song et al. 2021, Eqs. 12, 16]
    The last step adds no noise. start: the variance of x at times[0], direction by direction or for all.
    """
    lam = np.asarray(lam, dtype=np.float64)
    var = np.broadcast_to(np.asarray(start, dtype=np.float64), lam.shape)
    for t, s in pairwise(times):
        a, b = alpha_bar[t], alpha_bar[s]
        c = np.sqrt(1 - a) / (a * lam + 1 - a)  # ε* = c x_t
        x0 = (1 - np.sqrt(1 - a) * c) / np.sqrt(a)
        sigma2 = (1.0 if eta == "hat" else float(eta) ** 2) * (1 - b) / (1 - a) * (1 - a / b)
        noise2 = (1 - a / b if s > 0 else 0.0) if eta == "hat" else sigma2
        var = (np.sqrt(b) * x0 + np.sqrt(1 - b - sigma2) * c) ** 2 * var + noise2
    return var


def variances(x: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance of images (n, H, W, C) in [-1, 1], in ascending order: (D,)"""
    flat = x.reshape(len(x), -1).astype(np.float64)
    return np.maximum(np.linalg.eigvalsh(np.cov(flat, rowvar=False)), 0)


def frechet(lam: Any, var: Any, times_seen: Any = 1) -> float:
    """Fréchet distance of N(0, diag(lam)) and N(0, diag(var)): Σ_d (√λ_d - √v_d)²."""
    return float((times_seen * (np.sqrt(lam) - np.sqrt(var)) ** 2).sum())
