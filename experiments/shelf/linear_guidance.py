"""LinearAG: the unconditional prediction as a linear function of the conditional one and of the past.

The claim: along guided walks ε̂_∅ can be predicted from ε̂_c and the predictions at earlier steps, with a few scalar
coefficients that are fitted once, so that half of its calls are saved. Where data and class are both Gaussian, every
prediction is affine in x_T: with one variance ε̂_∅ is an affine function of ε̂_c alone, and with eight a fit with as
many past steps is exact. What we see: a rest of 1e-30 with one variance. With eight variances .016 is left without the
past, and each past step takes away three digits, long before there are eight. For the mixture of two classes, whose
ε̂_∅ is not affine, the rest is .007 without the past, in the middle of the walk, where the class is decided; the past
helps here too, since a walk is smooth. Drawn with every second ε̂_∅ predicted, samples change by less than a thousandth
of their spread. What does not carry over: the coefficients of a network are fitted over many prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Castillo et al. 2023, Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models (LinearAG)"
MINUTES = 0.3
UNCHECKED = "The exact column is full guidance; what a fit with too few terms, or to a mixture, leaves is measured."
D = 8


@dataclass(frozen=True)
class Config:
    """Walks to fit on, and as many to test; DDIM steps, guidance, and numbers of past steps."""

    n: int = 300
    steps: int = 20
    guidance: float = 2.0
    past: tuple[int, ...] = (0, 1, 2, 4, 8)
    seed: int = 0


QUICK = {"n": 100, "steps": 12, "past": (0, 2, 8)}


def move(x: np.ndarray, eps: np.ndarray, a: float, b: float) -> np.ndarray:
    """One DDIM step from ᾱ = a to b"""
    return np.sqrt(b / a) * (x - np.sqrt(1 - a) * eps) + np.sqrt(1 - b) * eps


def terms(cond: list[np.ndarray], free: list[np.ndarray], past: int) -> list[np.ndarray]:
    """ε̂_c now, and both predictions of the last `past` steps"""
    return [cond[-1], *cond[-1 - past : -1][::-1], *free[-past:][::-1]] if past else [cond[-1]]


def fit(inputs: list[np.ndarray], target: np.ndarray, half: int) -> tuple[np.ndarray, float]:
    """Scalar coefficients and a constant image, by least squares on the first half; the rest's share on the second"""
    means = [f[:half].mean(0) for f in (*inputs, target)]
    A = np.stack([(f - m).ravel() for f, m in zip((f[:half] for f in inputs), means, strict=False)], 1)
    scale = np.abs(A).max(0)
    w = np.linalg.lstsq(A / scale, (target[:half] - means[-1]).ravel(), rcond=1e-14)[0] / scale
    guess = means[-1] + sum(k * (f - m) for k, f, m in zip(w, inputs, means, strict=False))
    spread = ((target[half:] - target[half:].mean(0)) ** 2).sum()
    return guess, float((((guess - target)[half:]) ** 2).sum() / spread)


def walk(kind: Any, config: Config, past: int, predicted: bool) -> tuple[np.ndarray, list[float]]:
    """Guided walks of both halves together: the end, and the rest of the fit at each step.

    predicted: take the fit in place of ε̂_∅ at every second step, from step `past` on.
    """
    cond_eps, free_eps, schedule = kind
    times, a = make_times(1000, config.steps), np.asarray(schedule.alpha_bar, float)
    x = np.random.default_rng(config.seed).normal(size=(2 * config.n, D))
    cond, free, rest = list[np.ndarray](), list[np.ndarray](), list[float]()
    for i, (t, s) in enumerate(pairwise(times)):
        cond.append(np.asarray(cond_eps(jnp.asarray(x), int(t), None)))
        true = np.asarray(free_eps(jnp.asarray(x), int(t), None))
        guess, share = fit(terms(cond, free, min(past, i)), true, config.n)
        rest.append(share)
        use = guess if predicted and i % 2 and i >= past else true
        free.append(use)
        x = move(x, use + config.guidance * (cond[-1] - use), a[t], a[s])
    return x, rest


def run(config: Config) -> Result:
    """The rest of the fit by step and past, and the samples with half of the calls saved."""
    rng, rows, curves = np.random.default_rng(config.seed), list[Row](), dict[str, list[float]]()
    with float64():
        schedule = linear()
        mean, narrow = rng.normal(size=D) / 2, np.diag(np.linspace(0.1, 1.0, D))
        classes = oracle.mixture(np.stack([mean, -mean]) * 2, 0.25)
        both = classes.eps(schedule)
        of = lambda mean, cov: oracle.gaussian(mean, cov).eps(schedule)  # noqa: E731
        kinds = {
            "one variance": (of(mean, 0.25), of(np.zeros(D), 1.0), schedule),
            "eight variances": (of(mean, narrow / 2), of(np.zeros(D), narrow), schedule),
            "two classes": (lambda x, t, c: both(x, t, jnp.zeros(len(x), int)), both, schedule),
        }
        for name, kind in kinds.items():
            full, _ = walk(kind, config, 0, predicted=False)
            for past in config.past:
                _, rest = walk(kind, config, past, predicted=False)
                worst = max(rest[max(past, 1) :])
                known = name == "one variance" or (name == "eight variances" and past >= 8)
                exact, within = None if name == "two classes" else 0.0, 1e-9 if known else None
                rows.append(Row(f"{name}, {past} past steps: largest rest", None, exact, worst, within=within, near=1))
                curves[f"{name}, {past}"] = rest
            saved, _ = walk(kind, config, 2, predicted=True)
            gap, spread = (saved - full)[config.n :], (full - full.mean(0))[config.n :]
            off, within = float(np.sqrt((gap**2).sum() / (spread**2).sum())), 1e-6 if name == "one variance" else None
            what = f"{name}, every second ε̂_∅ predicted from 2 past steps: change of the samples"
            rows.append(Row(what, None, 0.0, off, within=within, near=1))
    return Result(rows, None, {"times": make_times(1000, config.steps)[:-1], "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the share of ε̂_∅ that the fit leaves, by t, for each kind of data and number of past steps."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        kinds = list(dict.fromkeys(name.split(", ")[0] for name in numbers["curves"]))
        for ax, kind in zip(figure.subplots(1, len(kinds), sharey=True), kinds, strict=True):
            for name, rest in numbers["curves"].items():
                if name.startswith(kind):
                    past = int(name.split(", ")[1])
                    ax.semilogy(numbers["times"], np.maximum(rest, 1e-32), "o-", ms=2, label=f"{past} past steps")
            ax.set(title=kind, xlabel="t")
        figure.axes[0].set_ylabel("share of ε̂_∅ that is left")
        figure.axes[-1].legend(fontsize=7)
    return figure
