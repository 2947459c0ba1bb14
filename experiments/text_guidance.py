"""Guidance on text: all that is asked is right at s = 1, and beyond it the rest loses its variety.

GLIDE and Imagen draw FID against CLIP score over the guidance scale s, and find a trade. With ε* there is little to
trade: at s = 1 every picture has what its caption asks, it is one of the world, and what the caption leaves open is as
the world has it. At s = 0 the caption counts for nothing, and each asked value is right with its share in the world; at
s = .5 the pictures are half of one kind, half of another, and fewer than half are of the world. Above s = 1 nothing can
become more right, and all pictures remain of the world. What suffers is what nobody asked for: χ² of the open
attributes, 14 for the world, is 14, 20, 48, 160 at s = 1, 2, 4, 8, since guidance prefers those pictures that the
caption's words fit best at high noise. So guidance repairs a network's own errors, and its price is variety.

The shipped network needs it: of captions that name a garment and its colour it has .57 right at s = 1, .76 at s = 2 and
.82 at s = 4, in 25 steps. Its pictures never come within the reader's tolerance of one of the world, and what nobody
asked for is far from even already without guidance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import chi2

from ddpm import plot
from ddpm.datasets.wardrobe import drawing, law
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.evaluation.prompts import prompts_right
from ddpm.guide import cfg, clip_x0
from experiments.lab import captioned
from experiments.lab import wardrobe_exact as exact
from experiments.lab.runner import Result, Row

PAPER = "Nichol et al. 2021, GLIDE, Fig. 6; Saharia et al. 2022, Imagen, Fig. 4a"
MINUTES = 5
NAMES = list(ATTRIBUTES)
ASKED, OPEN = ("garment", "colour"), ("size", "column", "pattern", "ground", "light")


@dataclass(frozen=True)
class Config:
    """Captions, DDIM steps, the scales, and the name of the network."""

    n: int = 96
    steps: int = 25
    scales: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 8, "steps": 6, "scales": (0.0, 1.0)}


def chi_squared(values: np.ndarray) -> float:
    """Σ over open attributes of χ² of their histogram against equal shares."""
    total = 0.0
    for name in OPEN:
        counts = np.bincount(values[:, NAMES.index(name)], minlength=len(ATTRIBUTES[name]))
        expected = len(values) / len(counts)
        total += float(((counts - expected) ** 2).sum() / expected)
    return total


def run(config: Config) -> Result:
    """Draw with ε* and with the network at each scale: right, of the world, and χ² of what was not asked."""
    n, rows, shown = config.n, list[Row](), {}
    curves: dict[str, list[list[float]]] = {}
    values = drawing.values_of(drawing.draw_attributes(n, 61))
    for name in NAMES:
        if name not in ASKED:
            values[:, NAMES.index(name)] = -1
    c, eps = law.asked(values), law.distribution().eps(exact.SCHEDULE)
    freedom = sum(len(ATTRIBUTES[name]) - 1 for name in OPEN)
    by_prior = math.prod(1 / len(ATTRIBUTES[name]) for name in ASKED)
    m = captioned.network(config.model)

    def by_oracle(s: float) -> np.ndarray:
        return exact.drawn(clip_x0(cfg(eps, s), exact.SCHEDULE), c, n, config.steps, config.seed)

    ways = {"ε*": by_oracle}
    if m is not None:
        ways["network"] = lambda s: captioned.drawn_by(m, values, s, config.steps, config.seed)
    for way, draw in ways.items():
        curves[way] = []
        for s in config.scales:
            x = draw(s)
            found = prompts_right(x, values)["all"]
            world, open_ = exact.of_world(x), chi_squared(law.read(np.clip(x, -1, 1)).values)
            exactly = way == "ε*" and s in (0.0, 1.0)
            p = None if not exactly else 1.0 if s == 1 else by_prior
            se = math.sqrt((p or 0) * (1 - (p or 0)) / n)
            rows += [
                Row(
                    f"{way}, s = {s:g}: asked right",
                    None,
                    p,
                    found.value,
                    found.standard_error,
                    p and (5 * se + (s == 0) / n + 1e-9) / p,
                ),
                Row(
                    f"{way}, s = {s:g}: of the world",
                    None,
                    1.0 if exactly else None,
                    float(world.mean()),
                    within=1e-9 if exactly else None,
                ),
                Row(
                    f"{way}, s = {s:g}: χ² of what was not asked",
                    None,
                    freedom if exactly else None,
                    open_,
                    math.sqrt(2 * freedom),
                    float(chi2.ppf(1 - 1e-4, freedom)) / freedom - 1 if exactly else None,
                ),
            ]
            curves[way].append([found.value, float(world.mean()), open_ / freedom])
            shown[f"{way}, s = {s:g}"] = np.clip(x[:8], -1, 1).round(2)
    # cfg at s = 1 is the conditional denoiser
    x_t = jax.random.normal(jax.random.key(3), (n, 28, 28, 3))
    gap = np.abs(np.asarray(cfg(eps, 1.0)(x_t, np.full(n, 700), c) - eps(x_t, np.full(n, 700), c))).max()
    rows.append(Row("s = 1 is ε*(T): largest difference", None, 0, float(gap), within=1e-4, near=1))
    return Result(rows, None, {"n": n, "scales": config.scales, "freedom": freedom, "curves": curves, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the three measures by scale, and pictures."""
    with plot.style():
        figure = plot.new_figure(11.4, 3.6)
        left, middle, right = figure.subplots(1, 3, width_ratios=(0.75, 0.75, 1.2))
        place = np.arange(len(numbers["scales"]))
        for k, (way, curve) in enumerate(numbers["curves"].items()):
            of = np.array(curve)
            left.plot(place, of[:, 0], "o-", color=f"C{k}", label=f"{way}: asked right")
            left.plot(place, of[:, 1], "s--", color=f"C{k}", mfc="none", label=f"{way}: of the world")
            middle.plot(place, of[:, 2], "o-", color=f"C{k}", label=way)
        middle.axhline(1, color="0.6", lw=1, ls=":", label="the world's variety")
        for axes, what in ((left, "share of pictures"), (middle, "χ² of what was not asked, by freedom")):
            axes.set_xticks(place, [f"{v:g}" for v in numbers["scales"]])
            axes.set(xlabel="guidance scale s", ylabel=what, ylim=(0, None))
            axes.legend(fontsize=7)
        captioned.named_rows(right, numbers["shown"], 8)
    return figure
