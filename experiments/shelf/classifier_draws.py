"""Diffusion classifier: how many draws of the noise it needs, in closed form, and which times are worth them.

The claim: the class whose noise is predicted best, averaged over draws of t and ε, is the right one about as often as
with a good classifier; times in the middle are best, and tens of draws are needed. For classes N(±1, λ) on a line and
exact denoisers the difference of the two errors is linear in x0 and ε: the classifier decides by the sign of x0 - z,
where z is noise of its own, of variance λ² SNR_t/n after n draws at t. So it is right with probability Φ(1/√(λ + λ²
SNR_t/n)), and with the weights k_t of several times Φ(1/√(λ + Σ d²/(Σ c)²)). What we see: at high noise one draw is as
good as the best classifier, Φ(1/√λ), at little noise hundreds are not enough; equal weights of all t lose a little,
since the noise of small t is the largest. Networks show the opposite at high noise, where their own error hides the
difference: that half of the paper's finding is the network's. The shipped classifier of garments is right on .95 of the
1,000 test images of `diffusion_classifier`, and on .93 of them if they are shifted by two pixels. What does not carry
over: many classes, of many dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

import ddpm
from ddpm import oracle, plot
from ddpm.classifiers import classifier
from ddpm.forward import q_sample
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row

PAPER = "Li et al. 2023, Your Diffusion Model is Secretly a Zero-Shot Classifier"
MINUTES = 0.3
LAM = 0.5


@dataclass(frozen=True)
class Config:
    """Samples, times, numbers of draws, and times of the average over all t."""

    n: int = 20_000
    times: tuple[int, ...] = (10, 50, 100, 200, 400, 700, 1000)
    draws: tuple[int, ...] = (1, 8, 64)
    even: int = 20
    images: int = 1000
    seed: int = 0


QUICK = {"n": 2000, "times": (50, 700), "draws": (1, 8), "images": 100}


def exact(a: np.ndarray, n: int) -> float:
    """P(right) with n draws at each of the ᾱ: Σ k u < 0 decides for +1, where k = √(ᾱ(1-ᾱ))/v

    The error given ±1 is (u ± k)² with u = ε - √(1-ᾱ) x_t/v = (ᾱλ/v) ε - k x0, so that they differ by 4 k u.
    """
    v = a * LAM + 1 - a
    k = np.sqrt(a * (1 - a)) / v
    c, d = k * k, k * a * LAM / v
    return float(norm.cdf(1 / np.sqrt(LAM + (d**2).sum() / n / c.sum() ** 2)))


def run(config: Config) -> Result:
    """Classify samples of both classes by their denoising errors, at one time and over all."""
    schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], LAM)
    eps, a = m.eps(schedule), np.asarray(schedule.alpha_bar, np.float64)
    x0, label = m.sample(jax.random.key(config.seed), config.n)
    ask = jax.jit(lambda x, t, c: eps(x, t, jnp.full(len(x), c)))
    rows, curves, best = list[Row](), dict[str, list[float]](), float(norm.cdf(1 / LAM**0.5))

    def gap(t: int, draw: int) -> np.ndarray:
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed + 1), 10_000 * t + draw), x0.shape)
        x_t = q_sample(schedule, x0, t, noise)
        return np.asarray((noise - ask(x_t, t, 0)) ** 2 - (noise - ask(x_t, t, 1)) ** 2)[:, 0]

    def add(what: str, total: np.ndarray, right: float) -> None:
        ours = float(np.mean((total > 0) == (np.asarray(label) == 1)))
        se = float(np.sqrt(ours * (1 - ours) / config.n))
        rows.append(Row(f"{what}: accuracy", None, right, ours, se, within=4.5 * se / right))

    for t in config.times:
        total = np.zeros(config.n)
        for draw in range(max(config.draws)):
            total += gap(t, draw)
            if draw + 1 in config.draws:
                add(f"t = {t}, {draw + 1} draws", total, exact(a[[t]], draw + 1))
    every = np.linspace(1, schedule.T, config.even).round().astype(int)
    add(f"{config.even} even times, one draw each", np.sum([gap(int(t), 0) for t in every], 0), exact(a[every], 1))
    late = every[every > schedule.T // 2]
    add(f"the {len(late)} later ones of them", np.sum([gap(int(t), 0) for t in late], 0), exact(a[late], 1))
    right = float(np.mean((np.asarray(x0)[:, 0] > 0) == (np.asarray(label) == 0)))
    rows.append(Row("the best classifier", None, best, right, within=0.03))
    fine = np.unique(np.geomspace(1, 1000, 60).round().astype(int))
    for n in (*config.draws, 1000):
        curves[f"{n} draws"] = [exact(a[[t]], n) for t in fine]
    rows += garments(config)
    return Result(rows, None, {"t": fine, "curves": curves, "best": best})


def garments(config: Config) -> list[Row]:
    """The shipped classifier on the test images of `diffusion_classifier`, as they are and shifted by two pixels."""
    try:
        d = ddpm.load_data("fashion_mnist")
    except (FileNotFoundError, ValueError):
        return []
    judge, x, y = classifier.load("fashion_mnist"), d.x_test[: config.images], d.y_test[: config.images]
    found = {"as they are": x, "shifted by two pixels": np.roll(x, (2, 2), (1, 2))}
    share = {name: float((judge.predict(images) == y).mean()) for name, images in found.items()}
    return [Row(f"garments {name}: the shipped classifier", ours=p, spread=float(np.sqrt(p * (1 - p) / len(y))))
            for name, p in share.items()]  # fmt: skip


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the accuracy by t for numbers of draws."""
    with plot.style():
        figure = plot.new_figure(6.4, 2.9)
        ax = figure.subplots()
        for name, y in numbers["curves"].items():
            ax.semilogx(numbers["t"], y, label=name)
        ax.axhline(numbers["best"], color="0.6", lw=1, ls=":", label="the best classifier")
        ax.set(xlabel="t", ylabel="accuracy", ylim=(0.48, None))
        ax.legend(fontsize=8)
    return figure
