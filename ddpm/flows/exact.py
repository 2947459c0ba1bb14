"""Exact velocities, flow maps and likelihoods of data of known distribution, on any Gaussian path.

The marginal velocity u*(x, τ) = E[ȧ x0 + ḃ ε | x_τ = x] moves N(0, b(1)² I) to the data along dx/dτ = u*. It comes from
the oracles of this library: they know the chain, and x_τ/c is one of its states (`ddpm.flows.paths`).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Partial, partial_of, technique
from ddpm.flows.conversions import level_for, velocity_from_v
from ddpm.flows.paths import Path, levels
from ddpm.forward import v_from_x0
from ddpm.networks.heads import v_from_eps
from ddpm.oracle import Mixture
from ddpm.oracles.finite_set import FiniteSet
from ddpm.oracles.gaussian import exact_v, teleport
from ddpm.schedule import Schedule
from ddpm.tools import check


@technique()
def exact_velocity(x: jax.Array, tau: Any, c: Any = None, /, *, data: Any, path: Path) -> jax.Array:
    """u*(x, τ, c) = (ċ/c) x + (W/c) v*(x/c) of a Mixture, a FiniteSet, or any oracle with `eps(schedule)`.

    x: (B, ...);  tau: () or (B,) in [0, 1];  c: (B,) labels, or None for all. Of a Mixture and of a
    FiniteSet it is finite at τ = 1. At τ = 0 a FiniteSet has none, nor has a path on which ḃ is infinite (cosine, vp).
    Other oracles want 0 < τ < 1.
    """
    schedule, p = levels(path, tau), level_for(path, tau, x)
    t = jnp.ones((), int) if jnp.ndim(tau) == 0 else 1 + jnp.arange(x.shape[0])
    return velocity_from_v(path, x, tau, _exact_v(data, schedule, x / p.c, t, c))


def _exact_v(data: Any, schedule: Schedule, x_t: jax.Array, t: Any, c: Any) -> jax.Array:
    if isinstance(data, Mixture):
        return exact_v(data, schedule)(x_t, t, c)
    if isinstance(data, FiniteSet):
        return v_from_x0(schedule, x_t, t, data.answer(schedule, x_t, t, c).x0)
    return v_from_eps(schedule, x_t, t, data.eps(schedule)(x_t, t, c))


def gaussian_map(m: Mixture, path: Path, x: jax.Array, t: float, s: float, c: Any = None) -> jax.Array:
    """Φ(x, t→s) = a_s μ + √(v_s/v_t) (x - a_t μ), v = a²λ + b² in each eigendirection: the flow of a Gaussian.

    m: one Gaussian, or one for each class together with labels c (B,). On every path with a(1) = 0,
    Φ(ε, 1→0) = μ + √λ ε.
    """
    p_t, p_s = path.at(t), path.at(s)
    return p_s.c * teleport(m, levels(path, jnp.asarray([s, t], dtype=float)), x / p_t.c, 1, 2, c)


def quantile_map(m: Mixture, path: Path, x: Any, t: float, s: float) -> np.ndarray:
    """Φ(x, t→s) = F_s⁻¹(F_t(x)) of a one-dimensional mixture: every flow on the line is its quantile map.

    x: (B, 1)  ->  (B, 1) float64, by bisection. Beyond the tails that float64 resolves (F = 1e-300) it is not exact.
    """
    from scipy.special import log_ndtr, logsumexp

    if m.mean.shape[1] != 1:
        raise ValueError(
            f"this mixture has {m.mean.shape[1]} dimensions; the quantile map is that of one. Use integrate"
        )
    log_w, mean, var = (np.asarray(a, dtype=np.float64).reshape(-1) for a in (m.log_weight, m.mean, m.var))

    def log_F(x: np.ndarray, tau: float, sign: np.ndarray) -> np.ndarray:
        """log F_τ(x) where sign = 1 and log(1 - F_τ(x)) where sign = -1: (B,)"""
        p = path.table(tau)
        z = (x[:, None] - p.a * mean) / np.sqrt(p.a**2 * var + p.b**2)
        return logsumexp(log_w + log_ndtr(sign[:, None] * z), axis=1)

    x = np.asarray(x, dtype=np.float64)
    sign = np.where(log_F(x[:, 0], t, np.ones(len(x))) < math.log(0.5), 1.0, -1.0)  # the tail that keeps its digits
    wanted = log_F(x[:, 0], t, sign)
    reach = np.abs(x).max() + 1 + (np.abs(mean) + 40 * np.sqrt(var + 1)).max()
    low, high = np.full(len(x), -reach), np.full(len(x), reach)
    for _ in range(70):
        middle = (low + high) / 2
        below = sign * (log_F(middle, s, sign) - wanted) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return ((low + high) / 2)[:, None]


# --- by a solver ------------------------------------------------------------------------------------------------------


def _solve(f: Any, y: np.ndarray, t: float, s: float, rtol: float) -> np.ndarray:
    """y at s of dy/dτ = f(τ, y), by Dormand and Prince's method of order 8 with error control, in float64."""
    from scipy.integrate import solve_ivp

    check.number("t", t, 0, 1)
    check.number("s", s, 0, 1)
    if jnp.zeros((), float).dtype != jnp.float64:
        raise ValueError("rtol needs float64, which JAX rounds to float32 now; run inside jax.enable_x64(True)")

    def finite(tau: float, y: np.ndarray) -> np.ndarray:  # with a NaN the solver would not end
        if not np.all(np.isfinite(dy := f(tau, y))):
            raise ValueError(f"the velocity is not finite at τ = {tau:.4g}; begin and end where it is")
        return dy

    solution = solve_ivp(finite, (t, s), y, method="DOP853", rtol=rtol, atol=rtol)
    if not solution.success:
        raise ValueError(f"the velocity cannot be integrated from τ = {t} to {s}: {solution.message}")
    return solution.y[:, -1]


def integrate(velocity: Eps, x: jax.Array, t: float, s: float, c: Any = None, rtol: float = 1e-10) -> np.ndarray:
    """Φ(x, t→s) of any velocity (x, τ, c) -> u, by an adaptive solver of order 8 in float64: like x."""
    velocity, shape = jax.jit(partial_of(velocity)), x.shape

    def slope(tau: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(velocity(jnp.asarray(y.reshape(shape)), jnp.asarray(tau), c)).reshape(-1)

    return _solve(slope, np.asarray(x, dtype=np.float64).reshape(-1), t, s, rtol).reshape(shape)


def log_prob(
    velocity: Eps, path: Path, x0: jax.Array, c: Any = None, first: float = 0.0, rtol: float = 1e-10
) -> np.ndarray:
    """log p(x0) = log N(x_1; 0, b(1)² I) + ∫ ∇·u dτ along the flow from x0, in nats: (B, D) -> (B,)

    [Chen et al. 2018, Eq. 8]   With the exact divergence, for small D.   first: the time of x0, above 0 where the
    velocity has no value at 0. Exact where a(1) = 0; elsewhere the distribution at τ = 1 is only nearly that Gaussian.
    """
    velocity, (B, D) = partial_of(velocity), x0.shape

    @jax.jit
    def slope(tau: jax.Array, x: jax.Array) -> jax.Array:
        def one(x_i: jax.Array, c_i: Any) -> jax.Array:
            return velocity(x_i[None], tau, None if c_i is None else c_i[None])[0]

        jacobian = jax.vmap(jax.jacfwd(one), in_axes=(0, None if c is None else 0))(x, c)  # (B, D, D)
        return jnp.append(velocity(x, tau, c).reshape(-1), jnp.trace(jacobian, axis1=1, axis2=2))

    def f(tau: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(slope(jnp.asarray(tau), jnp.asarray(y[: B * D].reshape(B, D))))

    y = _solve(f, np.append(np.asarray(x0, dtype=np.float64).reshape(-1), np.zeros(B)), first, 1.0, rtol)
    x_1, b = y[: B * D].reshape(B, D), float(path.table(1.0).b)
    return -0.5 * (x_1**2).sum(1) / b**2 - 0.5 * D * math.log(2 * math.pi * b**2) + y[B * D :]


def reflowed(m: Mixture, path: Path) -> Partial:
    """The velocity that reflow learns on pairs (x_1, Φ(x_1, 1→0)) of a Gaussian, on straight lines between the two.

    u(x, τ) = (x_1 - x_0)(x) with x = (1-τ) x_0 + τ x_1 inverted: constant along each line, so that one step of Euler's
    method from τ = 1 is exact.   [Liu et al. 2023, Sec. 3]
    """
    if m.mean.shape[0] != 1:
        raise ValueError(f"this mixture has {m.mean.shape[0]} components; reflow has a closed form for one Gaussian")
    return Partial(partial(_reflowed, path=path), m)


def _reflowed(m: Mixture, x: jax.Array, tau: Any, c: Any = None, *, path: Path) -> jax.Array:
    p, flat = path.at(1.0), x.reshape(x.shape[0], -1)
    tau = jnp.broadcast_to(jnp.asarray(tau, dtype=float).reshape(-1, 1), flat.shape)
    mean, var = (jnp.broadcast_to(a, flat.shape) for a in (m.mean, m.var))
    # x_0 = μ + √λ z and x_1 = a_1 μ + √v_1 z, in the eigenbasis
    root_0, root_1 = jnp.sqrt(var), jnp.sqrt(p.a**2 * var + p.b**2)
    z = (flat - (1 - tau + tau * p.a) * mean) @ m.basis[0] / ((1 - tau) * root_0 + tau * root_1)
    return ((p.a - 1) * mean + (z * (root_1 - root_0)) @ m.basis[0].T).reshape(x.shape)
