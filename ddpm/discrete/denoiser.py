"""A transformer of images as a denoiser of tokens: one channel for each value of a token, and one for the mask.

    p(v at j | open tokens) = softmax_v f(one-hot x_t)_j        v = 0 … V-1, f: `ddpm.networks.dit` with patches of 1

The J tokens stand on a grid, row by row. The conditional knows no time (RADD, Theorem 1), so f is evaluated at t = 0
only. A new network is 0: it gives each hidden token all values alike, and the losses of `absorbing` are J log V.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Partial
from ddpm.networks.dit import build
from ddpm.networks.dit_config import DiTConfig
from ddpm.tools import check


def token_config(rows: int, columns: int, V: int, **changes: Any) -> DiTConfig:
    """A transformer of tokens 0 … V-1 (V: hidden) on rows x columns; `changes`: channels, blocks, num_classes, …"""
    for name, value in (("rows", rows), ("columns", columns), ("V", V)):
        check.whole(name, value, 1)
    return DiTConfig(**{"image_size": rows, "image_width": columns, "image_channels": V + 1, "patch": 1} | changes)


def token_denoiser(config: DiTConfig, params: dict) -> Partial:
    """p(v at j | open tokens), (x_t (B, J) int, t, c | None) -> (B, J, V); an open token has probability 1.

    config: from `token_config`;  params: of its network, `ddpm.networks.build(config)[0](key)` at first.
    """
    return Partial(_conditional(config), params)


@lru_cache(maxsize=32)
def _conditional(config: DiTConfig) -> Callable[..., jax.Array]:
    apply, (rows, columns, channels) = build(config)[1], config.image_shape
    J, V = rows * columns, channels - 1

    def conditional(params: dict, x_t: jax.Array, t: Any = None, c: Any = None) -> jax.Array:
        span, x = check.bounds(x_t), jnp.asarray(x_t)
        if x.ndim != 2 or x.shape[1] != J or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"x_t has shape {x.shape} and type {x.dtype}; give integer tokens (B, {J})")
        if span and not (0 <= span[0] and span[1] <= V):
            raise ValueError(f"x_t lies in {span[0]}..{span[1]}, outside of the vocabulary 0..{V} ({V} = hidden)")
        image = jax.nn.one_hot(x, V + 1).reshape(-1, rows, columns, V + 1)
        logits = apply(params, image, 0, c).reshape(-1, J, V + 1)[..., :V]
        return jnp.where((x == V)[..., None], jax.nn.softmax(logits, axis=2), jax.nn.one_hot(x, V))

    return conditional
