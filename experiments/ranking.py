"""Ranking: does each number put a fixed list of sets into the order that is known beforehand?

From best to worst the sets are: training images, test images, the shipped model with 1,000, 50 and 10 steps, a
half-trained model (the same network after 500 steps of training instead of 14,500), a Gaussian fit of the pixels, and
noise. All sets have the same size, and all numbers come from one classifier. A pair of neighbours in the list that a
number orders the other way is an exception, if the difference is larger than two standard errors.

The claim is that a distance orders sets by how far their distribution is from that of the data, recall and coverage by
diversity, and accuracy by the class. What we see: the distances in the classifier's features, recall, density, coverage
and accuracy keep the list; neighbours that they cannot tell apart at this n are named in metrics.json, training and
test images always among them. There are two exceptions, both explained. The distance on pixels' components puts the
Gaussian fit before the half-trained model, and next to the shipped one: it compares means and covariances, which are
all that the fit gets right. Precision puts noise first: at this n a few real images far from the rest have
neighbourhoods that hold anything. Training images are recognised by the neighbours only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ddpm import data
from ddpm.evaluation import model as ev
from ddpm.evaluation import statistics
from ddpm.sample import Sampling
from ddpm.zoo import model
from experiments.fooled import Pixels, gaussian, load, noise, scores, table_figure
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "this project"
MINUTES = 10
NEEDS = "the real Fashion-MNIST (DDPM_DATA_DIR), and runs/half_trained"
MAKE_HALF = "ddpm train --data fashion_mnist --steps 500 --name half_trained"
HIGHER = ("precision", "recall", "density", "coverage", "accuracy")
LOWER = ("frechet", "frechet_pixels", "kernel")


@dataclass(frozen=True)
class Config:
    """The number of images in each set, the sets made by models, and the seed of the subsets."""

    n: int = 200
    steps: tuple[int, ...] = (1000, 50, 10)  # of the shipped model: 1,000 ancestral, fewer by DDIM
    half: str = "runs/half_trained"
    seed: int = 0


QUICK: dict = {"n": 100, "steps": (50, 10)}


def half_trained(path: str) -> model.Model:
    """Load a model that was trained for few steps, or raise Unavailable."""
    try:
        return model.load(path)
    except ValueError as error:
        raise Unavailable(f"the half-trained model is not here ({error}); train it with `{MAKE_HALF}`") from None


def sets(config: Config, d: data.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """The list of sets, best first."""
    n, seed, shipped = config.n, config.seed, model.load("fashion_mnist")
    train = statistics.stratified_subset(d.y_train, n, seed + 1)
    test = statistics.stratified_subset(d.y_test, n, seed + 1)
    out: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        "training images": (d.x_train[train], d.y_train[train]),
        "test images": (d.x_test[test], d.y_test[test]),
    }
    for steps in config.steps:
        sampler = "ddpm" if steps == 1000 else "ddim"
        out[f"shipped model, {sampler} {steps}"] = ev.drawn(shipped, n, Sampling(sampler, steps))
    out["half-trained, ddim 50"] = ev.draw(half_trained(config.half), n, Sampling())
    out["Gaussian fit"] = (gaussian(d, n, seed), None)
    out["noise"] = (noise(d, n, seed), None)
    return out


def order(found: dict[str, dict[str, dict]], number: str, higher: bool) -> dict[str, Any]:
    """Order the sets by that number, best first, and name the neighbours in the list that it exchanges."""
    with_it = [(k, row[number]) for k, row in found.items() if number in row]
    sign = -1 if higher else 1
    by_value = [k for k, _ in sorted(with_it, key=lambda p: sign * p[1]["value"])]
    wrong, tied = [], []
    for (a, m_a), (b, m_b) in pairwise(with_it):
        error = np.hypot(*((m["interval"][1] - m["interval"][0]) / 3.92 for m in (m_a, m_b)))
        gap = sign * (m_b["value"] - m_a["value"])  # positive where the list's order is kept
        if abs(gap) <= 2 * error:
            tied.append(f"{a} ~ {b}")
        elif gap < 0:
            wrong.append(f"{b} before {a}")
    return {"order": by_value, "against_the_list": wrong, "within_two_standard_errors": tied}


def run(config: Config) -> Result:
    """Measure every number of every set, the order it gives, and its exceptions."""
    d, judge = load()
    pixels = Pixels(d.x_train)
    found = {k: scores(*s, d, judge, pixels, config.seed) for k, s in sets(config, d).items()}
    orders = {k: order(found, k, k in HIGHER) for k in (*LOWER, *HIGHER)}
    rows = [
        Row(f"{k}: neighbours in the list that it orders the other way", None, None, float(len(o["against_the_list"])))
        for k, o in orders.items()
    ]
    numbers = {"n": config.n, "classifier_sha256": judge.card["sha256"], "orders": orders, "sets": found}
    return Result(rows, table_figure(found, f"n = {config.n}, best first; green: as good as test images"), numbers)
