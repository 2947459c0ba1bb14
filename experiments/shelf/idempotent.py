"""SIGN: a generator can be idempotent and leave the data alone only where the data are a thin set.

The claim: a one-step generator, trained by the difference of two scores, that of the data and that of what it draws, is
better if it also leaves the data alone, f(x) = x, and is idempotent, f(f(z)) = f(z): then it repairs an output when it
is applied again. For f(z) = Az and Gaussian data everything is exact. The scores alone end at AAᵀ = Σ: the gain is √λ.

What we see: where the data fill the space, the demands contradict each other. Identity on the data is A = 1, which
draws N(0, 1). With a weight on it the gain ends between √λ and 1, at the root of one equation: what is drawn has the
wrong variance, and f applied again changes it further where λ is not 1. In a subspace on which the noise has the data's
variance A = UUᵀ does all of it, and training finds it, slowly, as one over the steps: what noise from outside adds to
the subspace is of third order in the gradient. Without the demand it stops at another root of AAᵀ = UUᵀ, which draws
the data and is not idempotent. What does not carry over: a network is not linear, and can send noise and data, which
lie apart in many dimensions, to one set; how thin that set is decides how much the demands disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import brentq

from ddpm import oracle, plot
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Zaman, Liu and Chiu 2025, Score-based idempotent distillation of diffusion models (SIGN)"
MINUTES = 0.3
TIMES = (10, 100, 300, 500)  # at which the scores are compared, with the weights 1-ᾱ
FULL = np.array([0.25, 1.0, 4.0])


@dataclass(frozen=True)
class Config:
    """Weights of f(x) = x, steps of the training and their size."""

    weights: tuple[float, ...] = (0.0, 0.1, 1.0, 10.0)
    steps: int = 1500
    size: float = 0.2
    seed: int = 0


QUICK = {"weights": (0.0, 1.0), "steps": 400}


def losses(A: np.ndarray, cov: np.ndarray) -> tuple[float, float, float]:
    """‖AAᵀ - Σ‖, E‖f(x) - x‖² on the data, and E‖f(f(z)) - f(z)‖² on noise"""
    I = np.eye(len(A))
    leave, twice = (A - I) @ cov @ (A - I).T, A @ A - A
    return float(np.linalg.norm(A @ A.T - cov)), float(np.trace(leave)), float((twice**2).sum())


def train(A: np.ndarray, cov: np.ndarray, weight: float, config: Config) -> tuple[np.ndarray, list[tuple]]:
    """Descend E[(s_fake - s_data)(x_t) zᵀ] and weight · E‖f(x) - x‖², with the scores of the library: A, and losses"""
    schedule, zero, D, t = linear(), np.zeros(len(A)), len(A), np.repeat(TIMES, len(A))
    I, path = jnp.tile(jnp.eye(D), (len(TIMES), 1)), []
    a = np.asarray(schedule.alpha_bar)[list(TIMES)]
    data = np.asarray(oracle.gaussian(zero, cov).score(schedule)(I, t))  # linear: s(x) = xᵀ s(1)
    for step in range(config.steps + 1):
        path.append((step, *losses(A, cov)))
        fake = np.asarray(oracle.gaussian(zero, A @ A.T).score(schedule)(I, t))
        difference = np.einsum("t,tij->ji", (1 - a) * a, (fake - data).reshape(-1, D, D))  # x_t = √ᾱ Az + noise
        gradient = difference @ A + weight * (A - np.eye(D)) @ cov
        A = A - config.size / (1 + weight * cov.max()) * gradient
    return A, path


def root(lam: float, weight: float) -> float:
    """The gain where the gradient is 0, on N(0, λ)"""
    a_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.array(TIMES) - 1]

    def slope(a: float) -> float:
        v, fake = a_bar * lam + 1 - a_bar, a_bar * a * a + 1 - a_bar
        return float(((1 - a_bar) * a_bar * a * (1 / v - 1 / fake)).sum() + weight * lam * (a - 1))

    return float(brentq(slope, 0.05, 4.0, xtol=1e-12))


def run(config: Config) -> Result:
    """Train on full data for each weight, and on a subspace with and without the demand."""
    rows, gains, paths = list[Row](), dict[str, list[tuple]](), dict[str, list[tuple]]()
    rng = np.random.default_rng(config.seed)
    U = np.linalg.qr(rng.normal(size=(3, 2)))[0]
    with float64():
        for weight in config.weights:
            A, path = train(0.8 * np.eye(3), np.diag(FULL), weight, config)
            paths[f"full, weight {weight:g}"] = path
            for lam, a in zip(FULL, np.diag(A), strict=True):
                exact = root(lam, weight)
                rows.append(Row(f"λ = {lam:g}, weight {weight:g}: gain", None, exact, float(a), within=2e-3))
                rows.append(
                    Row(
                        f"λ = {lam:g}, weight {weight:g}: drawn twice, variance",
                        None,
                        exact**4,
                        float(a**4),
                        within=1e-2,
                    )
                )
                gains.setdefault(f"{lam:g}", []).append((weight, exact, float(a)))
        start = 0.3 * rng.normal(size=(3, 3)) + 0.5 * np.eye(3)
        for weight in (0.0, 1.0):
            A, path = train(start, U @ U.T, weight, config)
            paths[f"subspace, weight {weight:g}"] = path
            names = ("AAᵀ from Σ", "f(x) from x, squared", "f(f(z)) from f(z), squared")
            for i, (name, ours) in enumerate(zip(names, losses(A, U @ U.T), strict=True)):
                within = (0.1 if i == 0 else 2e-3) if weight or i == 0 else None
                rows.append(Row(f"subspace, weight {weight:g}: {name}", None, within and 0.0, ours, None, within, 1.0))
    return Result(rows, None, {"gains": gains, "paths": paths})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the gain by the weight of the demand, and the losses of training on full and thin data."""
    with plot.style():
        figure = plot.new_figure(9.4, 3.0)
        left, middle, right = figure.subplots(1, 3)
        for name, found in numbers["gains"].items():
            weight, exact, ours = np.array(found).T
            left.plot(range(len(weight)), exact, label=f"λ = {name}")
            left.plot(range(len(weight)), ours, "o", color=left.lines[-1].get_color())
        left.axhline(1, color="0.6", lw=0.8, ls=":")
        left.set_xticks(range(len(weight)), [f"{w:g}" for w in weight])
        left.set(xlabel="weight of f(x) = x", ylabel="gain", title="data that fill the space")
        left.legend(fontsize=8)
        names = ("‖AAᵀ - Σ‖", "‖f(x) - x‖²", "‖f(f(z)) - f(z)‖²")
        for ax, weight in ((middle, 0), (right, 1)):
            step, *found = np.array(numbers["paths"][f"subspace, weight {weight}"]).T
            for name, values in zip(names, found, strict=True):
                ax.loglog(step + 1, np.maximum(values, 1e-6), label=name)
            ax.set(xlabel="steps of training", title=f"a subspace, weight {weight}", ylim=(1e-5, 20))
        right.legend(fontsize=8)
    return figure
