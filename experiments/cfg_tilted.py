"""Classifier-free guidance, Figure 2 in one dimension: it does not sample the tilted distribution.

Guidance with weight w follows (1+w) ε_c - w ε_∅, the score of p_c^(1+w)/p^w at every noise level, and is often said to
sample that tilted distribution. Ho and Salimans draw its effect on three Gaussians: the mass moves away from the other
classes. We take two, at ±1 with variance .25, and the class +1. The exact column is the distribution p_c^(1+w)/p^w of
the data itself, from the densities on a grid; ours is what a thousand DDIM steps with the exact denoiser make of N(0,
1), by quadrature over the quantiles. At w = 0 they agree. At w = 4 guidance has moved the mean to 1.80, where the
tilted distribution has 1.07, and left a standard deviation of .27 where it has .44. The reason is that tilting and
adding noise do not commute. So strong guidance exaggerates the class beyond all measure and leaves too little variety,
even with a perfect network.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot
from ddpm.guide import cfg, w_to_s
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Ho and Salimans 2022, Fig. 2"
MINUTES = 0.2
UNCHECKED = (
    "The exact column is the tilted distribution, which guidance is said to sample; that ours differs for w > "
    "0 is the finding."
)
WEIGHTS = (0.0, 0.3, 1.0, 2.0, 4.0, 7.0)


@dataclass(frozen=True)
class Config:
    """DDIM steps, and the nodes of the quadrature."""

    steps: int = 1000
    nodes: int = 80


QUICK = {"steps": 100}


def run(config: Config) -> Result:
    """Measure mean and standard deviation by w, and the densities at two weights."""
    rows, moments = [], []
    with float64():
        schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
        eps = m.eps(schedule)
        z, weight = np.polynomial.hermite_e.hermegauss(config.nodes)
        weight = weight / weight.sum()
        x = np.linspace(-6, 8, 20_001)
        log_c = -0.5 * (x - 1) ** 2 / 0.25
        log_p = np.logaddexp(log_c, -0.5 * (x + 1) ** 2 / 0.25)
        times = make_times(1000, config.steps)
        for w in WEIGHTS:
            step = ddim_step(cfg(eps, w_to_s(w)), schedule, jnp.zeros(len(z), int))
            out = np.asarray(walk(step, jax.random.key(0), jnp.asarray(z)[:, None], times)).ravel()
            mean = float(weight @ out)
            ours = mean, float(np.sqrt(weight @ (out - mean) ** 2))
            tilt = np.exp((1 + w) * log_c - w * log_p)
            tilt /= tilt.sum()
            tilted = float(tilt @ x), float(np.sqrt(tilt @ x**2 - (tilt @ x) ** 2))
            same = 4 / config.steps if w == 0 else None  # w = 0: both are p_c; DDIM is of first order
            rows += [
                Row(f"mean, w = {w:g}", None, tilted[0], ours[0], within=same),
                Row(f"standard deviation, w = {w:g}", None, tilted[1], ours[1], within=same),
            ]
            moments.append((w, *tilted, *ours))
        grid = jnp.linspace(-3.5, 3.5, 4001)[:, None]
        shown = [1.0, 4.0]
        maps = {
            w: np.asarray(
                walk(ddim_step(cfg(eps, w_to_s(w)), schedule, jnp.zeros(4001, int)), jax.random.key(0), grid, times)
            ).ravel()
            for w in shown
        }
    with plot.style():
        figure = plot.new_figure(10.4, 3.0)
        first, *panels, last = figure.subplots(1, len(shown) + 2)
        table = np.array(moments)
        for j, name in ((1, "tilted: mean"), (3, "guidance: mean"), (2, "tilted: std"), (4, "guidance: std")):
            first.plot(table[:, 0], table[:, j], label=name)
        first.set(xlabel="w", ylabel="mean, standard deviation of x")
        first.set_ylim(0, 3)
        first.legend(fontsize=7, loc="upper left")
        u = np.asarray(grid)[:, 0]
        normal = np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi)
        for ax, w in zip(panels, shown, strict=True):
            tilt = np.exp((1 + w) * log_c - w * log_p)
            ax.plot(x, tilt / tilt.sum() / (x[1] - x[0]), label="tilted")
            ax.plot(maps[w], normal / np.gradient(maps[w], u), label="guidance")
            ax.set(xlabel="x", ylabel="density", title=f"w = {w:g}", xlim=(-1, 4))
            ax.legend(fontsize=7)
        last.plot(u, maps[4.0], label="w = 4")
        last.plot(u, maps[1.0], label="w = 1")
        last.set(xlabel=r"$x_T$", ylabel=r"$x_0$", title="where $x_T$ ends")
        last.legend(fontsize=7)
    return Result(rows, figure, {"steps": config.steps})
