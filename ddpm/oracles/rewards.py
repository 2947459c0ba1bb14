"""Rewards r(x0) whose tilted distribution p(x0) e^r(x0)/Z is exact, and the value of a noisy x_t.

    V_t(x_t) = log E[e^r(x0) | x_t]      the value: log of the reward that x_t leads to, on the mean of e^r

For rewards that are linear or quadratic in x0, or depend on the component, a tilted mixture of Gaussians is again one:

    N(x0; μ, Σ) exp(bᵀx0)          = e^{bᵀμ + ½bᵀΣb} N(x0; μ + Σb, Σ)
    N(x0; μ, Σ) N(y; A x0, σ²I)    = N(y; Aμ, S) N(x0; μ + ΣAᵀS⁻¹(y - Aμ), Σ - ΣAᵀS⁻¹AΣ),   S = AΣAᵀ + σ²I

So with p^r the tilted data, noised in the same way, Bayes gives the value without an integral, at every t:

    V_t(x_t) = log p^r_t(x_t) - log p_t(x_t) + log Z      and      ∇V_t = the score of p^r less the score of p

The same holds for `Cells.tilted`. Following the score plus ∇V_t, or keeping one of several candidates with probability
∝ e^V_s, samples p^r. `guides.by_value` and `samplers.choose` do so with any value: an exact one, or a guess.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from scipy.special import logsumexp

from ddpm.contracts import technique
from ddpm.forward import at
from ddpm.oracle import Mixture, mixture
from ddpm.schedule import Schedule
from ddpm.tools import check


def _parts(m: Mixture) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """log w_k, μ_k, Σ_k and the labels, as NumPy arrays"""
    basis, var = np.asarray(m.basis, np.float64), np.asarray(m.var, np.float64)
    cov = np.einsum("kde,ke,kfe->kdf", basis, var, basis)
    return np.asarray(m.log_weight, np.float64), np.asarray(m.mean, np.float64), cov, np.asarray(m.label)


def _made(log_weight: np.ndarray, mean: np.ndarray, cov: np.ndarray, label: np.ndarray) -> tuple[Mixture, float]:
    log_Z = float(logsumexp(log_weight))
    weight = np.exp(log_weight - log_Z)
    if not np.all(weight > 0):
        raise ValueError(f"the reward leaves component {np.argmin(weight)} no weight; give smaller rewards")
    return mixture(mean, (cov + cov.transpose(0, 2, 1)) / 2, weight / weight.sum(), label), log_Z


def tilt_linear(m: Mixture, b: Any) -> tuple[Mixture, float]:
    """p(x0) exp(bᵀx0)/Z and log Z.   b: (D,) or of one image's shape"""
    log_weight, mean, cov, label = _parts(m)
    b = _vector("b", b, mean.shape[1])
    gain = mean @ b + 0.5 * np.einsum("d,kde,e->k", b, cov, b)
    return _made(log_weight + gain, mean + cov @ b, cov, label)


def tilt_classes(m: Mixture, reward: Any) -> tuple[Mixture, float]:
    """p(x0) exp(r_c)/Z and log Z, for a reward of the class c.   reward: (num_classes,)"""
    log_weight, mean, cov, label = _parts(m)
    reward = _vector("reward", reward, m.num_classes)
    return _made(log_weight + reward[label], mean, cov, label)


def tilt_measured(m: Mixture, A: Any, y: Any, var: float) -> tuple[Mixture, float]:
    """p(x0 | y) and log p(y), where y = A x0 + N(0, var·I).   A: (n, D);  y: (n,)"""
    log_weight, mean, cov, label = _parts(m)
    A = np.asarray(A, np.float64)
    if A.ndim != 2 or A.shape[1] != mean.shape[1]:
        raise ValueError(f"A has shape {A.shape}; give (measurements, {mean.shape[1]})")
    y = _vector("y", y, len(A))
    S = A @ cov @ A.T + check.number("var", var, 0) * np.eye(len(A))
    gap, gain = y - mean @ A.T, cov @ A.T  # (K, n), (K, D, n)
    solved = np.linalg.solve(S, gap[..., None])[..., 0]
    fit = -0.5 * ((gap * solved).sum(1) + np.linalg.slogdet(2 * np.pi * S)[1])
    moved = mean + np.einsum("kdn,kn->kd", gain, solved)
    return _made(log_weight + fit, moved, cov - gain @ np.linalg.solve(S, gain.transpose(0, 2, 1)), label)


def tilt_seen(m: Mixture, y: Any) -> tuple[Mixture, float]:
    """p(x0 | the numbers of x0 that were seen) and their log p: kriging, for a Gaussian.

    y: (D,), NaN in a gap. Gaps may be anywhere, also at both ends: of a series the forecasts, forwards and backwards.
    """
    y = np.asarray(y, np.float64).ravel()
    seen = ~np.isnan(y)
    if y.size != m.mean.shape[1] or not seen.any():
        raise ValueError(
            f"y has {y.size} numbers, of which {seen.sum()} were seen; give {m.mean.shape[1]}, NaN in a gap, and at "
            "least one that was seen (without any, m itself is the answer)"
        )
    return tilt_measured(m, np.eye(y.size)[seen], y[seen], 0.0)


def _vector(name: str, a: Any, n: int) -> np.ndarray:
    a = np.asarray(a, np.float64).ravel()
    if a.shape != (n,) or not np.all(np.isfinite(a)):
        raise ValueError(f"{name} has {a.size} numbers; give {n} that are finite")
    return a


@technique(log_Z=jnp.asarray)
def value_of(
    x_t: jax.Array, t: Any, c: Any = None, /, *, tilted: Any, data: Any, schedule: Schedule, log_Z: Any
) -> jax.Array:
    """V_t(x_t) = log p^r_t(x_t | c) - log p_t(x_t | c) + log Z, (B,), exact.

    tilted, log_Z: from one of this file's functions or `Cells.tilted`;  data: the distribution before.
    """
    return tilted.log_prob(schedule, x_t, t, c) - data.log_prob(schedule, x_t, t, c) + log_Z


def x0_given_component(m: Mixture, schedule: Schedule, x_t: jax.Array, t: Any) -> tuple[jax.Array, jax.Array]:
    """Mean and variances of U_kᵀ(x0 - μ_k) given x_t and the component k: √ᾱλ/v U_kᵀ(x_t - √ᾱμ_k) and λ(1-ᾱ)/v.

    v = ᾱλ + 1-ᾱ;  each (B, K, D)
    """
    x = x_t.reshape(len(x_t), -1)[:, None]
    alpha_bar = at(schedule.alpha_bar, jnp.broadcast_to(jnp.asarray(t), x.shape[:1]), x)  # (B, 1, 1)
    z = jnp.einsum("bkd,kde->bke", x - jnp.sqrt(alpha_bar) * m.mean[None], m.basis, precision="highest")
    v = alpha_bar * m.var[None] + 1 - alpha_bar  # 0 at t = 0 where the variance is 0
    left = m.var[None] / jnp.where(v > 0, v, 1)
    return jnp.sqrt(alpha_bar) * left * z, left * (1 - alpha_bar)


@technique()
def value_above(
    x_t: jax.Array, t: Any, c: Any = None, /, *, data: Mixture, schedule: Schedule, b: Any, level: Any, reward: Any
) -> jax.Array:
    """V_t of the reward r·1[bᵀx0 > level], (B,): log(1 + (e^r - 1) P(bᵀx0 > level | x_t)).   b: (D,)

    This reward has no gradient, its value has one for t > 0. bᵀx0 given x_t and the component is Gaussian.
    """
    mean, var = x0_given_component(data, schedule, x_t, t)  # along the eigenvectors U_k
    of_b = jnp.einsum("d,kde->ke", jnp.asarray(b, x_t.dtype), data.basis, precision="highest")  # U_kᵀ b
    mean = (data.mean @ jnp.asarray(b, x_t.dtype))[None] + (of_b[None] * mean).sum(2)  # (B, K)
    std = jnp.sqrt((of_b[None] ** 2 * var).sum(2))
    certain = jnp.where(mean > level, 0.0, -jnp.inf)  # at t = 0 nothing is left open
    log_p = jnp.where(std > 0, log_ndtr((mean - level) / jnp.where(std > 0, std, 1)), certain)
    p = jnp.exp(jax.nn.logsumexp(log_p + jnp.log(data.posterior(schedule, x_t, t, c)), axis=1))
    return jnp.log1p(jnp.expm1(reward) * p)
