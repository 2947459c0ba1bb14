"""DDAE, Figure 2: what the layers know about the class, by linear probes over layer and t.

Xiang et al. train linear classifiers on the inner features of denoisers of CIFAR-10: the best are on the way up, at
little noise (their DDPM: t = 11 of 1,000, accuracy 90.05 % in the released code, with a network of 35.7 M parameters
and all 50,000 training images). Our network has 1.0 M parameters and sees no label in these calls (c = ∅), the probe
gets few images, and the data are Fashion-MNIST: what can be compared is the shape, best at little noise and inside the
network, falling towards pure noise. Features are means over positions, and the probe is a logistic regression; the
baseline is the same probe on the pixels. "minus" rows are differences of two probes, with the error of independent
ones.

What we see is the paper's order in t and in depth. Little noise is best (.81 at t = 10, .36 at t = 900), and the first
and the last layer are worst by .33 ± .02. The best layer is the middle, not one on the way up, but the first layer of
the way up is within the error (.79), and it keeps its accuracy further into the noise, up to t = 300. A single mean
over positions of the middle tells a little more about the class than all pixels do (.033 ± .018). The paper's .90 is
for another network and other data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.features.activations import layers
from ddpm.features.probe import Probe, linear_probe, probe_grid
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Xiang et al. 2023, Fig. 2 (CIFAR-10; DDPM .9005 in the released code)"
MINUTES = 2
LAYERS = ("in", "down.0", "down.1", "mid", "up.0", "up.1", "out")


@dataclass(frozen=True)
class Config:
    """The network ("" for an untrained one), the images of the probe, the times and the seed."""

    data: str = "fashion_mnist"
    model: str = "fashion_mnist"
    train: int = 1000
    test: int = 1000
    times: tuple[int, ...] = (10, 100, 300, 600, 900)
    seed: int = 0


QUICK = {"data": "digits", "model": "", "train": 400, "test": 100, "times": (10, 600)}


def untrained(preset: str = "digits", **sizes: Any) -> model.Model:
    """A network with its initial parameters, for `--quick`."""
    from ddpm.config import unet_config
    from ddpm.network import build
    from ddpm.schedule import cosine

    unet = unet_config(preset, **{"num_classes": 10, **sizes})
    names = tuple(str(k) for k in range(unet.num_classes))
    return model.Model("untrained", unet, build(unet)[0](jax.random.key(0)), cosine(1000), names, {})


def spread(p: Probe) -> float:
    """Standard error of its accuracy."""
    return (p.interval[1] - p.interval[0]) / 3.92


def minus(what: str, a: Probe, b: Probe, paper: float | None = None) -> Row:
    """A row with the difference of two accuracies."""
    return Row(what, paper, None, a.accuracy - b.accuracy, float(np.hypot(spread(a), spread(b))))


def run(config: Config) -> Result:
    """Measure the probes of every layer and time, and draw them."""
    try:
        d = sources.load(config.data)
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the probes need {config.data}, which is not here: {error}") from error
    net = model.load(config.model) if config.model else untrained()
    names = [n for n in LAYERS if n in layers(net.unet)]
    sets = [
        (data.to_float(x[:n]), y[:n])
        for x, y, n in ((d.x_train, d.y_train, config.train), (d.x_test, d.y_test, config.test))
    ]
    key = jax.random.key(config.seed)
    grid = probe_grid(net, sets[0], sets[1], config.times, names, key=key)
    flat = [x.reshape(len(x), -1) for x, _ in sets]
    pixels = linear_probe(flat[0], sets[0][1], flat[1], sets[1][1])
    best = max(grid, key=lambda k: grid[k].accuracy)
    rows = [
        Row(f"best of {len(grid)} probes: {best[0]} at t = {best[1]}", 0.9005, None, grid[best].accuracy,
            spread(grid[best])),
        Row("the same probe on the pixels", None, None, pixels.accuracy, spread(pixels)),
    ]  # fmt: skip
    by_t = {t: max((grid[n, t] for n in names), key=lambda p: p.accuracy) for t in config.times}
    rows += [Row(f"best layer at t = {t}", None, None, p.accuracy, spread(p)) for t, p in by_t.items()]
    by_layer = {n: max((grid[n, t] for t in config.times), key=lambda p: p.accuracy) for n in names}
    rows += [Row(f"{n}, at its best t", None, None, p.accuracy, spread(p)) for n, p in by_layer.items()]
    first, last = config.times[0], config.times[-1]
    ends = max((by_layer[n] for n in (names[0], names[-1])), key=lambda p: p.accuracy)
    rows += [
        minus(f"order: best at t = {first} minus best at t = {last}", by_t[first], by_t[last]),
        minus("order: best layer minus the better of the first and the last", grid[best], ends),
        minus("best layer minus pixels", grid[best], pixels),
    ]
    numbers = {
        "probe": [{"layer": k[0], "t": k[1], **v._asdict()} for k, v in grid.items()],
        "pixels": pixels._asdict(),
        "split": f"the first {config.train} train and the first {config.test} test images of {config.data}",
        "seed": config.seed,
    }
    return Result(rows, picture(config, grid, names, pixels), numbers)


def picture(config: Config, grid: Any, names: list[str], pixels: Probe) -> Any:
    """Draw accuracy by layer and t, as a table in grey and as curves."""
    with plot.style():
        figure = plot.new_figure(9.4, 3.5)
        left, right = figure.subplots(1, 2)
        table = np.array([[grid[n, t].accuracy for t in config.times] for n in names])
        image = left.imshow(table, aspect="auto", cmap="gray", vmin=table.min(), vmax=table.max())
        left.set_yticks(range(len(names)), names)
        left.set_xticks(range(len(config.times)), [str(t) for t in config.times])
        left.set(xlabel="t", ylabel="layer", title="accuracy of a linear probe")
        for i, j in np.ndindex(*table.shape):
            dark = table[i, j] < (table.min() + table.max()) / 2
            left.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
        figure.colorbar(image, ax=left)
        for n, mark in zip(("down.0", "mid", "up.0", "up.1"), "os^D", strict=True):
            if n in names:
                p = [grid[n, t] for t in config.times]
                bars = [1.96 * spread(q) for q in p]
                right.errorbar(config.times, [q.accuracy for q in p], bars, marker=mark, markersize=4, label=n)
        right.axhline(pixels.accuracy, color="#95a5a6", linestyle="-", linewidth=0.8)
        right.annotate("pixels", (config.times[-1], pixels.accuracy), (0, 3), textcoords="offset points", fontsize=7,
                       ha="right")  # fmt: skip
        right.set(xlabel="t", ylabel="accuracy on test images")
        right.legend(fontsize=7)
    return figure
