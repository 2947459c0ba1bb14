"""Microstructures: two-phase materials from a Gaussian field that is cut at a level, and their exact statistics.

The claim: diffusion can draw materials whose two-point statistics are those of the data. Here the data are a Gaussian
field on a periodic grid, cut at a level: above it is one phase. For such a field the probability S₂(r) that two points
at distance r are both in the phase is known, at half of the volume S₂(r) = ¼ + arcsin ρ(r)/2π, with ρ the field's
correlation. The field's denoiser is exact, so sampling has the error of its steps only, and S₂ of what is drawn agrees
with the formula. With five steps the field has too little variance. At half of the volume nothing is seen of it, since
the level is the mean; a phase of .3 shrinks to .24, and S₂ with it. What does not carry over: real materials are no cut
Gaussian fields, and a network is trained on the phases, not on the field.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import multivariate_normal, norm

from ddpm import oracle, plot
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Microstructures by diffusion (paper 7 of the list)"
MINUTES = 0.3
UNCHECKED = "With five steps the error of the steps is what is measured."


@dataclass(frozen=True)
class Config:
    """Side of the grid, length of the correlation, volume shares, samples, DDIM steps, distances."""

    side: int = 16
    length: float = 2.0
    share: tuple[float, ...] = (0.5, 0.3)
    n: int = 2000
    steps: tuple[int, ...] = (5, 500)
    r: tuple[int, ...] = (1, 2, 3, 5)
    seed: int = 0


QUICK = {"side": 8, "n": 1000, "steps": (5, 200), "r": (1, 2)}


def covariance(side: int, length: float) -> np.ndarray:
    """The correlation of a field on a periodic grid, by its spectrum: (side², side²), 1 on the diagonal"""
    k = np.fft.fftfreq(side) * 2 * np.pi
    spectrum = np.exp(-0.5 * length**2 * (k[:, None] ** 2 + k[None] ** 2))
    kernel = np.fft.ifft2(spectrum).real
    kernel /= kernel[0, 0]
    i = np.arange(side)
    gap = (i[:, None] - i[None]) % side
    return kernel[gap[:, None, :, None], gap[None, :, None, :]].reshape(side**2, side**2)


def both(share: float, rho: float) -> float:
    """P(two points are in the phase): ¼ + arcsin ρ/2π at half the volume, else the normal integral"""
    if share == 0.5:
        return 0.25 + np.arcsin(rho) / (2 * np.pi)
    level = norm.ppf(share)
    return float(multivariate_normal.cdf([level, level], cov=[[1, rho], [rho, 1]]))


def run(config: Config) -> Result:
    """Measure volume share and S₂ of what is drawn, by the number of steps."""
    cov = covariance(config.side, config.length)
    schedule, m = linear(), oracle.gaussian(np.zeros(config.side**2), cov)
    x_T = jax.random.normal(jax.random.key(config.seed), (config.n, config.side**2))
    rows: list[Row] = []
    curves: dict[str, list[float]] = {}
    shown = {}
    for steps in config.steps:
        x = walk(ddim_step(m.eps(schedule), schedule), jax.random.key(0), x_T, make_times(1000, steps))
        field = np.asarray(x).reshape(-1, config.side, config.side)
        shown[f"{steps} steps"] = field[:3]
        for share in config.share:
            phase = field > norm.ppf(1 - share)
            fine = steps == max(config.steps)
            volume = phase.mean((1, 2))
            values = {"volume": (share, volume)}
            for r in config.r:
                pairs = (phase & np.roll(phase, r, 2)).mean((1, 2))
                values[f"S₂({r})"] = (both(share, float(cov[0, r])), pairs)
            for what, (exact, each) in values.items():
                se = float(each.std(ddof=1) / np.sqrt(config.n))
                close = 4.5 * se + 2 / steps if fine else None
                rows.append(
                    Row(f"{share:g}, {steps} steps: {what}", None, exact, each.mean(), se, within=close, near=1.0)
                )
            curves[f"{share:g}, {steps}"] = [r.ours or 0 for r in rows[-len(config.r) :]]
    formula = {f"{share:g}": [both(share, float(cov[0, r])) for r in config.r] for share in config.share}
    return Result(rows, None, {"r": config.r, "exact": formula, "curves": curves, "fields": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw S₂ by distance, and the phase of some fields."""
    with plot.style():
        figure = plot.new_figure(9.0, 3.0)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1))  # type: ignore[misc]
        ax = left.subplots()
        for share, values in numbers["exact"].items():
            ax.plot(numbers["r"], values, "-", color="0.6", label="exact" if share == "0.5" else None)
        for name, values in numbers["curves"].items():
            share, steps = name.split(", ")
            ax.plot(numbers["r"], values, "o" if steps != "5" else "x", label=f"volume {share}, {steps} steps")
        ax.set(xlabel="distance r", ylabel="$S_2(r)$", ylim=(0, None))
        ax.legend(fontsize=6.5)
        axes = right.subplots(len(numbers["fields"]), 3)
        for line, (name, fields) in zip(axes, numbers["fields"].items(), strict=True):
            for panel, field in zip(line, fields, strict=True):
                panel.imshow(np.array(field) > norm.ppf(0.7), cmap="gray")
                panel.axis("off")
            line[0].set_title(f"volume 0.3, {name}", fontsize=7, loc="left")
    return figure
