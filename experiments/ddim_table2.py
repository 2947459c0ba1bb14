"""DDIM, Table 2: encode an image into noise and decode it again; the error falls with the steps.

Song et al. run the deterministic sampler upwards and down again and report the error per pixel on [0, 1] for CIFAR-10.
On unit Gaussian data each step multiplies by the cosine of an angle, up and down alike, and the error of the round trip
is (1 - ∏ cos² Δθ)², with cos θ_t = √ᾱ_t. Divided by four for the range [0, 1] it can be compared with the paper's: .024
for .014 at ten steps, .00032 for .0009 at a hundred. The order of magnitude and the fall agree without any network; the
paper's error falls more slowly at the end, where the errors of a trained network remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Song, Meng, Ermon 2021, Table 2 (CIFAR-10)"
MINUTES = 0.1
TABLE = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004, 500: 0.0001, 1000: 0.0001}


@dataclass(frozen=True)
class Config:
    """The variance of the Gaussian data."""

    lam: float = 1.0


QUICK: dict = {}


def run(config: Config) -> Result:
    """Compute the error of the round trip for each number of steps."""
    rows: list[Row] = []
    errors: list[float] = []
    with float64():
        schedule = linear()
        a = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
        eps = oracle.gaussian([0.0], config.lam).eps(schedule)
        x0, step = jnp.full((1, 1), np.sqrt(config.lam)), ddim_step(eps, schedule)
        for S, paper in TABLE.items():
            times = make_times(1000, S, "leading")
            code = walk(step, jax.random.key(0), x0, times[::-1])
            ours = float(((walk(step, jax.random.key(0), code, times) - x0) ** 2)[0, 0]) / 4
            v = (
                a[times] * config.lam + 1 - a[times]
            )  # one step t -> s multiplies by (√(ᾱ_s ᾱ_t) λ + √((1-ᾱ_s)(1-ᾱ_t)))/v_t
            cross = np.sqrt(a[times[:-1]] * a[times[1:]]) * config.lam + np.sqrt(
                (1 - a[times[:-1]]) * (1 - a[times[1:]])
            )
            exact = float((1 - np.prod(cross / v[:-1]) * np.prod(cross / v[1:])) ** 2 * config.lam / 4)
            errors.append(ours)
            rows.append(Row(f"mean squared error on [0, 1], S = {S}", paper, exact, ours, within=1e-6))
    with plot.style():
        figure = plot.new_figure(4.6, 3.2)
        axes = figure.add_subplot()
        axes.plot(list(TABLE), list(TABLE.values()), marker="s", label="paper: CIFAR-10")
        axes.plot(list(TABLE), errors, marker="o", label=f"N(0, {config.lam:g}), exact denoiser")
        axes.set(xlabel="steps S", ylabel="error of encoding and decoding", xscale="log", yscale="log")
        axes.legend()
    return Result(rows, figure)
