"""Each word or their mean: cross-attention against a pooled text, with equal parameters and equal budgets.

SEEN
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets.wardrobe import drawing
from ddpm.evaluation.prompts import bag_of_words, prompts_right, swapped, told_apart
from experiments.lab import captioned, text_readings
from experiments.lab.runner import Result, Row

PAPER = "Saharia et al. 2022, Imagen, Sec. 4.4: cross-attention over pooling, by people's ratings"
MINUTES = 10
UNCHECKED = "A network trained for so few steps stands next to the best of a bag of words; nothing ties the two."
PARTS = ("garment", "size", "column", "pattern", "colour", "ink", "ground", "light")


@dataclass(frozen=True)
class Config:
    """Captions, DDIM steps, the guidance scale, and the steps of each training."""

    n: int = 128
    steps: int = 20
    guidance: float = 2.0
    trained_steps: int = text_readings.BUDGET.steps
    trained_batch: int = text_readings.BUDGET.batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 4, "steps": 2, "trained_steps": 1, "trained_batch": 2}


def run(config: Config) -> Result:
    """Train both; read what captions with everything mentioned come to, and pairs of swapped colours."""
    rows, shown = list[Row](), {}
    values = drawing.values_of(drawing.draw_attributes(config.n, 54))
    kept, other = swapped(values)
    budget = replace(text_readings.BUDGET, steps=config.trained_steps, batch=config.trained_batch)
    bag = float(bag_of_words(values).mean())
    for way in text_readings.WAYS:
        m, training = text_readings.train(way, budget, config.model)
        last = training.loss[-(1 + len(training.loss) // 10) :]
        rows.append(Row(f"{way}: error of v in the last tenth of the training", None, None, float(np.mean(last))))
        x = captioned.drawn_by(m, values, config.guidance, config.steps, config.seed)
        for name, share in prompts_right(x, values).items():
            truth = bag if name == "all" else None
            what = "all right, beside the best of a bag of words" if name == "all" else name
            rows.append(Row(f"{way}: {what}", None, truth, share.value, share.standard_error))
        pair = [captioned.drawn_by(m, v, config.guidance, config.steps, config.seed) for v in (kept, other)]
        apart = told_apart(*pair, kept)
        rows.append(Row(f"{way}: swapped colours told apart", None, None, apart.value, apart.standard_error))
        shown[way] = x[:8].round(2)
    return Result(rows, None, {"n": config.n, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw eight captions by both, and the share that each has right by attribute."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
        captioned.named_rows(left, numbers["shown"], 8)
        names = [*PARTS, "swapped colours told apart"]
        for k, way in enumerate(numbers["shown"]):
            found = [next(r for r in rows if r["what"] == f"{way}: {name}") for name in names]
            height, error = ([r[key] or 0 for r in found] for key in ("ours", "spread"))
            right.bar(np.arange(len(names)) + 0.38 * (k - 0.5), height, 0.36, yerr=error, label=way)
        right.set_xticks(range(len(names)), [n.replace(" ", "\n") for n in names], fontsize=7)
        right.set(ylabel="share right, s = 2", ylim=(0, 1.2))
        right.legend(fontsize=8, ncols=2)
    return figure
