"""Style-defining parts in three dimensions: typicality of views, lifted to the shape, where the answer is known.

Siglidis et al. mine typical patches of pictures; Hu et al. look for the parts of furniture that make its style. Can one
lift the first to do the second? In the world `blocks` each style plants two kinds of parts of its own in shapes that
share everything else, at known cells, and the distribution of every view is known. Exact: the best denoiser of each of
five views measures T(x|c) per pixel; a pixel belongs to the voxel that its ray meets, a voxel gets the mean over the
views that see it, a cell the mean over its voxels. No step is trained. A map of one view is blurred over the cell, and
one view may show a part from the side from which it looks like another; five views together find nearly all of them.
The parts are found where they are rare: planted three times as often, they give the style away everywhere in the
picture, and then knowing it helps little at each of them. The rows that are checked compare the library's T with NumPy
written apart on the same draws. What does not carry over: real surfaces are not made of cells, and a network is not the
best denoiser; the column for one is empty until it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from ddpm import data, plot, typicality
from ddpm.datasets import blocks
from ddpm.forward import q_sample
from ddpm.mining.lifting import by_cell, lifted
from ddpm.mining.localisation import motif_auc, precision_at_k
from ddpm.schedule import Schedule, make_schedule
from ddpm.typicality import Draws
from experiments.lab.runner import Result, Row

PAPER = "Siglidis et al. 2024 (typicality); Hu et al. 2017 (parts that define a style)"
MINUTES = 0.7
RATES = (blocks.RATES, (0.10, 0.08))
TIMES = (0.1, 0.7)
SHAPE = (blocks.SIZE,) * 3


@dataclass(frozen=True)
class Config:
    """Shapes, draws of (t, ε), and the seed of the shapes."""

    shapes: int = 64
    draws: int = 24
    seed: int = 1000


QUICK = {"shapes": 12, "draws": 6}


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


def run(config: Config) -> Result:
    """Measure at both rates; by pixels, voxels and cells; by the number of views."""
    schedule, rows = make_schedule("cosine"), []
    numbers: dict[str, Any] = {"views": blocks.VIEWS}
    side = np.indices((blocks.SIZE,) * 3) // blocks.CELL
    cell_of = (side[0] * 16 + side[1] * 4 + side[2]).ravel()  # of each voxel
    for rate in RATES:
        shapes = blocks.draw(config.shapes, config.seed, rate=rate)
        volume, n, low = blocks.volumes(shapes.content), config.shapes, rate == blocks.RATES
        hits = np.stack([blocks.hits(volume, view) for view in blocks.VIEWS], 1)
        maps, right = maps_of(shapes, rate, schedule, config.draws)
        planted = shapes.mask.reshape(n, 64)
        in_voxels = planted[:, cell_of]
        in_pixels = np.where(
            hits >= 0, np.take_along_axis(in_voxels, np.maximum(hits, 0).reshape(n, -1), 1).reshape(hits.shape), False
        )
        voxels = lifted(maps, hits, blocks.SIZE**3)
        cells = by_cell(voxels, blocks.CELL).reshape(n, 64)
        name = "rare" if low else "frequent"
        if low:
            few = min(4, n)
            T = maps[:few, 0].mean((1, 2))
            a = np.asarray(schedule.alpha_bar, float)
            rows += [
                Row(f"T of shape {i}, view +x", None, t, float(ours), within=2e-3, near=1e-4)
                for i, (t, ours) in enumerate(zip(by_hand(shapes, "+x", a, config.draws, few), T, strict=True))
            ]
        order = np.argsort(-np.where(np.isfinite(cells), cells, -np.inf).ravel())
        k = [k for k in (10, 20, 30, 50) if k <= n]
        precision = precision_at_k(planted.ravel()[order], k)
        by_view = [motif_auc(maps[:, i], in_pixels[:, i]) for i in range(len(blocks.VIEWS))]
        by_number = [
            float(
                np.mean(
                    [
                        auc(by_cell(lifted(maps[:, s], hits[:, s], blocks.SIZE**3), 6).reshape(n, 64), planted)
                        for s in sets
                    ]
                )
            )
            for sets in (
                [[i] for i in range(5)],
                [[0, 4], [1, 4], [2, 4], [3, 4], [0, 2]],
                [[0, 2, 4], [1, 3, 4]],
                [list(range(5))],
            )
        ]
        rows += [
            Row(f"{name}: planted share of the cells seen", None, float(planted[np.isfinite(cells)].mean())),
            Row(f"{name}: AUC of pixels, mean of the views", None, float(np.mean(by_view))),
            Row(f"{name}: AUC of surface voxels", None, auc(voxels, in_voxels)),
            Row(f"{name}: AUC of cells", None, auc(cells, planted)),
            *(Row(f"{name}: precision of the best {k} cells", None, p) for k, p in precision.items()),
            Row(f"{name}: style from one view, accuracy at t = 20", None, float(right.mean())),
        ]  # fmt: skip
        hit = planted.ravel()[order]
        numbers[name] = {
            "by_view": by_view, "by_number": by_number, "planted": int(planted.sum()),
            "precision": (np.cumsum(hit) / np.arange(1, len(hit) + 1))[: 2 * int(planted.sum()) + 10],
        }  # fmt: skip
        if low:
            numbers["shown"] = _shown(shapes, cells, voxels, hits)
    return Result(rows, None, numbers)


def _shown(shapes: Any, cells: np.ndarray, voxels: np.ndarray, hits: np.ndarray) -> list[dict]:
    """For each style the shape whose planted part shows best from the near sides: contents, and T of each voxel."""
    n, out = len(cells), []
    near = np.zeros((n, blocks.SIZE**3 + 1), bool)
    near[np.arange(n)[:, None], hits[:, [0, 2, 4]].reshape(n, -1)] = True
    pixels = near[:, :-1].reshape(n, 4, 6, 4, 6, 4, 6).sum((2, 4, 6)).reshape(n, 64)
    for c in range(len(blocks.CLASSES)):
        shows = np.where(shapes.mask.reshape(n, 64), pixels, 0).max(1)
        i = int(np.where(shapes.labels == c, shows + 1e3 * np.nanmax(cells, 1), -1).argmax())
        T = np.nan_to_num(voxels[i])
        strength = np.clip(50 * T / np.quantile(T[T > 0], 0.97), 0, 50).astype(int)  # run lengths keep the file short
        starts = np.flatnonzero(np.diff(strength, prepend=-1))
        runs = np.stack([strength[starts], np.diff(np.append(starts, strength.size))], 1)
        out.append({"style": blocks.CLASSES[c], "content": shapes.content[i].ravel(), "T": runs.ravel()})
    return out


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
    with plot.style():
        figure = plot.new_figure(10.6, 4.6)
        grid = figure.add_gridspec(2, 6, width_ratios=(1, 1, 1, 1, 0.15, 1.2))
        for i, one in enumerate(numbers["shown"]):
            content, runs = np.array(one["content"]).reshape(4, 4, 4), np.array(one["T"]).reshape(-1, 2)
            volume, strength = blocks.volumes(content[None])[0], np.repeat(runs[:, 0], runs[:, 1]).reshape(SHAPE) / 50
            of_style = [2 + part for part in blocks.planted(i)]
            planted = np.isin(content, of_style).repeat(6, 0).repeat(6, 1).repeat(6, 2)[..., None]
            grey = 0.35 + 0.6 * volume[..., None] * np.ones(3)
            truth = np.where(planted, np.array([0.15, 0.55, 0.95]), grey)
            found = (1 - strength[..., None]) * grey + strength[..., None] * np.array([0.95, 0.15, 0.1])
            for row, colour in enumerate((truth, found)):
                ax = figure.add_subplot(grid[row, i])
                isometric(ax, volume, colour)
                if row == 0:
                    ax.set_title(f"style {one['style']}", fontsize=9)
                if i == 0:
                    text = ("planted parts, blue", "typicality, red")[row]
                    ax.text(-21, 22, text, rotation=90, va="center", ha="right", fontsize=8)
        top, below = figure.add_subplot(grid[0, 5]), figure.add_subplot(grid[1, 5])
        for name, colour in (("rare", "C0"), ("frequent", "C3")):
            of = numbers[name]
            top.plot(
                np.arange(1, len(of["precision"]) + 1), of["precision"], color=colour, ls="-", label=f"{name} parts"
            )
            top.axvline(of["planted"], color=colour, lw=0.8, ls=":")
            below.plot((1, 2, 3, 5), of["by_number"], "o-", ms=4, color=colour, label=f"{name} parts")
        top.set(xlabel="best cells (dotted: all planted)", ylabel="precision", ylim=(0, 1.05))
        below.set(xlabel="views", ylabel="AUC of the cells", xticks=(1, 2, 3, 5), ylim=(None, 1.003))
        below.legend(fontsize=7, loc="lower right")
    return figure
