"""Typicality in closed form: T(x|c) on two Gaussians, and when it is the log-likelihood ratio.

Diff-mining ranks patches by T(x|c) = E_{t,ε}[L(x, ∅) - L(x, c)]. On two Gaussians at ±1 with variance .25 everything is
an integral over one noise: the exact column is that quadrature in NumPy; ours draws (t, ε) pairs as on images. There
are three things to see. A point half-way between the classes tells nothing about the class (log p(x|c)/p(x) = 0) and
yet has T < 0: the average over noise levels is not a likelihood. With the weights that the variational bound gives to
noise levels, ½ ∫ (L_∅ - L_c) d(log SNR), it is exactly log p(x|c) - log p(x): typicality is then pointwise mutual
information. And sharing the noise between the two terms divides the variance of the estimate by 25 (t = 300, 784
dimensions, classes as far apart as pullovers and coats): this is why a hundred draws are enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot, typicality
from ddpm.contracts import Partial
from ddpm.schedule import Schedule, linear
from ddpm.typicality import time_window
from experiments.lab.runner import Result, Row

PAPER = "Siglidis et al. 2024, Sec. 3 (definition)"
MINUTES = 0.5
POINTS = (-1.0, 0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Config:
    """The number of pairs (t, ε), and the seed."""

    draws: int = 20_000
    seed: int = 0


QUICK = {"draws": 2000}


def losses(a: np.ndarray, x0: float) -> tuple[np.ndarray, np.ndarray]:
    """E_ε of the ε-error without and with the class, for each ᾱ in a: quadrature in float64."""
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w, a = w / w.sum(), a[:, None]
    x_t = np.sqrt(a) * x0 + np.sqrt(1 - a) * z
    var = a * 0.25 + 1 - a
    given, other = (np.sqrt(1 - a) * (x_t - np.sqrt(a) * m) / var for m in (1, -1))
    r = 1 / (1 + np.exp(-2 * np.sqrt(a) * x_t / var))
    return ((z - r * given - (1 - r) * other) ** 2) @ w, ((z - given) ** 2) @ w


def two_far(m: jax.Array, schedule: Schedule, var: float, x_t: jax.Array, t: jax.Array, c: jax.Array) -> jax.Array:
    """ε* of N(m_c, var I): √(1-ᾱ) (x_t - √ᾱ m_c)/(ᾱ var + 1-ᾱ)"""
    a = schedule.alpha_bar[t][:, None]
    return jnp.sqrt(1 - a) * (x_t - jnp.sqrt(a) * m[c]) / (a * var + 1 - a)


def pointwise_information(x0: float) -> float:
    """log p(x0 | +1) - log p(x0)"""
    log_c, log_other = -2 * (x0 - 1) ** 2, -2 * (x0 + 1) ** 2
    return float(log_c - np.logaddexp(log_c, log_other) + np.log(2))


def run(config: Config) -> Result:
    """Evaluate T at points, its integral over log SNR, and the gain from shared noise."""
    schedule, key = linear(), jax.random.key(config.seed)
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    eps = oracle.mixture([[1.0], [-1.0]], 0.25).eps(schedule)
    rows = []
    x0 = np.array(POINTS, np.float32)[:, None]
    for t_range in ((0.0, 1.0), (0.1, 0.7)):
        T = typicality.measure(eps, schedule, x0, 0, key, typicality.Draws(config.draws, t_range))
        a = alpha_bar[slice(*time_window(1000, t_range))]
        for x, value, error in zip(POINTS, T.value, T.stderr, strict=True):
            null, given = losses(a, x)
            exact = float((null - given).mean())
            rows.append(
                Row(f"T({x:g} | +1), t in ({t_range[0]:g}T, {t_range[1]:g}T]", None, exact, float(value), float(error),
                    within=5 * float(error) / max(abs(exact), 1e-9))
            )  # fmt: skip
    lam = np.linspace(-14, 14, 20_001)  # log SNR
    for x in POINTS:
        null, given = losses(1 / (1 + np.exp(-lam)), x)
        value = float(0.5 * np.trapezoid(null - given, lam))
        rows.append(
            Row(
                f"½∫(L_∅ - L_c) dλ at {x:g}, for log p(x|c)/p(x)",
                None,
                pointwise_information(x),
                value,
                within=2e-3,
                near=0.1,
            )
        )
    D, distance2, var = 784, 24.7, 0.348
    m = np.zeros((2, D), np.float32)
    m[0, 0] = np.sqrt(distance2)
    far = Partial(two_far, jnp.asarray(m), schedule, var)
    x0 = m[:1] + np.random.default_rng(config.seed).normal(0, var**0.5, (1, D)).astype(np.float32)
    at_300 = partial(typicality.Draws, config.draws, (0.299, 0.3))
    free, shared = (
        typicality.measure(far, schedule, x0, 0, key, at_300(paired=paired), null=1).stderr[0] ** 2
        for paired in (False, True)
    )
    ratio, a_300 = float(free / shared), float(alpha_bar[300])
    squares = float(((x0 - m) ** 2).sum())  # ‖x0 - m_c‖² of both classes
    exact = (D * a_300 * var**2 / (1 - a_300) + squares) / distance2
    error = ratio * math.sqrt(4 / config.draws)  # a variance from n draws is off by √(2/n) of itself
    rows.append(Row("variance, unpaired / paired, t = 300", None, exact, ratio, error, within=5 * error / exact))
    with plot.style():
        figure = plot.new_figure(8.4, 3.0)
        left, right = figure.subplots(1, 2)
        grid = np.linspace(-2, 3, 101)
        for t_range in ((0.0, 1.0), (0.1, 0.7)):
            a = alpha_bar[slice(*time_window(1000, t_range))]
            left.plot(
                grid,
                [np.subtract(*losses(a, u)).mean() for u in grid],
                label=f"T, t in ({t_range[0]:g}T, {t_range[1]:g}T]",
            )
        left.plot(grid, [pointwise_information(u) for u in grid], label="log p(x|c)/p(x)")
        left.axhline(0, color="#bdc3c7", linewidth=0.8, linestyle="-")
        left.set(xlabel="x", ylabel="T(x | +1), and nats", ylim=(-3, 1))
        left.legend(fontsize=7)
        all_t = np.arange(1, 1001)
        for u in (-1.0, 0.0, 1.0):
            right.plot(all_t, np.subtract(*losses(alpha_bar[1:], u)), label=f"x = {u:g}")
        right.set(xlabel="t", ylabel=r"$E_ε[L_∅ - L_c]$ at x")
        right.legend(fontsize=7)
    return Result(rows, figure, {"draws": config.draws, "seed": config.seed})
