"""Errors of solvers, straightness and the least loss of a flow, in closed form on Gaussian data.

On data N(μ, λ) in one eigendirection, with v = a²λ + b² and k = v̇/(2v), the velocity is linear,

    u*(x, τ) = ȧ μ + k (x - a μ),

so a solver with given times is an affine map of the noise, and every loss is an integral over τ. NumPy, float64. `var`
and `mean` are the eigenvalues λ and the mean in the eigenbasis, (D,) or numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ddpm.flows.paths import Path
from ddpm.tools import check

NODES = 200  # of the quadrature in τ


def _slope(path: Path, tau: float, var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k and ȧ - a k: the velocity is k x + (ȧ - a k) μ."""
    p = path.table(tau)
    k = (p.a * p.da * var + p.bdb) / (p.a**2 * var + p.b**2)
    return k, p.da - p.a * k


def linear_solution(path: Path, var: Any, tau: Any, method: str = "euler") -> tuple[np.ndarray, np.ndarray]:
    """(gain, shift): a solver with these times makes gain·x + shift·μ of x at tau[0]; each (D,).

    tau: (N+1,), monotonic in [0, 1];  method: `euler`, `heun` or `midpoint` (two calls a step).   From N(0, 1) at τ = 1
    the right gain is √λ and the right shift 1. On the linear path Euler's gain is √λ ∏cos(θ_i - θ_{i-1}),
    θ = atan(b/(a√λ)), that of DDIM.
    """
    tau = np.asarray(check.number("tau", tau, 0, 1), dtype=np.float64)
    steps = np.diff(tau) if tau.ndim == 1 else np.zeros(0)
    if not steps.size or not (np.all(steps < 0) or np.all(steps > 0)):
        raise ValueError(f"tau is {tau}; give at least two times in [0, 1] that fall, or rise")
    check.choice("method", method, ("euler", "heun", "midpoint"))
    var = np.atleast_1d(np.asarray(check.number("var", var, 0), dtype=np.float64))
    gain, shift = np.ones_like(var), np.zeros_like(var)
    for t, h in zip(tau[:-1], steps, strict=True):
        k, m = _slope(path, t, var)
        if method == "euler":
            gain, shift = gain + h * k * gain, shift + h * (k * shift + m)
            continue
        # the second call, after a full step (Heun) or half of it (midpoint)
        part = h if method == "heun" else h / 2
        k_2, m_2 = _slope(path, t + part, var)
        second_gain, second_shift = k_2 * (1 + part * k) * gain, k_2 * (shift + part * (k * shift + m)) + m_2
        if method == "heun":
            second_gain, second_shift = (second_gain + k * gain) / 2, (second_shift + k * shift + m) / 2
        gain, shift = gain + h * second_gain, shift + h * second_shift
    return gain, shift


def straightness(path: Path, var: Any, mean: Any = 0.0) -> np.ndarray:
    """S = ∫ E‖(x_1 - x_0) - u*(x_τ, τ)‖² dτ along the flow, 0 if each point moves on a line at one speed: (D,)

    In each direction ∫ (d√v/dτ)² dτ - (√v_1 - √v_0)² + μ² (∫ ȧ² dτ - (a_1 - a_0)²); on the linear path (2 - π/2) √λ.
    [Liu et al. 2023, Eq. 4]
    """
    var = np.atleast_1d(np.asarray(check.number("var", var, 1e-12), dtype=np.float64))
    tau, weight = _uniform_nodes(0.0)
    p = path.table(tau[:, None])
    speed = (p.a * p.da * var + p.bdb) / np.sqrt(p.a**2 * var + p.b**2)  # d√v/dτ
    ends = path.table(np.array([[0.0], [1.0]]))
    root = np.sqrt(ends.a**2 * var + ends.b**2)
    spread = weight @ speed**2 - (root[1] - root[0]) ** 2
    return spread + np.asarray(mean) ** 2 * (weight @ p.da[:, 0] ** 2 - (ends.a[1, 0] - ends.a[0, 0]) ** 2)


# --- the loss ---------------------------------------------------------------------------------------------------------


def loss_floor(path: Path, var: Any, times: str = "uniform", first: float = 0.0) -> float:
    """E ‖u* - (ȧ x0 + ḃ ε)‖²/D = mean_d ∫ p(τ) W² λ/v dτ of a Gaussian: the least flow-matching loss.

    No network goes below on Gaussian data, and data with the same covariance have a smaller floor. On the linear path
    with uniform times (π/2) mean √λ.   times: `uniform` in [first, 1], or `logit_normal` with mean 0 and deviation 1;
    a path on which ḃ is infinite at 0 (cosine, vp) has an infinite loss for uniform times from 0.
    """
    var = np.atleast_1d(np.asarray(check.number("var", var, 0), dtype=np.float64))
    tau, weight = _nodes(path, times, first)
    p = path.table(tau[:, None])
    return float((weight @ (p.W**2 * var / (p.a**2 * var + p.b**2))).mean())


def loss_at_zero(path: Path, var: Any, mean: Any = 0.0, times: str = "uniform", first: float = 0.0) -> float:
    """E ‖ȧ x0 + ḃ ε‖²/D, the loss of a network that predicts 0, as a new one does; any data of these moments.

    On the linear path 1 + E[x0²]: a loss that "begins near 2" belongs to data of variance 1.
    """
    second = float(np.mean(np.asarray(check.number("var", var, 0)) + np.asarray(mean) ** 2))
    tau, weight = _nodes(path, times, first)
    p = path.table(tau)
    return float(weight @ (p.da**2 * second + p.db**2))


@cache
def _uniform_nodes(first: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes in [first, 1], dense at its beginning, with weights that sum to 1."""
    z, weight = np.polynomial.legendre.leggauss(NODES)
    u = (z + 1) / 2  # τ = first + (1-first) u²
    return first + (1 - first) * u**2, weight * u


def _nodes(path: Path, times: str, first: float) -> tuple[np.ndarray, np.ndarray]:
    check.choice("times", times, ("uniform", "logit_normal"))
    check.number("first", first, 0, 0.999)
    if times == "logit_normal":
        z = np.linspace(-10, 10, NODES)  # the trapezium rule converges fast under the normal density
        weight = np.exp(-0.5 * z**2)
        return 1 / (1 + np.exp(-z)), weight / weight.sum()
    if first == 0 and path.table(0.0).bdb > 0:
        raise ValueError(f"first is 0, where the velocity of path {path.name!r} is infinite; give first above 0")
    return _uniform_nodes(first)
