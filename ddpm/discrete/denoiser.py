"""A transformer of images as a denoiser of tokens: one channel for each value of a token, and one for the mask.

    p(v at j | open tokens) = softmax_v f(one-hot x_t)_j        v = 0 … V-1, f: `ddpm.networks.dit` with patches of 1

The J tokens stand on a grid, row by row. The conditional knows no time (RADD, Theorem 1), so f is evaluated at t = 0
only. A new network is 0: it gives each hidden token all values alike, and the losses of `absorbing` are J log V.

    token_init(config, key) -> params    a new network whose gates are open, for tokens that tell little of each other

The blocks of `dit` begin behind gates of 0. What one token tells of another then passes two factors that are 0, the
gate and the last layer, and its gradient is 0 as well: where most of the loss is frequencies, such a network stays with
them for long. With gates of 1 the last layer sees the other tokens from the first step on.
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

    config: from `token_config`;  params: of its network, `token_init(config, key)` at first.
    """
    return Partial(_conditional(config), params)


def token_image(x: jax.Array, rows: int, columns: int, V: int) -> jax.Array:
    """√(V+1) one-hot x, (B, rows, columns, V+1): the mean square of a channel is 1, as that of an image should be."""
    return jax.nn.one_hot(x, V + 1).reshape(-1, rows, columns, V + 1) * (V + 1) ** 0.5


def token_init(config: DiTConfig, key: jax.Array) -> dict:
    """Parameters of a new network with all gates α_1, α_2 at 1; the last layer is 0, and so is the network."""
    params, D = jax.tree.map(lambda a: a, build(config)[0](key)), config.channels
    for block in params["layers"].values():
        bias = block["modulation"]["bias"]
        block["modulation"]["bias"] = bias.at[2 * D : 3 * D].set(1).at[5 * D :].set(1)
    return params


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
        logits = apply(params, token_image(x, rows, columns, V), 0, c).reshape(-1, J, V + 1)[..., :V]
        return jnp.where((x == V)[..., None], jax.nn.softmax(logits, axis=2), jax.nn.one_hot(x, V))

    return conditional
