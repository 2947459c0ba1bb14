"""Where score distillation ends, exactly: its expectation over t and ε, and the images at which that is 0.

On data N(μ, Σ), with Σ_t = ᾱ_t Σ + (1-ᾱ_t) I,

    E[SDS] = mean_t w_t √(ᾱ_t (1-ᾱ_t)) Σ_t⁻¹ (x - μ):

every image goes to μ, whatever Σ is. On a mixture the fixed points depend on the times: large t see one broad heap, and
pull between the modes; with guidance they lie outside of the data.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Partial, partial_of
from ddpm.distillation.gradients import WINDOW, weights
from ddpm.oracle import Mixture
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.typicality import time_window


def expected_sds(
    eps: Eps, schedule: Schedule, x: Any, c: Any = None, t_range: tuple[float, float] = WINDOW, weight: Any = None,
    nodes: int = 64,
) -> jax.Array:  # fmt: skip
    """mean_t w_t E_ε ε̂(√ᾱ_t x + √(1-ᾱ_t) ε, t, c) of numbers x (B, 1), by Gauss-Hermite quadrature: (B, 1)

    c: labels (B,), or None;  t_range, weight: as in `sds`, over all times of the window.
    """
    x = jnp.asarray(x, dtype=float)
    if x.ndim != 2 or x.shape[1] != 1:
        raise ValueError(f"x has shape {x.shape}; give numbers (B, 1): the quadrature is over one dimension")
    z, w = np.polynomial.hermite_e.hermegauss(check.whole("nodes", nodes, 2, 180))
    times = jnp.arange(*time_window(schedule.T, t_range))
    c = None if c is None else jnp.repeat(jnp.asarray(c), nodes)
    quadrature = jnp.asarray(z, x.dtype), jnp.asarray(w / w.sum(), x.dtype)
    return _expected(partial_of(eps), schedule, x, c, times, weights(schedule, weight), quadrature)


@jax.jit
def _expected(
    eps: Partial, schedule: Schedule, x: jax.Array, c: Any, times: jax.Array, weight: jax.Array, quadrature: Any
) -> jax.Array:
    z, w = quadrature

    def at_time(t: jax.Array) -> jax.Array:
        a = schedule.alpha_bar[t].astype(x.dtype)
        x_t = jnp.sqrt(a) * x + jnp.sqrt(1 - a) * z[None]  # (B, nodes)
        predicted = eps(x_t.reshape(-1, 1), jnp.full(x_t.size, t), c).reshape(x_t.shape)
        return weight[t] * jnp.sum(predicted * w[None], axis=1)

    return jax.lax.map(at_time, times).mean(0)[:, None]


def fixed_point(
    eps: Eps, schedule: Schedule, low: float, high: float, label: int | None = None,
    t_range: tuple[float, float] = WINDOW, weight: Any = None,
) -> float:  # fmt: skip
    """A number x in (low, high) at which E[SDS] is 0 and to which it leads, by Brent's method.

    E[SDS] has to be negative at low and positive at high, since x moves against it. label: the class c, None for none.
    """
    from scipy.optimize import brentq

    c = None if label is None else jnp.array([label])

    def field(x: float) -> float:
        return float(expected_sds(eps, schedule, jnp.array([[x]]), c, t_range, weight)[0, 0])

    ends = [field(x) for x in (low, high)]
    if not ends[0] < 0 < ends[1]:
        raise ValueError(f"E[SDS] is {ends[0]:.3g} at low = {low} and {ends[1]:.3g} at high = {high}; widen the range")
    return float(brentq(field, low, high, xtol=1e-8))


def gaussian_sds(
    m: Mixture, schedule: Schedule, x: Any, t_range: tuple[float, float] = WINDOW, weight: Any = None
) -> np.ndarray:
    """E[SDS] on one Gaussian in closed form: (B, D) float64"""
    if m.mean.shape[0] != 1:
        raise ValueError(f"this mixture has {m.mean.shape[0]} components; the closed form is that of one")
    mean, basis, var = (np.asarray(a, np.float64)[0] for a in (m.mean, m.basis, m.var))
    t = np.arange(*time_window(schedule.T, t_range))
    a, w = (np.asarray(table, np.float64)[t, None] for table in (schedule.alpha_bar, weights(schedule, weight)))
    slope = (w * np.sqrt(a * (1 - a)) / (a * var + 1 - a)).mean(0)  # (D,)
    return ((np.asarray(x, np.float64).reshape(len(x), -1) - mean) @ basis * slope) @ basis.T


def own_gaussian(x: jax.Array) -> Mixture:
    """The Gaussian of the particles x (B, D), made inside `jit`: its `eps` is the `own` of VSD."""
    mean = x.mean(0, keepdims=True)
    cov = jnp.matmul((x - mean).T, x - mean, precision="highest") / x.shape[0]
    var, basis = jnp.linalg.eigh(cov)
    return Mixture(jnp.zeros(1, x.dtype), mean, basis[None], jnp.maximum(var, 0)[None], jnp.zeros(1, jnp.int32))
