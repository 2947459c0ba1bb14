"""Slight corruption: wrong labels widen a class as predicted, and on Gaussians they do not bring the fit nearer.

The claim: a little corruption of the conditions in training helps; entropy rises, and the distance to the truth falls.
Two classes N(±m, I) have a share η of their labels wrong, and a class's Gaussian is fitted to n images that carry its
label. Its covariance becomes I + 4η(1-η) mmᵀ in the mean, its entropy rises by ½ log(1 + 4η(1-η)|m|²): this half is
exact, and holds. The other half we do not find. The squared Wasserstein distance of the fit to its class rises with η,
at once for classes that lie apart, and within the error bars not at all for classes that overlap; nowhere does it fall
by more than two standard errors. What does not carry over: a network is trained with a label of no meaning too, and the
paper measures images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from experiments.lab.runner import Result, Row

PAPER = "Chen et al. 2024, Slight Corruption in Pre-training Data Makes Better Diffusion Models"
MINUTES = 0.5


@dataclass(frozen=True)
class Config:
    """Dimensions, images of a class, distances |m|, shares of wrong labels, repetitions."""

    d: int = 8
    n: int = 12
    m: tuple[float, ...] = (0.3, 1.0)
    eta: tuple[float, ...] = (0.0, 0.025, 0.05, 0.1, 0.2)
    repeats: int = 20_000
    many: int = 400_000
    seed: int = 0


QUICK = {"eta": (0.0, 0.1), "repeats": 1000, "many": 40_000}


def labelled(rng: np.random.Generator, m: float, eta: float, shape: tuple[int, ...]) -> np.ndarray:
    """Images with the label of class +m, of which a share η in the mean comes from class -m."""
    x = rng.normal(size=shape)
    x[..., 0] += m * np.where(rng.random(shape[:-1]) < eta, -1, 1)
    return x


def distance(x: np.ndarray, m: float) -> np.ndarray:
    """W₂²(N(mean, cov of x), N(m, I)) = |mean - m|² + Σ (√λ_i - 1)², (repeats,)"""
    mean = x.mean(1)
    cov = np.einsum("rni,rnj->rij", x - mean[:, None], x - mean[:, None]) / (x.shape[1] - 1)
    root = np.sqrt(np.maximum(np.linalg.eigvalsh(cov), 0))
    mean[:, 0] -= m
    return (mean**2).sum(1) + ((root - 1) ** 2).sum(1)


def run(config: Config) -> Result:
    """Measure covariance and entropy with many images, and the distance of the fit with few, by η."""
    rng, rows = np.random.default_rng(config.seed), list[Row]()
    curves: dict[str, list[tuple[float, float]]] = {}
    for m in config.m:
        clean = None
        for eta in config.eta:
            what = f"|m| = {m:g}, η = {eta:g}"
            # Many images: one Gaussian fitted to what carries the label
            x, gain = labelled(rng, m, eta, (config.many, config.d)), 4 * eta * (1 - eta) * m**2
            cov = np.cov(x.T)
            se = (1 + gain) * np.sqrt(2 / config.many)  # that of a normal variable, which varies more than two of one m
            rows.append(Row(f"{what}: variance along m", None, 1 + gain, cov[0, 0], within=4.5 * se, near=1.0))
            entropy = 0.5 * float(np.linalg.slogdet(cov)[1])
            more = Row(f"{what}: rise of the entropy, nats", None, 0.5 * np.log1p(gain), entropy)
            rows.append(Row(**{**vars(more), "within": 4.5 * np.sqrt(config.d / 2 / config.many), "near": 1.0}))
            # Few images
            w = distance(labelled(rng, m, eta, (config.repeats, config.n, config.d)), m)
            mean, se = float(w.mean()), float(w.std(ddof=1) / np.sqrt(len(w)))
            rows.append(Row(f"{what}: W₂² of the fit to {config.n} images", None, None, mean, se))
            clean = clean or (mean, se)
            gap, error = mean - clean[0], float(np.hypot(se, clean[1]))
            if eta:
                rows.append(Row(f"{what}: W₂² minus that of clean labels", None, None, gap, error))
            curves.setdefault(f"|m| = {m:g}", []).append((mean, se))
    return Result(rows, None, {"eta": config.eta, "curves": curves, "n": config.n})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the distance of the fit by the share of wrong labels."""
    with plot.style():
        figure = plot.new_figure(5.6, 3.0)
        ax = figure.subplots()
        for name, points in numbers["curves"].items():
            mean, se = np.array(points).T
            ax.errorbar(numbers["eta"], mean, 2 * se, fmt="o-", capsize=3, label=name)
            ax.axhline(mean[0], color="0.7", ls=":", lw=1)
        ax.set(xlabel="share η of wrong labels", ylabel=f"W₂² of the fit to {numbers['n']} images")
        ax.legend(fontsize=8)
    return figure
