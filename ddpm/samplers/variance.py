"""The variance of the reverse step: four choices of σ² in p(x_s | x_t) = N(mean(x_t, x̂0), σ² I).

    variance : (schedule, x_t, t, s, c) -> σ²            () or (B, 1, ...), or like x_t where it is learned

`fixed_small` β̃ is exact if the data are one point and `fixed_large` β if they are N(0, I): the two ends of what is
possible.   [Ho et al. 2020, Sec. 3.2]   `learned` lets the network choose between them for each pixel; `optimal` gives
the best number for each time, from the size of ε̂. At s = 0 β̃ vanishes and so would every likelihood: there the first
three use β̃ of the step t+1 → t, the rule of Ho's released code. Samplers add no noise at s = 0, whatever σ² is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of, technique
from ddpm.forward import at, q_sample
from ddpm.sample import _beta, _beta_tilde, beta_tilde_clipped
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.partials import check_denoiser

# --- learned ----------------------------------------------------------------------------------------------------------


def _halves(net: Eps, x_t: jax.Array, t: jax.Array, c: Any) -> list[jax.Array]:
    out = net(x_t, t, c)
    if out.shape[-1] != 2 * x_t.shape[-1]:
        raise ValueError(f"the network gives {out.shape[-1]} channels; learned variance wants {2 * x_t.shape[-1]}")
    return jnp.split(out, 2, axis=-1)


@technique(net=partial_of)
def eps_half(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps) -> jax.Array:
    """Take the first half of a network's output channels, the denoiser: (..., 2C) -> (..., C).

    With `v_half` the network is called twice in the text and once in the compiled program.
    """
    return _halves(net, x_t, t, c)[0]


@technique(net=partial_of)
def v_half(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps) -> jax.Array:
    """Take the second half of a network's output channels: v in [-1, 1], for `learned`."""
    return _halves(net, x_t, t, c)[1]


@technique(v=partial_of)
def learned(schedule: Schedule, x_t: jax.Array, t: Any, s: Any, c: Any = None, /, *, v: Eps) -> jax.Array:
    """σ² = exp(f log β + (1-f) log β̃), f = (v+1)/2, pixel by pixel.   [Nichol and Dhariwal 2021, Eq. 15]

    v: (x_t, t, c) -> like x_t, in [-1, 1], such as `v_half(net)`; -1 is `fixed_small`, 1 is β.
    """
    f = (v(x_t, jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1]), c) + 1) / 2
    low = jnp.log(beta_tilde_clipped(schedule, x_t, t, s))
    return jnp.exp(f * jnp.log(_beta(schedule, x_t, t, s)) + (1 - f) * low)


# --- optimal ----------------------------------------------------------------------------------------------------------


@technique(gamma=lambda gamma: jnp.asarray(check.number("gamma", gamma, 0)))
def optimal(schedule: Schedule, x_t: jax.Array, t: Any, s: Any, c: Any = None, /, *, gamma: Any) -> jax.Array:
    """σ*² = β̃ + c0² Var(x0 | x_t), Var(x0 | x_t) = (1-ᾱ_t)/ᾱ_t (1-Γ_t), c0 = √ᾱ_s β/(1-ᾱ_t).

    The variance that maximises the bound, for one number at each time.   [Bao et al. 2022, Analytic-DPM, Theorem 1]
    gamma: (T+1,) Γ_t = E‖ε̂(x_t, t)‖²/D, from `noise_power`. At s = 0 it is Var(x0 | x_t), without the clipping above.
    """
    check.by_time("gamma", gamma, schedule.T)
    alpha_bar_t, alpha_bar_s = at(schedule.alpha_bar, t, x_t), at(schedule.alpha_bar, s, x_t)
    c0 = jnp.sqrt(alpha_bar_s) * _beta(schedule, x_t, t, s) / (1 - alpha_bar_t)
    # Var(x0 | x_t); where ᾱ_t = 0 and Γ says nothing, that of the time below
    k = t - (schedule.alpha_bar[t] == 0)
    alpha_bar_k = at(schedule.alpha_bar, k, x_t)
    var_x0 = (1 - alpha_bar_k) / alpha_bar_k * jnp.maximum(1 - at(gamma, k, x_t), 0)
    return _beta_tilde(schedule, x_t, t, s) + c0**2 * var_x0


def noise_power(
    eps: Eps, schedule: Schedule, key: jax.Array, x0: jax.Array, c: jax.Array | None = None, times: Any = None
) -> jax.Array:
    """Γ_t = E‖ε̂(x_t, t, c)‖²/D over images x0 and noise: (T+1,), for `optimal`.   [Bao et al. 2022, Sec. 3]

    times: where to measure, all of 1…T if None; between them Γ is interpolated. Γ_0 = 0.
    """
    times = np.arange(1, schedule.T + 1) if times is None else np.unique(times)
    check.times(int(times.min()), x0, schedule.T)
    check.times(int(times.max()), x0, schedule.T)
    check_denoiser(times, eps=eps, c=c)
    power = _noise_power(partial_of(eps), schedule, key, x0, c, jnp.asarray(times))
    return jnp.interp(jnp.arange(schedule.T + 1), jnp.append(0, times), jnp.append(0.0, power))


@jax.jit
def _noise_power(eps: Eps, schedule: Schedule, key: jax.Array, x0: jax.Array, c: Any, times: jax.Array) -> jax.Array:
    def at_time(t: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, t), x0.shape, x0.dtype)
        return (eps(q_sample(schedule, x0, t, noise), jnp.broadcast_to(t, x0.shape[:1]), c) ** 2).mean()

    return jax.lax.map(at_time, times)
