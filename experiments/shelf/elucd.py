"""EluCD: a clean classifier at the predicted image is too sure of itself, and one temperature for each t corrects it.

The claim: a classifier of clean images can guide, if it is evaluated at x̂0(x_t) and its logits are made smoother. Two
Gaussians at ±1 with variance .25 show what that does. The clean classifier is exact at t = 0; at x̂0 it is too sure by
a factor that grows with t, because x̂0 hides how far x0 may still be from it. The best temperature at each t nearly
takes the error away. With the exact p(c | x_t) guidance makes the class of the unlabelled denoiser exactly; with the
clean classifier at x̂0 the samples are too near each other, and with the best temperatures they are nearer to the
class. On Fashion-MNIST the shipped clean classifier, evaluated at x̂0 of the network without labels, keeps its accuracy
far longer than at x_t itself, and from t = 300 on it is better calibrated. What does not carry over: two Gaussians need
one number, a thousand classes do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar

import ddpm
from ddpm import data, oracle, plot
from ddpm.classifiers import classifier
from ddpm.contracts import Partial
from ddpm.forward import q_sample, x0_and_eps
from ddpm.guides import by_value
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, linear, make_times
from experiments.lab.runner import Result, Row, Unavailable, float64

PAPER = "Ma et al. 2024, Elucidating the Design Space of Classifier-Guided Diffusion Generation (EluCD)"
MINUTES = 1
NEEDS = "Fashion-MNIST"
UNCHECKED = "The exact column is the class; that the clean classifier at x̂0 misses its spread is the finding."
VAR = 0.25  # of each class, at ±1: the clean logit of class +1 is 2x/VAR


@dataclass(frozen=True)
class Config:
    """Times, steps and nodes of the mixture; test images, and times, of the garments."""

    steps: int = 1000
    nodes: int = 60
    n: int = 300
    times: tuple[int, ...] = (100, 300, 500, 700, 800, 900)
    seed: int = 0


QUICK = {"steps": 100, "nodes": 20, "n": 40, "times": (100, 700)}


def best_temperature(a: float, x_t: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """τ with the least cross-entropy at ᾱ_t = a, and the mean of |p(c | x̂0) - p(c | x_t)| without and with it."""
    v, root = a * VAR + 1 - a, np.sqrt(a)
    true = 1 / (1 + np.exp(-2 * root * x_t / v))  # p(+1 | x_t)
    x0 = VAR * root / v * x_t + (1 - a) / v * np.tanh(root * x_t / v)  # E[x0 | x_t]
    p = lambda tau: 1 / (1 + np.exp(-2 * x0 / (VAR * tau)))  # noqa: E731
    loss = lambda tau: -(weight @ (true * np.log(p(tau) + 1e-300) + (1 - true) * np.log1p(-p(tau) + 1e-16)))  # noqa: E731
    tau = float(minimize_scalar(loss, bounds=(1.0, 60.0), method="bounded").x)
    return tau, float(weight @ np.abs(p(1.0) - true)), float(weight @ np.abs(p(tau) - true))


def plugged(x_t: jax.Array, t: Any, c: Any, eps: Any, schedule: Schedule, tau: jax.Array) -> jax.Array:
    """log p(+1 | x̂0(x_t)) with the temperature of each t."""
    x0 = x0_and_eps(eps, schedule, x_t, t, None)[0]
    return jax.nn.log_sigmoid(2 * x0[:, 0] / (VAR * tau[t]))


def exact(x_t: jax.Array, t: Any, c: Any, m: oracle.Mixture, schedule: Schedule) -> jax.Array:
    """log p(+1 | x_t)"""
    return jnp.log(m.posterior(schedule, x_t, t)[:, 0])


def garments(config: Config) -> tuple[list[Row], dict]:
    """Accuracy and calibration error of the shipped classifier at x̂0 and at x_t, by t."""
    try:
        d = ddpm.load_data("fashion_mnist")
    except (FileNotFoundError, ValueError) as error:
        raise Unavailable(f"{error}. This experiment needs {NEEDS}") from None
    m, judge = ddpm.load_model("fashion_mnist"), classifier.load("fashion_mnist")
    x0, y = data.to_float(d.x_test[: config.n]), d.y_test[: config.n]
    rows: list[Row] = []
    curves: dict[str, list[float]] = {"at x̂0": [], "at x_t": []}
    for t in config.times:
        x_t = q_sample(m.schedule, x0, t, jax.random.normal(jax.random.key(config.seed), x0.shape))
        guess = jnp.clip(x0_and_eps(m.eps, m.schedule, x_t, jnp.full(len(x0), t), None)[0], -1, 1)
        for name, image in (("at x̂0", guess), ("at x_t", jnp.clip(x_t, -1, 1))):
            p = np.asarray(jax.nn.softmax(judge(np.asarray(image))[0]))
            sure, right = p.max(1), p.argmax(1) == y
            bins = np.minimum((10 * sure).astype(int), 9)
            gaps = [abs(sum(sure[bins == b]) - sum(right[bins == b])) for b in range(10)]
            rows.append(Row(f"garments, {name}, t = {t}: accuracy", None, None, float(right.mean())))
            rows.append(Row(f"garments, {name}, t = {t}: calibration error", None, None, sum(gaps) / len(y)))
            curves[name].append(float(right.mean()))
    return rows, curves


def run(config: Config) -> Result:
    """Find the best temperatures, guide the mixture, and ask the shipped classifier."""
    measured, curves = garments(config)
    with float64():
        schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], VAR)
        z, weight = np.polynomial.hermite_e.hermegauss(config.nodes)
        weight = weight / weight.sum()
        grid = np.unique(np.linspace(1, 1000, 60).round().astype(int))
        found = []
        for t in grid:
            a = float(schedule.alpha_bar[t])
            x_t = np.concatenate([s * np.sqrt(a) + np.sqrt(a * VAR + 1 - a) * z for s in (1, -1)])
            found.append(best_temperature(a, x_t, np.tile(weight / 2, 2)))
        tau, plain, tempered = (np.array(a) for a in zip(*found, strict=True))
        all_tau = jnp.asarray(np.interp(np.arange(1001), grid, tau))
        eps, rows = m.eps(schedule), [Row("best temperature at T", None, 1 + 1 / VAR, float(tau[-1]), within=0.01)]
        values = {
            "exact p(c | x_t)": Partial(exact, m=m, schedule=schedule),
            "clean classifier at x̂0": Partial(plugged, eps=eps, schedule=schedule, tau=jnp.ones(1001)),
            "with the best temperatures": Partial(plugged, eps=eps, schedule=schedule, tau=all_tau),
        }
        for name, value in values.items():
            step = ddim_step(by_value(eps=eps, schedule=schedule, value=value), schedule)
            x = walk(step, jax.random.key(0), jnp.asarray(z)[:, None], make_times(1000, config.steps))
            x = np.asarray(x).ravel()
            mean = float(weight @ x)
            close = 6 / config.steps if "exact" in name else None
            std = float(np.sqrt(weight @ (x - mean) ** 2))
            rows.append(Row(f"{name}: mean of class +1", None, 1.0, mean, within=close))
            rows.append(Row(f"{name}: standard deviation", None, VAR**0.5, std, within=close))
    kept = {"t": grid, "tau": tau, "plain": plain, "tempered": tempered, "times": config.times, "accuracy": curves}
    return Result([*rows, *measured], None, kept)


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the error of p(c | x̂0), the best temperature, and the classifier's accuracy on garments."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        left, middle, right = figure.subplots(1, 3)
        left.plot(numbers["t"], numbers["plain"], label=r"$p(c\mid\hat{x}_0)$")
        left.plot(numbers["t"], numbers["tempered"], label="best temperature")
        left.set(xlabel="t", ylabel=r"mean error of $p(c\mid x_t)$", ylim=(0, None))
        left.legend(fontsize=7, loc="upper right")
        middle.plot(numbers["t"], numbers["tau"])
        middle.set(xlabel="t", ylabel="best temperature", ylim=(0, None))
        for name, curve in numbers["accuracy"].items():
            right.plot(numbers["times"], curve, "o-", label=name)
        right.set(xlabel="t", ylabel="accuracy on garments", ylim=(0, 1))
        right.legend(fontsize=7)
    return figure
