"""Each word or their mean: cross-attention against a pooled text, with equal parameters and equal budgets.

Imagen's authors prefer cross-attention over all words to a pooled vector, by people's ratings. Here an exact bound
is shown with the comparison. The picture's part of the shipped network `wardrobe` is frozen, and what reads, a text
encoder and six cross-attentions, is drawn anew and trained for 1,000 steps of 16 captioned pictures: with all words as
keys (context), with their mean as the only key (pooled), or with both. Parameters, first values and budget are the
same. The best reader of a bag of words has all else right, and the colours as often as their order is guessed; it gives
a caption and the same with two colours exchanged the same picture, and so tells no pair apart.

What we see, of 128 captions that mention everything, with s = 2: context has the garment's colour in .91 and the ground
in .98, where a bag has .51 and .50, and tells .83 of 108 pairs apart. It reads the order. The training is short, which
shows in the column, .64, the light, .59, and the ink, .55 of the 55 captions that have one; all is right in .26 only,
with an interval of .19 to .34, below the .43 of the best bag, which has these right. Pooled has garment and pattern in
.84, but garment, ink and ground in their colours in .22, .13 and .14 only, little more than one in eight, and no
caption right as a whole (0 to .03). Both together have all right in .34 (.26 to .42), no clear difference from context.

What does not carry over: the frozen part learned with all words, which favours context, and a network that is trained
with a pooled text from the start, and for longer, would learn more of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.datasets.wardrobe import drawing
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.prompts import GARMENT, GROUND, PAINTED, bag_of_words, prompts_right, told_apart
from experiments.lab import captioned, text_readings
from experiments.lab.runner import Result, Row

PAPER = "Saharia et al. 2022, Imagen, Sec. 4.4: cross-attention over pooling, by people's ratings"
MINUTES = 10
APART = "swapped colours told apart"
NAMES = ("all", *ATTRIBUTES, APART)


@dataclass(frozen=True)
class Config:
    """Captions, DDIM steps, the guidance scale, the ways to read, and the steps of each training."""

    n: int = 128
    steps: int = 20
    guidance: float = 2.0
    ways: tuple[str, ...] = tuple(text_readings.WAYS)
    trained_steps: int = text_readings.BUDGET.steps
    trained_batch: int = text_readings.BUDGET.batch
    model: str = captioned.NAME
    seed: int = 0


QUICK = {"n": 4, "steps": 2, "trained_steps": 1, "trained_batch": 2}


def exchanged(values: np.ndarray) -> np.ndarray:
    """Captions with the colours of garment and ground exchanged: (n, 8)"""
    other = values.copy()
    other[:, [GARMENT, GROUND]] = values[:, [GROUND, GARMENT]]
    return other


def of_bag(values: np.ndarray) -> dict[str, float]:
    """The shares right of the best reader of a bag of words, by attribute: who has all else right, and draws an order.

    Of m colours each is as often in each role. Two captions with the same bag get the same picture from the same noise,
    so that no pair is told apart.
    """
    colours = values[:, PAINTED]
    given = colours >= 0
    same = (colours[:, :, None] == colours[:, None, :]) & given[:, None, :]
    p = same.sum(2) / given.sum(1)[:, None]
    by_role = {list(ATTRIBUTES)[a]: float(p[given[:, k], k].mean()) for k, a in enumerate(PAINTED)}
    rest = {name: by_role.get(name, 1.0) for name in ATTRIBUTES}
    return {"all": float(bag_of_words(values).mean()), **rest, APART: 0.0}


def run(config: Config) -> Result:
    """Train in each way; draw captions that mention everything, and the same with two colours exchanged."""
    rows, shown, intervals = list[Row](), {}, dict[str, dict[str, list[float]]]()
    values = drawing.values_of(drawing.draw_attributes(config.n, 54))
    other, differ = exchanged(values), values[:, GARMENT] != values[:, GROUND]
    budget = replace(text_readings.BUDGET, steps=config.trained_steps, batch=config.trained_batch)
    for way in config.ways:
        m, training = text_readings.train(way, budget, config.model)
        last = training.loss[-(1 + len(training.loss) // 10) :]
        rows.append(Row(f"{way}: error of v in the last tenth of the training", None, None, float(np.mean(last))))
        x, y = (captioned.drawn_by(m, v, config.guidance, config.steps, config.seed) for v in (values, other))
        found: dict[str, Measure] = prompts_right(x, values)
        found[APART] = told_apart(x[differ], y[differ], values[differ])
        for name, share in found.items():
            rows.append(Row(f"{way}: {name}", None, None, share.value, share.standard_error))
        intervals[way] = {name: [share.n, *(share.interval or ())] for name, share in found.items()}
        shown[way] = x[:8].round(2)
    rows += [Row(f"the best of a bag of words: {name}", None, share) for name, share in of_bag(values).items()]
    return Result(rows, None, {"n": config.n, "intervals": intervals, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw eight captions in each way, and the shares right with their intervals."""
    with plot.style():
        figure = plot.new_figure(11.4, 3.4)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        captioned.named_rows(left, numbers["shown"], 8)
        place, ours = np.arange(len(NAMES)), {r["what"]: r["ours"] for r in rows}
        for k, (way, interval) in enumerate(numbers["intervals"].items()):
            height = np.array([ours[f"{way}: {name}"] for name in NAMES])
            low, high = np.array([interval[name][1:] for name in NAMES]).T
            x = place + 0.27 * (k - 1)
            right.bar(x, height, 0.25, yerr=np.maximum((height - low, high - height), 0), label=way)
        bag = [next(r["exact"] for r in rows if r["what"] == f"the best of a bag of words: {name}") for name in NAMES]
        right.hlines(bag, place - 0.42, place + 0.42, color="0.35", lw=1, ls="--", label="the best of a bag of words")
        right.set_xticks(place, [name.replace(" ", "\n") for name in NAMES], fontsize=7)
        right.set(ylabel="share right", ylim=(0, 1.25))
        right.legend(fontsize=8, ncols=4, loc="upper center")
    return figure
