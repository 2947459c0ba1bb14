"""Att-Adapter: an attribute requested by its number; what an adapter must see, so that the images have it.

The claim: a small adapter on a frozen model takes a measured number a, such as a width, and the images have it. Here x0
is Gaussian and a = wᵀx0. The frozen denoiser ε̂_∅ is exact. An adapter that sees a and t only, and adds to ε̂, has the
least loss with h_t = -√(ᾱ(1-ᾱ)) Σ_t⁻¹Σ w; the walk is affine, so that the slope of measured on requested a, its spread
and R² are known. One that sees x_t as well can be the exact denoiser given a. What we see: both have a slope of one.
But only the second knows how much of a is in x_t already: the first adds the same move to every image, so a keeps the
spread that it has in all data, and R² is one half. A slope alone does not show that a request is met. What does not
carry over: an adapter inside the blocks sees x_t through the features that it scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.contracts import Partial
from ddpm.oracles.rewards import tilt_measured
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Cho et al. 2025, Att-Adapter: a robust and precise domain-specific multi-attributes adapter"
MINUTES = 0.2
NOISE = 1e-3  # variance with which a is measured


@dataclass(frozen=True)
class Config:
    """Dimensions, samples of each requested number, and DDIM steps."""

    D: int = 6
    n: int = 400
    steps: int = 500
    requested: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    seed: int = 0


QUICK = {"n": 100, "steps": 100, "requested": (-1.0, 1.0)}


def affine(cov: np.ndarray, w: np.ndarray, h: np.ndarray, a_bar: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Slope of wᵀx0 on a, and its variance at one a, of the walk with ε̂ = ε̂_∅ + h_t a, in NumPy."""
    lam, U = np.linalg.eigh(cov)
    gain, move = np.ones(len(lam)), np.zeros(len(lam))  # along the eigenvectors: x_s = gain x_T + move a
    for t, s in pairwise(times):
        k = np.sqrt(1 - a_bar[t]) / (a_bar[t] * lam + 1 - a_bar[t])
        r = np.sqrt(a_bar[s] / a_bar[t])
        b = np.sqrt(1 - a_bar[s]) - r * np.sqrt(1 - a_bar[t])  # x_s = r x_t + b ε̂
        gain, move = (r + b * k) * gain, (r + b * k) * move + b * (h[t] @ U)
    return float(w @ U @ move), float(((w @ U) ** 2 * gain**2).sum())


def shifted(x_t: jax.Array, t: jax.Array, c: None, eps: Partial, h: jax.Array, a: jax.Array) -> jax.Array:
    """ε̂_∅ + h_t a, with a number a for each image"""
    return eps(x_t, t, None) + h[t] * a[:, None]


def run(config: Config) -> Result:
    """Measure slope and R² of both adapters."""
    rng = np.random.default_rng(config.seed)
    root, w = rng.normal(size=(config.D, config.D)) / 2, rng.normal(size=config.D)
    cov = root @ root.T + 0.1 * np.eye(config.D)
    w /= np.sqrt(w @ cov @ w)
    rows, points = list[Row](), {}
    with float64():
        schedule, m = linear(), oracle.gaussian(np.zeros(config.D), cov)
        a_bar, times, eye = np.asarray(schedule.alpha_bar), make_times(1000, config.steps), np.eye(config.D)
        inverse = lambda S: np.linalg.inv(a_bar[:, None, None] * S + (1 - a_bar)[:, None, None] * eye + 1e-12 * eye)  # noqa: E731
        root_of = np.sqrt(a_bar * (1 - a_bar))[:, None]
        gain = cov @ w / (1 + NOISE)  # E[x0 | a] = gain a
        left = cov - np.outer(gain, cov @ w)
        ways = {
            "sees a and t": (m, cov, -root_of * (inverse(cov) @ cov @ w)),
            "sees x_t too": (tilt_measured(m, w[None], [0.0], NOISE)[0], left, -root_of * (inverse(left) @ gain)),
        }
        a = np.repeat(config.requested, config.n)
        x_T = jax.random.normal(jax.random.key(config.seed), (len(a), config.D), float)
        for name, (data, S, h) in ways.items():
            slope, var = affine(S, w, h, a_bar, times)
            eps = Partial(shifted, eps=data.eps(schedule), h=jnp.asarray(h), a=jnp.asarray(a))
            x = np.asarray(walk(ddim_step(eps, schedule), jax.random.key(0), x_T, times)) @ w
            se = float(np.sqrt(var / len(a)) / a.std())
            got = float(np.cov(a, x)[0, 1] / a.var(ddof=1))
            rows.append(Row(f"{name}: slope of measured on requested", None, slope, got, se, within=5 * se / slope))
            spread = float((x - got * a).std())
            rows.append(Row(f"{name}: spread at one request", None, var**0.5, spread, within=4.5 / len(a) ** 0.5))
            r2 = slope**2 / (slope**2 + var)  # for requests of variance 1, as in the data
            rows.append(
                Row(f"{name}: R² for requests as in the data", None, r2, got**2 / (got**2 + spread**2), within=0.1)
            )
            points[name] = (a[::8], x[::8])
    return Result(rows, None, {"points": points})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the measured against the requested number for both adapters."""
    with plot.style():
        figure = plot.new_figure(6.6, 3.0)
        for ax, (name, (a, x)) in zip(figure.subplots(1, 2, sharey=True), numbers["points"].items(), strict=True):
            ax.plot(np.array(a), x, ".", ms=3)
            ax.plot([-2.5, 2.5], [-2.5, 2.5], color="0.6", lw=1, label="slope 1")
            ax.set(xlabel="requested a", title=f"adapter that {name}")
            ax.legend(fontsize=7)
        figure.axes[0].set_ylabel("measured wᵀx0")
    return figure
