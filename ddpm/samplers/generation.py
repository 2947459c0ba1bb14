"""Many images with a progress bar: `sample.walk` in batches, and in pieces where one walk is long."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ddpm.contracts import partial_of
from ddpm.guide import cfg, clip_x0
from ddpm.sample import walk
from ddpm.samplers.names import STEPS
from ddpm.schedule import Schedule, make_times
from ddpm.tools import check
from ddpm.tools.batches import parts

PIECE = 50  # steps between two movements of the bar


def generate(
    eps: Any,
    schedule: Schedule,
    key: jax.Array,
    shape: tuple[int, int, int],
    c: Any = None,
    *,
    n: int | None = None,
    sampler: str = "ddim",
    steps: int = 50,
    guidance: float = 1.0,
    rule: str = "trailing",
    batch: int = 100,
    progress: bool = True,
) -> np.ndarray:
    """n images (n, H, W, C) float32 in [-1, 1], with clipped x̂0.

    c: (n,) labels, or None together with n. Image i begins from the noise of fold_in(split(key)[0], i), whatever the
    batch, the sampler and the number of steps: the same key shows the same images with more or fewer steps.
    """
    check.choice("sampler", sampler, STEPS)
    check.scale(guidance)
    if c is None and n is None:
        raise ValueError("give the labels c, or the number of images n")
    c = None if c is None else np.asarray(c, dtype=np.int32)
    n = check.whole("n", len(c) if c is not None else n, 1)  # type: ignore[arg-type]
    times = make_times(schedule.T, steps, rule)
    key_x, key_walk = jax.random.split(key)
    batches = parts(n, batch)
    guided = cfg(eps, guidance) if c is not None and guidance != 1 else partial_of(eps)
    guided = clip_x0(guided, schedule)

    done = []
    bar = tqdm(total=n * (len(times) - 1), desc=f"{sampler} {len(times) - 1}", unit="step", disable=not progress)
    for ids, m in batches:
        x = _noise(key_x, jnp.asarray(ids), shape)
        step = STEPS[sampler](guided, schedule, None if c is None else jnp.asarray(c[ids]))
        for first in range(0, len(times) - 1, PIECE):
            piece = times[first : first + PIECE + 1]
            x = walk(step, jax.random.fold_in(key_walk, ids[0]), x, piece, first=first)
            jax.block_until_ready(x)
            bar.update(m * (len(piece) - 1))
        done.append(np.asarray(x)[:m])
    bar.close()
    return np.concatenate(done)


def _noise(key: jax.Array, ids: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(ids)
