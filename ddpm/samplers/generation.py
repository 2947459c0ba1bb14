"""Many images with a progress bar: `sample.walk` in batches, and in pieces where one walk is long."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps
from ddpm.sample import Sampling, walk
from ddpm.samplers.names import STEPS, name, resolved
from ddpm.samplers.solvers import begun, image
from ddpm.schedule import Schedule
from ddpm.tools import check, conditions, keys
from ddpm.tools.batches import parts, progress
from ddpm.tools.partials import check_labels

PIECE = 50  # steps between two movements of the bar


def generate(
    eps: Eps,
    schedule: Schedule,
    key: jax.Array,
    shape: tuple[int, int, int],
    c: Any = None,
    how: Sampling = Sampling(),
    n: int | None = None,
    batch: int = 100,
) -> np.ndarray:
    """n images (n, H, W, C) float32 in [-1, 1].

    c: (n,) labels or a `Condition`, or None together with n;  how: its sampler and its rule may be names of
    `ddpm.samplers.names`. Image i begins from the noise of fold_in(split(key)[0], i) and walks with
    fold_in(split(key)[1], i), whatever n and the batch: so the same key shows the same images with more or fewer of
    them, and with more or fewer steps.
    """
    if c is None and n is None:
        raise ValueError("give the labels c, or the number of images n")
    n = check.whole("n", n if c is None else conditions.count(c), 1)  # type: ignore[arg-type]
    c = None if c is None else check_labels(eps, c, (n,))
    how = resolved(how)
    times = how.times(schedule)
    key_x, key_walk = jax.random.split(key)

    # One batch at a time, and a long walk in pieces, after which the progress bar moves
    done = []
    with progress(total=n * (len(times) - 1), desc=f"{name(how)} {len(times) - 1}", unit="step") as bar:
        for ids, m in parts(n, batch):
            step = how.step(eps, schedule, jax.tree.map(jnp.asarray, conditions.rows(c, ids)), STEPS)
            x = begun(step, keys.normal_like(keys.of_images(key_x, ids), jnp.zeros((len(ids), *shape))))
            for first in range(0, len(times) - 1, PIECE):
                piece = times[first : first + PIECE + 1]
                x = walk(step, keys.of_images(key_walk, ids), x, piece, first=first)
                jax.block_until_ready(x)
                bar.update(m * (len(piece) - 1))
            done.append(np.asarray(image(x))[:m])
    found = np.concatenate(done)
    if bad := int((~np.isfinite(found)).any((1, 2, 3)).sum()):
        raise ValueError(
            f"{bad} of {n} images hold NaN or infinity: the weights are damaged or diverged, or the steps too large"
        )
    return found
