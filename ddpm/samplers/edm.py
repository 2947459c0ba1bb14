"""EDM: noise levels σ of one's own choice, and the preconditioned network.   [Karras et al. 2022]

    x̄ = x0 + σ n,  n ~ N(0, I)      is our  x_t = √ᾱ_t x̄  with  ᾱ = 1/(1 + σ²)

so a list of σ is a `Schedule`, and every sampler of this library walks it: `heun_step` over all its times is Alg. 1,
`edm_step` is Alg. 2. On any other schedule `karras_times` finds the times whose σ are nearest to EDM's.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, falls, partial_of, technique
from ddpm.forward import at
from ddpm.samplers.solvers import heun_step, sigma_bar
from ddpm.schedule import Schedule, from_alpha_bar
from ddpm.tools import check, keys


def edm_sigmas(N: int = 18, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> np.ndarray:
    """σ_i = (high^{1/ρ} + i/(N-1) (low^{1/ρ} - high^{1/ρ}))^ρ, i = 0…N-1: falling.   [Karras et al. 2022, Eq. 5]"""
    check.whole("N", N, 2)
    check.number("rho", rho, 1e-6)
    if not 0 < low < high:
        raise ValueError(f"low is {low} and high is {high}; give 0 < low < high")
    return (high ** (1 / rho) + np.arange(N) / (N - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def from_sigma(sigmas: Any) -> Schedule:
    """The schedule with these noise levels, ᾱ = 1/(1+σ²); σ falls, as samplers meet it, and t counts from the end.

    sigmas: (T,), each > 0. An x̄ of EDM is x_t/√ᾱ_t: begin with x_T = √ᾱ_T · σ_T · n, close to n.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if sigmas.ndim != 1 or sigmas.size < 1 or not np.all(sigmas > 0) or np.any(np.diff(sigmas) >= 0):
        raise ValueError(f"sigmas is {sigmas}; give a falling list of positive numbers")
    return from_alpha_bar((1 / (1 + sigmas**2))[::-1])


def karras_times(
    schedule: Schedule, steps: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    """The times whose σ̄ are nearest to `edm_sigmas`, within those of the schedule; repeated times are dropped.

    -> at most (steps+1,) int32, falling to 0
    """
    if check.whole("steps", steps, 1) > schedule.T:
        raise ValueError(f"steps is {steps}; a chain of T = {schedule.T} times has 1..{schedule.T} steps to take")
    log_sigma = np.log(np.asarray(sigma_bar(schedule, slice(1, None)), dtype=np.float64))  # (T,) rising
    low, high = max(low, np.exp(log_sigma[0])), min(high, np.exp(log_sigma[-1]))
    levels = edm_sigmas(steps, low, high, rho) if steps > 1 else np.array([high])
    nearest = np.abs(log_sigma - np.log(levels)[:, None]).argmin(1) + 1
    return np.append(np.unique(nearest)[::-1], 0).astype(np.int32)


@technique(eps=partial_of, gamma=lambda gamma: check.number("gamma", gamma, 0))
@falls
def edm_step(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /,
    eps: Eps, schedule: Schedule, c: Any = None, gamma: float = 2**0.5 - 1,
    low: float = 0.05, high: float = 50.0, noise: float = 1.003,
) -> jax.Array:  # fmt: skip
    """x̄ + √(σ̂²-σ²) S_noise z at σ̂ = (1+γ)σ where low ≤ σ ≤ high, then Heun's step to s.   [Karras et al. 2022, Alg. 2]

    σ̂ is the level of the schedule's time nearest to that, and at least σ itself. The default γ = √2-1 is the largest
    of the paper, which its S_churn = 40 reaches with up to 96 steps; low, high, noise are its values for ImageNet.
    """
    sigma = sigma_bar(schedule, jnp.arange(schedule.T + 1))
    inside = (low <= sigma[t]) & (sigma[t] <= high)
    wanted = jnp.log((1 + gamma) * jnp.where(inside, sigma[t], 1.0))
    up = jnp.where(inside, jnp.maximum(t, jnp.abs(jnp.log(sigma) - wanted).argmin()), t)
    z = noise * keys.normal_like(key, x_t)
    more = jnp.where(up > t, jnp.sqrt(sigma[up] ** 2 - sigma[t] ** 2), 0.0)  # √(σ̂²-σ²)
    shrink = jnp.where(up > t, jnp.sqrt(schedule.alpha_bar[up] / schedule.alpha_bar[t]), 1.0)
    return heun_step(eps, schedule, c)(key, shrink * x_t + jnp.sqrt(schedule.alpha_bar[up]) * more * z, up, s)


def preconditioning(sigma: Any, sigma_data: float = 0.5) -> tuple[jax.Array, ...]:
    """c_skip, c_out, c_in, c_noise of D(x̄; σ) = c_skip x̄ + c_out F(c_in x̄; c_noise).   [Karras et al. 2022, Table 1]"""
    check.number("sigma", sigma, 1e-12)
    sigma = jnp.asarray(sigma, dtype=float)
    total = sigma**2 + sigma_data**2
    return (
        sigma_data**2 / total,
        sigma * sigma_data / jnp.sqrt(total),
        1 / jnp.sqrt(total),
        jnp.log(sigma) / 4,
    )


def edm_weight(sigma: Any, sigma_data: float = 0.5) -> jax.Array:
    """λ(σ) = (σ² + σ_data²)/(σ σ_data)²: of ‖x0 - D‖², so that F's loss weighs 1.   [Karras et al. 2022, Table 1]"""
    check.number("sigma", sigma, 1e-12)
    sigma = jnp.asarray(sigma, dtype=float)
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


@technique(F=partial_of, sigma_data=lambda sigma_data: jnp.asarray(sigma_data, dtype=float))
def preconditioned(
    x_t: jax.Array, t: jax.Array, c: Any = None, /, *, F: Eps, schedule: Schedule, sigma_data: float = 0.5
) -> jax.Array:
    """ε̂ = (x̄ - D(x̄; σ))/σ of a network F(input, c_noise (B,), c).   [Karras et al. 2022, Eq. 7]"""
    t = jnp.broadcast_to(t, x_t.shape[:1])
    root = jnp.sqrt(at(schedule.alpha_bar, t, x_t))
    x_bar, sigma = x_t / root, at(schedule.std, t, x_t) / root
    total = sigma**2 + sigma_data**2
    out = F(x_bar / jnp.sqrt(total), jnp.log(sigma).reshape(-1) / 4, c)
    x0 = sigma_data**2 / total * x_bar + sigma * sigma_data / jnp.sqrt(total) * out
    return (x_bar - x0) / sigma
