"""Orthogonal adaptation: adapters that are added up leave each other alone if the concepts' inputs lie in their bases.

The claim: concepts that were learned apart can be merged by adding their low-rank adapters W + Σ_i A_i B_iᵀ, if the
bases B_i are fixed beforehand and orthogonal. On linear layers this is exact. To an input of concept i adapter j adds
A_j B_jᵀ x: nothing, if x lies in the span of B_i and the bases are orthogonal. If the bases are random, k concepts of
rank r in n dimensions disturb each by a share (k-1) r/n of the energy of its output; if half of the energy of all
inputs lies in common directions, and the bases are learned from the inputs, by (k-1)/2. But orthogonal bases alone do
not help: where the inputs lie anywhere, an adapter learns its concept in a foreign basis all the same, by larger
weights, and these act on the inputs of all others. What does not carry over: the paper trains the network's layers,
which can move the inputs into the bases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ddpm import plot
from experiments.lab.runner import Result, Row

PAPER = "Po et al. 2024, Orthogonal Adaptation for Modular Customization of Diffusion Models"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """Inputs n, outputs m, rank r, concepts k, images of each, and repetitions."""

    n: int = 128
    m: int = 16
    r: int = 8
    k: int = 5
    images: int = 200
    repeats: int = 200
    seed: int = 0


QUICK = {"repeats": 40}


def frames(rng: np.random.Generator, n: int, r: int, k: int) -> np.ndarray:
    """k random orthonormal frames, (k, n, r)"""
    return np.stack([np.linalg.qr(rng.normal(size=(n, r)))[0] for _ in range(k)])


def merged(rng: np.random.Generator, inputs: np.ndarray, bases: np.ndarray, config: Config) -> np.ndarray:
    """Fit an adapter to each concept in its basis, add all up: the error over the energy of the output, (k,).

    inputs: (k, n, r), concept i has x = inputs_i z, z ~ N(0, I);  bases: (k, n, r).
    """
    T = rng.normal(size=(config.k, config.m, config.r))  # the output of concept i is T_i z
    z = rng.normal(size=(config.k, config.images, config.r))
    x, y = np.einsum("knr,kir->kin", inputs, z), np.einsum("kmr,kir->kim", T, z)
    seen = np.einsum("knr,kin->kir", bases, x)
    A = np.stack([np.linalg.lstsq(s, out, rcond=None)[0] for s, out in zip(seen, y, strict=True)])  # (k, r, m)
    total = np.einsum("knr,krm->nm", bases, A)  # Σ_i B_i A_i
    return ((x @ total - y) ** 2).sum((1, 2)) / (y**2).sum((1, 2))


def run(config: Config) -> Result:
    """Measure the disturbance in four cases."""
    rng, n, r, k = np.random.default_rng(config.seed), config.n, config.r, config.k
    exact = {
        "orthogonal bases, inputs in them": 0.0,
        "random bases, inputs in them": (k - 1) * r / n,
        "learned bases, half in common": (k - 1) / 2,
        "orthogonal bases, inputs anywhere": None,
    }
    found: dict[str, list[float]] = {name: [] for name in exact}
    overlap = []
    for _ in range(config.repeats):
        apart = np.linalg.qr(rng.normal(size=(n, r * (k + 1))))[0].reshape(n, k + 1, r).transpose(1, 0, 2)
        random, other = frames(rng, n, r, k), frames(rng, n, r, k)
        half = np.concatenate([apart[:1, :, : r // 2].repeat(k, 0), apart[1:, :, : r - r // 2]], axis=2)
        pairs = [(apart[1:], apart[1:]), (random, random), (half, half), (other, apart[1:])]
        for name, (inputs, bases) in zip(exact, pairs, strict=True):
            found[name].append(float(merged(rng, inputs, bases, config).mean()))
        overlap.append(float((np.einsum("nr,ns->rs", random[0], random[1]) ** 2).sum()))
    rows = []
    for name, values in found.items():
        right, se = exact[name], float(np.std(values, ddof=1) / np.sqrt(len(values)))
        ours = float(np.median(values)) if right is None else float(np.mean(values))
        what = f"{name}: disturbance{', median' if right is None else ''}"
        spread = None if right is None else se
        rows.append(Row(what, None, right, ours, spread, within=None if right is None else 4.5 * se + 1e-12, near=1.0))
    se = float(np.std(overlap, ddof=1) / np.sqrt(len(overlap)))
    mean = float(np.mean(overlap))
    rows.append(Row("mean of ‖B_iᵀB_j‖², random", None, r * r / n, mean, se, within=4.5 * se, near=1.0))
    return Result(rows, None, {"found": found})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the disturbance of each case, and its exact mean."""
    with plot.style():
        figure = plot.new_figure(7.0, 2.8)
        ax = figure.subplots()
        names = list(numbers["found"])
        for i, name in enumerate(names):
            values = np.maximum(numbers["found"][name], 1e-4)
            ax.plot(values, np.full(len(values), i), "|", ms=14, alpha=0.4)
            if rows[i]["exact"] is not None:
                ax.plot(max(rows[i]["exact"], 1e-4), i, "kd", ms=5, label="exact mean" if i == 1 else None)
        ax.set(xscale="log", xlabel="error after merging, over the output's energy (left end: none)", ylim=(-0.6, 3.6))
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.legend(fontsize=7, loc="lower left")
    return figure
