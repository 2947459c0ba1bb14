"""Adaptive guidance: two network calls a step until they agree, then one.

Late in the walk ε̂_c and ε̂_∅ point the same way and guidance changes little. As soon as their cosine similarity reaches
a threshold (for the whole batch: its least similar image), the rest of the walk is conditional only.

    cost of a walk guided for a share f of its steps, relative to full guidance: (1 + f)/2     [Castillo et al. 2023]

It needs a memory ("have we stopped?"), so it is a step that carries one next to x, and it counts its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpm.contracts import Eps, Partial, Step, constant, falls, partial_of, technique
from ddpm.guide import cfg
from ddpm.networks.heads import v_head
from ddpm.sample import ddim_step
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.partials import v_form


class Guided(NamedTuple):
    """What adaptive guidance carries through `walk`."""

    x: jax.Array  # (B, ...)
    on: jax.Array  # () bool  still guiding
    calls: jax.Array  # () int  network calls so far, each of the whole batch


def begin(x_T: jax.Array) -> Guided:
    """The state that `adaptive_step` starts from; the walk's result has the image `x` and the number of `calls`."""
    return Guided(x_T, jnp.asarray(True), jnp.int32(0))


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """a·b/(|a||b|) of each image: (B,)"""
    axes = tuple(range(1, a.ndim))
    return (a * b).sum(axes) / jnp.sqrt((a * a).sum(axes) * (b * b).sum(axes))


def _has_labels(threshold: Any, c: Any, **_: Any) -> None:
    check.number("threshold", threshold, -1)
    if c is None:
        raise ValueError("adaptive guidance needs labels c to guide towards")


@technique(
    _has_labels,
    eps=partial_of,
    c=partial(jax.tree.map, jnp.asarray),
    scale=check.scale_array,
    threshold=lambda threshold: jnp.asarray(threshold, dtype=float),
    make_step=Partial,
    after=lambda after: None if after is None else partial_of(after),
)
@falls
def adaptive_step(
    key: jax.Array, state: Guided, t: jax.Array, s: jax.Array, /,
    eps: Eps, schedule: Schedule, c: jax.Array, scale: Any, threshold: float = 0.99,
    *, make_step: Callable[..., Step] = ddim_step, after: Callable[[Eps], Eps] | None = None,
) -> Guided:  # fmt: skip
    """Guide with scale s until cos(ε̂_c, ε̂_∅) ≥ threshold, then ε̂_c.   [Castillo et al. 2023, Sec. 4]

    make_step: any sampler's (eps, schedule, c) -> step that calls ε̂ once;  after: a guide put on the result, such as
    Partial(clip_x0, schedule=schedule). walk(adaptive_step(...), key, begin(x_T), times) returns x, on and calls.
    """
    if not isinstance(state, Guided):
        raise TypeError("adaptive_step carries a state: give walk `begin(x_T)`, take `.x` and `.calls` of its result")
    t_all = jnp.broadcast_to(t, state.x.shape[:1])
    # What is predicted and combined: v̂ where the network can, else ε̂; guidance is the same sum of either
    v_hat = v_form(eps)
    predict, as_eps = (eps, partial_of) if v_hat is None else (v_hat, partial(v_head, schedule=schedule))

    def both() -> tuple[jax.Array, jax.Array]:
        given_c, given_null = predict(state.x, t_all, c), predict(state.x, t_all, None)
        guided = cfg(Partial(_pick, given_c, given_null), scale)(state.x, t_all, c)
        eps_c, eps_null = (as_eps(constant(value))(state.x, t_all) for value in (given_c, given_null))
        return guided, cosine(eps_c, eps_null).min() < threshold

    def alone() -> tuple[jax.Array, jax.Array]:
        return predict(state.x, t_all, c), jnp.asarray(False)

    value, on = jax.lax.cond(state.on, both, alone)
    denoiser = as_eps(constant(value))
    step = make_step(denoiser if after is None else after(denoiser), schedule, c)
    return Guided(step(key, state.x, t, s), on, state.calls + jnp.where(state.on, 2, 1))


def _pick(eps_c: jax.Array, eps_null: jax.Array, x_t: jax.Array, t: jax.Array, c: Any) -> jax.Array:
    return eps_null if c is None else eps_c
