"""Adaptive Guidance and Gaussian teleportation: how many network calls a picture needs.

Castillo et al. stop guiding once ε̂_c and ε̂_∅ point the same way, and save about a quarter of the calls at equal
quality. Wang and Vastola replace the first steps, where the score is that of a Gaussian, by its closed form, and save
15 to 30 % of them. Both are measured here with the shipped model of Fashion-MNIST and 50 steps: calls an image,
Fréchet distance in the classifier's features, and class accuracy, beside full guidance. The exact column of adaptive
guidance is its price (1+f)/2 for a share f of guided steps, from the measured f; that of teleportation is the share
of steps that the list of times leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import adaptive, data, model, oracle, plot
from ddpm.guide import cfg, clip_x0
from ddpm.pytree import Partial
from ddpm.sample import ddim_step, walk
from ddpm.schedule import make_times
from ddpm.teleport import teleport
from experiments.judged import Judge, draw, labels
from experiments.runner import Result, Row

PAPER = "Castillo et al. 2023 (25 % of calls saved); Wang and Vastola 2024 (15 to 30 % of steps skipped)"
MINUTES = 9


@dataclass(frozen=True)
class Config:
    """The model, images in each row, steps, guidance scale and the seed."""

    model: str = "fashion_mnist"
    n: int = 1000
    steps: int = 50
    guidance: float = 2.0
    seed: int = 0


QUICK = {"n": 100, "steps": 5}
THRESHOLDS = (0.999, 0.99, 0.97)
SHARES = (0.1, 0.2, 0.3, 0.4)  # of the steps, left out at the beginning


def teleported(m: model.Model, g: oracle.Mixture, config: Config, share: float) -> np.ndarray:
    """Images whose first `share` of the steps is the closed form of the class's own Gaussian."""
    times = make_times(m.schedule.T, config.steps)[round(share * config.steps) :]
    eps = clip_x0(cfg(m.eps, config.guidance), m.schedule)
    key_x, key = jax.random.split(jax.random.key(config.seed))
    done = []
    for i in range(0, config.n, 100):
        c = jnp.asarray(labels(m, config.n)[np.minimum(np.arange(i, i + 100), config.n - 1)])
        x_T = jax.random.normal(jax.random.fold_in(key_x, i), (100, *m.image_shape))
        x_t = teleport(g, m.schedule, x_T, int(times[0]), c=c)
        done.append(data.to_uint8(np.asarray(walk(ddim_step(eps, m.schedule, c), key, x_t, times)))[: config.n - i])
    return np.concatenate(done)


def with_labels(make: Any, c: jax.Array) -> Any:
    """The step of these labels."""
    return make(c=c)


def image_and_calls(g: adaptive.Guided) -> tuple[jax.Array, jax.Array]:
    """What is kept of a walk of adaptive guidance."""
    return g.x, g.calls


def run(config: Config) -> Result:
    """Full guidance, adaptive guidance by threshold, teleportation by share."""
    m = model.load(config.model)
    judge = Judge(m.card["train"]["data"])
    c = labels(m, config.n)
    rows = [Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n))]
    points: list[tuple[str, float, float]] = []

    def add(what: str, images: np.ndarray, calls: float, paper: float | None, exact: float | None) -> None:
        value, error = judge.frechet(judge.features(images), c)
        right, right_error = judge.accuracy(images, c)
        rows.extend(
            [
                Row(f"{what}: calls an image, of {2 * config.steps}", paper, exact, calls),
                Row(f"{what}: Fréchet distance", None, None, value, error),
                Row(f"{what}: class accuracy", None, None, right, right_error),
            ]
        )
        points.append((what, calls, value))

    clip = Partial(clip_x0, schedule=m.schedule)
    full = clip_x0(cfg(m.eps, config.guidance), m.schedule)
    make = partial(ddim_step, full, m.schedule)
    images, _ = draw(m, f"ddim guidance {config.guidance:g}", make, config.n, config.steps, config.seed)
    add("full guidance", images, 2.0 * config.steps, None, None)
    for threshold in THRESHOLDS:
        step = partial(
            adaptive.adaptive_step, m.eps, m.schedule, scale=config.guidance, threshold=threshold, after=clip
        )
        name = f"adaptive {config.guidance:g} {threshold:g}"
        images, calls = draw(
            m, name, partial(with_labels, step), config.n, config.steps, config.seed,
            begin=adaptive.begin, end=image_and_calls,
        )  # fmt: skip
        mean = float(calls.mean())
        f = mean / config.steps - 1  # share of guided steps
        add(f"adaptive, cos ≥ {threshold:g}", images, mean, 1.5 * config.steps, config.steps * (1 + f))
    g = oracle.fit(data.to_float(judge.data.x_train), judge.data.y_train)
    for share in SHARES:
        left = config.steps - round(share * config.steps)
        add(f"teleported past {share:.0%} of the steps", teleported(m, g, config, share), 2.0 * left, None, 2.0 * left)
    with plot.style():
        figure = plot.new_figure(5.0, 3.4)
        axes = figure.add_subplot()
        for kind, mark in (("adaptive", "o"), ("teleported", "s"), ("full", "D")):
            mine = [(x, y) for what, x, y in points if what.startswith(kind)]
            axes.plot(*zip(*mine, strict=True), marker=mark, label=kind + (" guidance" if kind != "teleported" else ""))
        axes.axhline(rows[0].ours or 0.0, color="#bdc3c7", linestyle="-", linewidth=0.8, label="test images")
        axes.set(xlabel="network calls an image", ylabel="Fréchet distance")
        axes.legend(fontsize=7)
    return Result(rows, figure, {"n": config.n, "seed": config.seed, "features": judge.real.name})
