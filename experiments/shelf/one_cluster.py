"""OneActor: away from the other clusters means beyond one's own, exactly where the clusters are known.

The claim: to draw the same character again and again, guide towards its cluster inside the class and away from the
class's other clusters, ε_∅ + s₁ (ε_target - ε_∅) - s₂ Σ (ε_other - ε_∅). Here a class is three Gaussians on a line, and
each cluster has its own exact denoiser. With s₁ = 1 and s₂ = 0 the target's denoiser alone is left, and its Gaussian is
what is drawn. Every push away from the others moves the target beyond itself, where no image of the class is, since
nothing in the sum knows that it was reached: a push of .25 moves the right cluster by almost four of its standard
deviations. And it makes the target wider: in the middle, with a neighbour on either side, the mean hardly moves, but
the samples are driven apart. What does not carry over: where the target's own denoiser is weak, as after a short
training, a push is what keeps its samples off the other clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.guides import compose, given
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Wang et al. 2024, OneActor"
MINUTES = 0.1
UNCHECKED = "The exact column is the target cluster; that a push away from the others changes it is the finding."
MEANS, VAR = (-1.5, 0.0, 1.0), 0.04


@dataclass(frozen=True)
class Config:
    """DDIM steps, nodes of the quadrature, and the weights of the push away."""

    steps: int = 1000
    nodes: int = 80
    away: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)


QUICK = {"steps": 200, "nodes": 20, "away": (0.0, 0.5)}


def run(config: Config) -> Result:
    """Measure mean and standard deviation of what is drawn, for each target and push."""
    rows, curves = list[Row](), dict[str, list[tuple[float, float]]]()
    with float64():
        schedule, m = linear(), oracle.mixture(np.array(MEANS)[:, None], VAR)
        eps, times = m.eps(schedule), make_times(1000, config.steps)
        z, weight = np.polynomial.hermite_e.hermegauss(config.nodes)
        weight = weight / weight.sum()
        for target, name in ((2, "the right cluster"), (1, "the middle cluster")):
            others = [k for k in range(len(MEANS)) if k != target]
            found = []
            for s in config.away:
                parts = [given(eps, target), *(given(eps, k) for k in others)]
                guided = compose(eps, parts, [1.0, *(-s for _ in others)])
                x = walk(ddim_step(guided, schedule), jax.random.key(0), jnp.asarray(z)[:, None], times)
                x = np.asarray(x).ravel()
                mean = float(weight @ x)
                std = float(np.sqrt(weight @ (x - mean) ** 2))
                close = 6 / config.steps if s == 0 else None
                rows.append(Row(f"{name}, push {s:g}: mean", None, MEANS[target], mean, within=close, near=1.0))
                rows.append(Row(f"{name}, push {s:g}: standard deviation", None, VAR**0.5, std, within=close, near=1.0))
                found.append((mean, std))
            curves[name] = found
    return Result(rows, None, {"away": config.away, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw mean and standard deviation by the push, among the clusters."""
    with plot.style():
        figure = plot.new_figure(6.4, 3.0)
        ax = figure.subplots()
        for mu in MEANS:
            ax.axhspan(mu - VAR**0.5, mu + VAR**0.5, color="0.9")
        for i, (name, found) in enumerate(numbers["curves"].items()):
            mean, std = np.array(found).T
            ax.errorbar(np.array(numbers["away"]) + 0.01 * i, mean, std, fmt="o-", capsize=3, label=name)
        ax.set(xlabel="push away from the others, s₂", ylabel="mean ± standard deviation")
        ax.legend(fontsize=7)
    return figure
