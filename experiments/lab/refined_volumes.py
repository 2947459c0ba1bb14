"""A second network for volumes, that reads the estimate of a first one cell by cell, and corrects it.

    x̂0(x_t, t, c) = x̂0_first + net(cells of x_t and of x̂0_first, t, c)

Its tokens are the 64 cells of a volume, and all have the same weights, so that what a part looks like is learned once,
and not for each floor and each width of a layer anew. Which cells are slots is hard to tell from the noise of one cell;
this it reads in the first estimate. The first network stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from ddpm.contracts import Eps
from ddpm.data import Dataset
from ddpm.datasets import blocks, volumes
from ddpm.forward import eps_from_x0, q_sample, x0_from_eps
from ddpm.networks import build
from ddpm.networks.dit_config import DiTConfig
from ddpm.schedule import Schedule
from ddpm.tools import cache, files
from ddpm.training.timed import fit
from ddpm.zoo.model import Model
from experiments.lab.latent_trainings import countdown

NET = DiTConfig(
    blocks.SIZE,
    blocks.CELL,  # channels: a cell is 6 x 6 pixels of 6 channels, one token
    image_width=blocks.SIZE * blocks.CELLS,
    extra_channels=blocks.CELL,
    num_classes=len(blocks.CLASSES),
    patch=blocks.CELL,
    channels=64,
    blocks=3,
)


def estimate(params: dict, first: Eps, schedule: Schedule, x_t: jax.Array, t: Any, c: Any) -> jax.Array:
    """x̂0 of volumes (B, 24, 24, 24); parameters of 0 in the last layer leave that of `first`."""
    x0 = jax.lax.stop_gradient(x0_from_eps(schedule, x_t, t, first(x_t, t, c)).clip(-1, 1))
    seen = jnp.concatenate([volumes.side_by_side(x_t), volumes.side_by_side(x0)], -1)
    return x0 + volumes.stacked(build(NET)[1](params, seen, t, c))


def _eps(params: dict, first: Eps, schedule: Schedule, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
    return eps_from_x0(schedule, x_t, t, estimate(params, first, schedule, x_t, t, c))


_eps.labels = lambda *_: len(blocks.CLASSES)  # type: ignore[attr-defined]


def loss(params: dict, key: jax.Array, x0: jax.Array, c: jax.Array, first: Eps, schedule: Schedule) -> jax.Array:
    """E ‖x0 - x̂0‖² with t = T √u, u ~ U(0, 1): noisy times, at which slots are decided, come more often."""
    key_t, key_noise = jax.random.split(key)
    u = (jax.random.uniform(key_t) + jnp.arange(len(x0)) / len(x0)) % 1
    t = jnp.clip(jnp.ceil(schedule.T * jnp.sqrt(u)), 1, schedule.T).astype(jnp.int32)
    x_t = q_sample(schedule, x0, t, jax.random.normal(key_noise, x0.shape))
    return ((estimate(params, first, schedule, x_t, t, c) - x0) ** 2).mean()


def refined(first: Model, of: Path, steps: int, data: Dataset) -> Eps:
    """The denoiser of both networks; the second from the cache, beside the run `of` of the first, or trained now."""
    path = of.with_name(f"{of.name}-refined-{cache.key(steps, repr(NET))}")
    if not path.with_name(path.name + ".json").exists():
        params = build(NET)[0](jax.random.key(0))
        at = (first.eps, first.schedule)
        params = fit(loss, params, data.x_train, data.y_train, 0, countdown(steps), *at, share=0.05)
        files.save(path, jax.device_get(params), {"steps": steps, "network": repr(NET)})
    params = jax.tree.map(jnp.asarray, files.load(path)[0])
    return Partial(_eps, params, first.eps, first.schedule)
