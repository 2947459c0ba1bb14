"""Which network learns fastest on a processor? Six tries against the preset `cpu`, at equal processor time.

The papers' networks are made for accelerators. On a processor other shapes may pay: fewer channels at the full size of
28x28 pixels, larger patches, fewer blocks, no attention; or another optimiser, Muon, which makes the singular values of
each update equal. Every try is trained on garments with labels for the same processor time, with the same batches, the
same loss E‖ε - ε̂‖² and a rate that falls to 0 at the end of the time; the compilation is not counted. ε-MSE is that of
the average on test images; below it stand the steps that fitted into the time. `cpu` is also trained for a half and for
a quarter of the time: a try as good as one of those is as good as `cpu` at that time. The exact column is the ε-MSE of
the best linear denoiser of each class, which needs no training; a network is compared with it, not held to it.

What we see (one seed): nothing is far ahead of `cpu`. One block a level (.1110) and no attention (.1112) are one and a
half per cent better than its .1127 after these two minutes, which another seed may change; a long training was not
tried. Fewer channels at 14x14 and patches of 4 make steps faster, by a sixth and by a half, and each step teaches less:
.131 and .141, the latter about as good as `cpu` after one minute (.145). 8 channels at full size lose little (.118) in
38 % fewer steps. A step of Muon costs 30 % more, and brings no more than that (.116). Depthwise convolutions were left
out after timing one: a 64th of the operations, and more than three times the processor time. The processor was shared;
read times as ratios.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from optax import contrib

from ddpm import plot
from ddpm.config import UNetConfig, unet_config
from ddpm.contracts import Partial
from ddpm.data import Dataset
from ddpm.datasets import sources
from ddpm.loss import drop_labels, simple_loss
from ddpm.networks import build, count, param_shapes
from ddpm.schedule import Schedule, cosine
from ddpm.tools import cache
from ddpm.training import timed
from experiments.lab.latent_trainings import clock
from experiments.lab.runner import Result, Row
from experiments.lab.training_scores import OnChain, error, held_out, linear_error, mean_range

PAPER = "Jordan et al. 2024, Muon; Ho et al. 2020, App. B, the network"
MINUTES = 35
CPU = "cpu"
TRIES: dict[str, dict[str, Any]] = {  # what each changes of the preset
    CPU: {},
    "16 channels at 14x14, 64 at 7x7": {"channels": 16, "multipliers": (1, 4)},
    "8 channels at 28x28, then 32 and 64": {"patch": 1, "channels": 8, "multipliers": (1, 4, 8), "groups": 4},
    "patches of 4: 64 channels at 7x7": {"patch": 4, "channels": 64, "multipliers": (1,)},
    "one block a level": {"blocks": 1},
    "no attention": {"attention": (), "middle_attention": False},
    "Muon in place of Adam": {},
}


@dataclass(frozen=True)
class Config:
    """Processor minutes of each training, seeds, test images, and the tries that are compared with `cpu`."""

    data: str = "fashion_mnist"
    minutes: float = 2.0
    seeds: int = 1
    n: int = 500
    tries: tuple[str, ...] = tuple(TRIES)[1:]
    seed: int = 0


QUICK = {"data": "digits", "minutes": 0.002, "n": 20, "tries": ("Muon in place of Adam",)}


def muon() -> optax.GradientTransformation:
    """The direction of Muon for kernels, with the size of Adam's, and that of Adam for all else."""

    def axes(p: jax.Array) -> contrib.MuonDimensionNumbers | None:
        return contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None

    numbers = lambda params: jax.tree.map(axes, params)  # noqa: E731
    # its learning rate of -1 is the direction itself
    along = contrib.muon(-1.0, consistent_rms=0.2, muon_weight_dimension_numbers=numbers)
    return optax.chain(optax.clip_by_global_norm(1.0), along)


DIRECTION = {"Muon in place of Adam": muon()}


def network_of(name: str, d: Dataset) -> UNetConfig:
    """The network of a try, for the images of d."""
    if d.name == "digits":
        return unet_config("digits", num_classes=d.num_classes)
    return unet_config("cpu", num_classes=d.num_classes, **TRIES[name])


def loss(unet: UNetConfig, params: dict, key: jax.Array, x0: jax.Array, c: jax.Array, schedule: Schedule) -> jax.Array:
    """E‖ε - ε̂‖² with a tenth of the labels dropped, the mean over pixels."""
    key, drop = jax.random.split(key)
    return simple_loss(Partial(build(unet)[1], params), schedule, key, x0, drop_labels(drop, c, unet.num_classes, 0.1))


@dataclass(frozen=True)
class Trained:
    """The ε-MSE of the average, and the steps and the images a second of the training."""

    error: float
    steps: int
    rate: float


def trained(name: str, minutes: float, config: Config, seed: int, d: Dataset) -> Trained:
    """Train a try for so many processor minutes, or read it from the cache folder."""
    unet, schedule = network_of(name, d), cosine(1000)
    kept = cache.path("cpu_networks", name, asdict(unet), minutes, config.n, seed, d.sha256)
    found = cache.read(kept)
    if found is None:
        taken: list[int] = []
        left = clock(minutes, taken)
        begin = build(unet)[0](jax.random.key(seed))
        fit: Callable[..., Any] = partial(timed.fit, direction=DIRECTION.get(name, timed.ADAM))
        params = fit(partial(loss, unet), begin, d.x_train, d.y_train, seed, left, schedule)
        x, c = held_out(config.data, config.n)
        value = error(OnChain(Partial(build(unet)[1], params), schedule), x, c)
        steps = len(taken) - 1
        found = asdict(Trained(value, steps, steps * timed.BATCH / (60 * minutes)))
        cache.write(kept, found)
        print(f"{name}, {minutes:g} min, seed {seed}: {found}", flush=True)
    return Trained(**found)


def operators(config: Config) -> list[Row]:
    """Depthwise convolutions, which no try has, timed alone: their operations are few, and their speed is low."""
    size, channels = (14, 64) if config.data != "digits" else (4, 8)
    x = jax.random.normal(jax.random.key(0), (32, size, size, channels))
    rows = []
    for what, of in (("all channels", 1), ("depthwise", channels)):
        w = jax.random.normal(jax.random.key(1), (3, 3, channels // of, channels))
        apply = partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME",
                        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=of)  # fmt: skip
        f = jax.jit(jax.grad(lambda x, w, apply=apply: (apply(x, w) ** 2).mean(), (0, 1)))
        jax.block_until_ready(f(x, w))
        used = []
        for _ in range(5):
            begin = time.process_time()
            jax.block_until_ready(f(x, w))
            used.append(time.process_time() - begin)
        shape = f"{size}x{size}x{channels}"
        million = 2 * 9 * size * size * channels * (channels // of) / 1e6
        rows.append(Row(f"3x3 convolution of {shape}, {what}: million operations an image", None, None, million))
        rows.append(
            Row(f"3x3 convolution of {shape}, {what}: ms an image, with gradients", None, None, 1000 * min(used) / 32)
        )
    return rows


def run(config: Config) -> Result:
    """Train `cpu` for three times, and each try for the whole time."""
    d = sources.load(config.data)
    seeds = range(config.seed, config.seed + config.seeds)
    linear = linear_error(config.data, "cosine", *held_out(config.data, config.n))
    rows = [Row("ε-MSE of the best linear denoiser of each class", None, linear, linear, within=1e-9)]
    table: dict[str, dict[str, float]] = {}
    for name, minutes in [(CPU, config.minutes / k) for k in (4, 2, 1)] + [(t, config.minutes) for t in config.tries]:
        of = [trained(name, minutes, config, seed, d) for seed in seeds]
        label = name if minutes == config.minutes else f"{name}, {minutes:g} min"
        unet = network_of(name, d)
        table[label] = {
            "ε-MSE": (found := mean_range([f.error for f in of]))[0],
            "parameters": float(count(param_shapes(unet))),
            "images a second of the processor": float(np.mean([f.rate for f in of])),
        }
        rows.append(Row(f"{label}: ε-MSE", None, None, *found))
        rows += [Row(f"{label}: {k}", None, None, v) for k, v in list(table[label].items())[1:]]
    return Result(rows + operators(config), None, {"table": table, "linear": linear, **dataclasses.asdict(config)})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Figure:
    """Draw the loss of each try, next to those of `cpu` at a quarter and at half of the time."""
    table = numbers["table"]
    with plot.style():
        figure = plot.new_figure(7.4, 0.6 + 0.3 * len(table))
        ax = figure.subplots()
        names = list(table)[::-1]
        values = [table[n]["ε-MSE"] for n in names]
        ax.barh(names, values, height=0.6, color=["C1" if n.split(",")[0] == CPU else "C0" for n in names])
        for i, v in enumerate(values):
            ax.text(v, i, f" {v:.4f}", va="center", fontsize=7)
        ax.axvline(numbers["linear"], color="0.4", ls=":", lw=1)
        ax.set(
            xlabel=f"ε-MSE of {numbers['n']} test images; dotted: the best linear denoiser",
            xlim=(0, 1.15 * max(values)),
        )
        ax.set_title(f"{numbers['minutes']:g} processor minutes each, {numbers['seeds']} seed", fontsize=9)
    return figure
