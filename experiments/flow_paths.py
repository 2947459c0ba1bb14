"""Flows by path: which is straight, and what a few steps of Euler's method lose.

Rectified flow and flow matching move data to noise along a straight line (1-τ) x0 + τ ε, and are said to need fewer
steps than diffusion for that reason. Straightness is ∫ E‖(x_1 - x_0) - u*(x_τ, τ)‖² dτ: 0 if each point of the marginal
flow moves on a line at one speed. On Gaussian data it has a value for each variance λ. The exact column is NumPy alone;
ours follows the velocity that the library derives from its ε-oracle, on four paths, and agrees. The straight line is
not the straightest flow. At λ = .25 the linear path has .215, the trigonometric one .058; on N(0, I) the flow of the
other three stands still, and the linear one shrinks and grows again. For narrow data, λ = .01, it is the other way
round: .043 and .189. Euler's method follows: at λ = .25 four even steps leave .68 of the deviation on the linear path,
which is DDIM, and .96 on the trigonometric one, more than the .73 that four DDIM steps leave at their best times; on a
mixture of two Gaussians its distance is an eighth. At λ = .01 two steps leave .10 on the linear path and make the
deviation 2.3 times too large on the trigonometric one; from eight steps on the two are alike. Images have many narrow
directions and a few wide ones, so neither statement is about images yet; `few_calls` has those, and there the list of
times decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri

from ddpm import oracle, plot
from ddpm.flows import exact_velocity, gaussian_map, make_path
from ddpm.sample import ddim_step, walk
from ddpm.schedule import from_alpha_bar
from experiments.lab.runner import Result, Row, float64

PAPER = "Liu et al. 2023, Sec. 2.2; Lipman et al. 2023, Sec. 4"
MINUTES = 0.5
PATHS = ("linear", "trigonometric", "cosine", "vp")
STEPS = (2, 4, 8, 16)
SHOWN = (0.01, 0.25)  # variances whose steps are counted


@dataclass(frozen=True)
class Config:
    """The variances, the steps of the integral over τ, and the nodes of the mixture."""

    variances: tuple[float, ...] = (0.01, 0.25, 1.0)
    integral: int = 4000
    nodes: int = 400


QUICK = {"integral": 1000, "nodes": 100}


# --- exact, in NumPy --------------------------------------------------------------------------------------------------


def ab(name: str, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute a(τ) and b(τ) from the definitions of the papers."""
    if name == "linear":
        return 1 - tau, tau
    if name == "trigonometric":
        return np.cos(np.pi / 2 * tau), np.sin(np.pi / 2 * tau)
    if name == "cosine":
        a = np.cos((tau + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)
    else:
        a = np.exp(-(0.1 * tau + 19.9 * tau**2 / 2) / 2)
    return a, np.sqrt(np.maximum(1 - a**2, 0))


def deviation(name: str, var: float, tau: Any) -> np.ndarray:
    """√v = √(a²λ + b²)"""
    a, b = ab(name, tau)
    return np.sqrt(a**2 * var + b**2)


def exact_straightness(name: str, var: float, n: int) -> float:
    """∫ (d√v/dτ)² dτ - (√v_1 - √v_0)², with differences between neighbouring times."""
    tau = np.linspace(0, 1, n + 1)
    root = deviation(name, var, tau)
    return float((np.diff(root) ** 2).sum() * n - (root[-1] - root[0]) ** 2)


def slope(name: str, var: float, tau: float, h: float = 1e-6) -> float:
    """d log √v/dτ, so that the velocity of N(0, λ) is this times x."""
    up, down = (np.log(deviation(name, var, np.float64(t))) for t in (min(tau + h, 1), tau - h))
    return float((up - down) / (min(tau + h, 1) - tau + h))


def exact_gain(name: str, var: float, N: int) -> float:
    """What N even steps of Euler's method leave of the deviation √λ, from the right one at τ = 1."""
    tau, gain = np.linspace(1, 0, N + 1), 1.0
    for t, s in pairwise(tau):
        gain *= 1 + (s - t) * slope(name, var, t)
    return float(gain * deviation(name, var, np.float64(1)) / np.sqrt(var))


def quantiles(p: np.ndarray) -> np.ndarray:
    """F⁻¹ of ½N(±1, .25), by bisection."""
    low, high = np.full(len(p), -8.0), np.full(len(p), 8.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = (ndtr((middle - 1) / 0.5) + ndtr((middle + 1) / 0.5)) / 2 < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


# --- ours -------------------------------------------------------------------------------------------------------------


def our_straightness(name: str, var: float, n: int) -> float:
    """The mean over the trajectories of two points, ±1 deviation, of a Gaussian: velocities by the oracle."""
    path, m = make_path(name), oracle.gaussian([0.0], var)
    tau = (np.arange(n) + 0.5) / n
    start = jnp.asarray(deviation(name, var, np.float64(1))).reshape(1, 1)
    end = gaussian_map(m, path, start, 1.0, 0.0)
    x = jnp.asarray(deviation(name, var, tau))[:, None]  # the point that ends at one deviation
    u = exact_velocity(m, path)(x, jnp.asarray(tau))
    return float(((start - end - u) ** 2).mean())


def euler(data: oracle.Mixture, name: str, x: np.ndarray, N: int) -> np.ndarray:
    """N even steps of Euler's method from τ = 1 to 0."""
    velocity, out = exact_velocity(data, make_path(name)), jnp.asarray(x)
    for t, s in pairwise(np.linspace(1, 0, N + 1)):
        out = out + (s - t) * velocity(out, t)
    return np.asarray(out)


def best_ddim(var: float, N: int) -> float:
    """What DDIM leaves of the deviation where θ = atan(b/(a√λ)) falls evenly from π/2 to 0."""
    theta = np.pi / 2 * np.arange(1, N) / N
    ratio = np.sqrt(var) * np.tan(theta)  # b/a
    alpha_bar = np.append(1 / (1 + ratio**2), 1e-12)
    schedule = from_alpha_bar(alpha_bar)
    eps = oracle.gaussian([0.0], var).eps(schedule)
    out = walk(ddim_step(eps, schedule), jax.random.key(0), jnp.ones((1, 1)), np.arange(N, -1, -1))
    return float(out[0, 0] / np.sqrt(var))


def run(config: Config) -> Result:
    """Measure straightness by path and variance, and Euler's errors by path and number of steps."""
    rows, table = [], {}
    with float64():
        for name in PATHS:
            for var in config.variances:
                exact, ours = (f(name, var, config.integral) for f in (exact_straightness, our_straightness))
                rows.append(Row(f"straightness, {name}, λ = {var:g}", None, exact, ours, within=2e-3, near=0.01))
        for var in SHOWN:
            for name in PATHS:
                for N in STEPS:
                    ours = float(euler(oracle.gaussian([0.0], var), name, np.ones((1, 1)), N)[0, 0])
                    ours *= float(deviation(name, var, np.float64(1))) / np.sqrt(var)
                    exact = exact_gain(name, var, N)
                    table[var, name, N] = ours
                    what = f"share of the deviation, λ = {var:g}, {name}, {N} steps"
                    rows.append(Row(what, None, exact, ours, within=1e-4))
        for N in STEPS:
            exact = float(np.cos(np.pi / 2 / N) ** N)
            rows.append(
                Row(
                    f"the same, λ = 0.25, DDIM at its best times, {N} steps",
                    None,
                    exact,
                    best_ddim(0.25, N),
                    within=1e-4,
                )
            )
        # A mixture: distance of what Euler makes of the quantiles of the noise from the quantiles of the data
        p = (np.arange(config.nodes) + 0.5) / config.nodes
        noise, data = ndtri(p), quantiles(p)
        m = oracle.mixture([[1.0], [-1.0]], 0.25)
        ends = {name: [euler(m, name, noise[:, None], N)[:, 0] for N in STEPS] for name in PATHS[:2]}
        distance = {name: [float(np.sqrt(((np.sort(x) - data) ** 2).mean())) for x in of] for name, of in ends.items()}
        rows += [
            Row(f"W₂ of the mixture, {name}, {N} steps", None, None, d)
            for name, of in distance.items()
            for N, d in zip(STEPS, of, strict=True)
        ]
        lines = trajectories(m)
    return Result(rows, picture(table, lines), {"integral": config.integral})


def trajectories(m: oracle.Mixture) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Follow nine points of the mixture's flow on two paths, by 400 steps of Euler's method."""
    found = {}
    for name in PATHS[:2]:
        velocity = jax.jit(exact_velocity(m, make_path(name)))
        tau, x = np.linspace(1, 0, 401), [jnp.asarray(ndtri(np.linspace(0.05, 0.95, 9)))[:, None]]
        for t, s in pairwise(tau):
            x.append(x[-1] + (s - t) * velocity(x[-1], jnp.asarray(t)))
        found[name] = tau, np.asarray(x)[:, :, 0]
    return found


def picture(table: dict, lines: dict) -> Figure:
    """Draw straightness by variance, Euler's share of the deviation by steps, and trajectories on two paths."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.0)
        first, second, *panels = figure.subplots(1, 4)
        var = np.geomspace(1e-3, 4, 40)
        for name in PATHS:
            first.plot(var, [exact_straightness(name, v, 2000) for v in var], label=name, marker="")
            second.plot(STEPS, [table[0.25, name, N] for N in STEPS], label=name)
        second.plot(STEPS, [np.cos(np.pi / 2 / N) ** N for N in STEPS], color="#555", linestyle=":", label="DDIM, best")
        first.set(xscale="log", xlabel="variance λ of the data", ylabel="straightness (0: straight)")
        second.set(xscale="log", xlabel="steps", ylabel="share of the deviation, λ = .25")
        second.set_xticks(STEPS, [str(N) for N in STEPS])
        second.minorticks_off()
        first.legend(fontsize=7)
        second.legend(fontsize=7)
        for ax, (name, (tau, x)) in zip(panels, lines.items(), strict=True):
            ax.plot(tau, x, color="#1b4f72", linewidth=1, marker="", linestyle="-")
            ax.set(xlabel=r"$\tau$ (data at 0)", ylabel="x", title=name)
    return figure
