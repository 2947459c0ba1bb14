"""DPM-Solver's Table 1 in shape: the order of each solver, measured where the flow is known.

Lu et al. compare solvers by FID at equal numbers of calls. The reason behind their results is the order: halving the
step divides the error by 2 (DDIM), or by 4 (second order). For data N(0, λ) the flow keeps x/√Var(x_t), so the error of
a walk is known to the last digit. The exact column holds the orders that the theory gives, and for DDIM the product of
its gains in NumPy; ours is the slope of the last halving. At ten calls the single-step second-order solver is worse
than DDIM: the order describes what happens when steps get small, not which solver wins at ten calls. The last rows are
EDM's Heun method, on EDM's times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle, plot
from ddpm.sample import ddim_step, walk
from ddpm.samplers.edm import edm_sigmas, from_sigma
from ddpm.samplers.solvers import begin, heun_step, midpoint_step, multistep
from ddpm.schedule import Schedule, from_alpha_bar, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Lu et al. 2022, Table 1; Karras et al. 2022, Fig. 2"
MINUTES = 0.3
CALLS = (10, 20, 40, 80, 160)


@dataclass(frozen=True)
class Config:
    """The variance of the data."""

    lam: float = 0.25


QUICK: dict = {}


def vp_schedule(n: int) -> Schedule:
    """n+1 levels of the VP-SDE (β from .1 to 20), equally spaced in log SNR from t = 1 to t = 1e-3."""
    log_a = [-(0.1 * t + 9.95 * t**2) for t in (1e-3, 1.0)]
    low, high = (a - np.log(-np.expm1(a)) for a in log_a)
    lam = np.linspace(low, high, n + 1)
    return from_alpha_bar(1 / (1 + np.exp(-lam)))


def relative_error(make: Callable[..., Any], n: int, lam: float, stride: int = 1) -> float:
    """|x/x_exact - 1| at t = 1e-3."""
    schedule = vp_schedule(n)
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    x, times = jnp.ones((1, 1)), np.arange(n + 1, 0, -stride)
    out = walk(make(eps, schedule), jax.random.key(0), begin(x) if make is multistep else x, times)
    out = out.x if make is multistep else out
    var = schedule.alpha_bar * lam + 1 - schedule.alpha_bar
    return abs(float(out[0, 0] / jnp.sqrt(var[1] / var[n + 1])) - 1)


def ddim_by_formula(n: int, lam: float) -> float:
    """The same error for DDIM: a product of (√(ᾱ_s ᾱ_t) λ + √((1-ᾱ_s)(1-ᾱ_t)))/v_t."""
    a = np.asarray(vp_schedule(n).alpha_bar)[1:]
    v = a * lam + 1 - a
    gain = (np.sqrt(a[:-1] * a[1:]) * lam + np.sqrt((1 - a[:-1]) * (1 - a[1:]))) / v[1:]
    return float(abs(np.prod(gain) / np.sqrt(v[0] / v[-1]) - 1))


def heun_ratio(n: int, lam: float) -> float:
    """Standard deviation of Heun's samples with EDM's n steps, over the data's."""
    schedule = from_sigma(edm_sigmas(n))
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    a = schedule.alpha_bar[-1]
    x_T = jnp.sqrt(a * lam + 1 - a).reshape(1, 1)
    out = walk(heun_step(eps, schedule), jax.random.key(0), x_T, make_times(n, n))
    return float(out[0, 0]) / np.sqrt(lam)


def run(config: Config) -> Result:
    """Measure errors at equal calls, and orders."""
    makers = {"DDIM": (ddim_step, 1, 1), "DPM-Solver++(2M)": (multistep, 1, 2), "DPM-Solver-2": (midpoint_step, 2, 2)}
    rows, curves = [], {}
    with float64():
        for name, (make, stride, order) in makers.items():
            curves[name] = [relative_error(make, n, config.lam, stride) for n in CALLS]
            for n, e in zip(CALLS, curves[name], strict=True):
                exact = ddim_by_formula(n, config.lam) if name == "DDIM" else None
                rows.append(Row(f"{name}, {n} calls, relative error", None, exact, e, within=1e-6))
            slope = float(np.log2(curves[name][-2] / curves[name][-1]))
            rows.append(Row(f"{name}, order", None, float(order), slope, within=0.05))
        steps = (18, 36, 72, 144)
        ratios = [heun_ratio(n, config.lam) for n in steps]
        for n, r in zip(steps, ratios, strict=True):
            rows.append(Row(f"Heun on EDM's times, {2 * n - 1} calls, std ratio - 1", None, None, r - 1))
        slope = float(np.log2((ratios[-2] - 1) / (ratios[-1] - 1)))
        rows.append(Row("Heun, order", None, 2.0, slope, within=0.05))
    with plot.style():
        figure = plot.new_figure(4.8, 3.4)
        axes = figure.add_subplot()
        for (name, y), mark in zip(curves.items(), "os^", strict=True):
            axes.plot(CALLS, y, marker=mark, label=name)
        axes.plot([2 * n - 1 for n in steps], np.array(ratios) - 1, marker="d", label="Heun, EDM's times")
        axes.set(xlabel="network calls", ylabel="relative error", xscale="log", yscale="log")
        axes.legend()
    return Result(rows, figure, {"lam": config.lam})
