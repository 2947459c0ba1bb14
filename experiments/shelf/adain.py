"""DVP: moving the statistics of one prediction to another is optimal transport, as far as the channels go.

The claim: images are edited by a program of existing steps; one of them gives the noise prediction of an edited image
the mean and the deviation of the original's, channel by channel: AdaIN(a; b) = σ_b (a - μ_a)/σ_a + μ_b. On Gaussians
with independent channels this is the optimal transport map of N(μ_a, diag σ_a²) to N(μ_b, diag σ_b²): the target is hit
exactly, at the cost W₂². If the channels are correlated it hits the means and deviations, keeps the correlations of a,
and is then neither: the transport map A = Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½ does what is left. What we see: with
correlations of .8 in one and none in the other a fifth of W₂² remains after AdaIN. What does not carry over: a
network's ε̂ is no Gaussian, and its channels are few numbers for a whole image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import sqrtm

from ddpm import plot
from ddpm.evaluation.distances import Moments, frechet_moments, moments
from experiments.lab.runner import Result, Row

PAPER = "Han et al. 2024, Image Translation as Diffusion Visual Programmers (DVP)"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """Samples, and correlations of the channels of a."""

    n: int = 20_000
    correlations: tuple[float, ...] = (0.0, 0.4, 0.8)
    seed: int = 0


QUICK = {"n": 2_000, "correlations": (0.0, 0.8)}
MEAN = np.array([[0.5, -0.5, 0.0], [-0.5, 0.0, 1.0]])
STD = np.array([[1.0, 0.5, 2.0], [0.5, 1.0, 1.5]])


def w2(mean: np.ndarray, cov: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """W₂² of two Gaussians, in closed form"""
    root = np.real(sqrtm(cov_2))
    return float(((mean - mean_2) ** 2).sum() + np.trace(cov + cov_2) - 2 * np.trace(np.real(sqrtm(root @ cov @ root))))


def run(config: Config) -> Result:
    """Map samples of a by AdaIN and by the transport map; measure what is left, and the way."""
    rng, rows, curves = np.random.default_rng(config.seed), list[Row](), dict[str, list[float]]()
    target = np.diag(STD[1] ** 2)
    shown = {}
    for rho in config.correlations:
        C = np.eye(3) + rho * (np.ones((3, 3)) - np.eye(3))
        cov = C * np.outer(STD[0], STD[0])
        a = MEAN[0] + rng.normal(size=(config.n, 3)) @ np.linalg.cholesky(cov).T
        adain = STD[1] * (a - a.mean(0)) / a.std(0) + MEAN[1]
        root = np.real(sqrtm(cov))
        A = np.linalg.solve(root, np.linalg.solve(root, np.real(sqrtm(root @ target @ root))).T).T
        moved = (a - MEAN[0]) @ A.T + MEAN[1]
        way = w2(MEAN[0], cov, MEAN[1], target)
        after = C * np.outer(STD[1], STD[1])  # AdaIN keeps the correlations
        exact = {"AdaIN": w2(MEAN[1], after, MEAN[1], target), "transport map": 0.0}
        for name, x in (("AdaIN", adain), ("transport map", moved)):
            left = frechet_moments(moments(x), Moments(MEAN[1], target, config.n))
            cost = float(((x - a) ** 2).sum(1).mean())
            close = 5 / config.n**0.5
            rows.append(
                Row(
                    f"correlation {rho:g}, {name}: W₂² that is left",
                    None,
                    exact[name],
                    float(left),
                    within=close,
                    near=1,
                )
            )
            right = (
                way
                if name == "transport map" or rho == 0
                else float(((MEAN[1] - MEAN[0]) ** 2).sum() + ((STD[1] - STD[0]) ** 2).sum())
            )
            rows.append(Row(f"correlation {rho:g}, {name}: mean squared way", None, right, cost, within=close, near=1))
            curves.setdefault(name, []).append(exact[name])
            shown[name] = x[:400, :2]
        curves.setdefault("at the start", []).append(way)
    return Result(rows, None, {"correlations": config.correlations, "curves": curves, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw what is left by the correlation, and two channels at the largest one."""
    with plot.style():
        figure = plot.new_figure(8.6, 2.8)
        axes = figure.subplots(1, 3)
        for name, y in numbers["curves"].items():
            axes[0].plot(numbers["correlations"], y, "o-", ms=4, label=name)
        axes[0].set(xlabel="correlation of the channels", ylabel=r"$W_2^2$ to the target")
        axes[0].legend(fontsize=7)
        for ax, (name, x) in zip(axes[1:], numbers["shown"].items(), strict=True):
            ax.plot(*np.array(x).T, ".", ms=2)
            ax.set(title=name, xlabel="channel 1", ylabel="channel 2", xlim=(-2.5, 1.5), ylim=(-3.5, 3.5))
    return figure
