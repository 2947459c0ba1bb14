"""AlignDiff: plans with requested strengths, where strengths are learned from comparisons.

The claim: people can say which of two plans is the faster one, or the smoother; from such answers a model of strengths
is learned, and a diffusion model that is conditioned on strengths, with a mask for those that are not requested, makes
plans of any strength. Plans here are Gaussian paths of 24 points in one dimension, and both strengths are linear: how
far the path climbs, and how much it leans to its end. So the plans of a given strength are Gaussian too, and known.
Comparisons give the direction of a strength by logistic regression: after 2,000 of them its correlation with the true
one is above .99. Guidance by the exact value reaches the request. What is masked is not free: it takes its mean given
the other, since the two strengths are correlated in the data. What does not carry over: people compare what is not
linear, and not always alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

from ddpm import oracle, plot
from ddpm.guides import by_value
from ddpm.oracles.rewards import tilt_measured, value_of
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Dong et al. 2023, AlignDiff"
MINUTES = 0.2
UNCHECKED = (
    "Directions from comparisons approach the true ones with many of them; how near they come is what is measured."
)
NOISE = 0.01  # variance with which a strength is given, in units of its own variance


@dataclass(frozen=True)
class Config:
    """Points of a path, comparisons, paths drawn, DDIM steps, and the requested strengths in standard deviations."""

    points: int = 24
    comparisons: tuple[int, ...] = (100, 2000)
    n: int = 400
    steps: int = 300
    requested: tuple[float, ...] = (-2.0, 0.0, 2.0)
    seed: int = 0


QUICK = {"points": 10, "comparisons": (500,), "steps": 100, "n": 200, "requested": (2.0,)}


def learned(rng: np.random.Generator, root: np.ndarray, w: np.ndarray, n: int) -> np.ndarray:
    """The direction of a strength from n pairs, P(i is stronger) = σ(wᵀ(x_i - x_j)), by logistic regression."""
    gap = (rng.normal(size=(n, len(root))) - rng.normal(size=(n, len(root)))) @ root.T
    won = np.where(rng.random(n) < 1 / (1 + np.exp(-gap @ w)), 1, -1)
    loss = lambda v: np.logaddexp(0, -won * (gap @ v)).mean() + 1e-4 * v @ v  # noqa: E731
    slope = lambda v: -(won / (1 + np.exp(won * (gap @ v)))) @ gap / n + 2e-4 * v  # noqa: E731
    return minimize(loss, np.zeros(len(w)), jac=slope, method="L-BFGS-B").x


def run(config: Config) -> Result:
    """Learn two strengths from comparisons; ask for one, or for both; measure both."""
    D, rng = config.points, np.random.default_rng(config.seed)
    i = np.arange(D)
    cov = 0.9 ** np.abs(i[:, None] - i[None]) + 0.5
    W = np.stack([(i == D - 1) * 1.0 - (i == 0), (i - i.mean()) / D])  # climb, and lean to the end
    W /= np.sqrt(np.einsum("ad,de,ae->a", W, cov, W))[:, None]  # both of variance 1
    rho = float(W[0] @ cov @ W[1])
    rows, root = list[Row](), np.linalg.cholesky(cov)
    for n in config.comparisons:
        for name, w in zip(("climb", "lean"), W, strict=True):
            v = learned(rng, root, 3 * w, n)
            same = float(v @ cov @ w / np.sqrt(v @ cov @ v))  # correlation of the strengths over paths
            rows.append(Row(f"{name}, {n:,} comparisons: correlation with the truth", None, 1.0, same))
    bands = {}
    with float64():
        schedule, m = linear(), oracle.gaussian(np.zeros(D), cov)
        x_T = jax.random.normal(jax.random.key(config.seed), (config.n, D))
        for request in config.requested:
            for name, A, y in (("climb alone", W[:1], [request]), ("both", W, [request, -request])):
                tilted, log_Z = tilt_measured(m, A, y, NOISE)
                value = value_of(tilted, m, schedule, log_Z)
                step = ddim_step(by_value(eps=m.eps(schedule), schedule=schedule, value=value), schedule)
                x = np.asarray(walk(step, jax.random.key(0), jnp.asarray(x_T), make_times(1000, config.steps)))
                exact = W @ np.asarray(tilted.mean[0])
                for strength, right, got in zip(("climb", "lean"), exact, (x @ W.T).T, strict=True):
                    se = float(got.std(ddof=1) / np.sqrt(config.n))
                    close = 4.5 * se + 10 / config.steps
                    what = f"{name}, requested {request:g}: {strength}"
                    rows.append(Row(what, None, float(right), float(got.mean()), se, within=close, near=1.0))
                bands[f"{name}, {request:g}"] = (x.mean(0), x.std(0), x[:3])
    rows.append(Row("correlation of the two strengths in the data", None, None, rho))
    return Result(rows, None, {"bands": bands})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the paths of each requested strength, as bands and three paths."""
    with plot.style():
        figure = plot.new_figure(9.0, 3.0)
        axes = figure.subplots(1, 2, sharey=True)
        for name, (mean, std, paths) in numbers["bands"].items():
            which, request = name.split(", ")
            ax, mean, std = axes[int(which == "both")], np.array(mean), np.array(std)
            x = np.arange(len(mean))
            line = ax.plot(x, mean, lw=2, label=request)[0]
            ax.fill_between(x, mean - std, mean + std, color=line.get_color(), alpha=0.15)
            for path in paths[:1]:
                ax.plot(x, path, lw=0.6, color=line.get_color())
        axes[0].set(title="climb requested, lean masked", xlabel="time", ylabel="path")
        axes[1].set(title="climb requested, and the opposite lean", xlabel="time")
        axes[0].legend(fontsize=7, title="climb, in standard deviations", title_fontsize=7)
    return figure
