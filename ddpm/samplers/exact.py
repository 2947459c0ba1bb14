"""The exact reverse step p(x_s | x_t), where the data are a mixture of Gaussians: no error at any number of steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import falls, technique
from ddpm.forward import q_posterior
from ddpm.oracle import Mixture
from ddpm.schedule import Schedule
from ddpm.tools import keys


@technique()
@falls
def exact_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /, data: Mixture, schedule: Schedule, c: Any = None
) -> jax.Array:
    """x_s ~ p(x_s | x_t, c): first x0 ~ p(x0 | x_t, c), then x_s ~ q(x_s | x_t, x0).

    Whatever the steps, a walk from x_T ~ p_T ends in p(x0 | c): samplers with a denoiser replace the first draw by its
    mean, which is why they need many steps.
    """
    key_k, key_z, key_s = keys.split(key, 3)
    x, alpha_bar = x_t.reshape(len(x_t), -1), schedule.alpha_bar[t].astype(x_t.dtype)
    # The component k ~ p(k | x_t, c): the largest log p + Gumbel
    log_p = jnp.log(data.posterior(schedule, x_t, t, c))
    k = jnp.argmax(log_p + keys.draw(jax.random.gumbel, key_k, log_p.shape), axis=1)
    # x0 | x_t, k: per eigenvector mean √ᾱλ/v and variance λ(1-ᾱ)/v, v = ᾱλ + 1-ᾱ
    mean, basis, var = data.mean[k], data.basis[k], data.var[k]
    v = alpha_bar * var + 1 - alpha_bar
    of = jnp.einsum("bd,bde->be", x - jnp.sqrt(alpha_bar) * mean, basis, precision="highest")
    z = jnp.sqrt(alpha_bar) * var / v * of + jnp.sqrt(var * (1 - alpha_bar) / v) * keys.normal_like(key_z, x)
    x0 = (mean + jnp.einsum("be,bde->bd", z, basis, precision="highest")).reshape(x_t.shape)
    mean_s, var_s = q_posterior(schedule, x_t, x0, t, s)
    return mean_s + jnp.sqrt(var_s) * keys.normal_like(key_s, x_t)
