"""TSDiff: a forecast by guidance has the right mean at one weight, and the right width at none.

The claim: an unconditional model of series can forecast, if the gradient of the error at the observed part guides it.
The series here is a stationary AR(1), of which the first half is observed with a little noise: the true forecast is
Gaussian and known. Sampling is affine, so the forecast of each rule is Gaussian too, and its CRPS against the truth has
a closed form. With the covariance of what is left open, the rule of `ddpm.oracles.rewards`, guidance is the posterior.
With a constant weight of the squared error it is not, at any of three: the smallest makes too little of the past, the
largest overshoots and is too sure. What does not carry over: the paper's networks see periodic series, where a good
mean matters more than the width.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.guides import by_value, misfit, plug_in
from ddpm.oracles.rewards import tilt_measured, value_of
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Kollovieh et al. 2023, TSDiff"
MINUTES = 0.3
UNCHECKED = "The exact column is the true forecast; that a constant weight misses it is the finding."
RHO, NOISE = 0.8, 0.01  # correlation of neighbours, variance of the observation


@dataclass(frozen=True)
class Config:
    """Length of the series, how much of it is observed, the weights, and DDIM steps."""

    length: int = 24
    observed: int = 12
    weights: tuple[float, ...] = (0.2, 2.0, 32.0)
    steps: int = 1000
    seed: int = 0


QUICK = {"length": 8, "observed": 4, "steps": 250}


def gap(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """E|Z| for Z ~ N(mean, std²)"""
    return std * np.sqrt(2 / np.pi) * np.exp(-0.5 * (mean / std) ** 2) + mean * (1 - 2 * norm.cdf(-mean / std))


def crps(mean: np.ndarray, std: np.ndarray, true_mean: np.ndarray, true_std: np.ndarray) -> float:
    """E CRPS(N(mean, std²), Y), Y ~ N(true): E|X - Y| - ½ E|X - X'|, on the mean of the forecast's points"""
    return float((gap(mean - true_mean, np.hypot(std, true_std)) - 0.5 * gap(0 * mean, np.sqrt(2) * std)).mean())


def run(config: Config) -> Result:
    """Compute the Gaussian that each rule forecasts, at the first point and by the CRPS of all."""
    D, n = config.length, config.observed
    cov = RHO ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))
    series = np.linalg.cholesky(cov) @ np.random.default_rng(config.seed).normal(size=D)
    A, y = np.eye(D)[:n], series[:n]
    with float64():
        schedule, m = linear(), oracle.gaussian(np.zeros(D), cov)
        tilted, log_Z = tilt_measured(m, A, y, NOISE)
        true_mean = np.asarray(tilted.mean[0])
        basis, var = np.asarray(tilted.basis[0]), np.asarray(tilted.var[0])
        true_std = np.sqrt(basis**2 @ var)
        eps = m.eps(schedule)
        values = {"right covariance": value_of(tilted, m, schedule, log_Z)} | {
            f"weight {w:g}": plug_in(reward=misfit(A, y, w), eps=eps, schedule=schedule) for w in config.weights
        }
        rows, fans = [], {"truth": (true_mean, true_std)}
        best = crps(*(a[n:] for a in (true_mean, true_std, true_mean, true_std)))
        for name, value in values.items():
            step = ddim_step(by_value(eps=eps, schedule=schedule, value=value), schedule)
            ends = walk(step, jax.random.key(0), jnp.eye(D + 1, D), make_times(1000, config.steps))  # e_1 … e_D, and 0
            mean, M = np.asarray(ends[-1]), np.asarray(ends[:-1] - ends[-1:])  # x_0 = mean + Mᵀ x_T
            std = np.sqrt((M**2).sum(0))
            right = 40 / config.steps if name == "right covariance" else None
            rows += [
                Row(f"{name}: mean, first forecast", None, true_mean[n], mean[n], within=right, near=0.5),
                Row(f"{name}: variance, first forecast", None, true_std[n] ** 2, std[n] ** 2, within=right),
                Row(f"{name}: CRPS", None, best, crps(mean[n:], std[n:], true_mean[n:], true_std[n:]), within=right),
            ]
            fans[name] = (mean, std)
    return Result(rows, None, {"series": series, "observed": n, "fans": fans})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the forecasts as bands of one standard deviation."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        names, n = [name for name in numbers["fans"] if name != "truth"], numbers["observed"]
        series, x = np.array(numbers["series"]), np.arange(len(numbers["series"]))
        true_mean, true_std = (np.array(a) for a in numbers["fans"]["truth"])
        for ax, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
            mean, std = (np.array(a) for a in numbers["fans"][name])
            ax.fill_between(x[n:], (true_mean - true_std)[n:], (true_mean + true_std)[n:], color="0.85", label="truth")
            ax.errorbar(x[n:], mean[n:], std[n:], fmt="o", ms=3, lw=1, label="forecast")
            ax.plot(x[:n], series[:n], ".-", color="0.3", label="observed")
            score = next(r["ours"] for r in rows if r["what"] == f"{name}: CRPS")
            ax.set_title(f"{name}: CRPS {score:.3f}", fontsize=9)
            ax.set_xlabel("time")
        figure.axes[0].set_ylabel("value")
        figure.axes[0].legend(fontsize=7)
    return figure
