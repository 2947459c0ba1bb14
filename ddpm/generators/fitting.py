"""Train a small generator: the one loop of all kinds.

    trained = fit(GeneratorConfig("cgan"), Recipe(steps=4000), x, y)      x: (N, H, W, C) uint8, y: (N,) int

The step is that of `ddpm.train` for an encoder with its decoder, and that of `ddpm.generators.players` for two players.
The moving average of the parameters is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax

from ddpm import data
from ddpm.generators import players
from ddpm.generators.networks import GeneratorConfig, build
from ddpm.generators.objectives import encoded_loss, game_losses
from ddpm.generators.table import ENCODED, Recipe
from ddpm.generators.trained import Generator
from ddpm.tools import check
from ddpm.tools.batches import progress
from ddpm.train import make_step

EVERY, LARGE = 50, 1e4  # steps between two looks at the losses, and how many times the first loss is too much


def _checked(how: Recipe) -> Recipe:
    """Check the numbers of a full recipe."""
    check.whole("steps", how.steps, 1)
    check.whole("batch", how.batch, 1)
    check.seed(how.seed)
    bounds = {"lr": (1e-12, 1.0), "gamma": (0, 1e6), "weight": (0, 1e6), "ema": (0, 1), "minutes": (0, 1e6)}
    for name, (low, high) in bounds.items():
        if getattr(how, name) is not None:
            check.number(name, getattr(how, name), low, high)
    return how


def numbered(how: Recipe, what: str) -> Iterator[int]:
    """0, 1, 2, … with a bar: to how.steps, or until so many minutes of this process after the first, which compiles."""
    if not how.minutes:
        yield from progress(range(how.steps), desc=what, unit="step")
        return
    yield 0
    begin, n, shown = time.process_time(), 1, 0
    with progress(total=round(60 * how.minutes), desc=what, unit="s") as bar:
        while (spent := time.process_time() - begin) < 60 * how.minutes:
            bar.update(int(spent) - shown)
            shown = int(spent)
            yield n
            n += 1


def first_state(config: GeneratorConfig, how: Recipe) -> tuple[Any, Callable[..., Any]]:
    """The first state and the compiled step (state, key, x0, c) -> (state, loss or losses)."""
    params = build(config).init(jax.random.fold_in(jax.random.key(how.seed), 2**31 - 1))
    if config.kind in ENCODED:
        optimiser = optax.adam(how.lr)
        return players.alone(params, optimiser), make_step(encoded_loss(config), optimiser, how.ema)
    adam = players.adam(how.lr)
    losses = game_losses(config, how.gamma, how.weight)
    return players.begin(params["disc"], params["decoder"], adam), players.make_step(*losses, adam, how.ema)


def refuse_divergence(losses: Sequence[Any], first: Any, n: int, how: Recipe) -> None:
    """Raise if a loss is not finite, or is LARGE times what it was in the first step.

    losses: of steps up to n, counted from 1: a number each, or one of each player;  first: those of the first step.
    """
    begin = 1 + max(map(abs, map(float, jax.tree.leaves(first))))
    for step, loss in enumerate(losses, n + 1 - len(losses)):
        values = [float(a) for a in jax.tree.leaves(loss)]
        if all(abs(v) < LARGE * begin for v in values):  # nor NaN
            continue
        what = f"loss {values[0]:g}" if len(values) == 1 else "losses {:g} (discriminator) and {:g}".format(*values)
        damp = "" if how.gamma is None else f", or raise gamma (it is {how.gamma:g})"
        raise RuntimeError(
            f"training diverged in step {step:,}: {what}, {begin - 1:.3g} in the first step. Nothing is kept of it. "
            f"Lower lr (it is {how.lr:g}){damp}"
        )


def fit(config: GeneratorConfig, how: Recipe, x: np.ndarray, y: np.ndarray | None = None) -> Generator:
    """Train on images x (N, H, W, C) uint8 and classes y (N,), and return the average of the parameters.

    The card holds how, the steps taken, the processor's minutes and the last losses. A training that diverges stops
    within fifty steps, with a RuntimeError.
    """
    how = _checked(how.of(config.kind))
    if x.shape[1:] != config.image_shape:
        raise ValueError(f"x has shape {x.shape}; this {config.kind} is for images {config.image_shape}")
    if config.labels and config.kind != "infogan" and (y is None or np.max(y) >= config.num_classes):
        raise ValueError(f"y is needed: one label in 0..{config.num_classes - 1} for each image, for {config.kind!r}")
    state, step = first_state(config, how)
    key, begin, n = jax.random.key(how.seed), time.process_time(), 0
    seen, first = list[Any](), None
    for n in numbered(how, config.kind):
        ids = data.batch_ids(how.seed, n, len(x), how.batch)
        labels = np.zeros(len(ids), np.int32) if y is None else y[ids].astype(np.int32)
        state, loss = step(state, jax.random.fold_in(key, n), data.to_float(x[ids]), labels)
        seen, first = [*seen[-99:], loss], loss if n == 0 else first
        if (n + 1) % EVERY == 0:
            refuse_divergence(seen[-EVERY:], first, n + 1, how)
    refuse_divergence(seen, first, n + 1, how)
    last = [float(np.mean(a)) for a in zip(*map(jax.tree.leaves, seen), strict=True)]
    if config.kind in ENCODED:
        params = state.ema
    else:
        params = {"decoder": state.gen.ema, "disc": state.disc.ema}
    card = {"train": vars(how) | {"steps": n + 1}, "loss": last, "minutes": (time.process_time() - begin) / 60}
    return Generator(config, params, card)
