"""DIFT: the same object found in another image by the features of a denoiser, where the truth is known.

Tang et al. find corresponding points of two photographs by the nearest neighbour of diffusion features (in an SD or ADM
U-Net, on the way up, at a little noise) and nothing else; people marked the truth. In the drawn cities the truth is
known: the middle of a motif in one image, and of the same motif in another image of that city, under any light. A point
counts if it is found within a tenth of the image's side (PCK at .1). The baseline is the same nearest neighbour on 7 x
7 patches of pixels minus their mean, which is all that is needed here, because this world always draws a motif in the
same way. A random position is the other baseline. So the question is not whether the features beat pixels, but which
layers and times keep what pixels know. The paper's absolute numbers (SPair-71k, another task) cannot be compared with
these. This network knows the position of each cell, so its features encode where as well as what: they are also
compared after subtracting their mean at each position over other images.

What we see: features find more than a random guess and far less than pixels, which find everything. The best is, as in
the paper, a block on the way up, at little noise; at t = 400 and above little is left. At little noise, subtracting the
mean of the position helps. What does not carry over is the strength: this network has one level of 4 x 4 positions with
64 channels each, was trained for eight minutes, and denoises a cell mostly from the cell itself, so it has little
reason to describe a motif independently of its position and its light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, plot
from ddpm.datasets import world
from ddpm.features.activations import default_layer, default_time, dift, layers
from ddpm.features.match import correspondence, pck, resize
from ddpm.zoo import model
from experiments.ddae import untrained
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Tang et al. 2023, Sec. 5 (photographs; other points)"
MINUTES = 2
LAYERS = ("down.0", "mid", "up.0.0", "up.0", "up.1")


@dataclass(frozen=True)
class Config:
    """The network of the cities ("" for an untrained one), the pairs, the images for the mean, and the features."""

    model: str = "cities"
    pairs: int = 100
    others: int = 300
    times: tuple[int, ...] = (20, 160, 400, 700)
    ensemble: int = 4
    alpha: float = 0.1
    seed: int = 0


QUICK = {"model": "", "pairs": 8, "others": 8, "times": (160,), "ensemble": 1}


def matched(w: world.World, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find pairs of images of one city that both contain some motif exactly once.

    Images (n, 2), the motif (n,), and the centres of its boxes (n, 2, 2) as row and column.
    """
    rng, out = np.random.default_rng(seed), []
    boxes = w.boxes[rng.permutation(len(w.boxes))]
    once: dict[tuple[int, int], list[Any]] = {}
    count = np.zeros((len(w.images), len(world.MOTIFS)), int)
    np.add.at(count, (boxes[:, 0], boxes[:, 1]), 1)
    for image, motif, top, left in boxes:
        if count[image, motif] == 1:
            middle = (top + world.BOX // 2, left + world.BOX // 2)
            once.setdefault((int(w.labels[image]), int(motif)), []).append((image, middle))
    for (_, motif), found in sorted(once.items()):
        out += [((a[0], b[0]), motif, (a[1], b[1])) for a, b in zip(found[::2], found[1::2], strict=False)]
    images, motif, places = zip(*(out[i] for i in rng.permutation(len(out))[:pairs]), strict=True)
    return np.array(images), np.array(motif), np.array(places)


def pixel_patches(x: np.ndarray, side: int = 7) -> np.ndarray:
    """The pixels around each position, minus their mean: (n, H, W, side²)"""
    r = side // 2
    padded = np.pad(x[..., 0], ((0, 0), (r, r), (r, r)), mode="edge")
    v = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2)).reshape(*x.shape[:3], -1)
    return v - v.mean(-1, keepdims=True)


def network(name: str) -> model.Model:
    """The model that ships under that name."""
    if not name:
        return untrained("cpu", num_classes=len(world.CLASSES), channels=8, groups=4)
    try:
        return model.load(name)
    except ValueError as error:
        raise Unavailable(f"{error}. It needs a model of the cities: `ddpm train --data cities`") from None


def run(config: Config) -> Result:
    """Measure PCK by layer and time, of pixels, and of a random position."""
    net = network(config.model)
    w = world.draw(1200, seed=3)
    images, motif, places = matched(w, config.pairs, config.seed)
    x, size, n = data.to_float(w.images), (world.SIZE, world.SIZE), len(images)
    truth, points = places[:, 1], places[:, 0][:, None]
    found: dict[str, dict[int, float]] = {name: {} for name in LAYERS if name in layers(net.unet)}
    plain: dict[str, dict[int, float]] = {name: {} for name in found}
    others = np.setdiff1d(np.arange(len(x)), images)[: config.others]
    shown: np.ndarray | None = None

    def score(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray]:
        at, _ = correspondence(a, b, points)
        return pck(at[:, 0], truth, world.SIZE, config.alpha), at[:, 0]

    for layer in found:
        for t in config.times:
            how: dict[str, Any] = {"t": t, "layer": layer, "ensemble": config.ensemble}
            key = jax.random.key(config.seed)
            a, b, rest = (dift(net, x[i], w.labels[i], key, **how) for i in (*images.T, others))
            plain[layer][t], _ = score(resize(a, size), resize(b, size))
            mean = rest.mean(0)
            found[layer][t], at = score(resize(a - mean, size), resize(b - mean, size))
            if layer == default_layer(net.unet) and (shown is None or t == default_time(net.schedule.T)):
                shown = at
    pixels, _ = score(pixel_patches(x[images[:, 0]]), pixel_patches(x[images[:, 1]]))
    everywhere = np.stack(np.divmod(np.arange(world.SIZE**2), world.SIZE), 1)
    at_random = (np.linalg.norm(everywhere[None] - truth[:, None], axis=2) <= config.alpha * world.SIZE).mean()
    rows = [
        Row(f"PCK at {config.alpha:g}, {layer}, t = {t}{what}", None, None, p, _stderr(p, n))
        for what, table in (("", plain), (", minus the mean of the position", found))
        for layer, by_t in table.items()
        for t, p in by_t.items()
    ]
    rows.append(Row("7 x 7 pixels", None, None, pixels, _stderr(pixels, n)))
    rows.append(Row("a random position", None, float(at_random), None))
    numbers = {
        "pck": plain,
        "pck_less_mean": found,
        "pixels": pixels,
        "random": at_random,
        "n_pairs": n,
        "seed": config.seed,
    }
    numbers["planted_share"] = np.mean([world.MOTIFS[m].city >= 0 for m in motif])
    arrows = None if shown is None else (x[images[:, 0]], x[images[:, 1]], places[:, 0], truth, shown)
    return Result(rows, picture(config, plain, found, numbers, arrows), numbers)


def _stderr(p: float, n: int) -> float:
    return float(np.sqrt(max(p * (1 - p), 1 / n) / n))


def picture(config: Config, plain: Any, found: Any, numbers: dict[str, Any], arrows: Any) -> Any:
    """Draw PCK by t, and pairs with the query point and the point that was found."""
    with plot.style():
        figure = plot.new_figure(10.0, 3.4)
        halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.3))
        left, right = halves
        axes = left.subplots()
        for i, ((layer, by_t), mark) in enumerate(zip(found.items(), "os^D", strict=False)):
            bars = [1.96 * _stderr(p, numbers["n_pairs"]) for p in by_t.values()]
            how: Any = {"marker": mark, "markersize": 4, "color": f"C{i}"}
            axes.errorbar(list(by_t), list(by_t.values()), bars, linestyle="-", label=layer, **how)
            axes.plot(list(by_t), list(plain[layer].values()), linestyle=":", linewidth=1, **how | {"markersize": 2})
        axes.axhline(numbers["pixels"], color="k", linestyle=":", label="7 x 7 pixels")
        axes.axhline(numbers["random"], color="#95a5a6", linestyle="-", label="a place at random")
        axes.set(xlabel="t (dotted: with the mean of the place)", ylabel=f"PCK at {config.alpha:g}", ylim=(0, 1.05))
        axes.legend(fontsize=7, ncols=2)
        panels = np.ravel(right.subplots(2, 3))
        for j, panel in enumerate(panels[: 0 if arrows is None else len(arrows[0])]):
            a, b, query, truth, at = (q[j] for q in arrows)
            gap = np.ones((world.SIZE, 2, 1))
            panel.imshow(np.concatenate([a, gap, b], 1)[..., 0], cmap="gray", vmin=-1, vmax=1)
            hit = np.linalg.norm(at - truth) <= config.alpha * world.SIZE
            shift = world.SIZE + 2
            panel.plot([query[1], at[1] + shift], [query[0], at[0]], color="w", linewidth=2.5, linestyle="-")
            panel.plot([query[1], at[1] + shift], [query[0], at[0]], color="#c0392b", linewidth=1,
                       linestyle="-" if hit else ":")  # fmt: skip
            panel.set_title("found" if hit else "missed", fontsize=7, pad=2)
        for panel in panels:
            panel.axis("off")
    return figure
