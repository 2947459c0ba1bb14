"""DDIM, Table 2 and Figure 6 with a trained network: encode, decode, interpolate.

Song et al. encode CIFAR-10 test images with S steps of the deterministic sampler, decode them with S steps, and report
the error per pixel on [0, 1]. Here the shipped model of Fashion-MNIST does the same with test images and their classes.
The exact column is the round trip of a Gaussian with the same covariance and the perfect denoiser, under this model's
schedule and times, direction by direction. The figure shows interpolations between two codes of generated garments
along the arc (slerp); half way along the arc the code has the length of a Gaussian code. What we see: the error falls
with S as the paper's does, and lies between the Gaussian's and the paper's up to 50 steps; from 100 steps on the
network's errors stay at about .0008, where the paper's continue to fall. The list of times begins one step below T
(with more steps that is nearer to T, where x̂0 is a division by a small √ᾱ), which is the likely reason: in
`cifar10_small` the denoiser of the highest noise is exact for a Gaussian, and there the error continues to fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, plot
from ddpm.editing.inversion import decode, encode, slerp
from ddpm.guide import clip_x0
from ddpm.schedule import make_times
from ddpm.zoo import model
from experiments.ddim_table2 import TABLE
from experiments.lab.drawn_images import Judge
from experiments.lab.linear_denoisers import variances
from experiments.lab.runner import Result, Row

PAPER = "Song, Meng, Ermon 2021, Table 2 and Fig. 6 (CIFAR-10)"
MINUTES = 4
UNCHECKED = (
    "The exact column is the round trip with the exact denoiser of a Gaussian; a network has errors of its "
    "own, which is what is compared."
)


@dataclass(frozen=True)
class Config:
    """The model, test images, the largest number of steps, and the seed of the interpolated codes."""

    model: str = "fashion_mnist"
    n: int = 100
    most: int = 500
    seed: int = 0


QUICK = {"n": 8, "most": 10}


def gaussian_round_trip(alpha_bar: np.ndarray, lam: np.ndarray, times: np.ndarray) -> float:
    """Mean squared error on [0, 1] of N(0, diag(lam)) encoded and decoded along the times, with the exact denoiser.

    The step that leaves t = 0 evaluates the denoiser at t = 1, as the library does.
    """
    up, down = np.ones_like(lam), np.ones_like(lam)
    for t, s in pairwise(times):
        a, b = alpha_bar[t], alpha_bar[s]
        a_eval = alpha_bar[max(s, 1)]
        c = np.sqrt(1 - a_eval) / (a_eval * lam + 1 - a_eval)
        up *= np.sqrt(a / b) * (1 - np.sqrt(1 - b) * c) + np.sqrt(1 - a) * c
        c = np.sqrt(1 - a) / (a * lam + 1 - a)
        down *= np.sqrt(b / a) * (1 - np.sqrt(1 - a) * c) + np.sqrt(1 - b) * c
    return float((lam * (1 - up * down) ** 2).mean() / 4)


def run(config: Config) -> Result:
    """Measure the error of the round trip by S, and draw the interpolations."""
    m = model.load(config.model)
    judge = Judge(m.card["train"]["data"])
    d = judge.data
    lam = variances(data.to_float(d.x_train))
    alpha_bar = np.asarray(m.schedule.alpha_bar, np.float64)
    x0, c = jnp.asarray(data.to_float(d.x_test[: config.n])), jnp.asarray(d.y_test[: config.n])
    rows, steps = [], [S for S in TABLE if config.most >= S]
    for S in steps:
        times = make_times(m.schedule.T, S)[1:]  # not from T itself: the cosine schedule's last step is not invertible
        back = decode(m.eps, m.schedule, encode(m.eps, m.schedule, x0, times, c), times, c)
        errors = np.asarray(((back - x0) ** 2).mean((1, 2, 3))) / 4
        exact, spread = gaussian_round_trip(alpha_bar, lam, times), float(errors.std() / np.sqrt(config.n))
        rows.append(Row(f"mean squared error on [0, 1], S = {S}", TABLE[S], exact, float(errors.mean()), spread))
    about = {"n": config.n, "split": "test", "data": d.name, "first time": int(make_times(m.schedule.T, steps[0])[1])}
    return Result(rows, picture(rows, steps, interpolations(m, config.seed)), about)


def interpolations(m: model.Model, seed: int) -> np.ndarray:
    """Garments along the arc between two codes, (5, 9, H, W, C)."""
    a, b = jax.random.normal(jax.random.key(seed), (2, 5, *m.image_shape))
    kinds = jnp.asarray([0, 1, 5, 7, 9]) % m.num_classes
    eps, times = clip_x0(m.eps, m.schedule), make_times(m.schedule.T, 50)
    strips = [np.asarray(decode(eps, m.schedule, slerp(a, b, float(u)), times, kinds)) for u in np.linspace(0, 1, 9)]
    return np.stack(strips, 1)


def picture(rows: list[Row], steps: list[int], strips: np.ndarray) -> Any:
    """Draw the error by S, and the interpolations."""
    with plot.style():
        figure = plot.new_figure(9.0, 3.1)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
        left.plot(list(TABLE), list(TABLE.values()), marker="s", label="paper: CIFAR-10")
        left.plot(steps, [r.exact for r in rows], marker="^", label="Gaussian, exact")
        ours, bars = [r.ours or 0 for r in rows], [1.96 * (r.spread or 0) for r in rows]
        left.errorbar(steps, ours, bars, marker="o", capsize=2, label="garments, network")
        left.set(xlabel="steps S", ylabel="round trip: MSE on [0, 1]", xscale="log", yscale="log")
        left.legend(fontsize=7)
        canvas = plot.grid(strips.reshape(-1, *strips.shape[2:]), columns=strips.shape[1])
        right.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        right.set(title="generated; u = 0 … 1 along the arc", xticks=[], yticks=[])
        right.spines[:].set_visible(False)
    return figure
