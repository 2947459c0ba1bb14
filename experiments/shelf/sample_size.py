"""Theory, an overview: how many images a score needs, and what reward a conditional model reaches.

The claims: the error of a score that was fitted to n samples falls as 1/n, and with the dimension; and a model that is
conditioned on a reward reaches what its data reach, no more. For a Gaussian in d dimensions both are numbers. The
divergence of the fitted from the true Gaussian is known on average for every n, and d(d+3)/4n for large n; it is that
of the samples of a perfect sampler with the fitted score. And a reward that is linear, measured with noise σ², is
reached in proportion λ/(λ+σ²), however large it is: the fitted Gaussian goes beyond its data. The denoiser of the data
themselves, a sum over n images, does not: it saturates at the best image. What does not carry over: a network is
neither; how far it goes beyond its data is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import digamma

from ddpm import oracle, plot
from ddpm.guides import by_value
from ddpm.oracles.rewards import tilt_measured, value_of
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Chen et al. 2024, An Overview of Diffusion Models"
MINUTES = 0.2
NOISE = 0.1  # variance σ² with which the reward is measured


@dataclass(frozen=True)
class Config:
    """Dimensions and samples of the fit, repetitions; and the requested rewards, DDIM steps."""

    d: tuple[int, ...] = (2, 8)
    n: tuple[int, ...] = (20, 50, 200, 1000)
    repeats: int = 1000
    requested: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    train: int = 100
    steps: int = 200
    seed: int = 0


QUICK = {"n": (20, 1000), "repeats": 200, "requested": (1.0, 5.0), "steps": 50}


def divergence(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """KL(N(mean, cov) ‖ N(0, I)) = ½(tr cov + |mean|² - d - log det cov), for stacks"""
    d = mean.shape[-1]
    return 0.5 * (np.trace(cov, axis1=-2, axis2=-1) + (mean**2).sum(-1) - d - np.linalg.slogdet(cov)[1])


def expected(n: int, d: int) -> float:
    """E KL of the fit to n samples: ½(d/n - E log det cov) with Wishart's E log det; about d(d+3)/4n for large n"""
    log_det = digamma((n - np.arange(1, d + 1)) / 2).sum() + d * np.log(2 / (n - 1))
    return float(0.5 * (d / n - log_det))


def run(config: Config) -> Result:
    """Measure the divergence by n and d, and the reward reached by the reward requested."""
    rng, rows = np.random.default_rng(config.seed), list[Row]()
    curves: dict[str, list[float]] = {}
    for d in config.d:
        for n in config.n:
            x = rng.normal(size=(config.repeats, n, d))
            mean = x.mean(1)
            cov = np.einsum("rni,rnj->rij", x - mean[:, None], x - mean[:, None]) / (n - 1)
            kl = divergence(mean, cov)
            se, exact = float(kl.std(ddof=1) / np.sqrt(len(kl))), expected(n, d)
            what = f"d = {d}, n = {n}: divergence of the fit, nats"
            rows.append(Row(what, None, exact, kl.mean(), se, within=4.5 * se / exact))
            curves.setdefault(f"d = {d}", []).append(float(kl.mean()))
    # Given a reward bᵀx0, measured with noise σ²: the Gaussian, and the set of training images
    with float64():
        schedule, b, d = linear(), np.array([[1.0, 0.0]]), 2
        train = rng.normal(size=(config.train, d))
        sets = {
            "Gaussian": oracle.gaussian(np.zeros(d), np.eye(d)),
            "training images": oracle.mixture(train, 1e-4 * np.eye(d)[None].repeat(config.train, 0)),
        }
        x_T = jax.random.normal(jax.random.key(config.seed), (200, d))
        for name, m in sets.items():
            for request in config.requested:
                tilted, log_Z = tilt_measured(m, b, [request], NOISE)
                value = value_of(tilted, m, schedule, log_Z)
                step = ddim_step(by_value(eps=m.eps(schedule), schedule=schedule, value=value), schedule)
                x = np.asarray(walk(step, jax.random.key(0), jnp.asarray(x_T), make_times(1000, config.steps)))
                weight = np.exp(np.asarray(tilted.log_weight))
                exact = float(weight @ np.asarray(tilted.mean)[:, 0])  # E[bᵀx0 | reward]
                got, se = float(x[:, 0].mean()), float(x[:, 0].std(ddof=1) / np.sqrt(len(x)))
                close = 4.5 * se + 10 / config.steps
                rows.append(
                    Row(f"{name}, requested {request:g}: reached", None, exact, got, se, within=close, near=1.0)
                )
                curves.setdefault(name, []).append(got)
    rows.append(Row("largest reward of the training images", None, None, float(train[:, 0].max())))
    return Result(rows, None, {"n": config.n, "d": config.d, "requested": config.requested, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the divergence by n with its expectation, and the reward reached by the reward requested."""
    with plot.style():
        figure = plot.new_figure(8.4, 3.0)
        left, right = figure.subplots(1, 2)
        n, requested = np.array(numbers["n"]), numbers["requested"]
        for d in numbers["d"]:
            left.plot(n, numbers["curves"][f"d = {d}"], "o", label=f"d = {d}")
            means = [r["exact"] for r in rows if r["what"].startswith(f"d = {d}, ")]
            left.plot(n, means, "-", lw=1, color="0.6")
        left.set(xscale="log", yscale="log", xlabel="samples n", ylabel="divergence of the fit, nats")
        left.legend(fontsize=7)
        for name in ("Gaussian", "training images"):
            right.plot(requested, numbers["curves"][name], "o-", label=name)
        right.axhline(rows[-1]["ours"], color="0.6", ls=":", label="best training image")
        right.set(xlabel="reward requested", ylabel="reward reached")
        right.legend(fontsize=7)
    return figure
