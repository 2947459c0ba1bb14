"""LaCon: a condition read out of inner features guides like the measurement itself, if the features hold it.

The claim: a small regressor reads a condition y, such as a layout, out of the inner features of a denoiser, and the
gradient of its error guides; nothing else is trained. On a Gaussian, with y = A x0 and features f = F x_t, the best
regressor is linear, B_t = √ᾱ A Σ Fᵀ (F Σ_t Fᵀ)⁻¹. If F loses nothing, B_t f is A x̂0(x_t): LaCon is then guidance by
the measurement (see `steered`), and with the regressor's own error covariance as weight it draws from p(x0 | y). What
we see: ridge regression from 3,000 samples at each t is enough for this. Features of half the dimension read y worse,
and what is guided by them misses y. One weight for all t, as with a plain squared error, draws y too exactly or too
loosely. What does not carry over: the features of a network are not linear, and how much they hold is measured only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.contracts import Partial
from ddpm.guides import by_value
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "LaCon: Late-Constraint Controllable Visual Generation (Liu et al. 2023)"
MINUTES = 0.3
UNCHECKED = "The exact column is p(x0 | y); that half of the features and one weight for all t miss it is the finding."
D, NOISE = 6, 0.05  # dimensions, and the variance with which y is measured


@dataclass(frozen=True)
class Config:
    """Samples of the regression at each t, samples drawn, DDIM steps, and the constant weights."""

    fitted: int = 3000
    n: int = 1000
    steps: int = 250
    weights: tuple[float, ...] = (2.0, 20.0)
    seed: int = 0


QUICK = {"fitted": 1000, "n": 200, "steps": 60, "weights": (2.0,)}


def read(x_t: jax.Array, t: Any, c: Any, BF: jax.Array, weight: jax.Array, y: jax.Array) -> jax.Array:
    """-½ (B_t f - y)ᵀ weight_t (B_t f - y), (B,)"""
    gap = jnp.einsum("byd,bd->by", BF[t], x_t) - y[None]
    return -0.5 * jnp.einsum("by,byz,bz->b", gap, weight[t], gap)


def run(config: Config) -> Result:
    """Fit the regressors, guide by them, and compare mean and spread of A x0 with p(x0 | y)."""
    rng = np.random.default_rng(config.seed)
    root, A = rng.normal(size=(D, D)) / 2, np.linalg.qr(rng.normal(size=(D, 2)))[0].T
    cov, y = root @ root.T + 0.1 * np.eye(D), np.array([1.0, -0.5])
    S = A @ cov @ A.T + NOISE * np.eye(2)
    mean, spread = A @ cov @ A.T @ np.linalg.solve(S, y), A @ cov @ A.T
    spread = np.sqrt(np.diag(spread - spread @ np.linalg.solve(S, spread)))
    rows, drawn = list[Row](), {}
    with float64():
        schedule, m = linear(), oracle.gaussian(np.zeros(D), cov)
        a_bar, times = np.asarray(schedule.alpha_bar), make_times(1000, config.steps)
        full = rng.normal(size=(D, D))
        fits = {}
        for name, F in (("all features", full), ("half of the features", full[: D // 2])):
            BF, weight, worst = np.zeros((1001, 2, D)), np.zeros((1001, 2, 2)), 0.0
            for t in times[:-1]:
                x0 = rng.normal(size=(config.fitted, D)) @ np.linalg.cholesky(cov).T
                x_t = np.sqrt(a_bar[t]) * x0 + np.sqrt(1 - a_bar[t]) * rng.normal(size=x0.shape)
                f, target = x_t @ F.T, x0 @ A.T + NOISE**0.5 * rng.normal(size=(config.fitted, 2))
                B = np.linalg.solve(f.T @ f + 1e-3 * np.eye(len(F)), f.T @ target)
                BF[t], weight[t] = B.T @ F, np.linalg.inv(np.cov((target - f @ B).T))
                exact = np.sqrt(a_bar[t]) * A @ cov @ F.T
                exact = exact @ np.linalg.inv(F @ (a_bar[t] * cov + (1 - a_bar[t]) * np.eye(D)) @ F.T) @ F
                worst = max(worst, float(np.abs(BF[t] - exact).max()))
            fits[name] = BF, weight
            close = 12 / config.fitted**0.5
            rows.append(Row(f"{name}: largest error of B_t F", None, 0.0, worst, within=close, near=1.0))
        ways = {name: (BF, weight) for name, (BF, weight) in fits.items()}
        BF, ones = fits["all features"][0], np.tile(np.eye(2), (1001, 1, 1))
        ways |= {f"all features, weight {w:g} for all t": (BF, w * ones) for w in config.weights}
        x_T, eps = jax.random.normal(jax.random.key(config.seed), (config.n, D)), m.eps(schedule)
        for name, (BF, weight) in ways.items():
            value = Partial(read, BF=jnp.asarray(BF), weight=jnp.asarray(weight), y=jnp.asarray(y))
            step = ddim_step(by_value(eps=eps, schedule=schedule, value=value), schedule)
            got = np.asarray(walk(step, jax.random.key(0), jnp.asarray(x_T, float), times)) @ A.T
            for i in range(2):
                what = f"{name}: A x0, number {i + 1}"
                se = float(got[:, i].std() / config.n**0.5)
                close = 4.5 * float(spread[i]) / config.n**0.5 + 4 / config.steps if name == "all features" else None
                rows.append(
                    Row(f"{what}, mean", None, float(mean[i]), float(got[:, i].mean()), se, within=close, near=1)
                )
                rows.append(
                    Row(f"{what}, spread", None, float(spread[i]), float(got[:, i].std()), within=close, near=1)
                )
            drawn[name] = got[:200]
    return Result(rows, None, {"drawn": drawn, "mean": mean, "spread": spread, "y": y})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw A x0 of the samples of each way, around the exact mean."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.7)
        axes = figure.subplots(1, len(numbers["drawn"]), sharex=True, sharey=True)
        angle = np.linspace(0, 2 * np.pi, 100)
        for ax, (name, x) in zip(axes, numbers["drawn"].items(), strict=True):
            ax.plot(*np.array(x).T, ".", ms=2)
            for r in (1, 2):
                circle = [
                    numbers["mean"][i] + r * numbers["spread"][i] * np.array(f(angle))
                    for i, f in enumerate((np.cos, np.sin))
                ]
                ax.plot(*circle, color="0.5", lw=1, ls="-")
            ax.set_title(name.replace(", ", ",\n"), fontsize=8)
            ax.set_xlabel("first number of A x0")
        axes[0].set_ylabel("second number")
    return figure
