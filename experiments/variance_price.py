"""IDDPM's motive, exactly: the price of a wrong reverse variance in bits/dim, and why fewer steps make it explode.

Ho et al. fix the variance of the reverse step to β or to β̃; Nichol and Dhariwal learn it, because likelihoods need it,
the more so with few steps. For data N(0, λ) the best variance of every step is known, the best bound is the entropy,
and the price of another variance is a sum: with r_t the fixed over the best variance, Σ_t ½ (1/r_t - 1 + log r_t). The
exact column is that sum in NumPy; ours is the library's bound with its fixed variances, integrated by a quadrature that
is exact for polynomials of this degree. β̃ costs .8 bits/dim at a thousand steps and 656 at ten; β costs about .15 at
either end. (At s = 0 both use the variance of the next step up, as in Ho et al.'s code; with another rule there the
numbers change, since the last step carries most of the price.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot
from ddpm.losses import bound
from ddpm.samplers.respacing import respace
from ddpm.samplers.variance import optimal
from ddpm.schedule import Schedule, linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Ho et al. 2020, Sec. 3.2; Nichol and Dhariwal 2021, Sec. 3.1"
MINUTES = 0.2


@dataclass(frozen=True)
class Config:
    """The variance of the data."""

    lam: float = 0.25


QUICK: dict = {}
STEPS = (1000, 500, 250, 100, 50, 25, 10)


def bound_by_quadrature(schedule: Schedule, lam: float, variance: object) -> float:
    """The sum of all terms in bits, expected over N(0, λ) and the noise: nine nodes, exact for degree 5."""
    nodes = np.array([(x, z) for x in (-1, 0, 1) for z in (-1, 0, 1)]) * np.sqrt(3.0)
    weights = np.array([a * b for a in (1, 4, 1) for b in (1, 4, 1)]) / 36
    T = schedule.T
    x0 = jnp.asarray(np.tile(np.sqrt(lam) * nodes[:, 0], T))[:, None]
    noise = jnp.asarray(np.tile(nodes[:, 1], T))[:, None]
    t = jnp.repeat(jnp.arange(1, T + 1), 9)
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    terms = bound.bound_term(eps, schedule, variance, bound.gaussian_nll)(x0, t, t - 1, noise)
    return float((np.asarray(terms).reshape(T, 9) @ weights).sum())


def price_by_formula(a: np.ndarray, lam: float, fixed: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Σ_t ½ (1/r - 1 + log r) in bits, r = fixed/best; best = Var(x_s | x_t) of the joint Gaussian of x_s and x_t."""
    s, t = a[:-1], a[1:]
    v_s, v_t = s * lam + 1 - s, t * lam + 1 - t
    best = v_s - (np.sqrt(t / s) * v_s) ** 2 / v_t
    beta = 1 - t / s
    tilde = beta * (1 - s) / (1 - t)
    tilde[0] = tilde[1]
    large = beta.copy()
    large[0] = tilde[1]
    r = fixed(large, tilde) / best
    return float(0.5 * (1 / r - 1 + np.log(r)).sum() / np.log(2))


def run(config: Config) -> Result:
    """Compute the price of β and of β̃ for several numbers of steps."""
    rows: list[Row] = []
    curves: dict[str, list[float]] = {"fixed_large": [], "fixed_small": []}
    full = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    with float64():
        for steps in STEPS:
            times = make_times(1000, steps, "linspace")
            schedule = respace(linear(), times)
            a = schedule.alpha_bar
            best = optimal((1 - a) / (a * config.lam + 1 - a))
            floor = bound_by_quadrature(schedule, config.lam, best)
            for name in curves:
                ours = bound_by_quadrature(schedule, config.lam, name) - floor
                pick = (lambda large, tilde: large) if name == "fixed_large" else (lambda large, tilde: tilde)
                exact = price_by_formula(full[times[::-1]], config.lam, pick)
                rows.append(
                    Row(f"{name}, {steps} steps, bits/dim above the best", None, exact, ours, within=1e-6, near=1e-3)
                )
                curves[name].append(ours)
    with plot.style():
        figure = plot.new_figure(4.8, 3.2)
        axes = figure.add_subplot()
        for name, mark in (("fixed_large", "o"), ("fixed_small", "s")):
            axes.plot(STEPS, curves[name], marker=mark, label={"fixed_large": "σ² = β", "fixed_small": "σ² = β̃"}[name])
        axes.set(xlabel="steps", ylabel="bits/dim above the best bound", xscale="log", yscale="log")
        axes.legend()
    return Result(rows, figure, {"lam": config.lam})
