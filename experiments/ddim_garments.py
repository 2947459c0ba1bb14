"""DDIM, Table 1 with a trained network: steps and η on garments.

Song et al.'s table again, with the shipped model of Fashion-MNIST, classes in turn, guidance 1, x̂0 clipped, and the
Fréchet distance in the shipped classifier's features (there is no Inception network here; the paper's column is another
unit on other data, so only the order can be compared). The exact column is the same table for a Gaussian with the
garments' covariance and the perfect denoiser, in pixels, under this model's cosine schedule and the same list of times.
Beside the distances stands the floor: n real test images against the training images. What the paper claims: η = 0 is
best at few steps, and σ̂ fails there. What we see is printed as "order" rows: 1 where it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, model, plot
from ddpm.guide import clip_x0
from ddpm.sample import ddim_step, ddpm_step
from ddpm.schedule import make_times
from experiments.ddim_table1 import STEPS, TABLE
from experiments.judged import Judge, draw
from experiments.linear import by_formula, frechet
from experiments.runner import Result, Row

PAPER = "Song, Meng, Ermon 2021, Table 1 (CIFAR-10)"
MINUTES = 14


@dataclass(frozen=True)
class Config:
    """The model, images a cell, the largest number of steps, and the seed."""

    model: str = "fashion_mnist"
    n: int = 1000
    most: int = 100
    seed: int = 0


QUICK = {"n": 100, "most": 10}


def stepper(m: model.Model, eta: Any) -> Callable[[jax.Array], Any]:
    """labels -> the step of this η, or of σ̂."""
    eps = clip_x0(m.eps, m.schedule)
    if eta == "hat":
        return lambda c: ddpm_step(eps, m.schedule, c, "fixed_large")
    return lambda c: ddim_step(eps, m.schedule, c, eta=eta)


def run(config: Config) -> Result:
    """Every cell of the table."""
    m = model.load(config.model)
    judge = Judge(m.card["train"]["data"])
    x = data.to_float(judge.data.x_train).reshape(len(judge.data.x_train), -1)
    lam = np.maximum(np.linalg.eigvalsh(np.cov(x.astype(np.float64), rowvar=False)), 0)
    alpha_bar = np.asarray(m.schedule.alpha_bar, np.float64)
    rows: list[Row] = [Row(f"floor: {config.n} test images", None, None, judge.floor(config.n))]
    found: dict[tuple[Any, int], float] = {}
    for eta, paper in TABLE.items():
        what = "σ̂" if eta == "hat" else f"η = {eta:g}"
        for S, fid in zip(STEPS, paper, strict=True):
            if config.most < S:
                continue
            images, _ = draw(m, f"ddim {what} clipped", stepper(m, eta), config.n, S, config.seed)
            value, error = judge.frechet(judge.features(images))
            exact = frechet(lam, by_formula(alpha_bar, lam, make_times(m.schedule.T, S), eta))
            rows.append(Row(f"{what}, S = {S}", fid, exact, value, error))
            found[eta, S] = value
    few = STEPS[0]
    order = found[0.0, few] < found[0.5, few] < found[1.0, few]
    rows.append(Row(f"order: η = 0 < .5 < 1 at S = {few}", 1.0, 1.0, float(order)))
    rows.append(
        Row(
            f"order: σ̂ worst at S = {few}",
            1.0,
            1.0,
            float(max(found, key=lambda k: found[k] * (k[1] == few))[0] == "hat"),
        )
    )
    with plot.style():
        figure = plot.new_figure(4.8, 3.4)
        axes = figure.add_subplot()
        steps = [S for S in STEPS if config.most >= S]
        for eta in TABLE:
            axes.plot(
                steps,
                [found[eta, S] for S in steps],
                marker="o",
                markersize=3,
                label="σ̂" if eta == "hat" else f"η = {eta:g}",
            )
        axes.axhline(rows[0].ours or 0.0, color="#bdc3c7", linestyle="-", linewidth=0.8, label="test images")
        axes.set(xlabel="steps S", ylabel="Fréchet distance, classifier features", xscale="log", yscale="log")
        axes.legend(fontsize=7)
    about = {"n": config.n, "seed": config.seed, "features": judge.real.name, "data": judge.data.name}
    return Result(rows, figure, about)
