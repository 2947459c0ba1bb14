"""Style extraction: layout from one image and light from another, read by posteriors and put together pixel by pixel.

The claim: what an image shows and in which style can be taken apart, and an image with the content of one and the style
of another is drawn. In the drawn towns content is the tile of each cell, and style the light. The exact posteriors read
both from noised images; put together, the tiles in the other's light are the image that is known pixel by pixel. What
we see: from nearly clean images both are read without error and the new image is exact; as the noise grows the tiles
are lost first, and then the light, so that of the two images the layout's must be the cleaner one. A light that was
never seen is no class of the posterior, but it has two numbers only, the grey of sky and wall, and each pixel is one of
them plus a letter's: given the layout, least squares on one image finds both, and any other layout can be drawn in it.
What does not carry over: a style of photographs is not two numbers, and touches the content.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot, q_sample
from ddpm.data import to_float
from ddpm.datasets import world
from ddpm.oracles import join
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row

PAPER = "Style extraction and injection with diffusion models (layout from one image, style from another)"
MINUTES = 0.5
UNCHECKED = "The exact column is the image without noise; that noise hides the layout, and then the light, is measured."


@dataclass(frozen=True)
class Config:
    """Pairs of images, and times to which they are noised."""

    n: int = 60
    times: tuple[int, ...] = (1, 100, 200, 300, 400, 500, 600)
    seed: int = 0


QUICK = {"n": 10, "times": (1, 300)}


def joined(cell: np.ndarray, channels: int = 1) -> np.ndarray:
    """Cells (B, 16, 7, 7, channels) as images (B, 28, 28, channels)"""
    return np.asarray(join(jnp.asarray(cell.reshape(len(cell), 16, -1)), (len(cell), 28, 28, channels), 7, 7))


def greys(image: np.ndarray, tile: np.ndarray, basis: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Sky and wall of an image (28, 28) with this layout (16,), by least squares: pixel = basis · (sky, wall) + rest"""
    A, b = joined(basis[tile][None], 2).reshape(-1, 2), joined(rest[tile][None]).reshape(-1)
    return np.linalg.lstsq(A, image.reshape(-1) - b, rcond=None)[0]


def run(config: Config) -> Result:
    """Read layout and light at each noise, put them together, and find a light that was never seen."""
    schedule, towns, rows = linear(), world.distribution(), list[Row]()
    tiles = np.asarray(towns.tile)  # (3, V, 7, 7, 1)
    draws = [world.draw(config.n, config.seed + i) for i in (1, 2)]
    content, style = (to_float(d.images) for d in draws)
    true = [towns.answer(schedule, jnp.asarray(x), 1) for x in (content, style)]
    layout, light = np.asarray(true[0].tile_posterior).argmax(2), np.asarray(true[1].light_posterior).argmax(1)
    goal = joined(tiles[light[:, None], layout])
    own = joined(tiles[np.asarray(true[0].light_posterior).argmax(1)[:, None], layout])
    gap = float(np.abs(own - content).max())
    rows.append(Row("layout and light of an image give it back: largest error", None, 0.0, gap, within=1e-5, near=1.0))
    curves: dict[str, list[float]] = {"tiles read": [], "light read": [], "pixels right": []}
    for t in config.times:
        key = jax.random.fold_in(jax.random.key(config.seed), t)
        read = []
        for i, x in enumerate((content, style)):
            x_t = q_sample(schedule, jnp.asarray(x), t, jax.random.normal(jax.random.fold_in(key, i), x.shape))
            read.append(towns.answer(schedule, x_t, t))
        v, s = np.asarray(read[0].tile_posterior).argmax(2), np.asarray(read[1].light_posterior).argmax(1)
        new = joined(tiles[s[:, None], v])
        for name, good in (
            ("tiles read", v == layout),
            ("light read", s == light),
            ("pixels right", np.abs(new - goal) < 0.01),
        ):
            exact, within = 1.0, 1e-6 if t == 1 else None
            rows.append(Row(f"t = {t}: {name}", None, exact, float(good.mean()), within=within))
            curves[name].append(float(good.mean()))
    # A light that was never seen: each pixel is the sky, or the wall plus a letter's grey
    lights = np.array(world.LIGHTS)
    X = np.concatenate([lights, np.ones((3, 1))], 1)  # three lights fix the three coefficients of each pixel
    coefficient = np.linalg.solve(X, tiles.reshape(3, -1)).reshape(3, *tiles.shape[1:])  # of sky, wall, and 1
    basis, rest = np.moveaxis(coefficient[:2], 0, -1)[..., 0, :], coefficient[2]
    dusk = np.array([0.1, 0.5])
    unseen = np.clip(basis @ dusk + rest[..., 0], -1, 1)[..., None]  # its tiles, (V, 7, 7, 1)
    other = np.asarray(true[1].tile_posterior).argmax(2)
    seen = joined(unseen[other])
    noisy = seen + 0.05 * np.random.default_rng(config.seed).normal(size=seen.shape)
    for name, x in (("clean", seen), ("with noise of .05", noisy)):
        found = np.array([greys(one[..., 0], v, basis, rest) for one, v in zip(x, other, strict=True)])
        for i, what in enumerate(("sky", "wall")):
            close = 1e-4 if name == "clean" else 0.01
            se = float(found[:, i].std() / config.n**0.5)
            rows.append(
                Row(
                    f"unseen light, {name}: {what}",
                    None,
                    float(dusk[i]),
                    float(found[:, i].mean()),
                    se,
                    within=close,
                    near=1.0,
                )
            )
    images = [content[:8], style[:8], goal[:8], seen[:8], joined(unseen[layout])[:8]]
    shown = [plot.grid(np.clip(x, -1, 1), 8)[..., 0] for x in images]
    return Result(rows, None, {"times": config.times, "curves": curves, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw what is read by t, and images put together."""
    names = ("layout from", "light from", "put together", "an unseen light", "layout in it")
    with plot.style():
        figure = plot.new_figure(9.6, 3.0)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.4))  # type: ignore[misc]
        ax = left.subplots()
        for name, y in numbers["curves"].items():
            ax.plot(numbers["times"], y, "o-", ms=3, label=name)
        ax.set(xlabel="t to which both images are noised", ylabel="share", ylim=(0, 1.03))
        ax.legend(fontsize=8)
        for ax, name, grid in zip(right.subplots(5, 1), names, numbers["shown"], strict=True):
            ax.imshow(np.array(grid), cmap="gray")
            ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    return figure
