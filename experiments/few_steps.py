"""Models of few steps on garments: one, two, four and eight calls at an equal, small budget of training.

The papers report FID on CIFAR-10 after hundreds of thousands of steps. We train on Fashion-MNIST with a network of 166k
parameters for 2,400 steps of 32 images; a method with a teacher has 1,200 after the 1,200 of its teacher, and
progressive distillation shares them among four stages. Guidance 2 is built into all but consistency training, which has
none, and a guided step of a flow is counted as one call. The line to beat trains nothing: searched times with a free
start, on the same small flow and on the shipped model, which is six times as large and was trained for longer. The
exact column is W₂² to the Gaussian of the images, in pixels, of the same sampler with an exact denoiser, and where a
perfect training ends: 0 for consistency distillation, MeanFlow and reflow in one call.

What we see: no training here reaches what the searched times have for nothing on the shipped model, 290.7, 31.6, 8.9
and 6.1 at one, two, four and eight calls, but for MeanFlow at one call, 209.5. On the small flow, whose own distance is
130.7 with 50 calls and 118.9 with eight (floor .43), the free start has 277.7, 287.9, 169.1 and 126.5. Below it are
MeanFlow at one and two calls (209.5 and 181.2), progressive distillation and shortcut models at two (264.0 and 269.2);
guided distillation, reflow and both consistency models at none. DDIM at even times, 259.4 and 198.4, leaves only
MeanFlow below it. Reflow makes the flow straighter, from .077 to .011 (.117 to 0 on the Gaussian), but learns from
eight steps of an unfinished teacher, and its one call has 341.6. The best accuracies are .81 at one call (MeanFlow) and
.96 at two (searched times, shipped model).

What limits consistency distillation, 470.0 at one call: its loss and f(x, 0) = x are exact on a Gaussian, by tests, but
each point is compared with a moving neighbour. On 32 times f was off the teacher's end by .029 after two hops, .077
after five and .110 after eight, in proportion to the hops, where the teacher's own x̂0, from which it began, was off by
.013, .043 and .064: the errors of the hops agree, and 1,200 steps do not remove them. With eight times one call
improved from 571 to about 465, and its root mean square from .20 to .16; these were measured apart. Its end is also no
better than its teacher's, 210 with 32 guided steps that nothing clips. Consistency training fails, 801 (from nothing,
with intervals that double to 160); we did not find out why. One seed. `python -m experiments few_steps steps=…` trains
for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import plot
from ddpm.flows import errors
from ddpm.flows.consistency import training_fixed_point
from ddpm.flows.matching import measured_straightness
from ddpm.flows.paths import make_path
from ddpm.flows.steps import velocity_of
from ddpm.guide import cfg, clip_x0
from ddpm.oracles.spectrum import Axes
from ddpm.sample import Sampling, ddim_step
from ddpm.samplers.best_times import searched, w2_of_times
from ddpm.samplers.solvers import begin, multistep
from ddpm.schedule import Schedule, make_times
from ddpm.training.few_steps import FINEST, GROWS
from ddpm.zoo import model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.few_trainings import TEACHER, Budget, train
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Song et al. 2023; Salimans and Ho 2022; Frans et al. 2024; Geng et al. 2025"
MINUTES = 30
UNCHECKED = (
    "The exact column is where a perfect training ends on the Gaussian of the same images, W₂² in pixels; the networks "
    "are trained, and compared by Fréchet distance."
)
CALLS = (1, 2, 4, 8, 50)
FREE, TRAILING, SECOND = "searched times, free start", "DDIM", "DPM-Solver++(2M)"
PUBLISHED = {  # FID on CIFAR-10 by calls, as far as known
    TRAILING: {1: 314.0, 2: 146.0, 4: 64.3, 8: 20.6},
    "consistency distillation": {1: 3.55, 2: 2.93},
    "consistency training": {1: 2.51, 2: 2.24},
    "progressive": {1: 8.34, 2: 5.58},
    "shortcut": {1: 27.3, 2: 16.0, 4: 9.6, 8: 7.1},
    "MeanFlow": {1: 2.92},
}
METHODS = (
    "consistency distillation",
    "consistency training",
    "progressive",
    "shortcut",
    "MeanFlow",
    "guided",
    "reflow",
)
STAGES = {8: "progressive, 8", 4: "progressive, 4", 2: "progressive, 2", 1: "progressive, 1"}


@dataclass(frozen=True)
class Config:
    """The budget of the trainings, methods, images in each cell, their seed, the most calls, another model."""

    preset: str = "nano"
    steps: int = 2400
    batch: int = 32
    methods: tuple[str, ...] = METHODS
    n: int = 2000
    seed: int = 0
    guidance: float = 2.0
    most: int = 50
    shipped: str = "fashion_mnist"  # or nothing


QUICK = {"preset": "cities", "steps": 8, "batch": 8, "methods": ("shortcut",), "n": 20, "most": 1, "shipped": ""}
LINE = 64  # trajectories of which straightness is the mean


# --- exact, on the Gaussian of the images -----------------------------------------------------------------------------


def end_of_training(name: str, N: int, schedule: Schedule, axes: Axes) -> float | None:
    """W₂² of what a perfect training of this name draws in one call (progressive: in N), where it is known."""
    if name == "progressive":
        times = make_times(schedule.T, 16)  # the teacher's steps, whatever N
    elif name == "shortcut":
        times = make_times(schedule.T, FINEST)
    elif name == "guided":
        times = make_times(schedule.T, N)
    elif name in ("consistency distillation", "MeanFlow", "reflow"):
        return 0.0 if N == 1 else None
    elif name == "consistency training" and N == 1:
        gain = training_fixed_point(make_path("linear"), axes.var, np.linspace(0, 1, GROWS[1] + 1))
        return float((axes.number * (np.sqrt(axes.var) - gain) ** 2).sum())
    else:
        return None
    return w2_of_times(schedule, axes.var, times, axes.mean, axes.number)


# --- ours -------------------------------------------------------------------------------------------------------------


def solvers(m: model.Model, guidance: float) -> dict[str, tuple[Any, Callable[[int], np.ndarray], dict[str, Any]]]:
    """The samplers that train nothing: name -> (how a step is made, N -> times, what else `draw` wants)."""
    assert m.axes is not None
    eps, T = clip_x0(cfg(m.eps, guidance), m.schedule), m.schedule.T
    search = partial(searched, m.schedule, m.axes.var, mean=m.axes.mean, number=m.axes.number)
    first, second = partial(ddim_step, eps, m.schedule), partial(multistep, eps, m.schedule)
    more = {"begin": lambda x, c: begin(x), "end": lambda state: state.x}
    trailing = partial(make_times, T)
    return {TRAILING: (first, trailing, {}), SECOND: (second, trailing, more), FREE: (first, search, {})}


def judged(judge: Judge, m: model.Model, images: np.ndarray, about: dict[str, Any]) -> dict[str, Any]:
    """Fréchet distance and accuracy, with their errors, of the images of one cell."""
    c = labels(m, len(images))
    value, error = judge.frechet(judge.features(images), c)
    share, share_error = judge.accuracy(images, c)
    return about | {"frechet": value, "error": error, "accuracy": share, "accuracy_error": share_error}


def untrained(judge: Judge, m: model.Model, of: str, config: Config) -> list[dict[str, Any]]:
    """Judge the samplers that train nothing on one model, with guidance; a guided step is one call."""
    assert m.axes is not None
    found = []
    for name, (make, rule, more) in solvers(m, config.guidance).items():
        for N in CALLS:
            if N > config.most or (N == 1 and name == SECOND) or (N > 8 and (name != TRAILING or of != "flow")):
                continue
            times = rule(N)
            second = name == SECOND
            of_draw = f"{'dpm_2m' if second else 'ddim'} guidance {config.guidance:g}"
            images, _ = draw(m, of_draw, make, config.n, N, config.seed, times=times, **more)
            w2 = None if second else w2_of_times(m.schedule, m.axes.var, times, m.axes.mean, m.axes.number)
            found.append(judged(judge, m, images, {"model": of, "method": name, "calls": N, "exact": w2}))
    return found


def own_step(m: model.Model, how: Sampling, c: Any) -> Any:
    """The step of a model's own sampler; after reflow, which has none, DDIM."""
    return how.step(m.eps, m.schedule, c) if m.few.loss else ddim_step(clip_x0(m.eps, m.schedule), m.schedule, c)


def straightness(budget: Budget, guidance: float, n: int = LINE) -> dict[str, Any]:
    """S of the guided flow that teaches, and of the flow after reflow; on the Gaussian exact, before and after."""
    teacher, after = train(budget, TEACHER), train(budget, "reflow")
    assert teacher.axes is not None
    x, c = jax.random.normal(jax.random.key(1), (n, *teacher.image_shape)), jnp.asarray(labels(teacher, n))
    before = measured_straightness(velocity_of(cfg(teacher.net, guidance), teacher.schedule.T), x, c)
    number = teacher.axes.number
    exact = float((errors.straightness(make_path("linear"), teacher.axes.var) * number).sum() / np.sum(number))
    ours = measured_straightness(velocity_of(after.net, after.schedule.T), x, c)
    return {"before": before, "exact": exact, "after": ours}


def beats(cells: list[dict[str, Any]], model_of: str) -> dict[str, list[int]]:
    """At which calls each trained method is below the searched times with a free start on this model, by two errors."""
    line = {k["calls"]: k for k in cells if k["model"] == model_of and k["method"] == FREE}
    found: dict[str, list[int]] = {}
    for k in cells:
        if k["model"] not in ("flow", "shipped") and k["calls"] in line:
            free, calls = line[k["calls"]], found.setdefault(k["method"], [])
            if k["frechet"] + 2 * np.hypot(k["error"], free["error"]) < free["frechet"]:
                calls.append(k["calls"])
    return found


def trained(judge: Judge, name: str, config: Config, budget: Budget) -> list[dict[str, Any]]:
    """Judge a model of few steps by its own sampler."""
    axes = train(budget, "flow").axes
    assert axes is not None
    found = []
    for N in CALLS:
        if N > min(8, config.most) or (name == "progressive" and N not in STAGES):
            continue
        m = train(budget, STAGES[N] if name == "progressive" else name)
        if name == "shortcut" and N & (N - 1):
            continue
        make = partial(own_step, m, m.how(steps=N, guidance=config.guidance if name == "guided" else 1.0))
        images, _ = draw(m, name, make, config.n, N, config.seed)
        exact = end_of_training(name, N, m.schedule, axes)
        found.append(judged(judge, m, images, {"model": name, "method": name, "calls": N, "exact": exact}))
    return found


def run(config: Config) -> Result:
    """Train what is not in the cache, draw, and judge every cell."""
    judge, budget = Judge("fashion_mnist"), Budget(preset=config.preset, steps=config.steps, batch=config.batch)
    cells = untrained(judge, train(budget, "flow"), "flow", config)
    if config.shipped:
        shipped = model.load(config.shipped)
        if shipped.axes is None:
            raise Unavailable(f"the card of {config.shipped} has no axes")
        cells += untrained(judge, shipped, "shipped", config)
    for name in config.methods:
        cells += trained(judge, name, config, budget)
    floor = judge.floor(config.n)
    rows = [Row(f"floor, {config.n} test images", None, None, floor)]
    for k in cells:
        what = name_of(k)
        calls = f"{k['calls']} call{'s' if k['calls'] > 1 else ''}"
        paper = PUBLISHED.get(k["method"], {}).get(k["calls"]) if k["model"] != "shipped" else None
        rows.append(Row(f"{what}, {calls}", paper, k["exact"], k["frechet"], k["error"]))
    for k in cells:
        calls = f"{k['calls']} call{'s' if k['calls'] > 1 else ''}"
        rows.append(Row(f"accuracy: {name_of(k)}, {calls}", None, None, k["accuracy"], k["accuracy_error"]))
    # How straight the flow is, and who beats the line that trains nothing
    line = straightness(budget, config.guidance) if "reflow" in config.methods else None
    if line:
        rows.append(Row("straightness of the guided flow", None, line["exact"], line["before"]))
        rows.append(Row("straightness after reflow", None, 0.0, line["after"]))
    better = {of: beats(cells, of) for of in dict.fromkeys(k["model"] for k in cells) if of in ("flow", "shipped")}
    for of, found in better.items():
        for name, at in found.items():
            print(f"{name}: below {FREE} on the {of} model at {at or 'no number of'} calls", flush=True)
    numbers = {
        "n": config.n,
        "seed": config.seed,
        "floor": floor,
        "cells": cells,
        "straightness": line,
        "beats": better,
    }
    return Result(rows, None, numbers)


def name_of(cell: dict[str, Any]) -> str:
    """The method, and for what trains nothing the model that it draws with."""
    model_of = {"flow": " on the small flow", "shipped": " on the shipped model"}
    return f"{cell['method']}{model_of.get(cell['model'], '')}"


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance and accuracy against calls; bold is the line that trains nothing, dashed the shipped model."""
    with plot.style():
        figure = plot.new_figure(9.6, 4.6)
        left, right = figure.subplots(1, 2)
        shown = [
            k for k in numbers["cells"] if k["method"] != SECOND and (k["model"], k["method"]) != ("shipped", TRAILING)
        ]
        names = dict.fromkeys(name_of(k) for k in shown)
        colours = (*(f"C{i}" for i in range(6)), "#17a589", "black", "#b7950b", "#7d3c98")
        for name, mark, colour in zip(names, "o^sDv<>PX*", colours, strict=False):
            of = sorted((k for k in shown if name_of(k) == name), key=lambda k: k["calls"])
            style = {"marker": mark, "markersize": 4, "linewidth": 2.4 if name.startswith(FREE) else 1}
            style |= {"linestyle": "--" if "shipped" in name else "-", "color": colour}
            x = [k["calls"] for k in of]
            left.plot(x, [k["frechet"] for k in of], label=name, **style)
            right.plot(x, [k["accuracy"] for k in of], **style)
        left.axhline(numbers["floor"], color="#95a5a6", linestyle="-", linewidth=0.8, marker="", label="floor")
        for axes in (left, right):
            axes.set(xlabel="network calls an image", xscale="log")
            axes.set_xticks(CALLS, [str(N) for N in CALLS])
            axes.minorticks_off()
        left.set(ylabel="Fréchet distance, features", yscale="log")
        right.set(ylabel="class accuracy", ylim=(0, 1))
        figure.legend(*left.get_legend_handles_labels(), fontsize=6.5, loc="outside lower center", ncols=4)
    return figure
