"""Steered Diffusion: the weight of the measurement's gradient decides between too little and no variance left.

The claim: to condition on a measurement y = A x0 + noise, add the gradient of its error at the predicted image, ω
√(1-ᾱ) ∇½‖A x̂0 - y‖², with a constant ω. On a Gaussian the right gradient is known: the error is weighted by the
inverse of A C_t Aᵀ + σ², where C_t is the covariance that x_t leaves open, not by a constant. With it DDIM ends in the
posterior, mean and variance. A small ω leaves too much variance and a mean that is too small; a large one, such as
1/σ², goes beyond the mean and leaves no variance at all: every sample is the same. On digits, of which sixteen means of
2 x 2 pixels were measured, the variance of the measured part shows the same. What does not carry over: for a network
C_t is unknown, and costs a Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import ddpm
from ddpm import data, oracle, plot
from ddpm.guides import by_value, misfit, plug_in
from ddpm.oracle import Mixture
from ddpm.oracles.rewards import tilt_measured, value_of
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Nair et al. 2023, Steered Diffusion"
MINUTES = 0.5
UNCHECKED = "The exact column is the posterior; that a constant weight misses its mean or its variance is the finding."
LAMBDA, NOISE, Y = 0.5, 0.05, 1.0  # data N(0, λ), measured once with variance σ²
OMEGA = (1.0, 4.0)


@dataclass(frozen=True)
class Config:
    """Steps in one dimension and on digits, samples of the digit, its number in the test set."""

    steps: int = 1000
    image_steps: int = 200
    n: int = 64
    digit: int = 3
    seed: int = 0


QUICK = {"steps": 250, "image_steps": 20, "n": 4}


def rules(m: Mixture, schedule: Schedule, A: np.ndarray, y: np.ndarray, var: float) -> dict[str, Any]:
    """The value of each rule: log p(y | x_t), log N(y; A x̂0, σ²), and -½ω‖A x̂0 - y‖² for ω, and ω = 1/σ²"""
    tilted, log_Z = tilt_measured(m, A, y, var)
    of = lambda weight: plug_in(reward=misfit(A, y, weight), eps=m.eps(schedule), schedule=schedule)  # noqa: E731
    guesses = {f"ω = {omega:g}": of(omega) for omega in OMEGA} | {"ω = 1/σ²": of(1 / var)}
    return {"right covariance": value_of(tilted, m, schedule, log_Z), **guesses}


def run(config: Config) -> Result:
    """Measure mean and variance in one dimension, where DDIM is affine, and error and spread on a digit."""
    rows: list[Row] = []
    with float64():
        schedule, m = linear(), oracle.gaussian([0.0], LAMBDA)
        eps, times = m.eps(schedule), make_times(1000, config.steps)
        mean, var = LAMBDA * Y / (LAMBDA + NOISE), LAMBDA * NOISE / (LAMBDA + NOISE)
        for name, value in rules(m, schedule, np.eye(1), np.array([Y]), NOISE).items():
            guided = by_value(eps=eps, schedule=schedule, value=value)
            ends = walk(ddim_step(guided, schedule), jax.random.key(0), jnp.array([[0.0], [1.0]]), times)
            start, slope = float(ends[0, 0]), float(ends[1, 0] - ends[0, 0])  # x_0 = start + slope x_T, x_T ~ N(0, 1)
            right = name == "right covariance"
            rows += [
                Row(f"{name}: mean", None, mean, start, within=4 / config.steps if right else None),
                Row(f"{name}: variance", None, var, slope**2, within=20 / config.steps if right else None),
            ]
    # A digit, of which the means of 2 x 2 pixels are known; its distribution is taken to be the Gaussian of all digits
    digits = ddpm.load_data("digits")
    train = data.to_float(digits.x_train).reshape(len(digits.x_train), -1)
    schedule, noise = linear(), 0.01
    m = oracle.gaussian(train.mean(0), np.cov(train.T) + 1e-4 * np.eye(64))
    A = np.kron(np.kron(np.eye(4), np.full(2, 0.5)), np.kron(np.eye(4), np.full(2, 0.5)))  # (16, 64)
    x0 = data.to_float(digits.x_test[config.digit]).ravel()
    y = A @ x0 + np.sqrt(noise) * np.random.default_rng(config.seed).normal(size=16)
    posterior, _ = tilt_measured(m, A, y, noise)
    U = A @ np.asarray(posterior.basis[0])
    spread = float((U**2 * np.asarray(posterior.var[0])).sum())  # tr A Cov[x0 | y] Aᵀ
    x_T = jax.random.normal(jax.random.key(config.seed), (config.n, 64))
    shown = {"image": x0, "measured": np.kron(y.reshape(4, 4), np.ones((2, 2))), "mean": np.asarray(posterior.mean[0])}
    for name, value in rules(m, schedule, A, y, noise).items():
        guided = by_value(eps=m.eps(schedule), schedule=schedule, value=value)
        x = walk(ddim_step(guided, schedule), jax.random.key(0), x_T, make_times(1000, config.image_steps))
        ours = float((np.asarray(x) @ A.T).var(0, ddof=1).sum())
        close = 4 * np.sqrt(2 / config.n) + 4 / config.image_steps if name == "right covariance" else None
        rows.append(Row(f"digit, {name}: variance of the measured part", None, spread, ours, within=close))
        shown[name] = np.asarray(x)[:3]
    return Result(rows, None, {"shown": {k: np.asarray(v).reshape(-1, 8, 8) for k, v in shown.items()}})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the Gaussians that each rule ends in, and the digits."""
    with plot.style():
        figure = plot.new_figure(9.6, 3.3)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))  # type: ignore[misc]
        ax, x = left.subplots(), np.linspace(-0.4, 1.9, 600)
        pairs = [(r, s) for r, s in pairwise(rows) if r["what"].endswith(": mean")]
        density = lambda mean, var: np.exp(-0.5 * (x - mean) ** 2 / var) / np.sqrt(2 * np.pi * var)  # noqa: E731
        ax.fill_between(x, density(pairs[0][0]["exact"], pairs[0][1]["exact"]), color="0.85", label="posterior")
        for mean, var in pairs:
            name = mean["what"].partition(":")[0]
            if var["ours"] > 1e-4:
                ax.plot(x, density(mean["ours"], var["ours"]), label=name)
            else:
                ax.axvline(mean["ours"], ls=":", label=f"{name}: one point")
        ax.set(xlabel="x", ylabel="density", ylim=(0, 2.6))
        ax.legend(fontsize=6.5, loc="upper left")
        shown = numbers["shown"]
        names = [name for name in shown if name not in ("image", "measured", "mean")]
        axes = right.subplots(4, len(names))
        for ax in axes.ravel():
            ax.axis("off")
        for ax, name in zip(axes[0], ("image", "measured", "mean"), strict=False):
            ax.imshow(shown[name][0], cmap="gray", vmin=-1, vmax=1)
            ax.set_title({"mean": "posterior's mean"}.get(name, name), fontsize=7)
        for column, name in enumerate(names):
            for ax, image in zip(axes[1:, column], shown[name], strict=False):
                ax.imshow(image, cmap="gray", vmin=-1, vmax=1)
            axes[1, column].set_title(name, fontsize=7)
    return figure
