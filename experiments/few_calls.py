"""Few network calls: lists of times and solvers, from 1 to 20 calls.

Li et al. search the list of times of a sampler for each trained model, by evolution on its FID, and find large gains at
4 to 10 steps. We search on a closed form instead: on the Gaussian with the covariance of the training images a walk of
DDIM is a product of cosines, so the best list is found in a tenth of a second without a network (`searched` in `ddpm
sample --times`). With a *free start* the first time is searched as well: noise N(0, I) is taken for x_t of a t < T. The
other lists are the usual ones; DPM-Solver++(2M) is a second-order solver with one call a step.

Each cell has the same labels (classes in turn) and start, guidance 2, x̂0 clipped; a guided step is counted as one call.
The distance is Fréchet's in the shipped classifier's features, the accuracy the share of images that the classifier
assigns to their label. The exact column is W₂² of the same DDIM walk with the exact denoiser of the Gaussian, per image
in pixels: another unit, so only the order can be compared.

What we see: up to 4 calls the searched list with a free start is far ahead, 33 for 299 at 2 calls and 9.5 for 36 of the
trailing times at 4, with accuracies of .96 and .97 for .59 and .91. At 8 calls and more it is within the errors of
trailing times and of DPM-Solver++, although the exact distance is less than a third of the trailing times': there the
errors of the network count, not those of the steps. The free start matters at 1 and 2 calls; from 4 on the list from T
is as good. `leading` and `quad` begin below T without a search, and are poor at few calls: with `quad` more calls do
not help, since the start at .8 T is the error. n = 500 and one seed, on garments alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from ddpm import plot
from ddpm.guide import cfg, clip_x0
from ddpm.oracles.spectrum import Axes
from ddpm.sample import ddim_step
from ddpm.samplers.best_times import searched
from ddpm.samplers.edm import karras_times
from ddpm.samplers.solvers import begin, multistep
from ddpm.schedule import Schedule, make_times
from ddpm.zoo import model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.linear_denoisers import by_formula, frechet
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Li et al. 2023 (AutoDiffusion), Sec. 3"
MINUTES = 15
UNCHECKED = (
    "The exact column is the same walk on the Gaussian of the same images, in pixels; a trained network is compared "
    "with its order, not held to it."
)
CALLS = (1, 2, 4, 8, 10, 20, 50)
USUAL, FREE, FROM_T = "trailing", "searched, free start", "searched, from T"
SECOND = "DPM++(2M), "  # before the rule of its times


@dataclass(frozen=True)
class Config:
    """The models, images in each cell, the most calls of every rule and of three of them, guidance, and the seed."""

    models: str = "fashion_mnist"
    n: int = 500
    most: int = 20
    end: int = 20
    guidance: float = 2.0
    seed: int = 0


QUICK = {"models": "fashion_mnist", "n": 40, "most": 1, "end": 2}


def rules(schedule: Schedule, axes: Axes) -> dict[str, Callable[[int], np.ndarray]]:
    """The lists of times, by name: N -> (N+1,)"""
    usual = {name: partial(make_times, schedule.T, rule=name) for name in (USUAL, "leading", "linspace", "quad")}
    search = partial(searched, schedule, axes.var, mean=axes.mean, number=axes.number)
    return {
        FREE: search,
        FROM_T: partial(search, free=False),
        **usual,
        "karras": partial(karras_times, schedule),
        SECOND + USUAL: usual[USUAL],
    }


def exact(alpha_bar: np.ndarray, axes: Axes, times: np.ndarray) -> float:
    """W₂² of the Gaussian and what DDIM makes of N(0, I), started at times[0]: its variances, and its mean.

    Each deviation of x_T from √ᾱ μ is multiplied by √v, v the variance at the end.
    """
    v = by_formula(alpha_bar, axes.var, times, 0.0)
    return frechet(axes.var, v, axes.number) + float((axes.number * v * alpha_bar[times[0]] * axes.mean**2).sum())


def cells(config: Config) -> list[tuple[str, int]]:
    """Rule and calls of each cell; one step of a rule that would not begin in the noise is left out."""
    names = (FREE, FROM_T, USUAL, "leading", "linspace", "quad", "karras", SECOND + USUAL)
    every = [(rule, N) for rule in names for N in CALLS if N <= config.most]
    ends = [(rule, N) for rule in (FREE, USUAL, SECOND + USUAL) for N in CALLS if config.most < N <= config.end]
    return [(rule, N) for rule, N in every + ends if N > 1 or rule not in ("leading", "linspace", "quad")]


def measure(m: model.Model, judge: Judge, config: Config) -> list[dict[str, Any]]:
    """Draw and judge the images of each cell."""
    assert m.axes is not None
    alpha_bar, c = np.asarray(m.schedule.alpha_bar, np.float64), labels(m, config.n)
    eps = clip_x0(cfg(m.eps, config.guidance), m.schedule)
    found = []
    for rule, N in cells(config):
        times = rules(m.schedule, m.axes)[rule](N)
        second = rule.startswith(SECOND) and N > 1
        more: dict[str, Any] = {"begin": lambda x, c: begin(x), "end": lambda state: state.x} if second else {}
        make: Callable[[jax.Array], Any] = partial(multistep if second else ddim_step, eps, m.schedule)
        name = f"{'dpm_2m' if second else 'ddim'} guidance {config.guidance:g}"
        images, _ = draw(m, name, make, config.n, len(times) - 1, config.seed, times=times, **more)
        value, error = judge.frechet(judge.features(images), c)
        share, share_error = judge.accuracy(images, c)
        found.append({
            "model": m.name, "rule": rule, "calls": N, "times": times, "frechet": value, "error": error,
            "accuracy": share, "accuracy_error": share_error, "w2": None if second else exact(alpha_bar, m.axes, times),
        })  # fmt: skip
    return found


def run(config: Config) -> Result:
    """Measure every cell of every model."""
    rows, found, floors = [], [], {}
    for name in config.models.split():
        m = model.load(name)
        if m.axes is None:
            raise Unavailable(f"the card of {name} has no axes")
        judge = Judge(m.card["train"]["data"])
        floors[name] = judge.floor(config.n)
        rows.append(Row(f"{name}: floor, {config.n} test images", None, None, floors[name]))
        found += (of := measure(m, judge, config))
        for k in of:
            what = f"{name}: {k['rule']}, {k['calls']} call{'s' if k['calls'] > 1 else ''}"
            rows.append(Row(what, None, k["w2"], k["frechet"], k["error"]))
        for k in of:
            if k["rule"] in (FREE, USUAL, SECOND + USUAL):
                what = f"{name}: accuracy, {k['rule']}, {k['calls']} call{'s' if k['calls'] > 1 else ''}"
                rows.append(Row(what, None, None, k["accuracy"], k["accuracy_error"]))
    return Result(rows, None, {"n": config.n, "seed": config.seed, "floors": floors, "cells": found})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance and accuracy against calls, a row of panels for each model."""
    names, shown = list(numbers["floors"]), sorted({k["calls"] for k in numbers["cells"]})
    with plot.style():
        figure = plot.new_figure(9.6, 3.4 * len(names))
        panels = figure.subplots(len(names), 2, squeeze=False)
        for name, (left, right) in zip(names, panels, strict=True):
            own = [k for k in numbers["cells"] if k["model"] == name]
            for rule, mark in zip(dict.fromkeys(k["rule"] for k in own), "o^sDv<>PX", strict=False):
                of = sorted((k for k in own if k["rule"] == rule), key=lambda k: k["calls"])
                x, free = [k["calls"] for k in of], rule == FREE
                style = {"marker": mark, "markersize": 4, "linewidth": 2 if free else 1, "zorder": 3 if free else 2}
                left.errorbar(x, [k["frechet"] for k in of], [1.96 * k["error"] for k in of], label=rule, **style)
                right.plot(x, [k["accuracy"] for k in of], **style)
            floor = numbers["floors"][name]
            left.axhline(floor, color="#95a5a6", linestyle="-", linewidth=0.8)
            left.annotate("test images", (1, floor), xytext=(0, 3), textcoords="offset points", fontsize=7)
            for axes in (left, right):
                axes.set(xlabel="network calls an image", xscale="log", title=name)
                axes.set_xticks(shown, [str(N) for N in shown])
                axes.minorticks_off()
            left.set(ylabel="Fréchet distance, features", yscale="log")
            right.set(ylabel="class accuracy")
            left.legend(fontsize=6.5)
    return figure
