"""COW: cycles between two noise levels bring the unknown half nearer to the known one, and stop short of it.

The claim: to generate an image around a fixed part, walk down, put the part in at its noise level, add noise again and
walk down once more; a few such cycles make the rest fit. On two numbers with correlation .8, of which the first is
known to be 1, the rest should have mean .8. Everything is affine, so the mean after any number of cycles is known
exactly. High up the cycles do next to nothing. Low down they help and converge after three or so, at a mean that is
still too small: each cycle draws the noise of the known part anew, so what x_t reveals of it is never certain. What
does not carry over: a network sees the seed as a picture and can recognise it before the noise is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.editing import repaint, repaint_times
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Wang et al. 2023, Cyclic One-Way Diffusion (COW)"
MINUTES = 0.3
RHO, KNOWN = 0.8, 1.0
COV = np.array([[1.0, RHO], [RHO, 1.0]])


@dataclass(frozen=True)
class Config:
    """Samples, steps, the two times of each range, and numbers of cycles."""

    n: int = 10_000
    steps: int = 200
    ranges: tuple[tuple[int, int], ...] = ((600, 300), (300, 25), (600, 25))
    cycles: tuple[int, ...] = (0, 1, 3, 10)
    seed: int = 0


QUICK = {"n": 4000, "steps": 40, "cycles": (0, 3)}


def cyclic(times: np.ndarray, high: int, low: int, cycles: int) -> np.ndarray:
    """Down to `low`, up to `high` at once, down again, `cycles` times, then to 0"""
    inner = times[(times <= high) & (times >= low)]
    above, below = times[times > high], times[times < low]
    return np.concatenate([above, *[inner] * (cycles + 1), below]).astype(np.int32)


def expected(times: np.ndarray) -> float:
    """The mean of the unknown number at the end, by the affine recursion of the means."""
    alpha_bar = np.asarray(linear().alpha_bar, np.float64)
    mean = np.zeros(2)
    for t, s in pairwise(times):
        a_t, a_s = alpha_bar[t], alpha_bar[s]
        if s > t:
            mean = np.sqrt(a_s / a_t) * mean
            continue
        eps = np.sqrt(1 - a_t) * np.linalg.solve(a_t * COV + (1 - a_t) * np.eye(2), mean)
        step = np.sqrt(a_s) * (mean - np.sqrt(1 - a_t) * eps) / np.sqrt(a_t) + np.sqrt(1 - a_s) * eps
        mean = np.array([np.sqrt(a_s) * KNOWN, step[1]])
    return float(mean[1])


def run(config: Config) -> Result:
    """Measure the mean of the unknown number by range and cycles, and by RePaint's small jumps."""
    schedule, data = linear(), oracle.gaussian(np.zeros((1, 2, 1)), COV)
    times = make_times(schedule.T, config.steps)
    known, mask = jnp.full((config.n, 1, 2, 1), KNOWN), np.array([1.0, 0.0]).reshape(1, 2, 1)
    step = repaint(ddim_step(data.eps(schedule), schedule), schedule, known, mask)
    x_T = jax.random.normal(jax.random.key(config.seed), known.shape)
    lists = {
        (f"{high} to {low}", cycles): cyclic(times, high, low, cycles)
        for high, low in config.ranges
        for cycles in config.cycles
    }
    lists["RePaint, jumps of 5 steps", 10] = repaint_times(times, 5, 10)
    rows = [Row("posterior mean", None, RHO * KNOWN)]
    means: dict[str, list[tuple[int, float]]] = {}
    for (name, cycles), path in lists.items():
        x = np.asarray(walk(step, jax.random.key(config.seed + 1), x_T, path))[:, 0, 1, 0]
        mean, se = float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x)))
        rows.append(Row(f"{name}, {cycles} cycles: mean", None, expected(path), mean, se, within=5 * se, near=1.0))
        means.setdefault(name, []).append((cycles, mean))
    return Result(rows, None, {"means": means})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the mean by the number of cycles, for each range."""
    with plot.style():
        figure = plot.new_figure(5.6, 3.1)
        ax = figure.subplots()
        for name, points in numbers["means"].items():
            cycles, mean = zip(*points, strict=True)
            ax.plot(cycles, mean, "o-" if len(points) > 1 else "s", label=f"t = {name}" if "to" in name else name)
        ax.axhline(rows[0]["exact"], color="0.5", ls=":", label="posterior mean")
        ax.set(xlabel="cycles", ylabel="mean of the unknown number", ylim=(0.3, 0.85))
        ax.legend(fontsize=7, loc="center right", bbox_to_anchor=(1, 0.36))
    return figure
