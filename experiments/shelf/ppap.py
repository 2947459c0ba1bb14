"""PPAP: one rule for all noise levels classifies worse than a few experts, each for its range of times.

The claim: a classifier that was made for clean images can guide, if small experts adapt it to ranges of the noise, and
no labels are needed: the clean classifier's answers on generated images will do. Two Gaussian classes with a common
covariance make both parts exact. The best linear rule at time t is w_t ∝ Σ_t⁻¹ (μ_1 - μ_0), and it turns with t,
because the noise fills the narrow directions first; so the error of k rules, each best on the mean of its range, falls
with k to that of a rule for every t. Five ranges, as in the paper, get about three quarters of it. And the mean of p(c
| x0) over x0 ~ p(x0 | x_t) is p(c | x_t): answers of the clean classifier are right as targets. What does not carry
over: a network that is adapted, not fitted anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.forward import q_sample
from ddpm.samplers import exact_step
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row

PAPER = "Go et al. 2023, Towards Practical Plug-and-Play Diffusion Models (PPAP)"
MINUTES = 0.2
GAP, COV = np.array([1.5, 0.6]), np.array([1.0, 0.02])  # μ_1 - μ_0, and the variances of both classes
ANGLES = np.linspace(0, np.pi / 2, 721)
WAYS = np.stack([np.cos(ANGLES), np.sin(ANGLES)])  # directions w, (2, angles)


@dataclass(frozen=True)
class Config:
    """Numbers of rules, times that are measured, samples at each, and draws of x0 for each x_t."""

    rules: tuple[int, ...] = (1, 2, 5, 10, 50)
    times: int = 50
    n: int = 4000
    draws: int = 20_000
    seed: int = 0


QUICK = {"rules": (1, 5), "times": 10, "n": 1000, "draws": 4000}


def error(alpha_bar: np.ndarray) -> np.ndarray:
    """Φ(-√ᾱ wᵀΔ / 2√(wᵀΣ_t w)) for each time and direction, (times, angles)"""
    var_t = alpha_bar[:, None] * COV + 1 - alpha_bar[:, None]
    return norm.cdf(-np.sqrt(alpha_bar)[:, None] * (GAP @ WAYS) / (2 * np.sqrt(var_t @ WAYS**2)))


def run(config: Config) -> Result:
    """Compute the error of k rules over all times, and measure it; compare p(c | x_t) with the mean of p(c | x0)."""
    schedule = linear()
    t = np.linspace(1, schedule.T, config.times).round().astype(int)
    exact = error(np.asarray(schedule.alpha_bar, np.float64)[t])  # (times, angles)
    m = oracle.mixture(np.stack([-GAP / 2, GAP / 2]), np.stack([np.diag(COV)] * 2))
    key_x, key_noise, key = jax.random.split(jax.random.key(config.seed), 3)
    x0, label = m.sample(key_x, config.times * config.n)
    each = jnp.repeat(jnp.asarray(t), config.n)
    x_t = np.asarray(q_sample(schedule, x0, each, jax.random.normal(key_noise, x0.shape)))
    x_t, c = x_t.reshape(config.times, config.n, 2), np.asarray(label).reshape(config.times, config.n)
    rows: list[Row] = []
    curves: dict[str, np.ndarray] = {}
    for k in config.rules:
        parts = np.array_split(np.arange(config.times), min(k, config.times))
        best = np.concatenate([np.full(len(part), exact[part].mean(0).argmin()) for part in parts])
        curve = exact[np.arange(config.times), best]
        wrong = (np.einsum("tnd,dt->tn", x_t, WAYS[:, best]) > 0) != c
        se = np.sqrt((curve * (1 - curve)).sum() / config.n) / config.times
        what = f"{k} rules: error, mean over t" if k > 1 else "1 rule: error, mean over t"
        rows.append(Row(what, None, curve.mean(), wrong.mean(), se, within=4.5 * se, near=1.0))
        curves[str(k)] = curve
    # The clean classifier's answer on x0 ~ p(x0 | x_t), averaged, at three points and two times
    for at in (200, 500):
        points = jnp.array([[0.3, 0.1], [-0.2, 0.3], [0.8, -0.4]])
        many = jnp.repeat(points, config.draws, 0)
        x0 = exact_step(m, schedule)(jax.random.fold_in(key, at), many, jnp.asarray(at), jnp.asarray(0))
        answers = np.asarray(m.class_posterior(schedule, x0)[:, 1]).reshape(3, -1)
        exact_p = np.asarray(m.class_posterior(schedule, points, jnp.full(3, at))[:, 1])
        for i in range(3):
            se = answers[i].std(ddof=1) / np.sqrt(config.draws)
            what = f"t = {at}, point {i + 1}: p(c | x_t) from answers on x0"
            rows.append(Row(what, None, float(exact_p[i]), answers[i].mean(), se, within=4.5 * se, near=1.0))
    return Result(rows, None, {"t": t, "curves": curves, "angle": np.degrees(ANGLES[exact.argmin(1)])})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the error by t for each number of rules, above that of a rule for every t; and how the best rule turns."""
    with plot.style():
        figure = plot.new_figure(8.4, 3.0)
        left, right = figure.subplots(1, 2)
        t, curves = numbers["t"], {k: np.array(v) for k, v in numbers["curves"].items()}
        best = curves[max(curves, key=int)]
        for k, curve in curves.items():
            if curve is not best:
                left.plot(t, 100 * (curve - best), label=f"{k} rule{'s' if k != '1' else ''}")
        left.set(xlabel="t", ylabel="error above the best, %")
        left.legend(fontsize=7)
        right.plot(t, numbers["angle"])
        right.set(xlabel="t", ylabel="direction of the best rule, degrees")
    return figure
