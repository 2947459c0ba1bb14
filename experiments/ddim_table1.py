"""DDIM, Table 1 without a network: steps and η, on Gaussian data with the exact denoiser.

Song et al. sample CIFAR-10 with S = 10 … 1,000 steps and several η, and find that η = 0 is best at few steps and that
the larger variance σ̂ fails there but wins at 1,000. For Gaussian data the best denoiser is linear, the directions of
the data do not interact, and the distribution of the samples is known: so the same table can be computed without
training, as the exact Fréchet distance in pixels. The paper's column is Inception FID on CIFAR-10, in other units: only
the order can be compared. Two things are as in the paper: η = 0 < .2 < .5 < 1 at every S, and σ̂ is worst at S = 10 and
best at S = 1,000 on the garments' covariance. One thing differs: σ̂ overtakes η = 1 already at S = 20, because a
distance of pixel covariances punishes the noise left over by the last step far less than Inception features do. (On the
1/f² spectrum of natural images σ̂ beats η = 1 at every S.) So a part of the published table is the geometry of the
sampler alone, but the collapse of σ̂ is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.sample import ddim_step, ddpm_step
from ddpm.schedule import linear, make_times
from experiments.lab.linear_denoisers import by_formula, by_steps, frechet
from experiments.lab.runner import Result, Row, float64

PAPER = "Song, Meng, Ermon 2021, Table 1 (CIFAR-10)"
MINUTES = 0.5
STEPS = (10, 20, 50, 100, 1000)
TABLE: dict[Any, tuple[float, ...]] = {
    0.0: (13.36, 6.84, 4.67, 4.16, 4.04),
    0.2: (14.04, 7.11, 4.77, 4.25, 4.09),
    0.5: (16.66, 8.35, 5.25, 4.46, 4.29),
    1.0: (41.07, 18.36, 8.01, 5.78, 4.73),
    "hat": (367.43, 133.37, 32.72, 9.99, 3.17),
}


@dataclass(frozen=True)
class Config:
    """The data set whose covariance is used in addition to 1/f²; "" for none."""

    data: str = "fashion_mnist"


QUICK = {"data": ""}


def natural_spectrum(size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Variances of 3 x 32 x 32 colour images whose power falls as 1/f², and how often each occurs.

    f = 1/2 for the mean; the variances average to .25; the eigenvectors are waves.
    """
    k = np.fft.fftfreq(size) * size
    f = np.hypot(k[:, None], k[None])
    lam = (np.where(f > 0, f, 0.5) ** -2.0).ravel()
    lam, seen = np.unique(np.round(0.25 * lam / lam.mean(), 12), return_counts=True)
    return lam, 3 * seen


def spectra(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The variances of each data set, and how often each occurs."""
    found = {"1/f²": natural_spectrum()}
    if name:
        x = data.to_float(sources.load(name).x_train)
        lam = np.maximum(np.linalg.eigvalsh(np.cov(x.reshape(len(x), -1).astype(np.float64), rowvar=False)), 0)
        found[name] = (lam, np.ones_like(lam))
    return found


def stepper(eta: Any) -> Callable[..., Any]:
    """Return a function (eps, schedule) -> the library's step with this η, or with σ̂."""
    if eta == "hat":
        return lambda e, s: ddpm_step(e, s, variance="fixed_large")
    return lambda e, s: ddim_step(e, s, eta=eta)


def run(config: Config) -> Result:
    """Compute every cell of the table twice: by formula and with the library."""
    rows: list[Row] = []
    curves: dict[tuple[str, str], list[float]] = {}
    with float64():
        schedule = linear()
        alpha_bar = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
        for name, (lam, seen) in spectra(config.data).items():
            for eta, paper in TABLE.items():
                what = "σ̂" if eta == "hat" else f"η = {eta:g}"
                for S, fid in zip(STEPS, paper, strict=True):
                    times = make_times(1000, S, "leading")
                    exact = frechet(lam, by_formula(alpha_bar, lam, times, eta), seen)
                    ours = frechet(lam, by_steps(stepper(eta), schedule, lam, times), seen)
                    rows.append(Row(f"{name}, {what}, S = {S}", fid, exact, ours, within=1e-3, near=1e-3))
                    curves.setdefault((name, what), []).append(ours)
    with plot.style():
        found = list(dict.fromkeys(name for name, _ in curves))
        figure = plot.new_figure(3.4 * (len(found) + 1), 3.2)
        panels = figure.subplots(1, len(found) + 1)
        for ax, name in zip(panels[1:], found, strict=True):
            for (of, what), y in curves.items():
                if of == name:
                    ax.plot(STEPS, y, marker="o", markersize=3, label=what)
            ax.set(
                title=f"Gaussian, {name}",
                xlabel="steps S",
                ylabel="Fréchet distance, pixels",
                xscale="log",
                yscale="log",
            )
        for eta, fids in TABLE.items():
            panels[0].plot(STEPS, fids, marker="o", markersize=3, label="σ̂" if eta == "hat" else f"η = {eta:g}")
        panels[0].set(title="paper: CIFAR-10", xlabel="steps S", ylabel="FID, Inception", xscale="log", yscale="log")
        panels[0].legend()
    return Result(rows, figure, {"unit": "exact Fréchet distance in pixels; the paper's column is Inception FID"})
