"""DDPM: the network's size, the schedule, and how little of the image is left at T.

Ho et al. report the size of their CIFAR-10 network as 35.7 million parameters and the last term of the bound as about
1e-5 bits/dim: after a thousand steps x_T tells nothing more about the image. Both follow from the definitions, without
training. The exact column counts the layers and evaluates L_T = ½ (ᾱ_T (E[x²] - 1) - log(1-ᾱ_T)) in NumPy; ours are the
parameters of our network and the library's term of the bound. L_T needs the data's second moment: .25 is a typical
value for natural images, and .68162 is that of Fashion-MNIST, whose pixels are mostly black.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from ddpm import plot
from ddpm.config import UNetConfig, unet_config
from ddpm.losses.bound import prior_bits
from ddpm.networks.inspect import count, param_shapes
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Ho et al. 2020, Sec. 3.1, 4, App. B"
MINUTES = 0.2


@dataclass(frozen=True)
class Config:
    """The length of the chain."""

    T: int = 1000


QUICK: dict = {}


def count_by_hand(c: UNetConfig) -> int:
    """The number of parameters of the U-Net, layer by layer, from its description in App. B."""
    d_time = 4 * c.channels
    width = [c.channels * m for m in c.multipliers]

    def conv(a: int, b: int, k: int = 3) -> int:
        return k * k * a * b + b

    def res(a: int, b: int) -> int:
        return 2 * a + conv(a, b) + conv(d_time, b, 1) + 2 * b + conv(b, b) + (conv(a, b, 1) if a != b else 0)

    def attend(b: int) -> int:
        return 2 * b + 4 * conv(b, b, 1)

    total = conv(c.channels, d_time, 1) + conv(d_time, d_time, 1) + conv(c.image_channels, width[0])
    skips, h = [width[0]], width[0]
    for i, b in enumerate(width):
        size = c.image_size // 2**i
        for _ in range(c.blocks):
            total += res(h, b) + (attend(b) if size in c.attention else 0)
            h = b
            skips.append(h)
        if i < len(width) - 1:
            total += conv(h, h)
            skips.append(h)
    total += 2 * res(h, h) + attend(h)
    for i, b in reversed(list(enumerate(width))):
        size = c.image_size // 2**i
        for _ in range(c.blocks + 1):
            total += res(h + skips.pop(), b) + (attend(b) if size in c.attention else 0)
            h = b
        total += conv(h, h) if i else 0
    return total + 2 * h + conv(h, c.image_channels)


def run(config: Config) -> Result:
    """Count the parameters, and evaluate the schedule and L_T."""
    with float64():
        schedule = linear(config.T)
        beta = np.linspace(1e-4, 0.02, config.T) * 1000 / config.T
        alpha_bar = np.concatenate([[1.0], np.cumprod(1 - beta)])
        ours = np.asarray(schedule.alpha_bar)
        rows = [
            Row(f"parameters, `{name}`", paper, float(count_by_hand(u)), float(count(param_shapes(u))), within=0)
            for name, paper in (("cifar10", 35.7e6), ("large", None), ("medium", None), ("small", None))
            if (u := unet_config(name))
        ]
        rows += [
            Row(f"ᾱ at t = {t}", None, float(alpha_bar[t]), float(ours[t]), within=1e-9)
            for t in (1, config.T // 10, config.T // 2, config.T)
        ]
        rows.append(
            Row("first t with ᾱ < ½", None, float(np.argmax(alpha_bar < 0.5)), float(np.argmax(ours < 0.5)), within=0)
        )
        for square, what in ((0.25, ".25"), (0.68162, ".68162 (Fashion-MNIST)")):
            a = alpha_bar[-1]
            exact = 0.5 * (a * (square - 1) - math.log1p(-a)) / math.log(2)
            value = float(prior_bits(schedule, jnp.full((1, 4), math.sqrt(square)))[0])
            rows.append(Row(f"L_T, bits/dim, E[x²] = {what}", 1e-5, exact, value, within=1e-6))
    with plot.style():
        figure = plot.new_figure(7.2, 3.0)
        left, right = figure.subplots(1, 2)
        t = np.arange(config.T + 1)
        left.plot(t, alpha_bar, label="image, ᾱ")
        left.plot(t, 1 - alpha_bar, label="noise, 1 - ᾱ")
        left.set(xlabel="t", ylabel="share of the power of $x_t$")
        left.legend(loc="center right")
        right.semilogy(t[1:], alpha_bar[1:] / (1 - alpha_bar[1:]))
        right.axhline(1, color="#7f8c8d", linestyle=":")
        right.set(xlabel="t", ylabel="signal-to-noise ratio")
    return Result(rows, figure, {"T": config.T})
