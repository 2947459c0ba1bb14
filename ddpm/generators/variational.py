"""The variational bound of an autoencoder with Gaussian codes.   [Kingma and Welling 2014]

    log p(x) ≥ E_q log p(x | z) - KL(q(z | x) ‖ N(0, I)),   z = m + √v ⊙ ε,   p(x | z) = N(decode(z), r² I)

    encode : x (B, ...) -> m (B, k), log v (B, k)
    decode : z (B, k) -> x̂ (B, ...)

The gap of the bound is KL(q ‖ p(z | x)). Both terms are sums over all their numbers, in nats: a mean over pixels next
to a sum over codes is the same as another r², mostly one at which all codes collapse (`ddpm.generators.linear_vae`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from ddpm.tools import check, keys


class Bound(NamedTuple):
    """The two terms for each image, in nats: log p(x) ≥ fit - kl."""

    fit: jax.Array  # (B,)  log p(x | z) of the drawn code
    kl: jax.Array  # (B,)  KL(q(z | x) ‖ N(0, I))


def kl_normal(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """KL(N(m, v) ‖ N(0, I)) = ½ Σ_j (m² + v - 1 - log v), (B, k) twice -> (B,); ≥ 0, and 0 at (0, 1) only."""
    check.same_shape("mean", mean, "log_var", log_var)
    return 0.5 * (mean**2 + jnp.expm1(log_var) - log_var).reshape(len(mean), -1).sum(1)


def _log_normal(x: jax.Array, mean: jax.Array, log_var: Any) -> jax.Array:
    """log N(x; m, v I), summed over all but the first axis."""
    check.same_shape("x", x, "the mean", mean)
    each = (x - mean) ** 2 * jnp.exp(-log_var) + log_var + math.log(2 * math.pi)
    return -0.5 * each.reshape(len(x), -1).sum(1)


def _draw(key: jax.Array, x: jax.Array, encode: Callable[..., Any]) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, log_var = encode(x)
    if mean.ndim != 2 or mean.shape != log_var.shape or len(mean) != len(x):
        raise ValueError(
            f"encode gives {mean.shape} and {log_var.shape}; give the mean and log variance of each code, (B, k) twice"
        )
    return mean, log_var, mean + jnp.exp(log_var / 2) * keys.normal_like(key, mean)  # its own ε for each image


def elbo(key: jax.Array, x: jax.Array, encode: Callable[..., Any], decode: Callable[..., Any], r2: Any) -> Bound:
    """The terms of the bound with one code drawn for each image; r2: the variance r² of the decoder."""
    check.number("r2", r2, 1e-12)
    mean, log_var, z = _draw(key, x, encode)
    return Bound(_log_normal(x, decode(z), jnp.log(jnp.asarray(r2, x.dtype))), kl_normal(mean, log_var))


def iwae(
    key: jax.Array, x: jax.Array, encode: Callable[..., Any], decode: Callable[..., Any], r2: Any, K: int
) -> jax.Array:
    """L_K = log (1/K) Σ_i p(x | z_i) p(z_i)/q(z_i | x), (B,): E L_1 is the bound, and E L_K rises to log p(x) with K.

    [Burda et al. 2016]
    """
    check.whole("K", K, 1)
    check.number("r2", r2, 1e-12)
    log_r2 = jnp.log(jnp.asarray(r2, x.dtype))

    def log_w(key: jax.Array) -> jax.Array:
        mean, log_var, z = _draw(key, x, encode)
        prior = _log_normal(z, jnp.zeros_like(z), 0.0)
        return _log_normal(x, decode(z), log_r2) + prior - _log_normal(z, mean, log_var)

    return logsumexp(jax.lax.map(log_w, keys.split(key, K)), axis=0) - math.log(K)
