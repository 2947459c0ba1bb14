"""Few network calls: every sampler, and every list of times, from 1 to 50 calls.

Li et al. search the list of times of a sampler for each trained model, by evolution on its FID, and find large gains
at 4 to 10 steps. We search on a closed form instead: on the Gaussian with the covariance of the training images a walk
of DDIM is a product of cosines, so the best list is found in a tenth of a second without a network (`searched` in
`ddpm sample --times`). With a *free start* the first time is searched as well: noise N(0, I) is taken for x_t of a t <
T. The other lists are the usual ones, and the samplers those of `ddpm sample --sampler`, with trailing times.

Each cell has the same labels (classes in turn) and start, the guidance of the model's card, x̂0 clipped; a guided step
is counted as one call. heun, dpm_2 and edm make two calls in each step but the last, and but the one from T: 3, 6 and
26 steps are 4, 10 and 50 calls. `ancestral` is `ddpm` to the image here and has no row. The distance is Fréchet's in
the shipped classifier's features, of n = 500 images of each seed; with two seeds (marked ²) it is the mean of both, so
that all cells are biased alike. The exact column is W₂² of the same DDIM walk with the exact denoiser of the Gaussian,
per image in pixels: another unit, so only the order can be compared.

What we see: up to 4 calls the searched list with a free start is far ahead, 33 for 303 at 2 calls and 9.8 for 38.8 of
the trailing times at 4, with accuracies of .96 and .98 for .61 and .91. From 8 calls on it is within the errors of
trailing times and of DPM-Solver++(2M), although the exact distance is about a third of the trailing times', or less:
there the errors of the network count, not those of the steps. `leading` and `quad` begin below T without a search, and
are poor at few calls. At 50 calls every deterministic sampler with trailing times is at 4 to 5, where 500 test images
have 2.6. heun and dpm_2 do not pay at 4 and 10 calls: their steps are longer, since each costs two. The new noise of
edm helps there, 26 for 95 of heun at 4 calls, and no longer at 50. ddpm is better than DDIM at 4 calls, but from 10
calls on it is the worse one: its noise stays in the image, and with variance β much more of it. The times of EDM begin
at σ̄ = 80 and are made for many steps; in 2 or 5 of them heun multiplies the errors of the network. Other models are an
option, `models` and `further`; `few_calls_models` has the lists of times on two models, n = 2,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ddpm import plot
from ddpm.guide import cfg, clip_x0
from ddpm.oracles.spectrum import Axes
from ddpm.samplers import edm, solvers
from ddpm.samplers.best_times import searched
from ddpm.samplers.names import STEPS
from ddpm.schedule import Schedule, make_times
from ddpm.tools import cache
from ddpm.zoo import model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.linear_denoisers import by_formula, frechet
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Li et al. 2023 (AutoDiffusion), Sec. 3"
MINUTES = 45
UNCHECKED = (
    "The exact column is the same walk on the Gaussian of the same images, in pixels; a trained network is compared "
    "with its order, not held to it."
)
CALLS = (1, 2, 4, 8, 10, 20, 50)
USUAL, FREE, FROM_T, SECOND = "ddim, trailing", "ddim, searched", "ddim, searched from T", "dpm_2m, trailing"
MAIN = (FREE, USUAL, SECOND)
LISTS = (FREE, FROM_T, USUAL, "ddim, leading", "ddim, linspace", "ddim, quad", "ddim, karras", SECOND)
TWICE = ("heun", "dpm_2", "edm")  # N steps are 2N-1 network calls, and 2N-2 from T
OTHERS = (*(f"{sampler}, trailing" for sampler in (*TWICE, "ddpm", "ddpm_large")), "heun, karras")


@dataclass(frozen=True)
class Config:
    """The models; images a seed; seeds of the three main methods; and the most calls of each kind of method.

    most: of the lists of times on the first model;  main: of the main methods there, with all seeds;  others: of the
    other samplers, at 4, 10 and 50 calls;  further: of the main methods on the other models, with one seed
    """

    models: str = "fashion_mnist"
    n: int = 500
    seeds: int = 2
    most: int = 20
    main: int = 10
    others: int = 50
    further: int = 10
    seed: int = 0


QUICK = {"models": "fashion_mnist", "n": 40, "seeds": 1, "most": 1, "main": 2, "others": 0}


class Cell(NamedTuple):
    """A method (sampler and list of times), network calls at most, and seeds."""

    method: str
    calls: int
    seeds: int


def rules(schedule: Schedule, axes: Axes) -> dict[str, Callable[[int], np.ndarray]]:
    """The lists of times, by name: N -> (N+1,)"""
    usual = {name: partial(make_times, schedule.T, rule=name) for name in ("trailing", "leading", "linspace", "quad")}
    search = partial(searched, schedule, axes.var, mean=axes.mean, number=axes.number)
    return {
        "searched": search,
        "searched from T": partial(search, free=False),
        **usual,
        "karras": partial(edm.karras_times, schedule),
    }


def steps_of(method: str, calls: int) -> int:
    """The most steps of a method that take at most so many network calls."""
    sampler, rule = method.split(", ", 1)
    once = 2 if rule == "trailing" else 1  # steps by one call: the last, and one from T, where all is noise
    return (calls + once) // 2 if sampler in TWICE else calls


def exact(alpha_bar: np.ndarray, axes: Axes, times: np.ndarray) -> float:
    """W₂² of the Gaussian and what DDIM makes of N(0, I), started at times[0]: its variances, and its mean.

    Each deviation of x_T from √ᾱ μ is multiplied by √v, v the variance at the end.
    """
    v = by_formula(alpha_bar, axes.var, times, 0.0)
    return frechet(axes.var, v, axes.number) + float((axes.number * v * alpha_bar[times[0]] * axes.mean**2).sum())


def cells(config: Config, first: bool = True) -> list[Cell]:
    """Every cell of the first model, or of a further one; a list of one step that begins in the data is left out."""
    if not first:
        return [Cell(method, N, 1) for method in MAIN for N in CALLS if config.further >= N]
    wanted = [Cell(method, N, config.seeds) for method in MAIN for N in CALLS if config.main >= N]
    wanted += [Cell(method, N, 1) for method in LISTS for N in CALLS if config.most >= N]
    wanted += [Cell(method, N, 1) for method in (*MAIN, *OTHERS) for N in (4, 10, 50) if config.others >= N]
    found: dict[tuple[str, int], int] = {}
    for method, N, seeds in wanted:
        found.setdefault((method, N), seeds)
    low = ("leading", "linspace", "quad")
    return [Cell(method, N, seeds) for (method, N), seeds in found.items() if N > 1 or not method.endswith(low)]


def images_of(m: model.Model, cell: Cell, config: Config, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The images of a cell from one seed, and the times that were visited."""
    assert m.axes is not None
    sampler, rule = cell.method.split(", ", 1)
    times = rules(m.schedule, m.axes)[rule](steps_of(cell.method, cell.calls))
    sampler = "ddim" if sampler == "dpm_2m" and cell.calls == 1 else sampler  # its first step is that of DDIM
    scale = m.guided(None)
    step = partial(STEPS[sampler], clip_x0(cfg(m.eps, scale), m.schedule), m.schedule)
    more: dict[str, Any] = {"begin": lambda x, c: solvers.begin(x)} if sampler == "dpm_2m" else {}
    code = f" {cache.code(solvers, edm)}" if sampler in TWICE else ""  # images of an earlier code are not taken
    name = f"{sampler} guidance {scale:g}{code}"
    return draw(m, name, step, config.n, len(times) - 1, seed, times=times, end=solvers.image, **more)[0], times


def measure(m: model.Model, judge: Judge, config: Config, which: Iterable[Cell]) -> list[dict[str, Any]]:
    """Draw and judge the images of each cell; seed by seed, then the mean over seeds and its standard error."""
    assert m.axes is not None
    alpha_bar, c = np.asarray(m.schedule.alpha_bar, np.float64), labels(m, config.n)
    found = []
    for cell in which:
        each = []
        for seed in range(config.seed, config.seed + cell.seeds):
            images, times = images_of(m, cell, config, seed)
            each.append((*judge.frechet(judge.features(images), c), *judge.accuracy(images, c)))
        (value, _, share, _), errors = np.mean(each, 0), np.sqrt(np.square(each).sum(0)) / len(each)
        found.append({
            "model": m.name, "method": cell.method, "calls": cell.calls, "seeds": cell.seeds, "times": times,
            "frechet": value, "error": errors[1], "accuracy": share, "accuracy_error": errors[3],
            "each": [e[0] for e in each],
            "w2": exact(alpha_bar, m.axes, times) if cell.method.startswith("ddim") else None,
        })  # fmt: skip
    return found


def run(config: Any, wanted: Callable[[Any, bool], list[Cell]] = cells) -> Result:
    """Measure the wanted cells of every model, by the number of images and the first seed of `config`."""
    rows, found, floors = [], [], {}
    for i, name in enumerate(config.models.split()):
        m = model.load(name)
        if m.axes is None:
            raise Unavailable(f"the card of {name} has no axes")
        judge = Judge(m.card["train"]["data"])
        floors[name] = judge.floor(config.n)
        real = min(config.n, len(judge.data.y_test))
        rows.append(Row(f"{name}: floor, {real} test images", None, None, floors[name]))
        found += (of := measure(m, judge, config, wanted(config, i == 0)))
        for k in of:
            what = f"{name}: {k['method']}, {k['calls']} call{'s' if k['calls'] > 1 else ''}"
            rows.append(Row(what, None, k["w2"], k["frechet"], k["error"]))
    numbers = {"n": config.n, "seed": config.seed, "floors": floors, "cells": found}
    return Result(rows, None, numbers)


def in_one_table(numbers: dict[str, Any]) -> str:
    """One table for each model: methods by calls, Fréchet distance ± standard error, and the accuracy."""
    lines = []
    for name, floor in numbers["floors"].items():
        of = {(k["method"], k["calls"]): k for k in numbers["cells"] if k["model"] == name}
        calls = sorted({N for _, N in of})
        lines += [
            f"Fréchet distance ± standard error (accuracy) on {name}, n = {numbers['n']:,}; as many test images, or "
            f"all there are, have {floor:.2f}:"
        ]
        lines += ["", "| sampler, times | " + " | ".join(f"{N} call{'s' if N > 1 else ''}" for N in calls) + " |"]
        lines += ["|---|" + "---|" * len(calls)]
        for method in dict.fromkeys(method for method, _ in of):
            row = [_entry(of[method, N]) if (method, N) in of else "" for N in calls]
            lines.append(f"| {method} | " + " | ".join(row) + " |")
        lines.append("")
    return "\n".join(lines).strip()


def _entry(k: dict[str, Any]) -> str:
    return f"{k['frechet']:.3g} ± {k['error']:.2g}{'²' if k['seeds'] > 1 else ''} ({k['accuracy']:.2f})"


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance and accuracy against calls, a row of panels for each model."""
    names, shown = list(numbers["floors"]), sorted({k["calls"] for k in numbers["cells"]})
    colours = ["#1b4f72", "#c0392b", "#7f8c8d", "#d68910", "#6c3483", "#1e8449", "#2e86c1"]  # of lists of times
    colours += ["#000000", "#e377c2", "#8c564b", "#17becf", "#9aa516", "#ff7f0e", "#2ca02c"]
    with plot.style():
        figure = plot.new_figure(9.6, 4.0 * len(names))
        panels = figure.subplots(len(names), 2, squeeze=False)
        for name, (left, right) in zip(names, panels, strict=True):
            own = [k for k in numbers["cells"] if k["model"] == name]
            for i, method in enumerate(dict.fromkeys(k["method"] for k in own)):
                of = sorted((k for k in own if k["method"] == method), key=lambda k: k["calls"])
                x, free, other = [k["calls"] for k in of], method == FREE, method in OTHERS
                style = {"marker": "o^sDv<>PX*hdp1"[i % 14], "markersize": 4, "linestyle": ":" if other else "-"}
                style |= {"color": colours[i % 14], "linewidth": 2 if free else 1, "zorder": 3 if free else 2}
                left.errorbar(x, [k["frechet"] for k in of], [1.96 * k["error"] for k in of], label=method, **style)
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
        figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=6.5, ncols=5, loc="outside lower center")
    return figure
