"""Filling in what is missing, with any denoiser: x0-replacement, RePaint, SDEdit, and masks to try them with.

A mask is 1 where the image is known and kept, 0 where it is to be filled: (H, W, 1) or (B, H, W, 1), or the image's own
shape. All of these wrap a step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Step, partial_of, technique
from ddpm.forward import from_x0, q_sample, q_step, x0_and_eps
from ddpm.sample import walk
from ddpm.schedule import Schedule
from ddpm.tools import check, keys


def _mask(mask: Any, x: jax.Array) -> jax.Array:
    """The mask, if it is one for images like x (B, ...): 0/1, and of their size."""
    mask = jnp.asarray(mask)
    fits = mask.ndim in (x.ndim - 1, x.ndim) and mask.shape[-1] in (1, x.shape[-1])
    fits = fits and mask.shape[-x.ndim + 1 : -1] == x.shape[1:-1] and (mask.ndim < x.ndim or len(mask) in (1, len(x)))
    if not fits:
        raise ValueError(f"mask has shape {mask.shape}; for images {x.shape} give (H, W, 1) or (B, H, W, 1)")
    if check.known(mask) and not np.all(np.isin(np.asarray(mask), (0, 1))):
        raise ValueError("mask has values other than 0 and 1; 1 is kept, 0 is filled in")
    mask = mask if mask.ndim == x.ndim else mask[None]
    return jnp.broadcast_to(mask, x.shape).astype(x.dtype)


def _mask_for(known: jax.Array, mask: Any, **_: Any) -> dict[str, jax.Array]:
    return {"mask": _mask(mask, known)}


# --- wrappers ---------------------------------------------------------------------------------------------------------


@technique(_mask_for, eps=partial_of)
@from_x0
def replace_x0(
    x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, schedule: Schedule, known: jax.Array, mask: Any
) -> jax.Array:
    """Put the known pixels into x̂0 and derive ε̂ again: a guide, for any sampler.

    The known pixels are exact at the end; what is filled in sees them through x_t only as well as ε̂ does.
    """
    check.same_shape("known", known, "x_t", x_t)
    return mask * known + (1 - mask) * x0_and_eps(eps, schedule, x_t, t, c)[0]


@technique(_mask_for, step=partial_of)
def repaint(
    key: jax.Array, x_t: Any, t: Any, s: Any, /, step: Step, schedule: Schedule, known: jax.Array, mask: Any
) -> jax.Array:
    """RePaint: down, the known pixels at level s are drawn from q(x_s | known); up, the whole image is noised again.

        s < t:  x_s = m ⊙ (√ᾱ_s known + √(1-ᾱ_s) ε) + (1-m) ⊙ step(x_t)                  [Lugmayr et al. 2022, Alg. 1]
        s > t:  x_s = √(ᾱ_s/ᾱ_t) x_t + √(1 - ᾱ_s/ᾱ_t) ε                                                    [Eq. 1]

    (Line 5 of the printed algorithm lacks the square root of 1-ᾱ.) Walk it along `repaint_times`: going up and down
    again lets the filling agree with what is known. At s = 0 the known pixels are exactly themselves.
    """
    check.same_shape("known", known, "x_t", x_t)
    key_step, key_noise = keys.split(key)
    noise = keys.normal_like(key_noise, known)

    def down(t: jax.Array, s: jax.Array) -> jax.Array:
        return mask * q_sample(schedule, known, s, noise) + (1 - mask) * step(key_step, x_t, t, s)

    def up(t: jax.Array, s: jax.Array) -> jax.Array:
        return q_step(schedule, x_t, t, s, noise)

    return jax.lax.cond(s < t, down, up, jnp.asarray(t), jnp.asarray(s))


def repaint_times(times: Any, jump: int = 10, resample: int = 10) -> np.ndarray:
    """The list that climbs: after every `jump` steps down, go `jump` up and down again, `resample` - 1 times.

    times: (n+1,) falling to 0, such as make_times(1000, 250). 250/10/10: 2,410 steps down, 2,160 up, 4,571 times.
    [Lugmayr et al. 2022, App. and released schedule]
    """
    times = check.falling_to_0(times)
    check.whole("jump", jump, 1)
    check.whole("resample", resample, 1)
    n = len(times) - 1  # positions n (noise) … 0 (clean)
    left = {position: resample - 1 for position in range(0, n - jump, jump)}
    position, path = n, [n]
    while position > 0:
        position -= 1
        path.append(position)
        if left.get(position, 0) > 0:
            left[position] -= 1
            path.extend(range(position + 1, position + jump + 1))
            position += jump
    return times[::-1][np.asarray(path)].astype(np.int32)


def sdedit(step: Step, schedule: Schedule, key: jax.Array, x0: jax.Array, times: Any) -> jax.Array:
    """Noise a sketch to times[0], then walk down: the later it begins, the more stays.   [Meng et al. 2022, Alg. 1]

    times: falling to 0 from the strength wanted, such as make_times(1000, 50)[25:] for half of the steps.
    """
    times = np.asarray(times)
    key_noise, key_walk = keys.split(key)
    x_t = q_sample(schedule, x0, int(times[0]), keys.normal_like(key_noise, x0))
    return walk(step, key_walk, x_t, times)
