"""AFA: averaging two models draws what neither knows; weights that depend on x_t draw the union.

The claim: several denoisers are best joined by weights that depend on x_t and t, not by an average. Two models know one
half of the data each, N(1, λ) and N(-1, λ), and each is exact for its half. With v = ᾱλ + 1 - ᾱ, E‖ε - ε̂‖² is

    one of the two   ᾱλ/v + 2ᾱ(1-ᾱ)/v²            their average   ᾱλ/v + ᾱ(1-ᾱ)/v²
    weights p(m | x_t)   ᾱλ/v + 4ᾱ(1-ᾱ)/v² E[p(1-p)],   the least: Σ_m p(m | x_t) ε̂_m is the denoiser of all data

What we see: at high noise the average is as good as the best weights, because x_t does not say yet whose image it is;
at t = 200 it errs three times as much. Sampling shows what the error means: the average of the two
predictions is the denoiser of N(0, λ), and so all samples lie between the halves, where no data are; the weights
p(m | x_t) draw both halves. What does not carry over: the paper's models know the same data and differ in style and
quality, and the weights are learned, inside the blocks of the network; here they are known, at its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit
from scipy.stats import norm

from ddpm import ddim_step, oracle, plot, q_sample, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Wang et al. 2024, Ensembling diffusion models via adaptive feature aggregation (AFA)"
MINUTES = 0.3
LAM = 0.05
WAYS = ("one model", "average", "weights p(m | x_t)")


@dataclass(frozen=True)
class Config:
    """Samples, the times at which errors are measured, and steps of the walk."""

    n: int = 20_000
    times: tuple[int, ...] = (100, 200, 300, 400, 500, 600, 800)
    steps: int = 200
    seed: int = 0


QUICK = {"n": 4_000, "times": (200, 600), "steps": 50}


def exact_errors(a: float) -> tuple[float, float, float]:
    """Mean squared errors of ε̂ in the three ways, at ᾱ = a; the last by quadrature of E[p(1-p)]"""
    v = a * LAM + 1 - a
    z = np.linspace(-9, 9, 4001)
    x = np.sqrt(a) + np.sqrt(v) * z  # x_t of the half at +1; the other half is its mirror image
    p = expit(2 * np.sqrt(a) * x / v)
    mixed = np.sum(p * (1 - p) * norm.pdf(z)) * (z[1] - z[0])
    least, gap = a * LAM / v, a * (1 - a) / v**2
    return least + 2 * gap, least + gap, least + 4 * gap * float(mixed)


def run(config: Config) -> Result:
    """Measure the error of each way by t, and what it samples."""
    schedule = linear()
    halves = [oracle.mixture([[m]], LAM) for m in (1.0, -1.0)]
    first, second = (half.eps(schedule) for half in halves)
    both = oracle.mixture([[1.0], [-1.0]], LAM)

    def weighted(x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
        p = both.posterior(schedule, x_t, t)[:, :1]  # p(m | x_t) of the half at +1
        return p * first(x_t, t, c) + (1 - p) * second(x_t, t, c)

    average = lambda x_t, t, c=None: (first(x_t, t, c) + second(x_t, t, c)) / 2  # noqa: E731
    ways: dict[str, Any] = dict(zip(WAYS, (first, average, weighted), strict=True))
    rows: list[Row] = []
    key_x, key_e, key_T = jax.random.split(jax.random.key(config.seed), 3)
    x0, eps = both.sample(key_x, config.n)[0], jax.random.normal(key_e, (config.n, 1))
    curves: dict[str, list[float]] = {name: [] for name in WAYS}
    for t in config.times:
        x_t = q_sample(schedule, x0, t, eps)
        for (name, denoiser), exact in zip(ways.items(), exact_errors(float(schedule.alpha_bar[t])), strict=True):
            error = np.asarray((eps - denoiser(x_t, t)) ** 2)
            spread = float(error.std() / np.sqrt(config.n))
            within = 0.01 + 5 * spread / exact
            rows.append(Row(f"t = {t}: ε-MSE, {name}", None, exact, float(error.mean()), spread, within=within))
            curves[name].append(exact)
        gap = float(jnp.abs(weighted(x_t, t) - both.eps(schedule)(x_t, t)).max())
        rows.append(Row(f"t = {t}: weighted less the denoiser of all data", None, 0.0, gap, within=1e-3, near=1.0))
    # What each way samples: the average is the denoiser of N(0, λ), and the flow keeps the share of x_T > 0
    x_T = jax.random.normal(key_T, (config.n, 1))
    drawn = {}
    for name, denoiser in ways.items():
        x = np.asarray(walk(ddim_step(denoiser, schedule), key_T, x_T, make_times(schedule.T, config.steps)))
        drawn[name] = np.histogram(x, np.linspace(-2, 2, 81), density=True)[0]
        sigma = float(np.sqrt(2 / config.n))
        moment, within = LAM + (name != "average"), 12 / config.steps + 5 * sigma  # DDIM is of first order
        second_moment = float(np.mean(x**2))
        rows.append(Row(f"samples, {name}: E x²", None, moment, second_moment, sigma * LAM, within=within))
        between = float(np.mean(np.abs(x) < 0.5))
        share = {"average": norm.cdf(0.5 / LAM**0.5) - norm.cdf(-0.5 / LAM**0.5)}.get(name)
        none = float(norm.cdf(-0.5 / LAM**0.5) - norm.cdf(-1.5 / LAM**0.5))
        rows.append(Row(f"samples, {name}: share between the halves, |x| < ½", None, float(share or none), between,
                        within=0.05, near=1.0))  # fmt: skip
    return Result(rows, None, {"times": config.times, "curves": curves, "drawn": drawn})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the errors by t, and what each way samples."""
    with plot.style():
        figure = plot.new_figure(8.8, 2.9)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        x = np.linspace(-2, 2, 81)
        middle = (x[1:] + x[:-1]) / 2
        truth = (norm.pdf(middle, 1, LAM**0.5) + norm.pdf(middle, -1, LAM**0.5)) / 2
        right.fill_between(middle, truth, color="0.87", label="all data")
        for name, y in numbers["curves"].items():
            left.semilogy(numbers["times"], y, "o-", ms=3, label=name)
            right.plot(middle, numbers["drawn"][name], lw=1.3, label=name)
        left.set(xlabel="t", ylabel="squared error of ε̂")
        right.set(xlabel="x", yticks=[], title="samples", ylim=(0, 2.4))
        left.legend(fontsize=7)
        right.legend(fontsize=7, ncols=2, loc="upper left")
    return figure
