"""Compositionality of diffusion classifiers: five tasks on drawn towns, and the best that can be done at each noise.

The claim: a diffusion classifier, which takes the description whose noise is predicted best, tells single things and
counts well, and which thing is where badly. In the drawn towns descriptions are sets of allowed tiles, and the denoiser
given a description is exact. Five tasks: is a motif there; in which of two cells; are two motifs as they are, or
swapped; one or two of them; which light. The ceiling at time t is the posterior of the two descriptions given x_t.

What we see: with an exact denoiser every task is solved at little noise, binding no less than presence; so a gap
between them is the network's, not the classifier's. At more noise the classifier does far better than the ceiling,
since it is told ε, and with it x0: it compares two means with the image itself, and is no judge of x_t. What is then
hard is not binding, where the two descriptions differ in two cells and their errors balance, but presence and count,
where one description is vaguer than the other. In images from another domain, all greys darker by .15, cell and binding
are told apart as before; light and presence are mistaken more often at high noise. What does not carry over: text.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot, q_sample
from ddpm.datasets import world
from ddpm.oracles import Known, join
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row

PAPER = "Jeong et al. 2025, Diffusion Classifiers Understand Compositionality, but Conditions Apply"
MINUTES = 1
UNCHECKED = "The exact column is the ceiling of a judge that sees x_t; the classifier also knows the noise."
FIRST, SECOND = 5, 6  # the two cells of the tasks, on the upper floor
WINDOW, ROSE = 0, 3  # the two motifs, of all cities


@dataclass(frozen=True)
class Config:
    """Images of each task, times, and how much darker the other domain is."""

    n: int = 60
    times: tuple[int, ...] = (50, 150, 300, 450, 600, 750, 900)
    darker: float = 0.15
    seed: int = 0


QUICK = {"n": 8, "times": (50, 600)}


def described(n: int, cell: dict[int, int], light: int | None = None) -> Known:
    """What is known of n images: a motif, or none (-1), in some cells; a light."""
    motif = world.tiles().motif
    allowed = np.ones((n, world.CELLS**2, len(motif)), bool)
    for j, m in cell.items():
        allowed[:, j] = motif == m
    return Known(tiles=jnp.asarray(allowed), light=None if light is None else jnp.full(n, light))


TASKS = {  # what is drawn, and what it is compared with
    "presence": ({FIRST: ROSE}, {FIRST: -1}, None),
    "cell": ({FIRST: ROSE, SECOND: -1}, {FIRST: -1, SECOND: ROSE}, None),
    "binding": ({FIRST: ROSE, SECOND: WINDOW}, {FIRST: WINDOW, SECOND: ROSE}, None),
    "count": ({FIRST: ROSE, SECOND: -1}, {FIRST: ROSE, SECOND: ROSE}, None),
    "light": ({}, {}, (0, 1)),
}


def drawn(task: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """n images that fit the first description of a task, (n, 28, 28, 1)"""
    right, _, lights = TASKS[task]
    tiles, p = world.tiles(), world.probabilities().mean(0)
    light = np.full(n, lights[0]) if lights else rng.integers(0, 3, n)
    cells = np.empty((n, world.CELLS**2), int)
    for j in range(world.CELLS**2):
        of = p[j] * (tiles.motif == right[j]) if j in right else p[j]
        cells[:, j] = rng.choice(len(of), n, p=of / of.sum())
    pixels = tiles.pixels[light[:, None], cells].astype(np.float32) / 127.5 - 1
    return np.asarray(join(jnp.asarray(pixels.reshape(n, 16, -1)), (n, 28, 28, 1), 7, 7))


def run(config: Config) -> Result:
    """Classify with one draw at each time, and compare with the posterior given x_t."""
    schedule, towns, rng = linear(), world.distribution(), np.random.default_rng(config.seed)
    rows, curves = list[Row](), {}
    for task, (right, wrong, lights) in TASKS.items():
        pair = [described(config.n, cell, lights[i] if lights else None) for i, cell in enumerate((right, wrong))]
        x0 = jnp.asarray(drawn(task, config.n, rng))
        found: dict[str, list[float]] = {"classifier": [], "ceiling": [], "darker": []}
        for t in config.times:
            eps = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), t), x0.shape)
            for name, x in (("classifier", x0), ("darker", x0 - config.darker)):
                x_t = q_sample(schedule, x, t, eps)
                a, b = (towns.answer(schedule, x_t, t, c) for c in pair)
                error = [np.asarray(((answer.x0 - x) ** 2).sum((1, 2, 3)), float) for answer in (a, b)]
                good = np.where(error[0] == error[1], 0.5, error[0] < error[1])
                found[name].append(float(good.mean()))
                if name == "classifier":
                    gap = np.asarray(a.log_prob - b.log_prob, float)
                    found["ceiling"].append(float(np.where(gap == 0, 0.5, gap > 0).mean()))
            spread = float(
                np.sqrt(max(found["classifier"][-1] * (1 - found["classifier"][-1]), 0.25 / config.n) / config.n)
            )
            within = 1e-6 if t == min(config.times) else None
            ceiling, ours = found["ceiling"][-1], found["classifier"][-1]
            rows.append(Row(f"{task}, t = {t}: accuracy, one draw", None, ceiling, ours, spread, within=within))
            rows.append(Row(f"{task}, t = {t}: the same, images darker by {config.darker:g}", ours=found["darker"][-1]))
        curves[task] = found
    return Result(rows, None, {"times": config.times, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw classifier, ceiling and the other domain by t, one panel a task."""
    with plot.style():
        figure = plot.new_figure(10.4, 2.6)
        axes = figure.subplots(1, len(numbers["curves"]), sharey=True)
        for ax, (task, found) in zip(axes, numbers["curves"].items(), strict=True):
            for name, y in found.items():
                ax.plot(numbers["times"], y, "o-", ms=2, label={"darker": "darker images"}.get(name, name))
            ax.axhline(0.5, color="0.8", lw=0.8, ls="-")
            ax.set(title=task, xlabel="t", ylim=(0.3, 1.03))
        axes[0].set_ylabel("accuracy")
        axes[0].legend(fontsize=7, loc="lower left")
    return figure
