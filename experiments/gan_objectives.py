"""Why GANs drop modes: the non-saturating loss seeks modes, and the JSD of the theory does not.

Goodfellow et al. show that a GAN with the best discriminator minimises the Jensen-Shannon divergence, then train with
another loss, -log D, because its gradients do not vanish. Through a fixed best discriminator that loss has the gradient
of KL(q ‖ p) - 2 JSD (Arjovsky and Bottou 2017). In the exact case the two want different things. The data are two modes
at ±m, the generator draws one Gaussian. Fitted by likelihood it covers both modes at any distance, and by JSD up to m =
4.2; the non-saturating loss gives one of them up from m = 2.4 on, earlier than even KL(q ‖ p) does. The exact column is
found by minimising the divergences on a grid. Ours follows the gradient of the library's losses with the best
discriminator of each moment, from a wide and from a narrow start, and keeps the end with the lower divergence. The left
panel has the reason for the change of loss: for N(0, 1) against N(θ, 1) the gradient of log(1 - D) is gone where the
generator is worst. What does not carry over: a real discriminator is neither the best one nor fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.stats import norm

from ddpm import plot
from ddpm.generators import divergences, generator_loss
from ddpm.generators.adversarial import KINDS
from experiments.lab.runner import Result, Row, float64

PAPER = "Goodfellow et al. 2014, Sec. 3; Arjovsky and Bottou 2017, Thm. 2.5"
MINUTES = 0.7
THETAS = (1.0, 4.0, 8.0)
LOSSES = {"forward": "likelihood, KL(p ‖ q)", "jsd": "JSD (saturating)", "reverse": "KL(q ‖ p)",
          "non_saturating": "non-saturating, KL(q ‖ p) - 2 JSD"}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Half distances m of the two modes, those at which the losses are followed, and the steps of that."""

    distances: tuple[float, ...] = tuple(np.arange(1.0, 6.01, 0.1).round(1).tolist())
    followed: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
    steps: int = 2000


QUICK = {"distances": (1.5, 3.0, 5.0), "followed": (3.0,), "steps": 800}


def log_two(x: np.ndarray, m: float) -> np.ndarray:
    """log of ½N(-m, 1) + ½N(m, 1)"""
    return np.logaddexp(norm.logpdf(x, m), norm.logpdf(x, -m)) - np.log(2)


def best(name: str, m: float) -> tuple[float, float, float]:
    """Divergence, mean and standard deviation of the best single Gaussian, on a grid in NumPy and SciPy."""
    x = np.linspace(-30, 30, 3001)
    log_p, dx = log_two(x, m), x[1] - x[0]

    def value(state: np.ndarray) -> float:
        log_q = norm.logpdf(x, state[0], np.exp(state[1]))
        p, q, log_half = np.exp(log_p), np.exp(log_q), np.logaddexp(log_p, log_q) - np.log(2)
        forward, reverse = (p * (log_p - log_q)).sum() * dx, (q * (log_q - log_p)).sum() * dx
        jsd = 0.5 * ((p * (log_p - log_half)).sum() + (q * (log_q - log_half)).sum()) * dx
        return {"forward": forward, "reverse": reverse, "jsd": jsd, "non_saturating": reverse - 2 * jsd}[name]

    starts = ([0.0, 0.5 * np.log(1 + m * m)], [m, 0.0], [0.7 * m, 0.3])
    ends = [minimize(value, s, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}) for s in starts]
    end = min(ends, key=lambda e: e.fun)
    return float(end.fun), abs(float(end.x[0])), float(np.exp(end.x[1]))


def follow(kind: str, m: float, start: tuple[float, float], steps: int) -> tuple[float, float]:
    """Mean and deviation after gradient steps of the library's loss, each with the best D of that moment."""
    z = jnp.asarray(norm.ppf((np.arange(400) + 0.5) / 400))

    def loss(state: jax.Array, fixed: jax.Array) -> jax.Array:
        x = state[0] + jnp.exp(state[1]) * z
        log_p = jnp.logaddexp(-((x - m) ** 2) / 2, -((x + m) ** 2) / 2) - jnp.log(2.0)
        log_q = -(((x - fixed[0]) / jnp.exp(fixed[1])) ** 2) / 2 - fixed[1]
        return generator_loss(log_p - log_q, kind).mean()

    def step(state: jax.Array, _: None) -> tuple[jax.Array, None]:
        return state - 0.05 * jax.grad(loss)(state, state), None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, None, steps))(jnp.array([start[0], np.log(start[1])]))
    return float(state[0]), float(jnp.exp(state[1]))


def end_of(kind: str, m: float, steps: int) -> tuple[float, float]:
    """The better end of a wide and of a narrow start, judged by the divergence that the loss follows."""
    x = np.linspace(-30, 30, 3001)
    ends = [follow(kind, m, start, steps) for start in ((0.0, float(np.sqrt(1 + m * m))), (m, 1.0))]

    def value(end: tuple[float, float]) -> float:
        d = divergences(log_two(x, m), norm.logpdf(x, *end), x[1] - x[0])
        return d.jsd if kind == "saturating" else d.non_saturating

    return min(ends, key=value)


def slopes(theta: float) -> dict[str, tuple[float, float]]:
    """The slope in θ of both losses between N(0, 1) and N(θ, 1): by the formula in NumPy, and by the library."""
    z, weight = np.polynomial.hermite_e.hermegauss(180)
    weight = weight / weight.sum()
    D = 1 / (1 + np.exp(theta * (z + theta) - theta**2 / 2))
    exact = {"saturating": theta * (weight @ D), "non_saturating": theta * (weight @ (1 - D))}
    logit = lambda x: -theta * x + theta**2 / 2  # noqa: E731

    def mean(moved: jax.Array, kind: str) -> jax.Array:
        return (weight * generator_loss(logit(moved + z), kind)).sum()

    return {k: (float(exact[k]), float(jax.grad(mean)(jnp.asarray(theta), k))) for k in KINDS}


def run(config: Config) -> Result:
    """Measure the slopes, the best single Gaussians by loss and distance, and where the two losses end."""
    rows: list[Row] = []
    with float64():
        for theta in THETAS:
            found = slopes(theta)
            rows += [Row(f"θ = {theta:g}: slope, {k.replace('_', '-')}", None, *found[k], within=1e-6) for k in KINDS]
        curve = [[theta, *(slopes(theta)[k][0] for k in KINDS)] for theta in np.linspace(0.1, 8, 60)]
        fits = {name: [best(name, m) for m in config.distances] for name in LOSSES}
        followed = []
        for m in config.followed:
            for kind, name in zip(KINDS, ("jsd", "non_saturating"), strict=True):
                mean, std = end_of(kind, m, config.steps)
                _, at, wide = best(name, m)
                what = f"m = {m:g}, {kind.replace('_', '-')}"
                rows.append(Row(f"{what}: mean of the generator", None, at, abs(mean), within=0.02, near=1.0))
                rows.append(Row(f"{what}: standard deviation", None, wide, std, within=0.02))
                followed.append([name, m, abs(mean), std])
    for name, label in LOSSES.items():
        gone = [m for m, (_, mean, _) in zip(config.distances, fits[name], strict=True) if mean > 0.1]
        rows.append(Row(f"{label}: first m that gives up a mode", None, gone[0] if gone else None))
    numbers = {"distances": config.distances, "fits": fits, "slopes": curve, "followed": followed}
    return Result(rows, None, numbers)


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the slopes, the mean of the best Gaussian by distance, and its density at m = 3."""
    m = np.array(numbers["distances"])
    colours = dict(zip(LOSSES, ("0.55", "C0", "C2", "C3"), strict=True))
    with plot.style():
        figure = plot.new_figure(10.6, 3.4)
        left, middle, right = figure.subplots(1, 3)
        curve = np.array(numbers["slopes"])
        left.plot(curve[:, 0], curve[:, 1], color="C0", ls="-", label="log(1 - D), saturating")
        left.plot(curve[:, 0], curve[:, 2], color="C3", ls="-", label="-log D, non-saturating")
        left.set(xlabel=r"distance $\theta$ of the generator", ylabel="slope of its loss", ylim=(0, 8.2), xlim=(0, 8))
        left.legend(fontsize=7)
        for name, label in LOSSES.items():
            fit = np.array(numbers["fits"][name])
            middle.plot(m, fit[:, 1] / m, color=colours[name], ls="-", label=label)
        for name, at, mean, _ in numbers["followed"]:
            middle.plot(at, mean / at, "o", ms=5, mfc="none", color=colours[name])
        middle.set(xlabel="half distance m of the modes", ylabel="mean of the generator / m", ylim=(-0.15, 2.1))
        middle.set_yticks([0, 1])
        middle.text(4.6, 0.06, "covers both", fontsize=8)
        middle.text(1.0, 0.94, "one mode", fontsize=8, va="top")
        middle.legend(fontsize=7, loc="upper left", title="circles: the losses, followed", title_fontsize=7)
        x, at = np.linspace(-7, 7, 400), int(np.abs(m - 3).argmin())
        right.fill_between(x, np.exp(log_two(x, m[at])), color="0.88", lw=0, label="data")
        for name, label in LOSSES.items():
            _, mean, std = numbers["fits"][name][at]
            right.plot(x, norm.pdf(x, mean, std), color=colours[name], ls="-", label=label.split(",")[0])
        right.set(xlabel="x", ylabel="density", title=f"m = {m[at]:g}", ylim=(0, 0.55))
        right.legend(fontsize=7, loc="upper left")
    return figure
