"""DDPM, Table 4 with a trained network: progressive coding of garments, and the Gaussian of the same covariance.

Ho et al. send an image as the terms of the bound, noisiest first: after a number of bits per pixel the receiver's guess
x̂0 has some error. Most bits describe what no eye can see. We code the first n test images with the shipped model of
Fashion-MNIST without a class, one noise for each of the 1,000 steps, σ² = β ("fixed large"), and x̂0 clipped as in Ho
et al.'s code (without clipping, the first steps alone cost .2 bits/dim: near T an error of ε̂ is an error of x̂0 many
times as large). The model has the cosine schedule, so each row of the paper is read at the time with the same
signal-to-noise ratio. The exact column is the closed form for a Gaussian with the training images' covariance and the
perfect denoiser, under the same schedule (`progressive_coding`): what covariance alone can do. The spread is the
standard error over images. The paper's numbers are for CIFAR-10, which is harder.

What we see, with 16 images, is the paper's curve. The error falls and the rate rises in every row; .15 bits/dim bring
the error to 13 of 255, where the paper has .12 and 12. In seven of ten rows the error is below the Gaussian's, and at
900 it takes half of its bits: this is what a network knows beyond the covariance. In the three noisiest rows the closed
form is better, as in `denoisers_by_t`: this network has learned little near T, and clipping cannot repair it. That
costs almost no bits there (.002 bits/dim).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.guide import clip_x0
from ddpm.losses.bound import bits_per_dim
from ddpm.schedule import linear
from ddpm.zoo import model
from experiments.denoisers_by_t import matching_time
from experiments.lab.linear_denoisers import variances
from experiments.lab.runner import Result, Row, Unavailable
from experiments.progressive_coding import TABLE, rate_and_error

PAPER = "Ho et al. 2020, Table 4 (CIFAR-10 test)"
MINUTES = 1
UNCHECKED = (
    "The exact column is the Gaussian of the same covariance; the network codes real images, of which the "
    "Gaussian knows only two moments."
)


@dataclass(frozen=True)
class Config:
    """The model, test images, and the seed."""

    model: str = "fashion_mnist"
    n: int = 16
    seed: int = 0


QUICK = {"n": 2}


def run(config: Config) -> Result:
    """Measure rate and error for each row of the table."""
    m = model.load(config.model)
    name = m.card["train"]["data"]
    try:
        d = sources.load(name)
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the experiment codes real images of {name}, which is not here: {error}") from error
    x0, T = jnp.asarray(data.to_float(d.x_test[: config.n])), m.schedule.T
    bound = bits_per_dim(
        clip_x0(m.eps, m.schedule), m.schedule, jax.random.key(config.seed), x0, variance="fixed_large"
    )
    # from noise to image: rates[k], errors[k] when x_t is known, t = T - k
    rates = np.asarray(bound.prior) + np.concatenate([np.zeros((1, config.n)), np.cumsum(bound.terms[:-1], 0)])
    errors = np.asarray(bound.x0_error, np.float64)
    lam = variances(data.to_float(d.x_train))
    alpha_bar, a = np.asarray(m.schedule.alpha_bar, np.float64), np.asarray(linear().alpha_bar, np.float64)
    exact_rate, exact_error = rate_and_error(alpha_bar[1:], lam, np.ones_like(lam))
    rows: list[Row] = []
    times = {n: matching_time(m, float(a[1001 - n])) for n in TABLE}
    for n, (paper_rate, paper_error) in TABLE.items():
        t = times[n]
        rate, wrong = rates[T - t], errors[T - t]
        root = 127.5 * np.sqrt(wrong.mean())
        rows += [
            Row(f"T - t + 1 = {n}: bits/dim", paper_rate, exact_rate[t - 1], rate.mean(), _stderr(rate)),
            Row(f"T - t + 1 = {n}: error in grey levels", paper_error, exact_error[t - 1], root,
                root * _stderr(wrong) / wrong.mean() / 2),
        ]  # fmt: skip
    total, last = np.asarray(bound.total), np.asarray(bound.terms[-1])
    rows += [
        Row("the last term, of the bytes given x_1: bits/dim", 1.97, None, last.mean(), _stderr(last)),
        Row("the whole bound: bits/dim", 3.75, None, total.mean(), _stderr(total)),
    ]
    ours = [(r.ours or 0, r.exact or 0) for r in rows[1 : 2 * len(TABLE) : 2]]
    rows.append(Row("rows in which the error is below the Gaussian's", None, None, float(sum(a < b for a, b in ours))))
    step = [T - t for t in range(T, 0, -1)]
    curve = rates.mean(1)[step], 127.5 * np.sqrt(errors.mean(1))[step]
    about = {"n": config.n, "split": f"the first {config.n} test images of {name}", "seed": config.seed, "times": times}
    return Result(rows, picture(rows, curve, (exact_rate, exact_error)), about)


def _stderr(x: np.ndarray) -> float:
    return float(np.std(x, ddof=1) / np.sqrt(len(x)))


def picture(rows: list[Row], curve: Any, exact: Any) -> Any:
    """Draw error against rate: paper, exact, ours."""
    rate, error = rows[0 : 2 * len(TABLE) : 2], rows[1 : 2 * len(TABLE) : 2]
    with plot.style():
        figure = plot.new_figure(8.4, 3.3)
        for axes, log in zip(figure.subplots(1, 2), (False, True), strict=True):
            axes.plot(*zip(*TABLE.values(), strict=True), marker="s", markersize=4, label="paper: CIFAR-10")
            axes.plot(*exact, label="exact: Gaussian")
            line = axes.plot(*curve, label="ours: garments")[0]
            axes.errorbar(
                [r.ours for r in rate], [r.ours for r in error], [1.96 * (r.spread or 0) for r in error],
                [1.96 * (r.spread or 0) for r in rate], fmt="o", markersize=4, color=line.get_color(),
            )  # fmt: skip
            axes.set(xlabel="rate, bits/dim", ylabel="root mean square error of x̂0, of 255")
            if log:
                axes.set(xscale="log", xlim=(1e-4, 10), ylim=(0, 110))
            else:
                axes.set(xlim=(0, 0.5), ylim=(0, 110))
                axes.legend()
    return figure
