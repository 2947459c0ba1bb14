"""DomainStudio: what ten images tell of a new domain, and what the old domain must tell instead.

The claim: a model that is adapted to ten images copies them; keep the pairwise similarities of the old domain, and the
details, and it stays diverse. On Gaussian images of 8 × 8 pixels the new domain has another mean and the old
covariance. Ten images fix nine directions: the fit draws nothing outside of them, where more than half of the new
domain's variance is. The old covariance around the mean of the ten misses by that mean alone, E W₂² = tr Σ/10, and
keeps every distance between two images drawn from the same pair of noises, which is what the pairwise term asks for.
What we see: the fit of rank nine is eight times as far from the new domain, although its total variance is right, and
so is the energy of its fine details, Haar's bands: neither shows that it copies. If the new domain has half the
variance, the best covariance is a mixture of both. What does not carry over: a new style is not only a shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import sqrtm

from ddpm import oracle, plot
from ddpm.evaluation.distances import Moments, frechet_moments
from experiments.lab.runner import Result, Row

PAPER = (
    "Zhu et al. 2023, DomainStudio: fine-tuning diffusion models for domain-driven image generation using limited data"
)
MINUTES = 0.3
UNCHECKED = "The exact column is the new domain's; that what is adapted to ten images misses it is the finding."
SIDE, FEW = 8, 10


@dataclass(frozen=True)
class Config:
    """Repetitions, images drawn, and shares of the old covariance in the mixture."""

    repeats: int = 100
    n: int = 4000
    mixtures: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    seed: int = 0


QUICK = {"repeats": 20, "n": 500, "mixtures": (0.0, 0.5, 1.0)}


def fine_part() -> np.ndarray:
    """The projection onto Haar's three fine bands of 2 × 2 blocks, (64, 64): each block less its mean."""
    block = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 2 % (SIDE // 2) + SIDE // 2 * (np.arange(SIDE)[:, None] // 2)
    same = block.ravel()[:, None] == block.ravel()
    return np.eye(SIDE * SIDE) - same / 4


def run(config: Config) -> Result:
    """Adapt to ten images, many times, in each way; compare with the new domain."""
    rng = np.random.default_rng(config.seed)
    place = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), 1)
    cov = np.exp(-np.linalg.norm(place[:, None] - place, axis=2) / 2)  # smooth images of unit variance
    shift, D, haar = rng.normal(size=SIDE * SIDE), SIDE * SIDE, fine_part()
    rows, curves, shown = list[Row](), {}, {}
    for narrow in (1.0, 0.5):
        new = narrow * cov
        root = np.real(sqrtm(new))
        found, ranks = {a: list[float]() for a in config.mixtures}, set()
        for _ in range(config.repeats):
            few = shift + rng.normal(size=(FEW, D)) @ root
            fit = np.cov(few.T)
            ranks.add(int(np.linalg.matrix_rank(fit, tol=1e-8)))
            for a in config.mixtures:
                model = Moments(few.mean(0), a * cov + (1 - a) * fit, FEW)
                found[a].append(frechet_moments(model, Moments(shift, new, FEW)))
        name = f"new domain with {narrow:g} of the variance"
        rows.append(Row(f"{name}: rank of the fit", None, FEW - 1.0, float(max(ranks)), within=0.0))
        for a, values in found.items():
            # The old covariance: tr Σ_new/10 for the mean, and (1 - √narrow)² tr Σ for the wrong width
            exact = narrow * D / FEW + (1 - narrow**0.5) ** 2 * D if a == 1 else None
            se = float(np.std(values) / config.repeats**0.5)
            close = None if exact is None else 4.5 * se / exact
            rows.append(
                Row(f"{name}, {a:g} of the old covariance: W₂²", None, exact, float(np.mean(values)), se, within=close)
            )
        curves[name] = [float(np.mean(v)) for v in found.values()]
    # What is drawn: diversity in all directions, fine details, and distances of pairs
    few = shift + rng.normal(size=(FEW, D)) @ np.real(sqrtm(cov))
    key = jax.random.key(config.seed)
    U = np.linalg.eigh(np.cov(few.T))[1]
    seen = U[:, -(FEW - 1) :] @ U[:, -(FEW - 1) :].T
    models = {
        "new domain": (shift, cov),
        "ten images": (few.mean(0), np.cov(few.T)),
        "old covariance": (few.mean(0), cov),
    }
    drawn = {}
    for name, (mean, S) in models.items():
        x = np.asarray(oracle.gaussian(mean, S).sample(key, config.n)[0], np.float64)
        drawn[name] = x - mean
        for what, P in (
            ("variance outside of the nine directions", np.eye(D) - seen),
            ("energy of the fine details", haar),
        ):
            exact = 0.0 if name == "ten images" and P is not haar else float(np.trace(P @ cov))
            ours = float(((x - mean) @ P * (x - mean)).sum(1).mean())
            checked = name != "ten images" or exact == 0
            close = 0.1 if checked else None
            rows.append(Row(f"{name}: {what}", None, exact, ours, within=close, near=1.0))
        shown[name] = plot.grid(np.clip(x[:8].reshape(-1, SIDE, SIDE, 1) / 3, -1, 1), 8)[..., 0]
    half = config.n // 2
    apart = {k: np.linalg.norm(x[:half] - x[half : 2 * half], axis=1) for k, x in drawn.items()}
    kept = float(np.abs(apart["old covariance"] / apart["new domain"] - 1).max())
    rows.append(
        Row("old covariance: largest change of a distance between pairs", None, 0.0, kept, within=1e-4, near=1.0)
    )
    return Result(rows, None, {"mixtures": config.mixtures, "curves": curves, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw W₂² by the share of the old covariance, and images of each model."""
    with plot.style():
        figure = plot.new_figure(9.4, 2.8)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.3))  # type: ignore[misc]
        ax = left.subplots()
        for name, y in numbers["curves"].items():
            ax.plot(numbers["mixtures"], y, "o-", ms=3, label=name)
        ax.set(xlabel="share of the old covariance", ylabel=r"$W_2^2$ to the new domain", ylim=(0, None))
        ax.legend(fontsize=7)
        for ax, (name, grid) in zip(right.subplots(3, 1), numbers["shown"].items(), strict=True):
            ax.imshow(np.array(grid), cmap="gray")
            ax.set_title(f"drawn from: {name}", fontsize=8, loc="left", pad=2)
            ax.axis("off")
    return figure
