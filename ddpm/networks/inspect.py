"""Look inside a network: the activations of every layer, the number and the shapes of its parameters."""

from __future__ import annotations

import math
from typing import Any

import jax

from ddpm.config import UNetConfig
from ddpm.networks.dit import build


def activations(config: UNetConfig, params: dict, x_t: jax.Array, t: jax.Array, c: jax.Array | None = None) -> dict:
    """Activations of every layer at (x_t, t, c) by name, in the order of the computation: {name: (B, h, w, C)}.

    `in`; then `down.i.j`, block j of level i with its attention, and `down.i`, the level with its change of size;
    `mid`; `up.i.j` and `up.i` likewise (i = 0 is the smallest size); and `out`, which is ε̂. Of a transformer `in`,
    `block.i` and `out`. Inside `jit`, layers that are not used cost nothing.
    """
    seen: dict[str, jax.Array] = {}
    build(config)[1](params, x_t, t, c, seen=seen)
    return seen


def count(params: Any) -> int:
    """The number of parameters."""
    return sum(math.prod(a.shape) for a in jax.tree.leaves(params))


def param_shapes(config: UNetConfig) -> dict:
    """Shapes and types of the parameters, without making any."""
    return jax.tree.map(lambda a: a, build(config)[0].shapes)  # type: ignore[attr-defined]
