"""Shapes drawn by a network as pictures of 24 channels, read cell by cell, and mined for the parts of their style.

A volume of 24 x 24 x 24 voxels is a picture of 24 x 24 pixels with 24 channels, so the U-Net, the loss and the samplers
of this library draw shapes unchanged. In the world `volumes` (the shapes of `blocks` themselves) the result can be
judged: the best denoiser of whole shapes is known, and every cell of a drawn shape can be read, as the content of the
catalogue that is nearest to it. Exact: what the data have. Beside it stand draws by the best denoiser with the same
sampler, 50 steps of DDIM, and draws by networks from the same noise. How many filled cells are a part of the catalogue?
Does the shape have the layout of a category? How often does it hold parts of its own style, and of others? Then the
drawn shapes are mined as if they were data: their views are rendered, a denoiser of views measures T(x|c), and the maps
are lifted to cells. The parts that this finds are compared with those that were read.

Two networks are compared, each trained for some minutes. The first is a U-Net whose positions are columns of four
cells. It has learnt the layouts, but of the parts of a style, which stand in one slot of fifteen, it draws hardly any,
and it fills half of the slots that should be filled: where slots are decided, at t from .7 to .9 T, its error is two to
eleven times the least. A second network reads this estimate and the noisy shape cell by cell, with the same weights for
all cells, and corrects it (`experiments.lab.refined_volumes`). That brings the error down to 1.2 to 1.9 times the least
there, and the shapes hold nearly as many parts, and parts of their style, as the data. So mining on generated shapes
has an answer: T finds the parts of the style in what a network drew as well as in what the best denoiser drew. The
layouts pay for it: in one shape of seven there is a cell that fits the layout of no category, in those of the first
network alone in one of 16. With few steps the best denoiser leaves slots empty as well. What does not carry over: real
shapes have no catalogue, and no cells that are known beforehand.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import data, plot, typicality, weights
from ddpm.contracts import Eps
from ddpm.datasets import blocks, volumes
from ddpm.forward import q_sample, x0_from_eps
from ddpm.mining.lifting import by_cell, lifted
from ddpm.sample import Sampling, images
from ddpm.samplers.names import STEPS
from ddpm.schedule import Schedule, make_schedule
from ddpm.tools import cache
from ddpm.training import run as train
from ddpm.training.config import TrainConfig
from ddpm.typicality import Draws
from ddpm.zoo import model
from experiments.lab.refined_volumes import refined
from experiments.lab.runner import Result, Row, Unavailable
from experiments.style_parts_3d import TIMES, auc, isometric

PAPER = "no paper: the sampler of Song et al. 2021 (DDIM) on volumes; Siglidis et al. 2024 (typicality)"
MINUTES = 11.0
UNCHECKED = "The exact column is what the data have; draws of fifty steps are compared with it, not held to it."
FILLED = 0.25  # the grey above which a voxel of a drawn shape is filled
NEAR = 0.1  # the rms distance up to which a cell is a content of the catalogue
SLOTS = float((blocks.layouts() == "o").sum((1, 2, 3)).mean())  # of a shape, on average
LEAST = 5  # cells with a part of the own style, without which there is nothing to be found
FEW = 6  # steps, for one row
BANDS = ((0.5, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.98))  # times / T; slots are decided in the middle two
BEST, FIRST, NET = "best denoiser", "first network", "network"  # the last: the first, corrected by a second


@dataclass(frozen=True)
class Config:
    """The network of volumes and that of views, the shapes drawn, steps, draws of (t, ε) for T, and the seed."""

    training: int = 3400  # steps of the first network, kept in the cache folder; 0: the best denoiser alone
    refining: int = 1500  # steps of the second
    views: str = "blocks"  # the network that measures T; empty: the exact denoisers of each view
    shapes: int = 64
    steps: int = 50
    sampler: str = "ddim"
    draws: int = 24
    seed: int = 0


QUICK = {"training": 0, "refining": 0, "views": "", "shapes": 8, "steps": 6, "draws": 2}


def trained(steps: int) -> tuple[model.Model, Path]:
    """The first network of volumes from the cache, or trained now, and its folder."""
    config = TrainConfig(
        data="volumes", preset="blocks", channels=64, blocks=1, predict="x0", loss="mse", steps=steps, batch=32,
        lr=2e-3, warmup=min(50, steps), ema=0.998, sample_every=0, save_every=250,
    )  # fmt: skip
    folder = cache.folder() / "drawn" / cache.key(config.command(), volumes.volumes_data().sha256)
    if not (folder / f"samples_{steps:08d}.png").exists():
        train.train(dataclasses.replace(config, name=folder.name), folder.parent)
    return model.load(folder), folder


def shipped(name: str) -> model.Model:
    """The weights of that name, or a clear sentence."""
    if name not in weights.cards("denoiser") and not Path(name).exists():
        raise Unavailable(f"the weights {name!r} are not here; train them with `ddpm train --data blocks`")
    return model.load(name)


def drawn(eps: Eps, schedule: Schedule, labels: np.ndarray, steps: int, config: Config) -> np.ndarray:
    """Volumes from the same noise for every denoiser: (n, 24, 24, 24)"""
    how, key = Sampling(STEPS[config.sampler], steps=steps, guidance=1.0), jax.random.key(config.seed)
    parts = np.split(labels, range(16, len(labels), 16))
    found = [
        np.asarray(images(eps, schedule, jax.random.fold_in(key, i), (len(c), *[blocks.SIZE] * 3), jnp.asarray(c), how))
        for i, c in enumerate(parts)
    ]
    return np.concatenate(found)


def judged(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What a reader sees in volumes (n, 24, 24, 24) with these styles."""
    reading = volumes.read(x)
    filled = reading.content != blocks.EMPTY
    of_style = np.array([-1, -1, *(part.style for part in blocks.PARTS)])[reading.content]
    slots = blocks.layouts()[reading.category] == "o"
    own = (of_style == labels[:, None, None, None]) & slots
    other = (of_style >= 0) & ~own & slots
    return {
        "filled cells that are of the catalogue": float((reading.error[filled] < NEAR).mean()) if filled.any() else 0.0,
        "shapes with the layout of a category": float((reading.wrong == 0).mean()),
        "slots that hold something": float(filled[slots].mean()),
        "slots with a part of the own style": float(own[slots].mean()),
        "slots with a part of another style": float(other[slots].mean()),
        "share of the rarest category": float(np.bincount(reading.category, minlength=3).min() / len(x)),
    }


def truth() -> dict[str, float]:
    """The same numbers of the data."""
    p = blocks.probabilities()[0]
    return dict(
        zip(
            judged(np.full((1, *[blocks.SIZE] * 3), -1.0), np.zeros(1, int)),
            (1.0, 1.0, 1 - p[blocks.EMPTY], sum(blocks.RATES), 0.0, 1 / 3),
            strict=True,
        )
    )


def mined(x: np.ndarray, labels: np.ndarray, config: Config) -> dict[str, Any]:
    """Render the drawn shapes, measure T of their views, lift it, and compare with what the reading says."""
    grey = np.where((x + 1) / 2 > FILLED, (x + 1) / 2, 0).clip(0, 1)
    ok = (grey > 0).any((1, 2, 3))  # a shape without a voxel has no view
    if not ok.any():
        raise ValueError(f"no shape of these has a voxel brighter than {FILLED}; look at the weights that drew them")
    grey, x, labels = grey[ok], x[ok], labels[ok]
    hits = np.stack([blocks.hits(grey, view) for view in blocks.VIEWS], 1)
    pictures = np.stack([blocks.render(grey, view) for view in blocks.VIEWS], 1)[..., None]
    maps = [measured(data.to_float(pictures[:, i]), view, labels, config) for i, view in enumerate(blocks.VIEWS)]
    voxels = lifted(np.stack(maps, 1), hits, blocks.SIZE**3)
    cells = by_cell(voxels, blocks.CELL)
    style = np.array([-1, -1, *(part.style for part in blocks.PARTS)])[volumes.read(x).content]
    planted = style == labels[:, None, None, None]
    seen = np.isfinite(cells)
    score = auc(cells.reshape(len(x), -1), planted.reshape(len(x), -1)) if (planted & seen).sum() >= LEAST else None
    return {"auc": score, "voxels": voxels, "planted": int(planted.sum()), "grey": grey, "labels": labels}


def measured(x: np.ndarray, view: str, labels: np.ndarray, config: Config) -> np.ndarray:
    """T of each pixel of one view of all shapes."""
    key, how = jax.random.key(config.seed), Draws(config.draws, TIMES)
    if config.views:
        m = shipped(config.views)
        return typicality.measure(m.eps, m.schedule, x, labels, key, how).map
    schedule = make_schedule("cosine")
    return typicality.measure(blocks.distribution(view).eps(schedule), schedule, x, labels, key, how, batch=8).map


def run(config: Config) -> Result:
    """Draw by the best denoiser and by the network, read, and mine."""
    labels = np.arange(config.shapes) % len(blocks.CLASSES)
    schedule = make_schedule("cosine")
    denoisers: dict[str, Eps] = {BEST: volumes.eps(schedule)}
    if config.training:
        first, folder = trained(config.training)
        both = refined(first, folder, config.refining, volumes.volumes_data())
        denoisers |= {FIRST: first.eps, NET: both}
    rows: list[Row] = []
    numbers: dict[str, Any] = {"shown": {}, "planted": {}}
    exact = truth()
    for name, eps in denoisers.items():
        x = drawn(eps, schedule, labels, config.steps, config)
        rows += [Row(f"{name}: {k}", None, exact[k], v) for k, v in judged(x, labels).items()]
        if name == FIRST:  # hardly anything to be found
            continue
        found = mined(x, labels, config)
        expected = config.shapes * SLOTS * sum(blocks.RATES)
        rows.append(Row(f"{name}: cells with a part of the own style", None, expected, float(found["planted"])))
        rows += [] if found["auc"] is None else [Row(f"{name}: AUC of these cells, by T", None, None, found["auc"])]
        numbers["planted"][name] = found["planted"]
        numbers["shown"][name] = shown(found)
    something = "slots that hold something"
    few = judged(drawn(denoisers[BEST], schedule, labels, FEW, config), labels)[something]
    rows.append(Row(f"{BEST}, {FEW} steps: {something}", None, exact[something], few))
    if config.training:
        errors = {name: x0_errors(eps, schedule, config) for name, eps in denoisers.items()}
        for i, (low, high) in enumerate(BANDS):
            what = f"error of x̂0 on test shapes, t from {low:g} to {high:g} T"
            rows += [Row(f"{name}: {what}", None, errors[BEST][i], errors[name][i]) for name in (FIRST, NET)]
    return Result(rows, None, numbers)


def x0_errors(eps: Eps, schedule: Schedule, config: Config) -> list[float]:
    """E (x̂0 - x0)² a voxel on test shapes, in each of BANDS."""
    d, out = volumes.volumes_data(), []
    x0, c = jnp.asarray(data.to_float(d.x_test[: config.shapes])), jnp.asarray(d.y_test[: config.shapes])
    for low, high in BANDS:
        t = jnp.round(jnp.linspace(low, high, len(x0)) * schedule.T).astype(int)
        x_t = q_sample(schedule, x0, t, jax.random.normal(jax.random.key(config.seed), x0.shape))
        x0_hat = lambda i, x_t=x_t, t=t: x0_from_eps(schedule, x_t[i], t[i], eps(x_t[i], t[i], c[i]))  # noqa: E731
        parts = jnp.split(jnp.arange(len(x0)), 8)
        out.append(float(np.mean([((x0_hat(i) - x0[i]) ** 2).mean() for i in parts])))
    return out


def shown(found: dict[str, Any]) -> list[dict]:
    """The two most typical shapes of each style: grey in steps of .02 and T of the voxels, both in run lengths."""
    out, all_T = [], found["voxels"][np.nan_to_num(found["voxels"]) > 0]
    most = max(float(np.quantile(all_T, 0.99)), 1e-12) if all_T.size else 1.0
    strongest = np.nanmax(by_cell(found["voxels"], blocks.CELL).reshape(len(found["grey"]), -1), 1)
    for c, name in enumerate(blocks.CLASSES):
        if not (found["labels"] == c).any():
            continue
        order = np.argsort(-np.where(found["labels"] == c, strongest, -np.inf))
        for i in order[: min(2, int((found["labels"] == c).sum()))]:
            strength = np.clip(50 * np.nan_to_num(found["voxels"][i]) / most, 0, 50)
            out.append({"style": name, "grey": runs(np.round(50 * found["grey"][i].ravel())), "T": runs(strength)})
    return out


def runs(values: np.ndarray) -> np.ndarray:
    """Whole numbers in run lengths, which keep the file short."""
    values = values.astype(int)
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return np.stack([values[starts], np.diff(np.append(starts, values.size))], 1).ravel()


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the shapes of each denoiser, and in red what is typical of their style."""
    with plot.style():
        names = list(numbers["shown"])
        figure = plot.new_figure(10.6, 2.75 * len(names))
        grid = figure.add_gridspec(2 * len(names), 8, height_ratios=[1, 1] * len(names))
        for r, name in enumerate(names):
            for i, one in enumerate(numbers["shown"][name]):
                grey, T = (np.repeat(*np.array(one[k]).reshape(-1, 2).T).reshape((24,) * 3) / 50 for k in ("grey", "T"))
                colour = 0.3 + 0.65 * grey[..., None] * np.array([1.0, 0.99, 0.96])
                red = (1 - T[..., None]) * colour + T[..., None] * np.array([0.95, 0.15, 0.1])
                for k, c in enumerate((colour, red)):
                    ax = figure.add_subplot(grid[2 * r + k, i])
                    isometric(ax, grey, c)
                    if not (k or r):
                        ax.set_title(one["style"], fontsize=9)
                    if not i:
                        text = (f"drawn by the\n{name}", "typical of\nthe style")[k]
                        ax.text(-22, 22, text, rotation=90, va="center", ha="right", fontsize=8)
    return figure
