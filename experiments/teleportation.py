"""Gaussian teleportation, and the beginning of the chain left out: how many network calls are spent on a Gaussian.

Wang and Vastola jump over the first 15 to 30 % of the sampling steps by the closed form of the flow of a Gaussian, and
lose nothing. Nichol and Dhariwal leave the first steps out altogether, begin with N(0, I) at a later time, and find
that this hardly harms a linear schedule up to 20 %. Which share is Gaussian depends on the schedule: the cosine
schedule of the shipped model has few steps at high noise. So the list here has the noise levels of 20 even steps of the
linear schedule, at the times where the network's schedule has them. There are three ways to save the same number of
calls: jump (by the Gaussian of the requested class), leave out, or take fewer and larger steps from T. All use DDIM,
guidance 1, x̂0 clipped, and the same x_T; the Fréchet distance is in the shipped classifier's features. The exact
column is the same for data that are Gaussian, class by class, with the perfect denoiser, in pixels: there jumping is
always right, and better than walking.

What we see is Wang and Vastola's claim, and more. Jumping over 30 % of the steps makes the images better, by 6.9 ± 2.4,
and over half of them by 9.9 ± 3.3: the closed form is better than this network at high noise (`denoisers_by_t`) and has
no step size. Ten calls after a jump are better than twenty without. Leaving out the first 30 % costs 21, and leaving
out half of them spoils everything; 30 % is also beyond the 20 % of the paper's curve for the linear schedule. Fewer and
larger steps cost nothing measurable here, since this network's errors are larger than those of the steps. In times of
the cosine schedule these 30 % are the first 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from ddpm import data, oracle, plot
from ddpm.guide import clip_x0
from ddpm.oracles import gaussian
from ddpm.oracles.gaussian import teleport
from ddpm.sample import ddim_step
from ddpm.schedule import linear, make_times
from ddpm.zoo import model
from experiments.denoisers_by_t import matching_time
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.linear_denoisers import by_formula, frechet
from experiments.lab.runner import Result, Row

PAPER = "Wang and Vastola 2024 (15 to 30 % of the steps); Nichol and Dhariwal 2021, Fig. 4 (curves, no table)"
MINUTES = 2
UNCHECKED = (
    "The exact column is the same walk on the Gaussian of each class; a trained network is compared with it, "
    "not held to it."
)
WAYS = ("jumped", "left out", "fewer steps")


@dataclass(frozen=True)
class Config:
    """The model, images in each row, steps of the whole walk, how many of them are saved, and the seed."""

    model: str = "fashion_mnist"
    n: int = 200
    steps: int = 20
    saved: tuple[int, ...] = (6, 10)
    seed: int = 0


QUICK = {"n": 50, "steps": 5, "saved": (1, 2)}


def even_in_linear(m: model.Model, steps: int) -> np.ndarray:
    """The network's times at the noise levels of `steps` even steps of the linear schedule; begins at T, ends at 0."""
    a = np.asarray(linear().alpha_bar, np.float64)
    times = [matching_time(m, float(a[t])) for t in make_times(1000, steps)[1:-1]]
    return np.array([m.schedule.T, *times, 0], np.int32)


def exact(alpha_bar: np.ndarray, lam: np.ndarray, times: np.ndarray, jump_from: int | None) -> float:
    """Mean over the classes of the Fréchet distance of N(0, λ) walked along the times, to itself.

    jump_from: the time from which the flow was followed exactly to times[0]; None: N(0, I) at times[0].
    """
    start: Any = 1.0
    if jump_from is not None:
        a, b = alpha_bar[times[0]], alpha_bar[jump_from]
        start = (a * lam + 1 - a) / (b * lam + 1 - b)
    return frechet(lam, by_formula(alpha_bar, lam, times, 0.0, start)) / len(lam)


def jump(g: oracle.Mixture, m: model.Model, t: int, x_T: jax.Array, c: jax.Array) -> jax.Array:
    """x_t of the flow of the class's Gaussian."""
    return teleport(g, m.schedule, x_T, t, c=c)


def run(config: Config) -> Result:
    """Measure each way to save calls, by the number saved."""
    m = model.load(config.model)
    judge = Judge(m.card["train"]["data"])
    g = gaussian.fit(data.to_float(judge.data.x_train), judge.data.y_train)
    lam, alpha_bar = np.asarray(g.var, np.float64), np.asarray(m.schedule.alpha_bar, np.float64)
    make = partial(ddim_step, clip_x0(m.eps, m.schedule), m.schedule)
    c, whole = labels(m, config.n), even_in_linear(m, config.steps)
    rows = [Row(f"floor: {config.n} test images", None, None, judge.floor(config.n))]

    f: dict[tuple[str, int], np.ndarray] = {}

    def measure(way: str, k: int) -> Row:
        times = even_in_linear(m, config.steps - k) if way == "fewer steps" else whole[k:]
        how: dict[str, Any] = {"times": times}
        if way == "jumped":
            how["begin"] = partial(jump, g, m, int(times[0]))
        name = "ddim jumped by the class's Gaussian" if way == "jumped" else "ddim η = 0 clipped"
        images, _ = draw(m, name, make, config.n, len(times) - 1, config.seed, **how)
        f[way, k] = judge.features(images)
        value, error = judge.frechet(f[way, k], c)
        of = exact(alpha_bar, lam, times, m.schedule.T if way == "jumped" else None)
        share = f"{k} of {config.steps} steps {way}" if way != "fewer steps" else f"{config.steps - k} steps"
        return Row(f"{share}, {len(times) - 1} calls", None, of, value, error)

    full = measure("fewer steps", 0)
    found = {way: {k: measure(way, k) for k in config.saved} for way in WAYS}
    rows.append(full)
    for way in WAYS:
        rows += found[way].values()
    for k in config.saved:
        more, error = judge.further(f["jumped", k], f["fewer steps", 0], c)
        claimed = 0.0 if 0.15 <= k / config.steps <= 0.30 else None
        rows.append(Row(f"increase of the distance by jumping over {k / config.steps:.0%}", claimed, None, more, error))
    about = {
        "n": config.n,
        "seed": config.seed,
        "features": judge.real.name,
        "times": whole,
        "share_of_network_time": {str(k): 1 - whole[k] / m.schedule.T for k in config.saved},
    }
    return Result(rows, picture(config, full, found, rows[0].ours or 0.0), about)


def picture(config: Config, full: Row, found: dict[str, dict[int, Row]], floor: float) -> Any:
    """Draw distance against calls, exact and ours."""
    with plot.style():
        figure = plot.new_figure(7.6, 3.2)
        for i, axes in enumerate(figure.subplots(1, 2)):
            for way, mark in zip(WAYS, "os^", strict=True):
                cells = [full, *found[way].values()]
                calls = [config.steps, *(config.steps - k for k in found[way])]
                y = [r.ours if i else r.exact for r in cells]
                errors = [1.96 * (r.spread or 0) for r in cells] if i else None
                axes.errorbar(calls, y, errors, marker=mark, markersize=4, label=way)
            axes.set(xlabel="network calls an image", yscale="log", title="ours: garments" if i else "exact: Gaussians")
            axes.set_ylabel("Fréchet distance, features" if i else "Fréchet distance, pixels")
            if i:
                axes.axhline(floor, color="#95a5a6", linestyle="-", linewidth=0.8)
                axes.annotate("test images", (config.steps, floor), (0, 3), textcoords="offset points", fontsize=7,
                              ha="right")  # fmt: skip
            else:
                axes.legend(fontsize=8)
    return figure
