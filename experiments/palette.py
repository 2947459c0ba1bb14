"""Palette: four tasks from one picture, how many answers each has, and why a loss of absolute errors has fewer.

Saharia et al. train one network to colourise, to fill holes, to extend and to restore pictures, and find that squared
errors give more diverse pictures than absolute ones at equal quality. In `wardrobe` the answer is known: given grey
values, or a part of the pixels, the pictures that fit are weighed exactly, so that diversity has a truth, the entropy
of p(x0 | y), and so has the least squared error. DDIM with ε* reaches both: two of its pictures of one y differ by the
posterior's spread, and each is off by twice the least squared error, the price of a sharp picture. For absolute errors
take x0 = 1 with probability .6 and -1 with .4. The best denoiser is then the median, the answer of the majority, and
DDIM with it gives the minority a share of Φ(-√(2 log 1.5)) = .184 only: it decides before the picture is there. So L1
loses diversity even where nothing is wrong with the network. That much is mathematics; how much of it a network on
photographs shows is what the paper's LPIPS tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import evidence, law
from ddpm.editing.masks import make_mask
from ddpm.forward import eps_from_x0
from ddpm.sample import ddim_step, walk
from ddpm.schedule import make_times
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Saharia et al. 2022, Palette, Table 6"
MINUTES = 2
SIGMA, GREY_SIGMA = 0.02, 0.1  # of the noise on known pixels and on grey values
MAJORITY = 0.6


@dataclass(frozen=True)
class Config:
    """Pictures of each task, DDIM steps, and dots of the example in one dimension."""

    n: int = 48
    steps: int = 50
    dots: int = 100_000
    seed: int = 0


QUICK = {"n": 4, "steps": 10, "dots": 4000}


def tasks() -> dict[str, np.ndarray | None]:
    """Where pixels are known, (28, 28); None: everywhere, in grey."""
    hole = np.ones((28, 28))
    hole[7:21, 7:21] = 0
    return {
        "colourise": None,
        "fill the centre": hole,
        "uncrop": make_mask("half", 28, 28)[..., 0],
        "every second pixel": make_mask("every_second_pixel", 28, 28)[..., 0],
    }


def median(x_t: Any, t: Any, c: Any = None) -> jax.Array:
    """The ε̂ of least absolute error for x0 = ±1: of the two, that of the x0 which is more probable."""
    a = exact.SCHEDULE.alpha_bar[t].reshape(-1, 1)
    majority = np.log(MAJORITY / (1 - MAJORITY)) + 2 * jnp.sqrt(a) * x_t / (1 - a) > 0
    return eps_from_x0(exact.SCHEDULE, x_t, t, jnp.where(majority, 1.0, -1.0))


def dots(config: Config) -> list[Row]:
    """The share of the minority by DDIM, with squared and with absolute errors."""
    points = oracle.mixture([[1.0], [-1.0]], 1e-4, [MAJORITY, 1 - MAJORITY])
    n, times = config.dots, make_times(exact.SCHEDULE.T, 250)
    x_T = jnp.asarray(norm.ppf((np.arange(n) + 0.5) / n), jnp.float32)[:, None]  # a quantile each
    rows = []
    for name, eps, share in (
        ("squared", points.eps(exact.SCHEDULE), 1 - MAJORITY),
        ("absolute", Partial(median), norm.cdf(-np.sqrt(2 * np.log(MAJORITY / (1 - MAJORITY))))),
    ):
        x = np.asarray(walk(ddim_step(eps, exact.SCHEDULE), jax.random.key(0), x_T, times))
        rows.append(
            Row(f"two dots, {name} errors: share of the minority", None, share, float((x < 0).mean()), within=0.02)
        )
    return rows


def run(config: Config) -> Result:
    """Measure the least error and the diversity of four tasks, and the two losses in one dimension."""
    x0, _ = exact.pictures(config.n, 7)
    world, rows, shown = law.distribution(), [], {}
    entropy = {}
    for name, mask in tasks().items():
        known = [exact.of_grey(x, GREY_SIGMA) if mask is None else exact.of_pixels(x, mask, SIGMA) for x in x0]
        c = evidence.in_grey(x0, sigma=GREY_SIGMA) if mask is None else evidence.known(x0, mask, SIGMA)
        floor = float(np.mean([k.variance for k in known]))
        entropy[name] = sorted(k.entropy for k in known)
        rows.append(Row(f"{name}: entropy of p(x0 | y), nats", None, float(np.mean(entropy[name]))))
        # At t = T nothing but y is known: E[x0 | y] by the library, against the sum over all pictures
        mean = np.asarray(world.answer(exact.SCHEDULE, jnp.zeros(x0.shape), exact.SCHEDULE.T, c).x0)
        by_sum = np.stack([k.mean for k in known]).reshape(mean.shape)
        rows.append(
            Row(
                f"{name}: E[x0 | y], largest difference",
                None,
                0,
                float(np.abs(mean - by_sum).max()),
                within=2e-3,
                near=1,
            )
        )
        a, b = (exact.drawn(world.eps(exact.SCHEDULE), c, config.n, config.steps, config.seed + k) for k in (1, 2))
        spread = ((a - b) ** 2).mean((1, 2, 3)) / 2
        error = (((a - x0) ** 2 + (b - x0) ** 2) / 2).mean((1, 2, 3))
        for what, truth, got in (
            ("spread of pictures of one y", floor, spread),
            ("squared error of a picture", 2 * floor, error),
        ):
            gap = got - truth / max(floor, 1e-9) * np.array([k.variance for k in known])  # each y has its own truth
            se = float(gap.std(ddof=1) / np.sqrt(len(gap)))
            within = (5 * se + 1e-4) / max(truth, 0.01)
            rows.append(Row(f"{name}: {what}", None, truth, float(got.mean()), se, within, near=0.01))
        given = (
            np.where(mask[..., None] > 0, x0, 0.9)
            if mask is not None
            else np.repeat((x0 @ exact.LUMA)[..., None], 3, -1)
        )
        shown[name] = [np.clip(p[:3], -1, 1).round(3) for p in (x0, given, mean, a, b)]
    rows += dots(config)
    for task, l1, l2 in (("fill", 0.11, 0.13), ("colourise", 0.09, 0.15)):
        rows += [Row(f"LPIPS between pictures, {task}: L1", l1), Row(f"LPIPS between pictures, {task}: L2", l2)]
    return Result(rows, None, {"n": config.n, "entropy": entropy, "shown": shown, "split": "drawn, seed 7"})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw what is given, the mean and two pictures of each task, and the entropies."""
    with plot.style():
        figure = plot.new_figure(10.4, 4.6)
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 1))
        axes = figure.add_subplot(grid[:, 0])
        strips = [np.array(parts)[:, 1:].swapaxes(0, 1).reshape(-1, 28, 28, 3) for parts in numbers["shown"].values()]
        axes.imshow(plot.grid(np.concatenate(strips), 10), interpolation="nearest")
        axes.set_yticks(16 + 30 * np.arange(4), numbers["shown"], fontsize=8)
        axes.set_xticks(
            16 + 30 * np.arange(10), ["truth", "given", "mean", "one", "another"] * 2, fontsize=7, rotation=60
        )
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes = figure.add_subplot(grid[0, 1])
        for name, nats in numbers["entropy"].items():
            axes.plot(np.linspace(0, 1, len(nats)), nats, label=name)
        axes.set(xlabel="share of pictures", ylabel="entropy of p(x0 | y), nats")
        axes.legend(fontsize=6)
        axes = figure.add_subplot(grid[1, 1])
        two = [r for r in rows if r["what"].startswith("two dots")]
        axes.bar(["truth", "L2", "L1"], [1 - MAJORITY, *(r["ours"] for r in two)], color=["0.7", "#1b4f72", "#c0392b"])
        axes.set_ylabel("share of the minority")
        axes.set_title("x0 = ±1 with .6 and .4", fontsize=9)
    return figure
