"""A transformer in place of the U-Net: parameters, operations, and processor time an image.

Peebles and Xie count operations to show that a DiT improves with them, whatever they are spent on. We put our smallest
transformer, `dit_small`, next to the U-Net of as many parameters, `cpu`, at 28x28 pixels; patches of 2 make 196 tokens
of the 49. The exact column is the closed form of a DiT, 18 D² + 15 D parameters and N (24 D² + 4 N D) + 12 D²
operations a block; ours counts the arrays and takes XLA's count of the program, with the softmax and the norms. Both
are then trained on garments, without labels, for the same processor time, with the same batches and learning rate.

What we see: `dit_small` has 1.04 million parameters for 1.00 of the U-Net, and 74 million operations for 129. A call
costs 1.4 ms for 2.4, so it samples faster; a gradient costs 10.2 ms for 7.6, so it trains slower. Patches of 2 cost
four times as much. After 60 processor seconds the U-Net is at an ε-MSE of .141 and the transformer at .185: at this
size, in a minute, convolutions are ahead, in steps (201 for 143) and in what a step brings. A minute says nothing of
the end of a long training, nor of larger networks, which are the paper's subject. The processor was shared; read times
as ratios.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from ddpm import plot
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.data import to_float
from ddpm.datasets import sources
from ddpm.loss import simple_loss
from ddpm.networks import DiTConfig, build, count, network_config, param_shapes
from ddpm.schedule import cosine
from ddpm.train import TrainState, make_step
from experiments.lab.runner import Result, Row

PAPER = "Peebles and Xie 2023, Table 4 and Fig. 8"
MINUTES = 5
UNCHECKED = (
    "XLA also counts the softmax, the norms and the embeddings, so its operations are above those of the closed form."
)


@dataclass(frozen=True)
class Config:
    """The networks, as preset or preset with another patch; images a call, and calls of which the fastest counts.

    trained: those that are trained, on `data`, for `seconds` of processor time each, measured on `n` test images.
    """

    networks: tuple[str, ...] = ("cpu", "dit_small", "dit_small, patch 2")
    trained: tuple[str, ...] = ("cpu", "dit_small")
    data: str = "fashion_mnist"
    seconds: float = 60.0
    batch: int = 32
    calls: int = 5
    n: int = 500


QUICK = {
    "networks": ("dit_digits",),
    "trained": ("dit_digits",),
    "data": "digits",
    "seconds": 0.1,
    "batch": 4,
    "calls": 1,
    "n": 20,
}
MARKS = (0.1, 0.2, 0.4, 0.7, 1.0)  # of the seconds, at which the loss is measured


def least_ms(f: Callable[..., Any], args: tuple, config: Config) -> float:
    """Processor milliseconds an image, the least of some calls."""
    f, found = jax.jit(f), []
    jax.block_until_ready(f(*args))
    for _ in range(config.calls):
        start = time.process_time()
        jax.block_until_ready(f(*args))
        found.append(time.process_time() - start)
    return 1000 * min(found) / config.batch


def network_of(name: str) -> UNetConfig:
    """Return the network of a name such as `dit_small, patch 2`."""
    preset, _, patch = name.partition(", patch ")
    unet = network_config(preset)
    return dataclasses.replace(unet, patch=int(patch)) if patch else unet


def curve(name: str, config: Config) -> list[tuple[float, int, float]]:
    """Train by Adam, and measure the ε-MSE of the average on test images: (processor seconds, steps, loss) at MARKS."""
    data, s = sources.load(config.data), cosine(1000)
    images, held = to_float(data.x_train[:20_000]), to_float(data.x_test[: config.n])
    init, apply = build(network_of(name))
    key, params = jax.random.key(0), init(jax.random.key(1))
    rate = optax.join_schedules([optax.linear_schedule(0.0, 1e-3, 50), optax.constant_schedule(1e-3)], [50])
    optimiser = optax.adam(rate)

    def loss(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        return simple_loss(Partial(apply, params), s, key, x)

    step: Any = make_step(loss, optimiser, 0.99)
    measure = jax.jit(loss)
    state = TrainState(jnp.int32(0), params, params, optimiser.init(params))
    compiled = step.lower(state, key, jnp.asarray(images[: config.batch])).compile()
    found, used, n = [], 0.0, 0
    for mark in MARKS:
        while used < mark * config.seconds:
            ids = np.random.default_rng(n).integers(0, len(images), config.batch)
            x = jnp.asarray(images[ids])
            start = time.process_time()
            state, _ = jax.block_until_ready(compiled(state, jax.random.fold_in(key, n), x))
            used, n = used + time.process_time() - start, n + 1
        value = np.mean([float(measure(state.ema, jax.random.key(7 + i), jnp.asarray(held))) for i in range(4)])
        found.append((used, n, float(value)))
    return found


def run(config: Config) -> Result:
    """Count and time each network, and train some."""
    rows: list[Row] = []
    curves: dict[str, Any] = {}
    for name in config.networks:
        unet = network_of(name)
        init, apply = build(unet)
        params = init(jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (config.batch, *unet.image_shape))
        t = jnp.full(config.batch, 500)
        count_of: Any = jax.jit(apply).lower(param_shapes(unet), x[:1], t[:1]).cost_analysis()
        one = count_of["flops"]
        loss = lambda p, x, t, apply=apply: ((apply(p, x, t) - x) ** 2).mean()  # noqa: E731
        forward, backward = least_ms(apply, (params, x, t), config), least_ms(jax.grad(loss), (params, x, t), config)
        exact = (unet.parameters, unet.flops) if isinstance(unet, DiTConfig) else (None, None)
        rows += [
            Row(f"parameters, {name}", None, exact[0], count(params), within=1e-9 if exact[0] else None),
            Row(f"million operations an image, {name}", None, exact[1] and exact[1] / 1e6, one / 1e6),
            Row(f"processor ms an image, forward, {name}", None, None, forward),
            Row(f"processor ms an image, gradient, {name}", None, None, backward),
        ]
    for name in config.trained:
        curves[name] = curve(name, config)
        for used, n, value in curves[name]:
            rows.append(Row(f"ε-MSE after {used:,.0f} processor seconds, {name} ({n:,} steps)", None, None, value))
    return Result(rows, None, {"batch": config.batch, "n": config.n, "curves": curves})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Figure:
    """Draw operations, the processor time of a call and of a gradient, and the loss against processor time."""
    ours = {row["what"]: row["ours"] for row in rows}
    names = [what.partition(", ")[2] for what in ours if what.startswith("parameters, ")]
    measured = ("million operations an image", "processor ms an image, forward", "processor ms an image, gradient")
    table = {name: [ours[f"{what}, {name}"] for what in measured] for name in names}
    curves = numbers["curves"]
    with plot.style():
        figure = plot.new_figure(10.4, 2.8)
        panels = figure.subplots(1, 4)
        for ax, i, what in zip(panels, range(3), ("million operations", "ms, forward", "ms, gradient"), strict=False):
            ax.barh(list(table), [values[i] for values in table.values()], height=0.5)
            ax.set(xlabel=f"{what}, an image")
            ax.set_yticks(range(len(table)), list(table) if i == 0 else [])
        for name, points in curves.items():
            used, _, loss = zip(*points, strict=True)
            panels[3].plot(used, loss, label=name)
        panels[3].set(xlabel="processor seconds", ylabel="ε-MSE, test images", yscale="log")
        panels[3].legend(fontsize=7)
    return figure
