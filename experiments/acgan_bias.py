"""AC-GAN draws exaggerated classes by its objective, and guidance does a similar thing by another route.

Odena et al. give the generator of a GAN two tasks: a marginal like that of the data, and images that a classifier
recognises. They report samples that are recognised more often than photographs are. In the exact case this is a bias of
the objective, which no training removes. Two classes N(±1, 1) overlap: the best classifier is right in 84.1 % of the
data. At the optimum of AC-GAN it is right always: with any weight λ > 0, each x is generated under the class that it
resembles more, so that a class is one half of the marginal, with mean 1.17 instead of 1; larger weights push its mean
further and take from its spread. The exact column minimises the objective numerically on a grid; ours is the closed
form of the library. The paper's classifier learns from generated images too, which makes the bias smaller and does not
remove it. Its twin is classifier-free guidance, drawn next to it with the exact denoiser of the same data: it starts
from the true class, and with its weight w it too moves the mean away and loses spread. What does not carry over: real
classes overlap little, so there the share of images that change sides is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.generators import acgan
from ddpm.guide import cfg, w_to_s
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Odena et al. 2017, Sec. 4.3"
MINUTES = 0.3
UNCHECKED = "For guidance the exact column is the true class, which it is meant to sample at w = 0 only."
WEIGHTS = (1e-6, 0.1, 0.3, 1.0, 2.0, 5.0)
GUIDANCE = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Config:
    """Points of the grid, iterations of the numerical minimum, and DDIM steps."""

    points: int = 2000
    iterations: int = 4000
    steps: int = 500


QUICK = {"points": 400, "iterations": 2000, "steps": 50}


def minimised(p: np.ndarray, weight: float, both: bool, iterations: int) -> np.ndarray:
    """argmin_q 2 JSD - λ E_q log C by exponentiated gradients, without the closed form: q ← q e^(-η slope)/Z."""
    q = p.copy()
    for _ in range(iterations):
        marginal, other = q.sum(0), p.sum(0)
        c = (p + q) / (other + marginal) if both else p / other
        slope = np.log(2 * marginal / (marginal + other)) - weight * np.log(np.maximum(c, 1e-300))
        q = q * np.exp(-0.5 / max(weight, 1) * slope)
        q /= q.sum()
    return q


def moments(q: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    """Mean and standard deviation of class +1, and the share of it that lies on its own side."""
    mass = q[0] / q[0].sum()
    mean = float(mass @ x)
    return mean, float(np.sqrt(mass @ x**2 - mean**2)), float(mass[x > 0].sum())


def guided(steps: int) -> list[tuple[float, float, float, float]]:
    """w, and mean, standard deviation and share above 0 of DDIM with guidance, by quadrature over the quantiles."""
    schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 1.0)
    u = (np.arange(4001) + 0.5) / 4001
    x_T, found = jnp.asarray(norm.ppf(u))[:, None], []
    for w in GUIDANCE:
        step = ddim_step(cfg(m.eps(schedule), w_to_s(w)), schedule, jnp.zeros(len(u), int))
        x = np.asarray(walk(step, jax.random.key(0), x_T, make_times(1000, steps))).ravel()
        found.append((w, float(x.mean()), float(x.std()), float((x > 0).mean())))
    return found


def run(config: Config) -> Result:
    """Compare the closed form with the numerical minimum for each weight, and measure guidance."""
    x = np.linspace(-8, 8, config.points)
    p = np.stack([norm.pdf(x, 1), norm.pdf(x, -1)])
    p /= p.sum()
    rows: list[Row] = []
    curves: dict[str, list] = {"real": [], "both": []}
    shapes: dict[str, np.ndarray] = {}
    for classifier, found in curves.items():
        for weight in WEIGHTS:
            ours = moments(q := acgan(p, weight, classifier), x)
            found.append((weight, *ours))
            shapes[f"{classifier} {weight:g}"] = q[0] / q[0].sum() / (x[1] - x[0])
            if weight < 0.3:
                continue
            numeric = moments(minimised(p, weight, classifier == "both", config.iterations), x)
            what = f"λ = {weight:g}, classifier of {'real images' if classifier == 'real' else 'both'}"
            names = ("mean", "standard deviation", "accuracy")
            rows += [
                Row(f"{what}: {name}", None, a, b, within=0.01) for name, a, b in zip(names, numeric, ours, strict=True)
            ]
    limit = 2 * norm.pdf(1) + 2 * norm.cdf(1) - 1
    first = curves["real"][0]
    rows = [
        Row("data: accuracy of the best classifier", None, float(norm.cdf(1))),
        Row("λ → 0: mean of a class", None, float(limit), first[1], within=1e-3),
        Row("λ → 0: standard deviation", None, float(np.sqrt(2 - limit**2)), first[2], within=1e-3),
        Row("λ → 0: accuracy", None, 1.0, first[3], within=1e-6),
        *rows,
    ]
    with float64():
        twin = guided(config.steps)
    rows += [
        Row(f"guidance, w = {w:g}: accuracy", None, float(norm.cdf(1)), a) for w, _, _, a in twin if w in (0, 1, 4)
    ]
    keep = slice(None, None, max(1, config.points // 400))
    shapes = {k: v[keep] for k, v in shapes.items()}
    return Result(rows, None, {"x": x[keep], "shapes": shapes, "curves": curves, "guidance": twin})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the densities of class +1, and mean against standard deviation for both methods."""
    x = np.array(numbers["x"])
    with plot.style():
        figure = plot.new_figure(10.4, 3.3)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        left.fill_between(x, norm.pdf(x, 1), color="0.85", lw=0, label="data, class +1")
        for weight, name in ((1e-6, "λ → 0"), (1.0, "λ = 1"), (5.0, "λ = 5")):
            left.plot(x, numbers["shapes"][f"real {weight:g}"], label=f"AC-GAN, {name}")
        left.set(xlabel="x", ylabel="density", xlim=(-2.5, 5), ylim=(0, None))
        left.legend(fontsize=7)
        real, both, guidance = (np.array(a) for a in (*numbers["curves"].values(), numbers["guidance"]))
        lines = (
            (real, "AC-GAN, classifier of real images"),
            (both, "AC-GAN, classifier of both"),
            (guidance, "guidance"),
        )
        for (curve, name), marker in zip(lines, "o^s", strict=True):
            middle.plot(curve[:, 1], curve[:, 2], marker + "-", ms=4, lw=1, label=name)
            right.plot(curve[:, 1], curve[:, 3], marker + "-", ms=4, lw=1)
        middle.plot(1, 1, "k*", ms=11)
        middle.annotate("the true class", (1, 1), (0.93, 0.955), fontsize=7, rotation=-90, va="top")
        right.plot(1, norm.cdf(1), "k*", ms=11)
        middle.set(xlabel="mean of the class", ylabel="standard deviation")
        right.set(xlabel="mean of the class", ylabel="accuracy of the best classifier")
        middle.legend(fontsize=7, loc="upper right")
        middle.set(ylim=(0.5, 1.13), xlim=(0.85, 2.7))
    return figure
