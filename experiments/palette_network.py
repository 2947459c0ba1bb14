"""Palette by a network: the shipped one, taught four tasks in minutes, by squared and by absolute errors.

Saharia et al. train one network for four tasks, and find that squared errors (L2) give more diverse pictures than
absolute ones (L1) at equal quality. `palette` has the truth: the spread of p(x0 | y), and that L1 loses diversity even
where nothing is wrong with the network. Here the shipped network `wardrobe` is widened by channels for y, whose weights
are 0 at first, and trained for 500 steps of 16 pictures by each loss, on |v - v̂|² or |v - v̂|. It sees what the
posterior is told: noise of .1 on grey values, of .02 on known pixels, noise of 1 in the hole, and no mask.

What we see is a training that is too short. The tint of ground and garment passes from y to the drawings; the outline
often does not, even where half of the pixels are given. Error and spread are 3.5 to 45 times those of the posterior,
and spread that is too large is no diversity: it is what of y is not read yet. L1 has the larger spread and the larger
error in all four tasks, by less than two standard errors. So the paper's claim can be neither seen nor refuted here: it
needs networks that obey y. What limits them is the budget, about two minutes of one core each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.tools.conditions import Condition
from experiments.lab import captioned, learned_images
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row
from experiments.palette import GREY_SIGMA, SIGMA, tasks

PAPER = "Saharia et al. 2022, Palette, Table 6"
MINUTES = 7
UNCHECKED = "A network trained for so few steps stands next to the exact posterior; nothing says how near it is."


@dataclass(frozen=True)
class Config:
    """Pictures of each task, DDIM steps, the losses, and the steps of each training."""

    n: int = 32
    steps: int = 25
    losses: tuple[str, ...] = ("L2", "L1")
    trained_steps: int = learned_images.BUDGETS["L2"].steps
    trained_batch: int = learned_images.BUDGETS["L2"].batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 4, "steps": 2, "losses": ("L1",), "trained_steps": 2, "trained_batch": 4}


def run(config: Config) -> Result:
    """Train by each loss; draw each picture twice, and measure error and spread beside the posterior's."""
    x0, _ = exact.pictures(config.n, 7)
    floors, shown, rows = {}, {}, list[Row]()
    for name, mask in tasks().items():
        known = [exact.of_grey(x, GREY_SIGMA) if mask is None else exact.of_pixels(x, mask, SIGMA) for x in x0]
        floors[name] = float(np.mean([k.variance for k in known]))
        y = learned_images.given(x0, mask, np.random.default_rng(config.seed), 0.0)
        shown[name] = [p[:3].clip(-1, 1).round(3) for p in (x0, y)]
    for loss in config.losses:
        budget = replace(learned_images.BUDGETS[loss], steps=config.trained_steps, batch=config.trained_batch)
        m, training = learned_images.train(loss, budget, config.model)
        eps = learned_images.eps_of(m, training.params)
        for name, mask in tasks().items():
            told = Condition(image=learned_images.given(x0, mask, np.random.default_rng(config.seed), 0.0))
            a, b = (captioned.drawn_under(m, eps, told, len(x0), config.steps, seed=config.seed + k) for k in (1, 2))
            spread = ((a - b) ** 2).mean((1, 2, 3)) / 2
            error = (((a - x0) ** 2 + (b - x0) ** 2) / 2).mean((1, 2, 3))
            for what, truth, got in (
                ("spread of pictures of one y", floors[name], spread),
                ("squared error of a picture", 2 * floors[name], error),
            ):
                se = float(got.std(ddof=1) / np.sqrt(len(got)))
                rows.append(Row(f"{name}, {loss}: {what}", None, truth, float(got.mean()), se))
            shown[name] += [p[:3].round(3) for p in (a, b)]
    for task, l1, l2 in (("fill", 0.11, 0.13), ("colourise", 0.09, 0.15)):
        rows += [Row(f"LPIPS between pictures, {task}: L1", l1), Row(f"LPIPS between pictures, {task}: L2", l2)]
    return Result(rows, None, {"n": config.n, "losses": config.losses, "floors": floors, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw what is given and what the networks make of it, and spread and error beside the exact ones."""
    with plot.style():
        figure = plot.new_figure(11.4, 4.4)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.5, 1))
        axes = figure.add_subplot(grid[:, 0])
        columns = ["truth", "given", *(f"{w}, {loss}" for loss in numbers["losses"] for w in ("one", "another"))]
        strips = [np.array(parts)[:, 1:].swapaxes(0, 1).reshape(-1, 28, 28, 3) for parts in numbers["shown"].values()]
        axes.imshow(plot.grid(np.concatenate(strips), 2 * len(columns)), interpolation="nearest")
        axes.set_yticks(16 + 30 * np.arange(4), numbers["shown"], fontsize=8)
        axes.set_xticks(16 + 30 * np.arange(2 * len(columns)), columns * 2, fontsize=7, rotation=60)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        for k, (what, factor) in enumerate((("spread of pictures of one y", 1), ("squared error of a picture", 2))):
            axes = figure.add_subplot(grid[k, 1])
            x = np.arange(len(numbers["floors"]))
            bars = {"exact": [(factor * v, 0) for v in numbers["floors"].values()]}
            for loss in numbers["losses"]:
                found = [r for r in rows if r["what"].endswith(f"{loss}: {what}")]
                bars[loss] = [(r["ours"], r["spread"]) for r in found]
            for i, (name, values) in enumerate(bars.items()):
                height, error = np.array(values).T
                axes.bar(
                    x + 0.27 * (i - 1), height, 0.25, yerr=error, label=name, color=("0.7", "#1b4f72", "#c0392b")[i]
                )
            axes.set_xticks(x, [name.replace(" ", "\n", 1) for name in numbers["floors"]], fontsize=7)
            axes.set_title(what, fontsize=9)
            axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
            axes.legend(fontsize=7, ncols=3, loc="upper center")
    return figure
