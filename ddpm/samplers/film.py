"""A walk from noise to images with everything on the way: x_t, x̂0, ε̂ and what guidance adds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of
from ddpm.forward import x0_and_eps
from ddpm.guide import cfg, clip_x0
from ddpm.sample import Sampling, walk
from ddpm.samplers.names import STEPS, resolved
from ddpm.samplers.solvers import begun, image
from ddpm.schedule import Schedule
from ddpm.tools import keys
from ddpm.tools.partials import check_labels


class Film(NamedTuple):
    """What happened at each time of a walk; frame i is at t[i], and the last one is the image, t = 0."""

    t: np.ndarray  # (F,) falling
    x_t: np.ndarray  # (F, n, H, W, C)
    x0: np.ndarray  # x̂0 of the guided and clipped denoiser: x_t = √ᾱ_t x̂0 + √(1-ᾱ_t) ε̂; at t = 0 the image
    eps: np.ndarray  # ε̂ of the same; at t = 0 it is 0
    difference: np.ndarray | None  # ε̂(x_t, t, c) - ε̂(x_t, t, ∅); None without labels


def record(
    eps: Eps, schedule: Schedule, key: jax.Array, shape: tuple[int, int, int], ids: Any, c: Any = None,
    how: Sampling = Sampling(),
) -> Film:  # fmt: skip
    """Record the walks of the images ids (n,) that `generation.generate` draws with this key.

    c: (n,) their labels, or None. x̂0 and ε̂ are computed once more at every x_t that the walk visits, so that they are
    those of any sampler, also of one that remembers.
    """
    ids = np.asarray(ids)
    how, c = resolved(how), None if c is None else jax.tree.map(jnp.asarray, check_labels(eps, c, ids.shape))
    times = how.times(schedule)
    # The walk
    key_x, key_walk = jax.random.split(key)
    step = how.step(eps, schedule, c, STEPS)
    x_T = keys.normal_like(keys.of_images(key_x, ids), jnp.zeros((len(ids), *shape)))
    _, states = walk(step, keys.of_images(key_walk, ids), begun(step, x_T), times, path=True)
    x = jnp.concatenate([x_T[None], image(states)])  # (F, n, H, W, C)
    # What was predicted on the way
    guided = cfg(eps, how.guidance) if c is not None and how.guidance != 1 else partial_of(eps)
    guided = clip_x0(guided, schedule) if how.clip else guided
    x0, eps_t = _predicted(guided, schedule, x[:-1], jnp.asarray(times[:-1]), c)
    difference = None if c is None else _differences(partial_of(eps), x[:-1], jnp.asarray(times[:-1]), c)

    def ended(a: jax.Array, last: jax.Array) -> np.ndarray:
        return np.asarray(jnp.concatenate([a, last[None]]))

    zero = jnp.zeros_like(x[-1])
    added = None if difference is None else ended(difference, zero)
    return Film(times, np.asarray(x), ended(x0, x[-1]), ended(eps_t, zero), added)


@jax.jit
def _predicted(eps: Eps, schedule: Schedule, x: jax.Array, times: jax.Array, c: Any) -> tuple[jax.Array, jax.Array]:
    return jax.lax.map(lambda x_t: x0_and_eps(eps, schedule, x_t[0], x_t[1], c), (x, times))


@jax.jit
def _differences(eps: Eps, x: jax.Array, times: jax.Array, c: jax.Array) -> jax.Array:
    def one(x_t: tuple[jax.Array, jax.Array]) -> jax.Array:
        t = jnp.broadcast_to(x_t[1], c.shape)
        return eps(x_t[0], t, c) - eps(x_t[0], t, None)

    return jax.lax.map(one, (x, times))
