"""The exact denoiser for data of known distribution: Gaussians and mixtures of Gaussians with classes.

If x0 ~ N(μ, Σ) then x_t ~ N(√ᾱ_t μ, Σ_t) with Σ_t = ᾱ_t Σ + (1-ᾱ_t) I, and the best possible prediction of ε is

    ε*(x_t, t) = E[ε | x_t] = √(1-ᾱ_t) Σ_t⁻¹ (x_t - √ᾱ_t μ) = -√(1-ᾱ_t) ∇ log p_t(x_t).

For a mixture it is the posterior-weighted sum of the components' predictions. Every sampler, loss, guidance rule and
measure of this library is tested against these numbers. The oracle replaces a network: `mixture.eps(schedule)`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.forward import at
from ddpm.schedule import Schedule
from ddpm.tools import check


class Mixture(NamedTuple):
    """p(x0) = Σ_k w_k N(μ_k, U_k diag(λ_k) U_kᵀ); component k belongs to class `label[k]`."""

    log_weight: jax.Array  # (K,)  log w_k, Σ_k w_k = 1
    mean: jax.Array  # (K, D)  μ_k, flattened
    basis: jax.Array  # (K, D, D)  U_k, eigenvectors as columns
    var: jax.Array  # (K, D)  λ_k, eigenvalues
    label: jax.Array  # (K,) int  the class of each component

    @property
    def num_classes(self) -> int:
        """One more than the largest label, which is also the null label. Readable outside `jit` only."""
        return int(np.asarray(self.label).max()) + 1

    def eps(self, schedule: Schedule) -> Partial:
        """Return the denoiser ε*(x_t, t, c); c = None: over all classes."""
        return Partial(_mixture_eps, self, schedule)

    def score(self, schedule: Schedule) -> Partial:
        """Return ∇ log p_t(x_t | c) as a function of (x_t, t, c), for t ≥ 0."""
        return Partial(_mixture_score, self, schedule)

    def log_prob(self, schedule: Schedule, x_t: jax.Array, t: Any = 0, c: Any = None) -> jax.Array:
        """log p_t(x_t | c), in nats: (B, ...) -> (B,)"""
        log_joint, log_prior, _, _ = _components(self, schedule, x_t, t, c)
        return jax.nn.logsumexp(log_joint, axis=1) - jax.nn.logsumexp(log_prior, axis=1)

    def posterior(self, schedule: Schedule, x_t: jax.Array, t: Any = 0, c: Any = None) -> jax.Array:
        """p(k | x_t, c) of each component, (B, K)"""
        return jax.nn.softmax(_components(self, schedule, x_t, t, c)[0], axis=1)

    def class_posterior(self, schedule: Schedule, x_t: jax.Array, t: Any = 0) -> jax.Array:
        """p(c | x_t), (B, num_classes)"""
        return self.posterior(schedule, x_t, t) @ jax.nn.one_hot(self.label, self.num_classes)

    def sample(self, key: jax.Array, n: int, shape: tuple[int, ...] | None = None) -> tuple[jax.Array, jax.Array]:
        """Draw n pairs (x0, c): (n, D), or (n, *shape), and (n,)"""
        key_k, key_z = jax.random.split(key)
        k = jax.random.categorical(key_k, self.log_weight, shape=(n,))
        z = jax.random.normal(key_z, (n, self.mean.shape[1])) * jnp.sqrt(self.var)[k]
        x0 = self.mean[k] + jnp.einsum("bd,bed->be", z, self.basis[k], precision="highest")
        return x0.reshape(n, *(shape or self.mean.shape[1:])), self.label[k]


def _components(
    m: Mixture, schedule: Schedule, x_t: jax.Array, t: Any, c: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Compute log w_k + log N(x_t; ·) and log w_k, both -inf where c excludes k, (B, K);
    also U_kᵀ (x_t - √ᾱ_t μ_k) and the variances ᾱ_t λ_k + 1-ᾱ_t, (B, K, D)."""
    B, D = x_t.shape[0], m.mean.shape[1]
    x = x_t.reshape(B, -1)
    if x.shape[1] != D:
        raise ValueError(f"x_t has shape {x_t.shape}, {x.shape[1]} numbers an image; this oracle has {D}")
    t = check.times(t, x_t, schedule.T, low=0)
    if check.known(t) and check.known(m.var) and np.any(np.asarray(t) == 0) and np.any(np.asarray(m.var) == 0):
        raise ValueError("t is 0 and a covariance is singular: there is no density at t = 0. Ask at t >= 1")
    c = None if c is None else class_labels(m.label, c, B)
    return _joint(m, schedule, x, jnp.broadcast_to(t, (B,)), c)


@jax.jit  # one program for many small operations, faster outside a jit too
def _joint(
    m: Mixture, schedule: Schedule, x: jax.Array, t: jax.Array, c: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    alpha_bar = schedule.alpha_bar[t][:, None, None]  # (B, 1, 1)
    centred = x[:, None, :] - jnp.sqrt(alpha_bar) * m.mean[None]
    z = jnp.einsum("bkd,kde->bke", centred, m.basis, precision="highest")  # instead of the bfloat16 of some devices
    var_t = alpha_bar * m.var[None] + (1 - alpha_bar)
    log_normal = -0.5 * (z * z / var_t + jnp.log(var_t)).sum(2) - 0.5 * x.shape[1] * math.log(2 * math.pi)
    log_prior = jnp.broadcast_to(m.log_weight[None], log_normal.shape)
    if c is not None:
        allowed = (m.label[None, :] == c[:, None]) | (c > m.label.max())[:, None]  # the null label includes all
        log_prior = jnp.where(allowed, log_prior, -jnp.inf)
    return log_prior + log_normal, log_prior, z, var_t


def class_labels(label: jax.Array, c: Any, B: int) -> jax.Array:
    """Check labels c (B,) for an oracle: each is one of `label` (K,), or the null label."""
    if not check.known(label):
        return jnp.asarray(c)
    c = check.labels(c, B, int(np.asarray(label).max()) + 1)
    if check.known(c):
        lacking = np.setdiff1d(np.asarray(c), np.append(np.asarray(label), np.asarray(label).max() + 1))
        if lacking.size:
            raise ValueError(f"c asks for class {lacking[0]}, which this oracle does not have")
    return c


def _mixture_score(m: Mixture, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    log_joint, _, z, var_t = _components(m, schedule, x_t, t, c)
    responsibility = jax.nn.softmax(log_joint, axis=1)  # p(k | x_t, c)
    return -jnp.einsum("bk,bke,kde->bd", responsibility, z / var_t, m.basis, precision="highest").reshape(x_t.shape)


def _mixture_eps(m: Mixture, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    return -at(schedule.std, t, x_t) * _mixture_score(m, schedule, x_t, t, c)


_mixture_eps.labels = lambda m, *_: np.unique(m.label) if check.known(m.label) else None  # type: ignore[attr-defined]


# --- construction -----------------------------------------------------------------------------------------------------


def mixture(mean: Any, cov: Any, weight: Any = None, label: Any = None) -> Mixture:
    """Build Σ_k w_k N(μ_k, Σ_k), with classes.

    mean: (K, ...);  cov: a number or (K,) for Σ_k = cov·I, or full matrices (K, D, D);  weight: (K,), equal if None;
    label: (K,) class of each component, 0…K-1 if None. A covariance must be symmetric and positive semi-definite.
    """
    mean = np.asarray(mean, dtype=np.float64)
    if mean.ndim < 1 or mean.size < 1 or not np.all(np.isfinite(mean)):
        raise ValueError(f"mean has shape {mean.shape}; give K finite means, (K, ...)")
    mean = mean.reshape(mean.shape[0], -1)
    K, D = mean.shape
    weight = np.full(K, 1 / K) if weight is None else np.asarray(weight, dtype=np.float64)
    if weight.shape != (K,) or not np.all(weight > 0) or abs(weight.sum() - 1) > 1e-6:  # a NaN fails too
        raise ValueError(f"weight is {weight}; give {K} positive numbers that sum to 1")
    # Eigenvalues and eigenvectors of each covariance
    cov = np.asarray(cov, dtype=np.float64)
    if not np.all(np.isfinite(cov)):
        raise ValueError("cov has entries that are not finite")
    if cov.shape in ((), (1,), (K,)):
        var, basis = np.broadcast_to(cov.reshape(-1, 1), (K, D)), np.broadcast_to(np.eye(D), (K, D, D))
    elif cov.shape == (K, D, D):
        if not np.allclose(cov, cov.transpose(0, 2, 1), atol=1e-8):
            raise ValueError("cov is not symmetric; give covariance matrices")
        var, basis = np.linalg.eigh(cov)
    else:
        raise ValueError(f"cov has shape {cov.shape}; give a number, ({K},) or ({K}, {D}, {D})")
    if np.any(var < -1e-8 * max(1.0, float(np.abs(var).max()))):
        raise ValueError(f"cov has a negative eigenvalue, {var.min():.3g}; a covariance is positive semi-definite")
    label = check.classes("label", np.arange(K) if label is None else label, K)
    return Mixture(
        jnp.asarray(np.log(weight)),
        jnp.asarray(mean),
        jnp.asarray(basis),
        jnp.asarray(np.maximum(var, 0)),
        jnp.asarray(label, dtype=jnp.int32),
    )


def gaussian(mean: Any, cov: Any) -> Mixture:
    """Build N(μ, Σ), a mixture of one. mean: (...);  cov: a number, or a full matrix (D, D)."""
    cov = np.asarray(cov)
    return mixture(np.asarray(mean)[None], cov[None] if cov.ndim == 2 else cov)
