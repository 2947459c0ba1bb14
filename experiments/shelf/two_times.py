"""UniCon: one model of a pair, each half with its own time, draws either half, both, or one given a noisy other.

The claim: a model of pairs (an image and its depth, say), trained with a time for each half, is not trained again for
each task: (t, 0) walks to x given y, (0, t) to y given x, (t, t) to both, (t, T) to x alone, and (t, u) with a fixed
u to x given a y that is trusted only so far. For two numbers with correlation .8 the denoiser at all (t, u) is known,
sampling is affine, and so mean and variance of each task are exact.

What we see: the model at the right times is exact for each of them, by any path from (T, T) to (0, 0): both at once, or
one first and the other given it. The alternative is a model of (t, t) only, in which the known half is put in with new
noise at each time. It makes too little of what is known, mean .35 for .8, and the reason is that at no time has it seen
a clean y next to a noisy x. What does not carry over: a network has to learn the whole square of times, of which the
tasks use only edges and diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.editing import repaint
from ddpm.oracles import eps_by_place, together
from ddpm.sample import ddim_step, walk
from ddpm.samplers import place_step
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Li et al. 2025, A simple approach to unifying diffusion-based conditional generation (UniCon)"
MINUTES = 0.2
UNCHECKED = "The exact column of the model of (t, t) is the true conditional; that it is missed is the finding."
RHO, KNOWN = 0.8, 1.0
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])


@dataclass(frozen=True)
class Config:
    """Steps of DDIM, fixed times of a noisy y, and samples of the model of (t, t)."""

    steps: int = 1000
    trusted: tuple[int, ...] = (0, 100, 200, 300, 400, 600, 1000)
    n: int = 20_000
    seed: int = 0


QUICK = {"steps": 200, "trusted": (0, 300), "n": 2000}


def run(config: Config) -> Result:
    """Walk along each path of times, and with the model of (t, t) only."""
    rows, curve = list[Row](), []
    down, key = make_times(1000, config.steps), jax.random.key(config.seed)
    half, n = make_times(1000, config.steps // 2), config.steps // 2
    cov, within = np.array([[1.0, RHO], [RHO, 1.0]]), 16 / config.steps
    with float64():
        schedule, pair = linear(), oracle.gaussian(np.zeros(2), cov)
        eps = eps_by_place(pair, schedule)

        def ends(x: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Mean and covariance of the end; x: where 0, and the noises that are drawn, begin"""
            out = np.asarray(
                walk(place_step(eps, schedule, times), key, jnp.asarray(x), np.arange(len(times) - 1, -1, -1))
            )
            M = (out[1:] - out[:1]).T
            return out[0], M @ M.T

        both = np.array([[0.0, 0], [1, 0], [0, 1]])
        wait, done = np.full(n, 1000), np.zeros(n, int)
        paths = {
            "both at once": together((down, 1), (down, 1)),
            "y, then x": together((np.append(wait, half), 1), (np.append(half, done), 1)),
            "x alone, y absent": together((down, 1), (1000, 1)),
        }
        for name, times in paths.items():
            covariance = ends(both, times)[1]
            rows.append(Row(f"{name}: variance of x", None, 1.0, covariance[0, 0], within=within))
            if "alone" not in name:
                rows.append(Row(f"{name}: covariance", None, RHO, covariance[0, 1], within=within))
        for u in config.trusted:  # y_u = 1 is all that is known of y
            mean, covariance = ends(np.array([[0, KNOWN], [1, KNOWN]]), together((down, 1), (u, 1)))
            # x and y_u are jointly Gaussian, with covariance ρ√ᾱ_u
            exact = RHO * np.sqrt(ALPHA_BAR[u]) * KNOWN, 1 - RHO**2 * ALPHA_BAR[u]
            rows.append(Row(f"y_u = 1 at u = {u}: mean of x", None, exact[0], mean[0], within=within, near=1.0))
            rows.append(Row(f"y_u = 1 at u = {u}: variance of x", None, exact[1], covariance[0, 0], within=within))
            curve.append((u, *exact, mean[0], covariance[0, 0]))
    mask, known = np.array([0.0, 1.0]).reshape(1, 2, 1), jnp.full((config.n, 1, 2, 1), KNOWN)
    pair = oracle.gaussian(np.zeros((1, 2, 1)), cov)
    step = repaint(ddim_step(pair.eps(linear()), linear()), linear(), known, mask)
    x = np.asarray(walk(step, key, jax.random.normal(jax.random.fold_in(key, 1), known.shape), down))[:, 0, 0, 0]
    for what, true, ours in (("mean", RHO * KNOWN, x.mean()), ("variance", 1 - RHO**2, x.var())):
        rows.append(Row(f"model of (t, t), y put in with new noise: {what} of x", None, true, float(ours)))
    return Result(rows, None, {"curve": curve, "replaced": (float(x.mean()), float(x.var()))})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the tasks as paths in the square of times, and x given a noisy y."""
    with plot.style():
        figure = plot.new_figure(8.2, 3.3)
        left, right = figure.subplots(1, 2)
        tasks = {
            "both at once": ((1, 0), (1, 0)), "y, then x": ((1, 1, 0), (1, 0, 0)), "x given y": ((1, 0), (0, 0)),
            "y given x": ((0, 0), (1, 0)), "x alone": ((1, 0), (1, 1)), "x given a noisy y": ((1, 0), (0.3, 0.3)),
        }  # fmt: skip
        for i, (name, (t, u)) in enumerate(tasks.items()):
            left.plot(np.array(t) + 0.012 * i, np.array(u) + 0.012 * i, label=name, lw=2)
        left.set(xlabel="time t of x, in T", ylabel="time u of y, in T", title="tasks are paths")
        left.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        u, mean, variance, our_mean, our_variance = np.array(numbers["curve"]).T
        right.plot(u, mean, label="mean, exact")
        right.plot(u, variance, label="variance, exact")
        right.plot(u, our_mean, "o", color="#1b4f72")
        right.plot(u, our_variance, "s", color="#c0392b")
        right.plot([0, 0], numbers["replaced"], "x", color="0.3", ms=8, ls="", label="model of (t, t): both")
        right.set(xlabel="time u at which y_u = 1 is known", ylabel="x given y_u", ylim=(0, 1.05))
        right.legend(fontsize=8)
    return figure
