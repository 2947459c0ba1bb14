"""The velocity as one more name of a prediction, on any Gaussian path.

    x = a x0 + b ε      u = ȧ x0 + ḃ ε      W = aḃ - ȧb      c = √(a² + b²)

Two of x, x0, ε, u determine the other two. The marginal velocity is u*(x, τ) = E[ȧ x0 + ḃ ε | x], so the same lines
hold for predictions.   [Lipman et al. 2023]   u: like x;  tau: () or (B,) in (0, 1). The velocity from x0 divides by b,
the one from ε by a, and the one from v by neither.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ddpm.flows.paths import Level, Path
from ddpm.tools import check


def level_for(path: Path, tau: Any, x: Any) -> Level:
    """The path at tau, shaped to multiply x (B, ...)."""
    tau = jnp.asarray(tau, dtype=float)
    if tau.ndim > 1 or (tau.ndim == 1 and tau.shape[0] != x.shape[0]):
        raise ValueError(f"tau has shape {tau.shape}; give one time () or one for each of the {x.shape[0]} images")
    check.number("tau", tau, 0, 1)
    return path.at(shaped(tau, x))


def shaped(a: Any, x: Any) -> jax.Array:
    """a () or (B,), one number for each image, shaped to multiply x (B, ...)."""
    a = jnp.asarray(a)
    return a if a.ndim == 0 else a.reshape(a.shape + (1,) * (x.ndim - 1))


def velocity_from_eps(path: Path, x: Any, tau: Any, eps: Any) -> jax.Array:
    """u = (ȧ/a) x + (W/a) ε, for a > 0"""
    p = level_for(path, tau, x)
    return (p.da * x + p.W * eps) / p.a


def eps_from_velocity(path: Path, x: Any, tau: Any, u: Any) -> jax.Array:
    """ε = (a u - ȧ x)/W"""
    p = level_for(path, tau, x)
    return (p.a * u - p.da * x) / p.W


def velocity_from_x0(path: Path, x: Any, tau: Any, x0: Any) -> jax.Array:
    """u = (ḃ/b) x - (W/b) x0, for b > 0"""
    p = level_for(path, tau, x)
    return (p.db * x - p.W * x0) / p.b


def x0_from_velocity(path: Path, x: Any, tau: Any, u: Any) -> jax.Array:
    """x0 = (ḃ x - b u)/W"""
    p = level_for(path, tau, x)
    return (p.db * x - p.b * u) / p.W


def velocity_from_score(path: Path, x: Any, tau: Any, score: Any) -> jax.Array:
    """u = (ȧ/a) x - (W b/a) ∇ log p_τ(x), for a > 0"""
    p = level_for(path, tau, x)
    return (p.da * x - p.W * p.b * score) / p.a


def score_from_velocity(path: Path, x: Any, tau: Any, u: Any) -> jax.Array:
    """∇ log p_τ(x) = -(a u - ȧ x)/(W b), for b > 0"""
    p = level_for(path, tau, x)
    return -(p.a * u - p.da * x) / (p.W * p.b)


def velocity_from_v(path: Path, x: Any, tau: Any, v: Any) -> jax.Array:
    """u = (ċ/c) x + (W/c) v, with v = (a ε - b x0)/c of the chain: finite at both ends of the linear path"""
    p = level_for(path, tau, x)
    return (p.dc * x + p.W * v) / p.c


def v_from_velocity(path: Path, x: Any, tau: Any, u: Any) -> jax.Array:
    """v = (c u - ċ x)/W; on the trigonometric path u = (π/2) v   [Lu and Song 2025, TrigFlow]"""
    p = level_for(path, tau, x)
    return (p.c * u - p.dc * x) / p.W
