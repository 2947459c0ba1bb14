"""The exact reverse step p(x_s | x_t), where the data are a mixture of Gaussians: no error at any number of steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import falls, technique
from ddpm.forward import q_posterior
from ddpm.oracle import Mixture
from ddpm.oracles.rewards import x0_given_component
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
    # The component k ~ p(k | x_t, c): the largest log p + Gumbel
    log_p = jnp.log(data.posterior(schedule, x_t, t, c))
    k = jnp.argmax(log_p + keys.draw(jax.random.gumbel, key_k, log_p.shape), axis=1)
    # x0 ~ p(x0 | x_t, k), along the eigenvectors of the component
    mean, var = (jnp.take_along_axis(a, k[:, None, None], 1)[:, 0] for a in x0_given_component(data, schedule, x_t, t))
    z = mean + jnp.sqrt(var) * keys.normal_like(key_z, mean)
    x0 = data.mean[k] + jnp.einsum("be,bde->bd", z, data.basis[k], precision="highest")
    x0 = x0.astype(x_t.dtype).reshape(x_t.shape)
    mean_s, var_s = q_posterior(schedule, x_t, x0, t, s)
    return mean_s + jnp.sqrt(var_s) * keys.normal_like(key_s, x_t)
