"""Theory, an overview: how many images a score needs, and what reward one gets if one asks for it.

The claims: the error of a score that was fitted to n samples falls as 1/n, and with the dimension; and a model that is
conditioned on a reward reaches what its data reach, no more. For a Gaussian in d dimensions both are numbers. The
divergence of the fitted from the true Gaussian is d(d+3)/4n on average, for large n; it is that of the samples of a
perfect sampler with the fitted score. And a reward that is linear, measured with noise σ², is reached in proportion
λ/(λ+σ²), however large it is: the fitted Gaussian goes beyond its data. The denoiser of the data themselves, a sum over
n images, does not: it saturates at the best image. What does not carry over: a network is neither; how far it goes
beyond its data is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.guides import by_value
from ddpm.oracles.rewards import tilt_measured, value_of
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Chen et al. 2024, An Overview of Diffusion Models"
MINUTES = 0.2
UNCHECKED = "For fewer than 20 d samples d(d+3)/4n is the leading term only."
NOISE = 0.1  # variance σ² with which the reward is measured


@dataclass(frozen=True)
class Config:
    """Dimensions and samples of the fit, repetitions; and the rewards that are asked, DDIM steps."""

    d: tuple[int, ...] = (2, 8)
    n: tuple[int, ...] = (20, 50, 200, 1000)
    repeats: int = 1000
    asked: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    train: int = 100
    steps: int = 200
    seed: int = 0


QUICK = {"n": (200, 1000), "repeats": 200, "asked": (1.0, 5.0), "steps": 50}


def divergence(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """KL(N(mean, cov) ‖ N(0, I)) = ½(tr cov + |mean|² - d - log det cov), for stacks"""
    d = mean.shape[-1]
    return 0.5 * (np.trace(cov, axis1=-2, axis2=-1) + (mean**2).sum(-1) - d - np.linalg.slogdet(cov)[1])


def run(config: Config) -> Result:
    """Measure the divergence by n and d, and the reward that is reached by the reward that is asked."""
    rng, rows = np.random.default_rng(config.seed), list[Row]()
    curves: dict[str, list[float]] = {}
    for d in config.d:
        for n in config.n:
            x = rng.normal(size=(config.repeats, n, d))
            mean = x.mean(1)
            cov = np.einsum("rni,rnj->rij", x - mean[:, None], x - mean[:, None]) / (n - 1)
            kl = divergence(mean, cov)
            se, exact = float(kl.std(ddof=1) / np.sqrt(len(kl))), d * (d + 3) / (4 * n)
            close = 4.5 * se / exact + 4 * d / n if n >= 20 * d else None  # the next term is of order d/n of the first
            rows.append(Row(f"d = {d}, n = {n}: divergence of the fit, nats", None, exact, kl.mean(), se, within=close))
            curves.setdefault(f"d = {d}", []).append(float(kl.mean()))
    # Asked for a reward bᵀx0, measured with noise σ²: the Gaussian, and the set of training images
    with float64():
        schedule, b, d = linear(), np.array([[1.0, 0.0]]), 2
        train = rng.normal(size=(config.train, d))
        sets = {
            "Gaussian": oracle.gaussian(np.zeros(d), np.eye(d)),
            "training images": oracle.mixture(train, 1e-4 * np.eye(d)[None].repeat(config.train, 0)),
        }
        x_T = jax.random.normal(jax.random.key(config.seed), (200, d))
        for name, m in sets.items():
            for asked in config.asked:
                tilted, log_Z = tilt_measured(m, b, [asked], NOISE)
                value = value_of(tilted, m, schedule, log_Z)
                step = ddim_step(by_value(eps=m.eps(schedule), schedule=schedule, value=value), schedule)
                x = np.asarray(walk(step, jax.random.key(0), jnp.asarray(x_T), make_times(1000, config.steps)))
                weight = np.exp(np.asarray(tilted.log_weight))
                exact = float(weight @ np.asarray(tilted.mean)[:, 0])  # E[bᵀx0 | reward]
                got, se = float(x[:, 0].mean()), float(x[:, 0].std(ddof=1) / np.sqrt(len(x)))
                close = 4.5 * se + 10 / config.steps
                rows.append(Row(f"{name}, asked {asked:g}: reached", None, exact, got, se, within=close, near=1.0))
                curves.setdefault(name, []).append(got)
    rows.append(Row("largest reward of the training images", None, None, float(train[:, 0].max())))
    return Result(rows, None, {"n": config.n, "d": config.d, "asked": config.asked, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the divergence by n beside d(d+3)/4n, and the reward that is reached by the reward that is asked."""
    with plot.style():
        figure = plot.new_figure(8.4, 3.0)
        left, right = figure.subplots(1, 2)
        n, asked = np.array(numbers["n"]), numbers["asked"]
        for d in numbers["d"]:
            left.plot(n, numbers["curves"][f"d = {d}"], "o", label=f"d = {d}")
            left.plot(n, d * (d + 3) / (4 * n), "-", lw=1, color="0.6")
        left.set(xscale="log", yscale="log", xlabel="samples n", ylabel="divergence of the fit, nats")
        left.legend(fontsize=7)
        for name in ("Gaussian", "training images"):
            right.plot(asked, numbers["curves"][name], "o-", label=name)
        right.axhline(rows[-1]["ours"], color="0.6", ls=":", label="best training image")
        right.set(xlabel="reward asked", ylabel="reward reached")
        right.legend(fontsize=7)
    return figure
