"""Classifier-free guidance, Table 1 and Figure 4: more of the class, less variety.

Ho and Salimans raise the weight w and see the Inception score rise all the way, while FID is best at a small w and then
gets worse. We repeat this with the shipped model of Fashion-MNIST: DDIM with 50 steps and the same noise at every w.
The share of images that the shipped classifier assigns to the requested class stands for the Inception score, and the
Fréchet distance in that classifier's features for FID. The paper's columns are for ImageNet 64 x 64 (p_uncond .1), in
other units. The exact column is for the one-dimensional mixture of `cfg_tilted`: the standard deviation after guidance,
which is .5 without it; variety falls even with a perfect network. "order" rows are 1 where the paper's claim holds
here: the distance is best at w ≤ 1 and worse again at the largest w, and accuracy does not fall from w = 0 on. What we
see: the same U shape, accuracy rising all the way and recall falling, but the best distance is at w = 1 and not at .1:
without guidance, a network of a million parameters draws poorer garments than the paper's network does images, and so
it gains for longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot
from ddpm.evaluation import neighbours, statistics
from ddpm.guide import cfg, clip_x0, w_to_s
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from ddpm.zoo import model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.runner import Result, Row, float64

PAPER = "Ho and Salimans 2022, Table 1 (ImageNet 64 x 64, p_uncond .1)"
MINUTES = 10
FID = {0.0: 1.8, 0.1: 1.55, 0.3: 3.03, 1.0: 12.6, 2.0: 21.03, 4.0: 26.22}


@dataclass(frozen=True)
class Config:
    """The model, images at each weight, DDIM steps and the seed."""

    model: str = "fashion_mnist"
    n: int = 1000
    steps: int = 50
    seed: int = 0


QUICK = {"n": 100, "steps": 5}
WEIGHTS = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)


def exact_std(w: float) -> float:
    """Standard deviation after guidance of a class of variance .25 whose only neighbour is at distance 2."""
    with float64():
        schedule, eps = linear(), oracle.mixture([[1.0], [-1.0]], 0.25).eps(linear())
        z, weight = np.polynomial.hermite_e.hermegauss(60)
        step = ddim_step(cfg(eps, w_to_s(w)), schedule, jnp.zeros(60, int))
        x = np.asarray(walk(step, jax.random.key(0), jnp.asarray(z)[:, None], make_times(1000, 200))).ravel()
    weight = weight / weight.sum()
    return float(np.sqrt(weight @ (x - weight @ x) ** 2))


def run(config: Config) -> Result:
    """Measure distance, accuracy and variety by w."""
    m = model.load(config.model)
    judge = Judge(m.card["train"]["data"])
    c = labels(m, config.n)
    rows = [Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n))]
    distance, accuracy, recall = [], [], []
    for w in WEIGHTS:
        eps = clip_x0(cfg(m.eps, w_to_s(w)), m.schedule)
        make = partial(ddim_step, eps, m.schedule)
        images, _ = draw(m, f"ddim guidance {w_to_s(w):g}", make, config.n, config.steps, config.seed)
        f = judge.features(images)
        value, error = judge.frechet(f, c)
        right, right_error = judge.accuracy(images, c)
        seen = neighbours.overlap(judge.real.test[statistics.stratified_subset(judge.data.y_test, config.n, 0)], f)
        rows += [
            Row(f"w = {w:g}: Fréchet distance", FID[w], None, value, error),
            Row(f"w = {w:g}: class accuracy", None, None, right, right_error),
            Row(f"w = {w:g}: recall", None, None, float(np.mean(seen.recall))),
            Row(f"w = {w:g}: std of the mixture's class (.5 unguided)", None, exact_std(w), None),
        ]
        distance.append(value)
        accuracy.append(right)
        recall.append(float(np.mean(seen.recall)))
    best = WEIGHTS[int(np.argmin(distance))]
    rows += [
        Row("w of the best distance", 0.1, None, best),
        Row("order: distance worse at the largest w than at the best", 1.0, None, float(distance[-1] > min(distance))),
        Row("order: accuracy at the largest w ≥ at w = 0", 1.0, None, float(accuracy[-1] >= accuracy[0])),
        Row("order: recall falls from w = 0 to the largest w", 1.0, None, float(recall[-1] < recall[0])),
    ]
    about = {"n": config.n, "seed": config.seed, "steps": config.steps, "features": judge.real.name}
    return Result(rows, None, about)


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance against accuracy, and the remaining variety by w."""
    found = {row["what"]: row for row in rows}
    cells = {
        what: [found[f"w = {w:g}: {what}"] for w in WEIGHTS]
        for what in ("Fréchet distance", "class accuracy", "recall")
    }
    std = [found[f"w = {w:g}: std of the mixture's class (.5 unguided)"]["exact"] for w in WEIGHTS]
    (distance, error), (accuracy, accuracy_error), (recall, _) = (
        np.array([[row["ours"], row["spread"] or 0] for row in cells[what]]).T for what in cells
    )
    with plot.style():
        figure = plot.new_figure(9.8, 3.2)
        left, middle, right = figure.subplots(1, 3)
        left.plot(WEIGHTS, [row["paper"] for row in cells["Fréchet distance"]], marker="s", label="paper: ImageNet 64")
        left.errorbar(WEIGHTS, distance, 1.96 * error, marker="o", label="garments, network")
        left.axhline(rows[0]["ours"], color="#95a5a6", linestyle="-", linewidth=0.8)
        left.annotate("test images", (4, rows[0]["ours"]), (0, 3), textcoords="offset points", fontsize=7, ha="right")
        left.set(xlabel="guidance weight w", ylabel="Fréchet distance (each in its features)", ylim=(0, 48))
        left.legend(fontsize=7, loc="upper center")
        middle.errorbar(accuracy, distance, 1.96 * error, 1.96 * accuracy_error, marker="o", color="#c0392b")
        for w, a, d in zip(WEIGHTS, accuracy, distance, strict=True):
            place = (-6, 5) if w < 2 else (7, -3)
            middle.annotate(
                f"w = {w:g}", (a, d), place, textcoords="offset points", fontsize=7, ha="right" if w < 2 else "left"
            )
        middle.set(xlabel="class accuracy", ylabel="Fréchet distance, features", ylim=(0, 40), xlim=(0.79, 1.04))
        right.plot(WEIGHTS, [2 * s for s in std], marker="s", label="std / .5, exact mixture")
        right.plot(WEIGHTS, recall, marker="o", label="recall, garments")
        right.set(xlabel="guidance weight w", ylabel="variety", ylim=(0, 1.05))
        right.legend(fontsize=7, loc="lower left")
    return figure
