"""Compute log p(x0) by the probability-flow ODE, with the change of variables along its path.

In x̄ = x/√ᾱ, σ̄ = √((1-ᾱ)/ᾱ) the flow is dx̄/dσ̄ = ε(x, t), and so

    log p_1(x) = log p_T(x_T) + ½ D log(ᾱ_T/ᾱ_1) + ∫ div_x̄ ε dσ̄  from σ̄_1 to σ̄_T    [Song et al. 2021, SDE, Eq. 39]

with p_T = N(0, I). This is the density of x_1, data with noise of variance 1-ᾱ_1. The path is solved by Heun's method
at the times of the schedule; the divergence is exact, or estimated with random signs (Hutchinson). At high noise,
ε = x̄/σ̄ and div ε = D/σ̄, and a schedule may cross decades of σ̄ in one step (1.5 in the last step of `cosine`). The
integral is therefore that of σ̄ div ε over log σ̄, by the trapezium rule: the integrand is D - div x̂0, which lies
between 0 and about D and is nearly constant at high noise.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of
from ddpm.samplers.solvers import sigma_bar
from ddpm.schedule import Schedule
from ddpm.tools import check, keys
from ddpm.tools.partials import check_denoiser


def ode_log_prob(
    eps: Eps,
    schedule: Schedule,
    x_1: jax.Array,
    c: Any = None,
    *,
    times: Any = None,
    key: jax.Array | None = None,
    probes: int = 1,
) -> jax.Array:
    """Compute log p(x_1 | c) at the first of the times, in nats: (B, ...) -> (B,)

    times: ascending, such as 1…T (the default);  key: None for the exact divergence (D products with the Jacobian of ε
    per step, for small images); else (one, or one for each image) Hutchinson's estimate from `probes` random sign
    vectors, unbiased at each step.
    """
    times = np.arange(1, schedule.T + 1) if times is None else np.asarray(times)
    if times.ndim != 1 or times.size < 2 or times[0] < 1 or times[-1] > schedule.T or np.any(np.diff(times) <= 0):
        raise ValueError(f"times is {times}; give times in 1..{schedule.T} that rise")
    check.whole("probes", probes, 1)
    check_denoiser(times, eps=eps, c=c)
    x_1 = jnp.asarray(x_1, jnp.result_type(x_1, schedule.alpha_bar))
    return _ode_log_prob(partial_of(eps), schedule, x_1, c, jnp.asarray(times), key, probes)


@partial(jax.jit, static_argnames="probes")
def _ode_log_prob(
    eps: Eps, schedule: Schedule, x_1: jax.Array, c: Any, times: jax.Array, key: jax.Array | None, probes: int
) -> jax.Array:
    # probes of the divergence
    B, D = x_1.shape[0], math.prod(x_1.shape[1:])
    if key is None:
        signs = jnp.broadcast_to(jnp.eye(D, dtype=x_1.dtype)[:, None], (D, B, D)).reshape(D, *x_1.shape)
    else:
        sign = partial(jax.random.rademacher, dtype=x_1.dtype)
        signs = jax.vmap(lambda i: keys.draw(sign, keys.fold_in(key, i), x_1.shape))(jnp.arange(probes))
    weight = 1.0 if key is None else 1 / probes

    # slope and one step of Heun's method
    def slope(x_bar: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """dx̄/dσ̄ and its divergence"""

        def f(x_bar: jax.Array) -> jax.Array:
            return eps(jnp.sqrt(schedule.alpha_bar[t]) * x_bar, jnp.broadcast_to(t, (B,)), c)

        value, vjp = jax.vjp(f, x_bar)  # vᵀJ: vᵀ(vᵀJ)ᵀ is the same number as vᵀ(Jv)
        along = jax.lax.map(lambda v: (v * vjp(v)[0]).reshape(B, -1).sum(1), signs)  # (n, B)
        return value, weight * along.sum(0)

    def body(carry: tuple[jax.Array, jax.Array], t_s: tuple[jax.Array, jax.Array]) -> Any:
        (x_bar, integral), (t, s) = carry, t_s
        sigma_t, sigma_s = sigma_bar(schedule, t), sigma_bar(schedule, s)
        h, h_log = sigma_s - sigma_t, jnp.log(sigma_s / sigma_t)
        d_t, div_t = slope(x_bar, t)
        d_s, div_s = slope(x_bar + h * d_t, s)
        return (x_bar + h * 0.5 * (d_t + d_s), integral + h_log * 0.5 * (sigma_t * div_t + sigma_s * div_s)), None

    # integration, and the density at T
    a_1, a_T = schedule.alpha_bar[times[0]], schedule.alpha_bar[times[-1]]
    (x_bar, integral), _ = jax.lax.scan(body, (x_1 / jnp.sqrt(a_1), jnp.zeros(B, x_1.dtype)), (times[:-1], times[1:]))
    x_T = (jnp.sqrt(a_T) * x_bar).reshape(B, -1)
    log_p_T = -0.5 * (x_T**2).sum(1) - 0.5 * D * math.log(2 * math.pi)
    return log_p_T + 0.5 * D * jnp.log(a_T / a_1) + integral


def dequantise(key: jax.Array, images: jax.Array) -> jax.Array:
    """(bytes + u)/128 - 1 in [-1, 1), with u ~ U[0, 1): (B, ...) uint8 -> float32

    A density on these values bounds the probability of the bytes.  key: one, or (B,), one for each image
    """
    if images.dtype != jnp.uint8:
        raise TypeError(f"images has type {images.dtype}; give the bytes themselves, uint8")
    return (images.astype(jnp.float32) + keys.draw(jax.random.uniform, key, images.shape)) / 128 - 1


def density_bits_per_dim(log_prob: jax.Array, D: int) -> jax.Array:
    """-log p/(D ln 2) + 7: bits per byte from the density p of `dequantise`d bytes (128 = 2⁷ bins per unit)."""
    return -log_prob / (check.whole("D", D, 1) * math.log(2)) + 7
