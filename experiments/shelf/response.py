"""PreciseControl: turn one attribute by its number, the others left alone; the response matrix is the identity.

The claim: conditioned on a vector of attributes, one of them can be turned and the rest stays. What is measured is the
response, ∂ E[attribute i]/∂ w_j. Here x0 is Gaussian with three correlated attributes W x0. The exact denoiser given
all three has the identity: nothing leaks, even where the attributes go together in the data. Given one of them alone it
takes the others along, as the data do: the response is Cov_ij/Cov_jj. The sum of the three denoisers given one each,
ε_∅ + Σ_j (ε_j - ε_∅), composes conditions that are not independent: it turns .86 to .98 of what is requested, and leaks
up to .14; the walk is affine, so that its response is known too. What does not carry over: which attributes a network's
condition holds has to be learned, and what is not in it cannot be held.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.guides import compose
from ddpm.oracles.rewards import tilt_measured
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Parihar et al. 2024, PreciseControl"
MINUTES = 0.2
NAMES = ("smile", "age", "beard")
NOISE = 1e-4  # variance with which an attribute is given


@dataclass(frozen=True)
class Config:
    """Dimensions, and DDIM steps."""

    D: int = 6
    steps: int = 1000
    seed: int = 1


QUICK = {"steps": 200}


def summed(cov: np.ndarray, W: np.ndarray, a_bar: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The response of the sum of denoisers, in NumPy: the mean path is x_s = G x_t + Σ_j h_j w_j."""
    response = np.zeros((len(cov), len(W)))
    for t, s in pairwise(times):
        r, std = np.sqrt(a_bar[t]), np.sqrt(1 - a_bar[t])
        base = std * np.linalg.inv(a_bar[t] * cov + (1 - a_bar[t]) * np.eye(len(cov)))
        K, h = base.copy(), np.zeros_like(response)
        for j, w in enumerate(W):
            gain = cov @ w / (w @ cov @ w + NOISE)
            left = cov - np.outer(gain, w @ cov)
            of = std * np.linalg.inv(a_bar[t] * left + (1 - a_bar[t]) * np.eye(len(cov)))
            K, h[:, j] = K + of - base, -r * of @ gain
        eps = K @ response + h
        response = np.sqrt(a_bar[s] / a_bar[t]) * (response - std * eps) + np.sqrt(1 - a_bar[s]) * eps
    return W @ response


def run(config: Config) -> Result:
    """Measure the response of each kind of condition by the walk from one noise."""
    rng = np.random.default_rng(config.seed)
    W = rng.normal(size=(3, config.D))
    root = rng.normal(size=(config.D, config.D))
    cov = root @ root.T / config.D + 0.1 * np.eye(config.D)
    W /= np.sqrt(np.einsum("ad,de,ae->a", W, cov, W))[:, None]  # each of variance 1
    C = W @ cov @ W.T
    with float64():
        schedule, m = linear(), oracle.gaussian(np.zeros(config.D), cov)
        times, eps, a_bar = make_times(1000, config.steps), m.eps(schedule), np.asarray(schedule.alpha_bar)
        known = lambda A, y: tilt_measured(m, A, y, NOISE)[0].eps(schedule)  # noqa: E731
        zero = jnp.zeros((1, config.D))
        draw = lambda e: W @ np.asarray(walk(ddim_step(e, schedule), jax.random.key(0), zero, times))[0]  # noqa: E731
        each = lambda w: [known(W[j : j + 1], w[j : j + 1]) for j in range(3)]  # noqa: E731
        ways = {
            "given all three": (lambda w: known(W, w), np.linalg.solve(C + NOISE * np.eye(3), C).T),
            "given one alone": (None, C / (np.diag(C) + NOISE)),
            "sum of three": (lambda w: compose(eps, each(w), [1.0] * 3), summed(cov, W, a_bar, times)),
        }
        rows, found = list[Row](), {}
        for name, (make, exact) in ways.items():
            columns = []
            for j, w in enumerate(np.eye(3)):  # the walk is affine: a difference is the derivative
                on, off = (make(w), make(0 * w)) if make else (each(w)[j], each(0 * w)[j])
                columns.append(draw(on) - draw(off))
            found[name] = np.stack(columns, 1)
            close = 1e-8 if name == "sum of three" else 15 / config.steps
            rows += [Row(f"{name}: {NAMES[i]} by {NAMES[j]}", None, float(exact[i, j]), float(found[name][i, j]),
                         within=close, near=1.0) for i in range(3) for j in range(3)]  # fmt: skip
    return Result(rows, None, {"found": found})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the three response matrices with their numbers."""
    with plot.style():
        figure = plot.new_figure(8.6, 2.9)
        for ax, (name, R) in zip(figure.subplots(1, 3), numbers["found"].items(), strict=True):
            ax.imshow(np.array(R), cmap="RdBu", vmin=-1.5, vmax=1.5)
            for i in range(3):
                for j in range(3):
                    ax.text(j, i, f"{R[i][j]:.2f}", ha="center", va="center", fontsize=9)
            ax.set(xticks=range(3), yticks=range(3), xticklabels=NAMES, yticklabels=NAMES, title=name)
            ax.set(xlabel="turned", ylabel="moves")
    return figure
