"""Classifier-free guidance, Table 1: how many labels to drop in training.

Ho and Salimans train with p_uncond = .1, .2 and .5 of the labels dropped: .1 and .2 do about equally well, .5 is worse
at every weight w; in each case the Inception score rises with w and FID is best at a small w. We train a small network
with two seeds for each p_uncond at an equal, small budget (`lab.small_trainings`), with the cosine schedule, on
Fashion-MNIST, and draw images by DDIM from the same noises. The Fréchet distance in the shipped classifier's features
takes the place of FID, and the share of images that this classifier assigns to the requested class takes the place of
the Inception score. The paper's columns are for ImageNet 64 x 64, in other units. There is no exact column: the optimal
denoiser does not depend on p_uncond; what differs is how a small network divides its capacity. "order" rows are 1 where
the paper's claim holds for every seed (and weight, where there are several).

What we see is the paper's order. Accuracy rises with w at each p_uncond; .5 is less accurate than .1 at every weight
and further away at its best one, in both seeds; .1 and .2 do alike (.2 is 7 % further away, and the seeds differ by
more). One seed is far behind the other at every p_uncond, so the bars are long; the orders are those within a seed.
What does not carry over is the trade-off: images after so short a training are so far from the data (a hundred times
the floor and more) that guidance brings them nearer up to the largest w. `cfg_tradeoff` shows the trade-off on the
shipped model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm import plot
from ddpm.guide import w_to_s
from experiments.lab.runner import Result, Row
from experiments.lab.small_trainings import Small, family
from experiments.lab.training_scores import budget, judge_of, mean_range, scores, shares

PAPER = "Ho and Salimans 2022, Table 1 (ImageNet 64 x 64)"
MINUTES = 14
WEIGHTS = (0.0, 0.3, 1.0, 3.0)
# recipe: (p_uncond, FID by w)
RUNS: dict[str, tuple[float, tuple[float, ...]]] = {
    "cosine": (0.1, (1.8, 3.03, 12.6, 24.83)),
    "p_uncond .2": (0.2, (1.8, 2.93, 11.21, 22.36)),
    "p_uncond .5": (0.5, (2.21, 2.65, 9.13, 19.75)),
}


@dataclass(frozen=True)
class Config(Small):
    """The trainings' budget, images at each weight, steps of DDIM."""

    n: int = 500
    draw_steps: int = 20


QUICK = {"data": "digits", "preset": "digits", "steps": 4, "batch": 8, "seeds": 1, "n": 40, "draw_steps": 2}


def run(config: Config) -> Result:
    """Measure distance and accuracy by p_uncond and w."""
    judge, runs = judge_of(config.data), family(config, RUNS)
    rows = [Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n))]
    found: dict[str, dict[str, list[list[float]]]] = {}
    for recipe, (p, fids) in RUNS.items():
        of: dict[str, list[list[float]]] = {"distance": [], "accuracy": []}
        for w, fid in zip(WEIGHTS, fids, strict=True):
            drawn = [scores(judge, r.model(), config.n, config.draw_steps, w_to_s(w)) for r in runs[recipe]]
            of["distance"].append([s.frechet for s in drawn])
            of["accuracy"].append([s.accuracy for s in drawn])
            rows += [
                Row(f"p_uncond {p:g}, w = {w:g}: Fréchet distance", fid, None, *mean_range(of["distance"][-1])),
                Row(f"p_uncond {p:g}, w = {w:g}: class accuracy", None, None, *mean_range(of["accuracy"][-1])),
            ]
        found[f"{p:g}"] = of
    a = {p: np.array(of["accuracy"]) for p, of in found.items()}
    d = {p: np.array(of["distance"]) for p, of in found.items()}
    half, fifth, tenth = (np.minimum(d[p][0], d[p].min(0)) for p in ("0.5", "0.2", "0.1"))
    rows += [
        Row(
            "order: accuracy rises from w = 0 to 3, share",
            1.0,
            None,
            float(np.mean([shares(v[0], v[-1]) for v in a.values()])),
        ),
        Row("order: the best distance over w is worse with .5 than with .1, share", 1.0, None, shares(tenth, half)),
        Row(
            "order: accuracy is lower with .5 than with .1, share of w and seeds",
            1.0,
            None,
            shares(list(a["0.5"].ravel()), list(a["0.1"].ravel())),
        ),
        Row("best distance over w, .2 over .1", 1.04, None, *mean_range(fifth / tenth)),
    ]
    return Result(rows, None, {"found": found, "n": config.n, "budget": budget(config)})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance against accuracy, a curve for each p_uncond, with w at its points."""
    with plot.style():
        figure = plot.new_figure(9.0, 3.4)
        trade, right = figure.subplots(1, 2)
        for (p, of), mark in zip(numbers["found"].items(), "os^", strict=True):
            distance, accuracy = np.array(of["distance"]), np.array(of["accuracy"])
            middle = distance.mean(1)
            trade.errorbar(
                accuracy.mean(1), middle, [middle - distance.min(1), distance.max(1) - middle],
                [accuracy.mean(1) - accuracy.min(1), accuracy.max(1) - accuracy.mean(1)],
                marker=mark, capsize=2, label=f"p_uncond {p}",
            )  # fmt: skip
            if p == "0.1":
                for w, x, y in zip(WEIGHTS, accuracy.mean(1), middle, strict=True):
                    trade.annotate(f"w = {w:g}", (x, y), textcoords="offset points", xytext=(5, 5), fontsize=7)
            middle = accuracy.mean(1)
            spread = [middle - accuracy.min(1), accuracy.max(1) - middle]
            right.errorbar(WEIGHTS, middle, spread, marker=mark, capsize=2, label=f"p_uncond {p}")
        trade.axhline(rows[0]["ours"], color="#95a5a6", linestyle="-", linewidth=0.8)
        trade.annotate(
            "test images", (0.01, rows[0]["ours"]), xycoords=("axes fraction", "data"), fontsize=7, va="bottom"
        )
        trade.set(xlabel="class accuracy", ylabel=f"Fréchet distance, features ({numbers['n']} images)")
        trade.legend()
        right.set(xlabel="guidance weight w", ylabel="class accuracy")
        figure.suptitle(f"{numbers['budget']}; bars: range over seeds", fontsize=9)
    return figure
