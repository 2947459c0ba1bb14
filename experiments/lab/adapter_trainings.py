"""Trainings that start from the shipped network `wardrobe`: a control, a wider input, a word, an adapter.

Each is Algorithm 1 of `ddpm.train` on the error of v, as the network itself was trained, with Adam and a moving average
of what is trained; all else is passed as `fixed` and stays as it is. A training is kept under the hash of its name, its
budget and the network, and one that was interrupted resumes from its last checkpoint. (The hash does not include the
code: after a change of a loss, delete the folder `adapters` in the cache.)
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.cli.start import ask_for_huge_pages, use_compile_cache
from ddpm.contracts import Eps
from ddpm.datasets.wardrobe import drawing
from ddpm.forward import q_sample
from ddpm.loss import per_image
from ddpm.losses import objectives, times
from ddpm.schedule import Schedule
from ddpm.tools import cache, checkpoint, files
from ddpm.tools.batches import progress
from ddpm.train import TrainState, make_step
from ddpm.training.adam import optimiser
from ddpm.training.config import TrainConfig
from ddpm.zoo import model
from experiments.lab import captioned
from experiments.lab.runner import Unavailable

SAVE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Budget:
    """The steps of a training, its batch, and Adam's rate."""

    steps: int
    batch: int = 32
    lr: float = 1e-3
    seed: int = 0
    ema: float = 0.99


@dataclass(frozen=True)
class Trained:
    """What a training made: its average parameters, the loss by step, and what was watched along the way."""

    params: Any
    loss: list[float]
    watched: list[list[float]]  # [step, values…]
    seconds: float


def base(name: str = captioned.NAME) -> model.Model:
    """The shipped network, from which all of these trainings start."""
    m = captioned.network(name)
    if m is None:
        raise Unavailable(f"the training starts from the shipped network {name!r}, which is not here")
    return m


def error_of_v(
    net: Eps,
    schedule: Schedule,
    key: jax.Array,
    x0: jax.Array,
    c: Any,
    absolute: bool = False,
    cumulative: jax.Array | None = None,
) -> Any:
    """‖v - v̂‖², or |v - v̂|, of each image: (B,);  cumulative: P(t ≤ i) of the times, None: as for the network"""
    key_t, key_noise = jax.random.split(key)
    cumulative = times.cumulative(schedule, "logit_normal") if cumulative is None else cumulative
    t, noise = times.draw_from(key_t, len(x0), cumulative), jax.random.normal(key_noise, x0.shape)
    if not absolute:
        return objectives.objective("mse", "v")(net, schedule, x0, t, noise, c)
    v = objectives.target(schedule, "v", x0, t, noise)
    return per_image(jnp.abs(v - net(q_sample(schedule, x0, t, noise), t, c)))


def trained(
    name: str,
    start: Any,
    loss: Callable[..., jax.Array],
    fixed: Any,
    batch_of: Callable[[int], Any],
    budget: Budget,
    watch: tuple[tuple[int, ...], Callable[[Any], list[float]]] = ((), list),
) -> Trained:
    """Minimise loss(params, fixed, key, batch) from the parameters `start`, or return what is kept of it.

    batch_of: step -> a pytree of arrays;  watch: steps, and what to measure of the average parameters there
    """
    home = cache.folder() / "adapters"
    key = cache.key(name, asdict(budget), watch[0], files.digest({"shapes": str(jax.tree.map(jnp.shape, start))}))
    path, unfinished = home / key, home / "unfinished" / key
    state = first_state(start, budget)
    like = jax.eval_shape(lambda: state)
    if not path.with_suffix(".json").exists():
        state, card = _train(name, state, loss, fixed, batch_of, budget, watch, unfinished)
        leaves = {str(i): np.asarray(a) for i, a in enumerate(jax.tree.leaves(state.ema))}
        files.save(path, leaves, card)
        shutil.rmtree(unfinished, ignore_errors=True)
    kept: Any
    kept, card = files.load(path)  # names that are numbers are numbers again
    params = jax.tree.unflatten(jax.tree.structure(like.ema), [jnp.asarray(kept[i]) for i in range(len(kept))])
    return Trained(params, card["loss"], card["watched"], card["seconds"])


def first_state(start: Any, budget: Budget) -> TrainState:
    """The state before the first step."""
    start = jax.tree.map(jnp.asarray, start)
    return TrainState(jnp.int32(0), start, jax.tree.map(jnp.copy, start), rate(budget).init(start))


def rate(budget: Budget) -> Any:
    """Adam on the clipped gradient; the rate rises during the first steps and falls at the end."""
    return optimiser(
        TrainConfig(steps=budget.steps, batch=budget.batch, lr=budget.lr, warmup=min(50, 1 + budget.steps // 10))
    )


def _train(
    name: str,
    state: TrainState,
    loss: Any,
    fixed: Any,
    batch_of: Any,
    budget: Budget,
    watch: Any,
    folder: Any,
) -> tuple[TrainState, dict]:
    step = make_step(loss, rate(budget), budget.ema)
    card: dict[str, Any] = {"name": name, "budget": asdict(budget), "loss": [], "watched": [], "seconds": 0.0}
    if (found := checkpoint.restore(folder, jax.eval_shape(lambda: state))) is not None:
        state, card = found
    print(f"training: {name}, step {int(state.step)} of {budget.steps}, batches of {budget.batch}", flush=True)
    begun = saved = time.perf_counter()
    before = card["seconds"]
    for n in progress(range(int(state.step), budget.steps), desc=name, unit="step"):
        if n in watch[0] and n not in [row[0] for row in card["watched"]]:
            card["watched"].append([n, *watch[1](state.ema)])
        key = jax.random.fold_in(jax.random.key(budget.seed), n)
        state, value = step(state, fixed, key, batch_of(n))
        card["loss"].append(float(value))
        card["seconds"] = before + time.perf_counter() - begun
        if time.perf_counter() - saved > SAVE_EVERY:
            checkpoint.save(folder, n + 1, state, {k: v for k, v in card.items() if k != "step"})
            saved = time.perf_counter()
    if budget.steps in watch[0]:
        card["watched"].append([budget.steps, *watch[1](state.ema)])
    return state, {k: v for k, v in card.items() if k not in ("step", "sha256", "card_sha256")}


def drawn_batch(n: int, budget: Budget) -> tuple[np.ndarray, drawing.Attributes]:
    """New pictures of the world for step n, in [-1, 1], with their attributes."""
    x, z = drawing.draw(budget.batch, 1_000_000 * (1 + budget.seed) + n)
    return x / np.float32(127.5) - 1, z


def start_quickly() -> None:
    """Keep compiled programs between runs."""
    ask_for_huge_pages()
    use_compile_cache()
