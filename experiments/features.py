"""What the layers know: linear probes by layer and t, and corresponding places in two images.

Xiang et al. (DDAE) train linear classifiers on the inner features of denoisers of CIFAR-10: the best are on the way up,
at little noise (their DDPM: t = 11 of 1,000, accuracy 90.05 % in the released code, with a network of 35.7 M parameters
and all 50,000 training images). Ours has 1.0 M parameters, the probe few images, and the data are Fashion-MNIST: what
is to be seen is the shape, best at little noise and inside the network, falling towards pure noise; not their number.
Tang et al. (DIFT) find corresponding points by the nearest neighbour of such features. On photographs people marked the
truth; in the drawn cities it is known: the middle of a planted or common motif in one image, and of the same motif in
another image of that city. A point counts if it is found within a tenth of the image's side. Beside it: the same
nearest neighbour on 7 x 7 patches of pixels, which is strong here because the world draws each motif nearly alike, and
a guess at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, model, plot, world
from ddpm.features import correspondence, default_time, dift, pck, resize
from ddpm.probe import probe_grid
from experiments.mining_baselines import Config as World
from experiments.mining_baselines import network
from experiments.runner import Result, Row, Unavailable

PAPER = "Xiang et al. 2023, Fig. 2; Tang et al. 2023, Sec. 5"
MINUTES = 6
LAYERS = ("in", "down.0", "down.1", "mid", "up.0", "up.1", "out")
POINTS = ("down.0", "mid", "up.0", "up.1")


@dataclass(frozen=True)
class Config:
    """The networks, the images of the probe, the times, and the pairs of images for correspondence."""

    data: str = "fashion_mnist"
    model: str = "fashion_mnist"
    world_model: str = "cities"
    train: int = 1500
    test: int = 1000
    times: tuple[int, ...] = (10, 100, 300, 600, 900)
    pairs: int = 150
    pair_times: tuple[int, ...] = (50, 400)  # and .16 T
    ensemble: int = 4
    alpha: float = 0.1
    seed: int = 0


QUICK = {
    "world_model": "",
    "model": "",
    "train": 60,
    "test": 30,
    "times": (10, 600),
    "pairs": 12,
    "pair_times": (50,),
    "ensemble": 2,
}


def matched(w: world.World, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of images of one city that both have exactly one of some motif: images (n, 2), the motif (n,), and the
    middles of its boxes (n, 2, 2), row and column."""
    rng, out = np.random.default_rng(seed), []
    boxes = w.boxes[rng.permutation(len(w.boxes))]
    once: dict[tuple[int, int], list[Any]] = {}
    count = np.zeros((len(w.images), len(world.MOTIFS)), int)
    np.add.at(count, (boxes[:, 0], boxes[:, 1]), 1)
    for image, motif, top, left in boxes:
        if count[image, motif] == 1:
            once.setdefault((int(w.labels[image]), int(motif)), []).append((image, (top + 3, left + 3)))
    for (_, motif), found in sorted(once.items()):
        out += [((a[0], b[0]), motif, (a[1], b[1])) for a, b in zip(found[::2], found[1::2], strict=False)]
    chosen = [out[i] for i in rng.permutation(len(out))[:pairs]]
    images, motif, places = zip(*chosen, strict=True)
    return np.array(images), np.array(motif), np.array(places)


def pixel_patches(x: np.ndarray, side: int = 7) -> np.ndarray:
    """The pixels around each position, less their mean: (n, H, W, side²)"""
    r = side // 2
    padded = np.pad(x[..., 0], ((0, 0), (r, r), (r, r)), mode="edge")
    v = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2)).reshape(*x.shape[:3], -1)
    return v - v.mean(-1, keepdims=True)


def correspond(config: Config) -> tuple[dict[str, dict[int, float]], dict[str, Any], Any]:
    """PCK by layer and time, that of pixels and of chance, and something to draw."""
    net = network(World(model=config.world_model))
    w = world.draw(1200, seed=3)
    images, motif, places = matched(w, config.pairs, config.seed)
    x, size = data.to_float(w.images), (world.SIZE, world.SIZE)
    truth, points = places[:, 1], places[:, 0][:, None]
    times = sorted({default_time(net.schedule.T), *config.pair_times})
    found: dict[str, dict[int, float]] = {name: {} for name in POINTS}
    arrows = None

    def score(f: tuple[Any, Any]) -> tuple[float, np.ndarray]:
        at, _ = correspondence(*f, points)
        return pck(at[:, 0], truth, world.SIZE, config.alpha), at[:, 0]

    for t in times:
        for layer in POINTS:
            key = jax.random.key(config.seed)
            how: dict[str, Any] = {"t": t, "layer": layer, "ensemble": config.ensemble}
            f = [
                resize(dift(net.unet, net.params, net.schedule, x[i], w.labels[i], key, **how), size) for i in images.T
            ]
            found[layer][t], at = score((f[0], f[1]))
            if layer == "up.1" and t == default_time(net.schedule.T):
                arrows = (x[images[:, 0]], x[images[:, 1]], places[:, 0], truth, at)
    pixels, _ = score((pixel_patches(x[images[:, 0]]), pixel_patches(x[images[:, 1]])))
    everywhere = np.stack(np.divmod(np.arange(world.SIZE**2), world.SIZE), 1)
    reach = np.linalg.norm(everywhere[None] - truth[:, None], axis=2) <= config.alpha * world.SIZE
    own = np.array([world.MOTIFS[m].city >= 0 for m in motif])
    about = {
        "pixels": pixels,
        "random": reach.mean(),
        "n_pairs": len(images),
        "planted_share": own.mean(),
        "alpha": config.alpha,
    }
    return found, about, arrows


def run(config: Config) -> Result:
    """Both tables and the figure."""
    try:
        d = data.load(config.data if config.model else "digits")
    except (ValueError, FileNotFoundError, OSError) as error:
        raise Unavailable(f"{error}") from None
    net = model.load(config.model) if config.model else untrained()
    names = [n for n in LAYERS if n in names_of(net)]
    sets = [(data.to_float(a[:n]), b[:n]) for a, b, n in zip(
        (d.x_train, d.x_test), (d.y_train, d.y_test), (config.train, config.test), strict=True)]  # fmt: skip
    key = jax.random.key(config.seed)
    grid = probe_grid(net.unet, net.params, net.schedule, sets[0], sets[1], config.times, names, key=key)
    from ddpm.probe import linear_probe

    flat = [x.reshape(len(x), -1) for x, _ in sets]
    pixels = linear_probe(flat[0], sets[0][1], flat[1], sets[1][1])
    best = max(grid, key=lambda k: grid[k].accuracy)
    p = grid[best]
    spread = (p.interval[1] - p.interval[0]) / 3.92
    rows = [
        Row(f"probe, best of {len(grid)}: {best[0]} at t = {best[1]}", 0.9005, None, p.accuracy, spread),
        Row("probe on the pixels", None, None, pixels.accuracy, (pixels.interval[1] - pixels.interval[0]) / 3.92),
    ]
    for t in config.times:
        rows.append(Row(f"probe, up.1 at t = {t}", None, None, grid["up.1", t].accuracy))
    found, about, arrows = correspond(config)
    for layer, by_t in found.items():
        t = max(by_t, key=lambda t: by_t[t])
        rows.append(Row(f"PCK@{config.alpha:g}, {layer}, best t = {t}", None, None, by_t[t]))
    rows.append(Row(f"PCK@{config.alpha:g}, 7 x 7 pixels", None, None, about["pixels"]))
    rows.append(Row(f"PCK@{config.alpha:g}, a place at random", None, about["random"], None))
    numbers = {
        "probe": [{"layer": k[0], "t": k[1], **v._asdict()} for k, v in grid.items()],
        "probe_pixels": pixels._asdict(),
        "pck": found,
        **about,
        "split": f"probe: first {config.train} train and {config.test} test images; cities drawn with seed 3",
    }
    return Result(rows, picture(config, grid, names, pixels.accuracy, found, about, arrows), numbers)


def names_of(net: model.Model) -> list[str]:
    """The layers that this network has."""
    from ddpm.features import layers

    return list(layers(net.unet))


def untrained() -> model.Model:
    """For the quick form: the digits' network, fresh."""
    from ddpm.config import unet_config
    from ddpm.network import build
    from ddpm.schedule import cosine

    unet = unet_config("digits", num_classes=10)
    return model.Model("untrained", unet, build(unet)[0](jax.random.key(0)), cosine(1000), tuple("0123456789"), {})


def picture(
    config: Config, grid: Any, names: list[str], pixels: float, found: Any, about: dict[str, Any], arrows: Any
) -> Any:
    """Accuracy by layer and t; PCK by t; pairs with the point asked, found and true."""
    with plot.style():
        figure = plot.new_figure(10.0, 4.6)
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.7, 1))
        top, bottom = halves
        left, right = top.subplots(1, 2)
        table = np.array([[grid[n, t].accuracy for t in config.times] for n in names])
        image = left.imshow(table, aspect="auto", cmap="viridis", vmin=table.min(), vmax=table.max())
        left.set_yticks(range(len(names)), names)
        left.set_xticks(range(len(config.times)), [str(t) for t in config.times])
        left.set(xlabel="t", title=f"linear probe: test accuracy (pixels: {pixels:.3f})")
        for i, j in np.ndindex(*table.shape):
            dark = table[i, j] < (table.min() + table.max()) / 2
            left.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
        figure.colorbar(image, ax=left)
        for layer, by_t in found.items():
            right.plot(list(by_t), list(by_t.values()), label=layer, marker="o", markersize=3)
        right.axhline(about["pixels"], color="k", linestyle=":", label="7 x 7 pixels")
        right.axhline(about["random"], color="#bbbbbb", linestyle="-", label="random")
        right.set(xlabel="t", ylabel=f"PCK at {config.alpha:g}", ylim=(0, 1.02), title="cities: the same motif found")
        right.legend(fontsize=7, ncols=2)
        n = min(8, len(arrows[0]))
        for j, axes in enumerate(np.atleast_1d(bottom.subplots(1, n))):
            a, b, asked, truth, at = (q[j] for q in arrows)
            axes.imshow(np.concatenate([a, np.ones((28, 1, 1)), b], 1)[..., 0], cmap="gray", vmin=-1, vmax=1)
            hit = np.linalg.norm(at - truth) <= config.alpha * world.SIZE
            axes.plot([asked[1], at[1] + 29], [asked[0], at[0]], color="#2ecc71" if hit else "#e74c3c", linewidth=1)
            axes.plot(truth[1] + 29, truth[0], "y+", markersize=6)
            axes.axis("off")
    return figure
