"""Style-defining parts in three dimensions: typicality of views, lifted to the shape, where the answer is known.

Siglidis et al. mine typical patches of pictures; Hu et al. look for the parts of furniture that make its style. Can one
lift the first to do the second? In the world `blocks` each style plants two kinds of parts of its own in shapes that
share everything else, at known cells, and the distribution of every view is known. Exact: the best denoiser of each of
five views measures T(x|c) per pixel; a pixel belongs to the voxel that its ray meets, a voxel gets the mean over the
views that see it, a cell the mean over its voxels. Ours: the shipped network, one for all views, in place of the exact
denoisers. It loses a little per pixel and nothing per cell: a mean over thirty voxels and several views forgives it. A
map of one view is blurred over the cell, and one view may show a part from the side from which it looks like another;
five views together find nearly all of them. The parts are found where they are rare: planted three times as often, they
give the style away everywhere in the picture, and then knowing it helps little at each of them. The rows that are
checked compare the library's T with NumPy written apart on the same draws. What does not carry over: real surfaces are
not made of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from ddpm import data, plot, typicality, weights
from ddpm.datasets import blocks
from ddpm.forward import q_sample
from ddpm.mining.lifting import by_cell, lifted
from ddpm.mining.localisation import motif_auc, precision_at_k
from ddpm.schedule import Schedule, make_schedule
from ddpm.typicality import Draws
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Siglidis et al. 2024 (typicality); Hu et al. 2017 (parts that define a style)"
MINUTES = 0.7
UNCHECKED = (
    "The exact column measures with the exact denoisers; the shipped network is compared with it, not held to it."
)
RATES = (blocks.RATES, (0.10, 0.08))
TIMES = (0.1, 0.7)
SHAPE = (blocks.SIZE,) * 3
SETS = (  # of views, by their number: 1, 2, 3 and 5
    [[i] for i in range(5)],
    [[0, 4], [1, 4], [2, 4], [3, 4], [0, 2]],
    [[0, 2, 4], [1, 3, 4]],
    [list(range(5))],
)


@dataclass(frozen=True)
class Config:
    """The network, shapes, draws of (t, ε), and the seed of the shapes."""

    model: str = "blocks"  # shipped weights; empty: the exact column alone
    shapes: int = 64
    draws: int = 24
    seed: int = 1000


QUICK = {"model": "", "shapes": 12, "draws": 6}


def auc(values: np.ndarray, mask: np.ndarray) -> float:
    """The area under the ROC curve over all places that are seen."""
    seen = np.isfinite(values)
    return motif_auc(values[seen][None, None], mask[seen][None, None])


def maps_of(shapes: blocks.Shapes, rate: Any, schedule: Schedule, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """T of every pixel of every view with its exact denoiser, and the accuracy of the posterior at t = 20, by view."""
    views, found, right = shapes.views(), [], []
    for i, view in enumerate(blocks.VIEWS):
        exact = blocks.distribution(view, rate)
        x = data.to_float(views[:, i])
        T = typicality.measure(
            exact.eps(schedule), schedule, x, shapes.labels, jax.random.key(0), Draws(draws, TIMES), batch=8
        )
        found.append(T.map)
        x_t = q_sample(schedule, jnp.asarray(x), 20, jax.random.normal(jax.random.key(1), x.shape))
        posterior = np.concatenate([exact.class_posterior(schedule, part, 20) for part in jnp.split(x_t, len(x) // 4)])
        right.append(float((posterior.argmax(1) == shapes.labels).mean()))
    return np.stack(found, 1), np.array(right)


def maps_of_network(config: Config, shapes: blocks.Shapes) -> np.ndarray | None:
    """The same maps by one network that is not told the view: (n, 5, 24, 24); None without one."""
    if not config.model:
        return None
    if config.model not in weights.cards("denoiser") and not Path(config.model).exists():
        raise Unavailable(f"the weights {config.model!r} are not here; train them with `ddpm train --data blocks`")
    m, x = model.load(config.model), data.to_float(shapes.views())
    c = np.repeat(shapes.labels, len(blocks.VIEWS))
    key, draws = jax.random.key(0), Draws(config.draws, TIMES)
    return typicality.measure(m.eps, m.schedule, x.reshape(-1, *x.shape[2:]), c, key, draws).map.reshape(x.shape[:4])


def by_hand(shapes: blocks.Shapes, view: str, alpha_bar: np.ndarray, draws: int, n: int) -> np.ndarray:
    """T of the first n shapes in NumPy, on the draws of the library: each cell's tiles, its posterior, its mean."""
    tiles, prob = blocks._columns(view, blocks.RATES)
    m = tiles.reshape(len(tiles), -1) / 127.5 - 1  # (V, 36)
    x0 = shapes.views()[:n, blocks.VIEWS.index(view), ..., 0] / 127.5 - 1
    first, end = typicality.time_window(1000, TIMES)
    split = lambda a: a.reshape(4, 6, 4, 6).transpose(0, 2, 1, 3).reshape(16, 36)  # noqa: E731
    total = np.zeros(n)
    for k in range(draws):
        key_t, key_c, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), k), 3)
        t = int(jax.random.randint(key_t, (), first, end))
        noise = np.asarray(jax.random.normal(key_c, (24, 24, 1)), float)[..., 0]
        a = alpha_bar[t]
        for i, picture in enumerate(x0):
            x = split(np.sqrt(a) * picture + np.sqrt(1 - a) * noise)
            fit = -0.5 * ((x[:, None] - np.sqrt(a) * m[None]) ** 2).sum(-1) / (1 - a)  # (16, V)
            weight = prob * np.exp(fit - fit.max(1, keepdims=True))  # (K, S, 16, V)
            cell = weight.sum(-1, keepdims=True)
            evidence = np.exp(np.log(np.maximum(cell[..., 0], 1e-300)).sum(-1))  # (K, S)
            mean = weight / np.maximum(cell, 1e-300) @ m  # (K, S, 16, 36)
            c, losses = shapes.labels[i], []
            for p in (evidence / evidence.sum(), evidence[c : c + 1] / evidence[c].sum()):
                of = mean if len(p) > 1 else mean[c : c + 1]
                eps = (x - np.sqrt(a) * np.einsum("ks,ksjd->jd", p, of)) / np.sqrt(1 - a)
                losses.append(((split(noise) - eps) ** 2).mean())
            total[i] += (losses[0] - losses[1]) / draws
    return total


def found_parts(maps: np.ndarray, hits: np.ndarray, shapes: blocks.Shapes) -> dict[str, Any]:
    """How well maps of all views find the planted parts: rows by name, and curves."""
    n, planted = len(maps), shapes.mask.reshape(-1, 64)
    side = np.indices(SHAPE) // blocks.CELL
    in_voxels = planted[:, (side[0] * 16 + side[1] * 4 + side[2]).ravel()]
    in_pixels = np.take_along_axis(in_voxels, np.maximum(hits, 0).reshape(n, -1), 1).reshape(hits.shape) & (hits >= 0)
    voxels = lifted(maps, hits, blocks.SIZE**3)
    cells = by_cell(voxels, blocks.CELL).reshape(n, 64)
    order = np.argsort(-np.where(np.isfinite(cells), cells, -np.inf).ravel())
    precision = precision_at_k(planted.ravel()[order], [k for k in (10, 20, 30, 50) if k <= n])
    by_view = [motif_auc(maps[:, i], in_pixels[:, i]) for i in range(len(blocks.VIEWS))]

    def of_views(views: list[int]) -> float:
        some = by_cell(lifted(maps[:, views], hits[:, views], blocks.SIZE**3), blocks.CELL)
        return auc(some.reshape(n, 64), planted)

    hit = planted.ravel()[order]
    return {
        "rows": {
            "AUC of pixels, mean of the views": float(np.mean(by_view)),
            "AUC of surface voxels": auc(voxels, in_voxels),
            "AUC of cells": auc(cells, planted),
            **{f"precision of the best {k} cells": p for k, p in precision.items()},
        },
        "by_view": by_view,
        "by_number": [float(np.mean([of_views(views) for views in sets])) for sets in SETS],
        "planted": int(planted.sum()),
        "precision": (np.cumsum(hit) / np.arange(1, len(hit) + 1))[: 2 * int(planted.sum()) + 10],
        "cells": cells,
        "voxels": voxels,
    }


def run(config: Config) -> Result:
    """Measure at both rates, with the exact denoisers and the network; by pixels, voxels and cells."""
    schedule, rows = make_schedule("cosine"), []
    numbers: dict[str, Any] = {"views": blocks.VIEWS}
    for rate in RATES:
        shapes = blocks.draw(config.shapes, config.seed, rate=rate)
        volume, low = blocks.volumes(shapes.content), rate == blocks.RATES
        hits = np.stack([blocks.hits(volume, view) for view in blocks.VIEWS], 1)
        maps, right = maps_of(shapes, rate, schedule, config.draws)
        of_network = maps_of_network(config, shapes) if low else None  # which was trained at that rate
        name = "rare" if low else "frequent"
        if low:
            few, a = min(4, config.shapes), np.asarray(schedule.alpha_bar, float)
            T = maps[:few, 0].mean((1, 2))
            rows += [
                Row(f"T of shape {i}, view +x", None, t, float(ours), within=2e-3, near=1e-4)
                for i, (t, ours) in enumerate(zip(by_hand(shapes, "+x", a, config.draws, few), T, strict=True))
            ]
        exact = found_parts(maps, hits, shapes)
        ours = {} if of_network is None else found_parts(of_network, hits, shapes)
        seen = np.isfinite(exact["cells"])
        rows += [
            Row(f"{name}: planted share of the cells seen", None, float(shapes.mask.reshape(-1, 64)[seen].mean())),
            *(Row(f"{name}: {k}", None, v, ours.get("rows", {}).get(k)) for k, v in exact["rows"].items()),
            Row(f"{name}: style from one view, accuracy at t = 20", None, float(right.mean())),
        ]
        if low:
            numbers["shown"] = _shown(shapes, exact, ours, hits)
        for key, found in ((name, exact), ("network", ours)):
            if found:
                numbers[key] = {k: v for k, v in found.items() if k not in ("cells", "voxels", "rows")}
    return Result(rows, None, numbers)


def _shown(shapes: Any, exact: dict, ours: dict, hits: np.ndarray) -> list[dict]:
    """For each style the shape whose planted part shows best from the near sides: contents, and T of each voxel."""
    cells, n, out = exact["cells"], len(hits), []
    near = np.zeros((n, blocks.SIZE**3 + 1), bool)
    near[np.arange(n)[:, None], hits[:, [0, 2, 4]].reshape(n, -1)] = True
    pixels = near[:, :-1].reshape(n, 4, 6, 4, 6, 4, 6).sum((2, 4, 6)).reshape(n, 64)
    for c in range(len(blocks.CLASSES)):
        shows = np.where(shapes.mask.reshape(n, 64), pixels, 0).max(1)
        i = int(np.where(shapes.labels == c, shows + 1e3 * np.nanmax(cells, 1), -1).argmax())
        T = {name: runs(found["voxels"][i]) for name, found in (("T", exact), ("T_network", ours)) if found}
        out.append({"style": blocks.CLASSES[c], "content": shapes.content[i].ravel(), **T})
    return out


def runs(T: np.ndarray) -> np.ndarray:
    """T of each voxel as a strength of 0…50, in run lengths, which keep the file short."""
    T = np.nan_to_num(T)
    strength = np.clip(50 * T / np.quantile(T[T > 0], 0.97), 0, 50).astype(int)
    starts = np.flatnonzero(np.diff(strength, prepend=-1))
    return np.stack([strength[starts], np.diff(np.append(starts, strength.size))], 1).ravel()


def isometric(ax: Any, volume: np.ndarray, colour: np.ndarray) -> None:
    """Draw the three visible sides of all voxels, far ones first.   colour: (x, y, z, 3)"""
    corner = {
        "x": np.array([(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)]),
        "y": np.array([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)]),
        "z": np.array([(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]),
    }
    at = np.argwhere(volume > 0)
    at = at[np.argsort(-(at[:, 0] + at[:, 1] - at[:, 2]), kind="stable")]
    padded = np.pad(volume > 0, 1)
    polygons, colours = [], []
    for x, y, z in at:
        near = {"x": padded[x, y + 1, z + 1], "y": padded[x + 1, y, z + 1], "z": padded[x + 1, y + 1, z + 2]}
        for side, shade in (("x", 0.72), ("y", 0.86), ("z", 1.0)):
            if not near[side]:
                p = corner[side] + (x, y, z)
                polygons.append(np.stack([(p[:, 0] - p[:, 1]) * 0.866, (p[:, 0] + p[:, 1]) * 0.5 + p[:, 2]], 1))
                colours.append(colour[x, y, z] * shade)
    ax.add_collection(PolyCollection(polygons, facecolors=colours, edgecolors=colours, lw=0.3))
    ax.set(xlim=(-21.5, 21.5), ylim=(-1, 46), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.axis("off")


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw a shape of each style with its parts and with what is found, and the precision of the best cells."""
    kinds = {"planted": "planted parts, blue", "T": "typicality, red", "T_network": "by the network"}
    kinds = {k: v for k, v in kinds.items() if k != "T_network" or "network" in numbers}
    with plot.style():
        figure = plot.new_figure(10.6, 2.3 * len(kinds))
        grid = figure.add_gridspec(len(kinds), 5, width_ratios=(1, 1, 1, 1, 1.35))
        for i, one in enumerate(numbers["shown"]):
            content = np.array(one["content"]).reshape(4, 4, 4)
            volume = blocks.volumes(content[None])[0]
            grey = 0.35 + 0.6 * volume[..., None] * np.ones(3)
            for row, (kind, text) in enumerate(kinds.items()):
                if kind == "planted":
                    of_style: Any = np.isin(content, [2 + part for part in blocks.planted(i)])
                    strength, colour = of_style.repeat(6, 0).repeat(6, 1).repeat(6, 2), (0.15, 0.55, 0.95)
                else:
                    lengths = np.array(one[kind]).reshape(-1, 2)
                    strength, colour = np.repeat(*lengths.T).reshape(SHAPE) / 50, (0.95, 0.15, 0.1)
                ax = figure.add_subplot(grid[row, i])
                isometric(ax, volume, (1 - strength[..., None]) * grey + strength[..., None] * np.array(colour))
                if row == 0:
                    ax.set_title(f"style {one['style']}", fontsize=9)
                if i == 0:
                    ax.text(-21, 22, text, rotation=90, va="center", ha="right", fontsize=8)
        halves: Any = figure.add_subfigure(grid[:, 4]).subfigures(2, 1)
        top, below = (half.subplots() for half in halves)
        for name, line, style in (("rare", "C0", "-"), ("network", "C0", "--"), ("frequent", "C3", "-")):
            if name in numbers:
                of, label = numbers[name], f"{name} parts" if name != "network" else "rare, network"
                top.plot(np.arange(1, len(of["precision"]) + 1), of["precision"], color=line, ls=style, label=label)
                top.axvline(of["planted"], color=line, lw=0.8, ls=":")
                below.plot((1, 2, 3, 5), of["by_number"], "o", ls=style, ms=4, color=line, label=label)
        top.set(xlabel="best cells (dotted: planted)", ylabel="precision", ylim=(0, 1.05))
        below.set(xlabel="views", ylabel="AUC of the cells", xticks=(1, 2, 3, 5), ylim=(None, 1.003))
        below.legend(fontsize=7, loc="lower right", handlelength=3.2)
    return figure
