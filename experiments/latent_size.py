"""Latent diffusion has a best size of its codes, and where it comes from.

Rombach et al. train a diffusion model in the codes of an autoencoder and find the best downsampling in the middle:
with little compression the model has too much to learn, with much the decoder loses too much. In the exact case this is
a sum. The data are a Gaussian with the covariance of Fashion-MNIST, the autoencoder is the best linear one with k
numbers, the second stage is a Gaussian fitted to n codes, and the sampler is DDIM with ten steps. Then the Fréchet
distance is what the decoder has lost, Σ_{j>k} λ_j, and what the sampler does in the k directions, and what n images
have not told: the first falls with k and the other two grow. The exact column is this sum in NumPy, the last part to
first order in 1/n. Ours measures it: codes of n drawn images, a Gaussian fitted to them, the library's DDIM on its
denoiser, decoded. Both have their best k inside, about n directions for few images. Where k is above n the first order
is not enough: the measured curve is flatter, and its minimum a little to the left. What does not carry over: a network
does not need as many images as a covariance does, so its best k lies elsewhere; and a convolutional decoder loses less
than a linear one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.latents import errors_by_size
from ddpm.sample import ddim_step
from ddpm.schedule import linear, make_times
from experiments.lab.linear_denoisers import by_steps, variances
from experiments.lab.runner import Result, Row, Unavailable, float64

PAPER = "Rombach et al. 2022, Figs. 6 and 7"
MINUTES = 0.5
UNCHECKED = "The exact column is of first order in 1/n; how far it is off where k is not much below n is the finding."


@dataclass(frozen=True)
class Config:
    """The data set, steps of DDIM, numbers of images, sizes of the codes, and fits over which is averaged."""

    data: str = "fashion_mnist"
    steps: int = 10
    images: tuple[int, ...] = (100, 200, 1_000)
    sizes: tuple[int, ...] = (10, 20, 50, 100, 150, 200, 300, 400, 600, 784)
    repeats: int = 4
    seed: int = 0


QUICK = {"data": "digits", "images": (20,), "sizes": (5, 10, 20, 64), "repeats": 2}


def closed_form(lam: np.ndarray, steps: int, n: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three parts for k = 0…D in NumPy: decoder, sampler, and the fit to first order in 1/n."""
    a = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    gain = np.ones_like(lam)
    for t, s in pairwise([*np.round(1000 - np.arange(steps) * 1000 / steps).astype(int), 0]):
        c = np.sqrt(1 - a[t]) / (a[t] * lam + 1 - a[t])  # ε* = c x
        gain *= np.sqrt(a[s] / a[t]) * (1 - np.sqrt(1 - a[t]) * c) + np.sqrt(1 - a[s]) * c
    decoder = np.append(lam.sum() - np.append(0, np.cumsum(lam))[:-1], 0.0)
    sampler = np.append(0, np.cumsum((np.sqrt(lam) - gain) ** 2))
    fit = [0.0]
    for k in range(len(lam)):  # a direction, its variance, and its covariances with those before
        fit.append(fit[-1] + 1.5 * lam[k] + (lam[k] / (1 + lam[k] / lam[:k])).sum())
    return decoder, sampler, np.array(fit) / n


def measured(lam: np.ndarray, sizes: list[int], n: int, config: Config) -> np.ndarray:
    """W₂² between N(0, diag λ) and what is decoded after a fit to n codes: (repeats, sizes)"""
    fits = []
    for repeat in range(config.repeats):
        x = np.random.default_rng([config.seed, n, repeat]).standard_normal((n, len(lam))) * np.sqrt(lam)
        cov, square = np.cov(x, rowvar=False, bias=True), x.mean(0) ** 2
        fits += [(k, square[:k].sum(), *np.linalg.eigh(cov[:k, :k])) for k in sizes]
    # The variance that DDIM gives each direction of each fit, in one call
    fitted = np.maximum(np.concatenate([var for _, _, var, _ in fits]), 0)
    made = by_steps(ddim_step, linear(), jnp.asarray(fitted), make_times(1000, config.steps))
    found = []
    for (k, mean, _, basis), of in zip(fits, np.split(made, np.cumsum([f[0] for f in fits])[:-1]), strict=True):
        cross = np.linalg.svd(np.sqrt(lam[:k, None]) * basis * np.sqrt(of), compute_uv=False).sum()  # tr(Σ^½ S Σ^½)^½
        found.append(mean + lam.sum() + of.sum() - 2 * cross)
    return np.array(found).reshape(config.repeats, -1)


def run(config: Config) -> Result:
    """Measure the distance by k for each number of images."""
    try:
        d = sources.load(config.data)
    except FileNotFoundError as error:
        raise Unavailable(f"this needs {config.data}, which is not here: {error}") from None
    lam = variances(data.to_float(d.x_train))[::-1]
    lam = lam[lam > 1e-9 * lam[0]]  # pixels of digits that are always black are no directions
    sizes = sorted({min(k, len(lam)) for k in config.sizes})
    rows: list[Row] = []
    curves = []
    with float64():
        sampled = by_steps(ddim_step, linear(), jnp.asarray(lam), make_times(1000, config.steps))
        for n in config.images:
            decoder, sampler, fit = closed_form(lam, config.steps, n)
            total, library = decoder + sampler + fit, errors_by_size(lam, sampled, n)
            found = measured(lam, sizes, n, config)
            mean, spread = found.mean(0), found.std(0, ddof=1) / np.sqrt(config.repeats)
            at = int(np.abs(np.array(sizes) - total.argmin()).argmin())
            rows += [
                Row(
                    f"n = {n:,}: best k (closed form of the library)",
                    None,
                    int(total.argmin()),
                    library.best,
                    None,
                    0.0,
                ),
                Row(
                    f"n = {n:,}: distance at the best k",
                    None,
                    float(total.min()),
                    float(library.total.min()),
                    None,
                    1e-6,
                ),
                Row(f"n = {n:,}: measured, k = {sizes[at]}", None, float(total[sizes[at]]), mean[at], spread[at]),
                Row(f"n = {n:,}: measured, k = {sizes[-1]}", None, float(total[sizes[-1]]), mean[-1], spread[-1]),
            ]
            parts = {"decoder": decoder, "sampler": sampler, "fit": fit, "total": total}
            curves.append({"n": n, **parts, "measured": mean, "spread": spread})
    return Result(rows, None, {"sizes": sizes, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the parts and their sum against k, one panel for each number of images."""
    curves = numbers["curves"]
    with plot.style():
        figure = plot.new_figure(3.3 * len(curves) + 0.6, 3.1)
        panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for ax, c in zip(panels, curves, strict=True):
            k = np.arange(len(c["total"]))
            ax.plot(k, c["decoder"], color="C0", lw=1, label="lost by the decoder")
            ax.plot(k, c["sampler"], color="C2", lw=1, label="the sampler's error")
            ax.plot(k, c["fit"], color="C1", lw=1, label="not learned from n images")
            ax.plot(k, c["total"], color="0.25", lw=1.6, label="their sum")
            ax.errorbar(numbers["sizes"], c["measured"], c["spread"], fmt="o", ms=4, color="C3", label="measured")
            best = next(r["exact"] for r in rows if r["what"].startswith(f"n = {c['n']:,}: best k"))
            ax.axvline(best, color="0.6", lw=0.8, ls=":")
            ax.set(xlabel="numbers a code, k", title=f"n = {c['n']:,} images: best k = {best:.0f}", ylim=(0, 100))
            ax.set(xscale="log", xlim=(numbers["sizes"][0] * 0.8, len(k) * 1.2))
            ax.set_xticks(ticks := [10, 30, 100, 300, 784], map(str, ticks))
            ax.minorticks_off()
        panels[0].set_ylabel("Fréchet distance in pixels")
        panels[-1].legend(fontsize=7, loc="upper right")
    return figure
