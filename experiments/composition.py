"""Composable diffusion: the sum of denoisers is not the denoiser of the product.

Liu et al. compose concepts by adding ε_∅ + Σ w_i (ε_i - ε_∅) and read the sum as the score of a product of densities.
At t = 0 it is; at t > 0 the product of the noised densities is not the noised product, and a sampler follows it from T
on. For Gaussians, N(1, .25) AND N(-.5, .25) over N(0, 1), both are known: the product is N(2/7, 1/7), and a thousand
DDIM steps end at mean .344 and variance .062, less than half of the right variance. Langevin steps at each level (Du et
al. 2023) repair most of this, with many more network calls: "+ Langevin" below is a Monte-Carlo estimate from n
samples, stopped at t = 5, since below that the Langevin step sizes are too small to move anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot
from ddpm.guides.composition import compose
from ddpm.sample import ddim_step, walk
from ddpm.samplers.langevin_dynamics import corrected
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Liu et al. 2022; Du et al. 2023"
MINUTES = 0.3
UNCHECKED = (
    "Langevin steps of finite size have a bias that has no closed form here; the rows of the sum of denoisers "
    "are checked."
)
A, B, BASE = (1.0, 0.25), (-0.5, 0.25), (0.0, 1.0)


@dataclass(frozen=True)
class Config:
    """Samples of the corrected walk, its Langevin steps at each level, its levels, and the seed."""

    n: int = 20_000
    langevin: int = 20
    levels: int = 40
    seed: int = 0


QUICK = {"n": 2000, "langevin": 4}


def flow(steps: int) -> tuple[float, float]:
    """Mean and variance of DDIM on the summed denoisers, in NumPy: each step is affine."""
    a = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    mean, var = 0.0, 1.0
    times = [*np.round(1000 - np.arange(steps) * 1000 / steps).astype(int).tolist(), 0]
    for t, s in pairwise(times):
        parts = []
        for (m, v), w in ((A, 1.0), (B, 1.0), (BASE, -1.0)):
            d = a[t] * v + 1 - a[t]
            parts.append((w * np.sqrt(1 - a[t]) / d, -w * np.sqrt(1 - a[t]) * np.sqrt(a[t]) * m / d))
        k, b = sum(p[0] for p in parts), sum(p[1] for p in parts)  # ε = k x + b
        r = np.sqrt(a[s] / a[t])
        gain = r + (np.sqrt(1 - a[s]) - r * np.sqrt(1 - a[t])) * k
        mean = gain * mean + (np.sqrt(1 - a[s]) - r * np.sqrt(1 - a[t])) * b
        var = gain**2 * var
    return float(mean), float(var)


def run(config: Config) -> Result:
    """Compare the product, the flow of the sum, and the corrected flow."""
    precision = 1 / A[1] + 1 / B[1] - 1 / BASE[1]
    product = (A[0] / A[1] + B[0] / B[1] - BASE[0] / BASE[1]) / precision, 1 / precision
    with float64():
        schedule = linear()
        base, a, b = (oracle.gaussian([m], v).eps(schedule) for m, v in (BASE, A, B))
        eps = compose(base, [a, b], [1.0, 1.0])
        key_x, key = jax.random.split(jax.random.key(config.seed))
        probe = walk(ddim_step(eps, schedule), key, jnp.array([[-1.0], [0.0], [1.0]]), make_times(1000, 1000)).ravel()
        plain = float(probe[1]), float(((probe[2] - probe[0]) / 2) ** 2)
        x_T = jax.random.normal(key_x, (config.n, 1))
        times = np.append(make_times(1000, config.levels)[:-1], 5)
        step = corrected(ddim_step(eps, schedule), eps, schedule, n=config.langevin, r=0.3)
        x = np.asarray(walk(step, key, x_T, times)).ravel()
    mean, var = flow(1000)
    root = np.sqrt(config.n)
    rows = [
        Row("product of densities: mean", None, product[0], None),
        Row("product of densities: variance", None, product[1], None),
        Row("sum of denoisers, DDIM 1,000: mean", None, mean, plain[0], within=1e-6),
        Row("sum of denoisers, DDIM 1,000: variance", None, var, plain[1], within=1e-6),
        Row(
            f"+ {config.langevin} Langevin steps a level, {config.levels} levels: mean",
            None,
            product[0],
            float(x.mean()),
            x.std() / root,
        ),
        Row("… its variance", None, product[1], float(x.var()), float(x.var()) * np.sqrt(2) / root),
    ]
    with plot.style():
        figure = plot.new_figure(4.8, 3.2)
        axes = figure.add_subplot()
        u = np.linspace(-1.2, 1.8, 400)
        for (m, v), label in ((product, "product of densities"), (plain, "sum of denoisers, DDIM")):
            axes.plot(u, np.exp(-0.5 * (u - m) ** 2 / v) / np.sqrt(2 * np.pi * v), label=label)
        axes.hist(x, bins=80, range=(-1.2, 1.8), density=True, color="#d5d8dc", label="+ Langevin")
        axes.set(xlabel="x", ylabel="density")
        axes.legend(fontsize=8)
    return Result(rows, figure, {"n": config.n, "seed": config.seed})
