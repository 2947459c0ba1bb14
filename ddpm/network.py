"""The ε-prediction U-Net of Ho et al. (2020), in Flax.   [App. B and the released code]

Every attribute carries the name that diffusers' `UNet2DModel` gives it, so that released weights load by name.
Nothing outside this file and `train.py` knows that Flax exists: `build(config)` returns two pure functions,

    init(key) -> params                                a nested dict of float32 arrays
    apply(params, x_t, t, c=None, key=None) -> ε̂       key: draws the dropout; None means no dropout

and `eps_fn(config, params)` returns the denoiser `eps(x_t, t, c)` that the rest of the library takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import Partial

from ddpm import check
from ddpm.config import UNetConfig
from ddpm.layers import (
    Conv,
    GroupNorm,
    Level,
    Middle,
    TimeMLP,
    depth_to_space,
    init_zero,
    space_to_depth,
    time_embedding,
)
from ddpm.pytree import Eps


class UNet(nnx.Module):
    """ε̂ = UNet(x_t, t, c): down through the levels, the middle, and up again with a skip from every layer."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = [config.channels * m for m in config.multipliers]
        size = [config.image_size // config.patch // 2**i for i in range(len(width))]
        d_time, dtype, last = 4 * config.channels, jnp.dtype(config.dtype), len(width) - 1
        c_pixel = config.image_channels * config.patch**2

        self.time_embedding = TimeMLP(config.channels, d_time, rngs=rngs)
        if config.num_classes:
            table = nnx.initializers.normal(1.0)(rngs.params(), (config.num_classes + 1, d_time), jnp.float32)
            self.class_embedding = nnx.Param(table)  # the last row is the null label

        self.conv_in = Conv(c_pixel, width[0], rngs=rngs, dtype=dtype)
        skips, down, up = [width[0]], [], []
        for i, c in enumerate(width):
            c_ins = [skips[-1]] + [c] * (config.blocks - 1)
            attend, resample = size[i] in config.attention, "down" if i < last else "none"
            down.append(Level(c_ins, c, attend, resample, d_time, config, rngs=rngs))
            skips += [c] * (config.blocks + (i < last))
        self.down_blocks = nnx.List(down)
        self.mid_block = Middle(width[-1], d_time, config, rngs=rngs)
        h = width[-1]
        for i, c in reversed(list(enumerate(width))):
            c_ins = []
            for _ in range(config.blocks + 1):
                c_ins.append(h + skips.pop())
                h = c
            attend, resample = size[i] in config.attention, "up" if i > 0 else "none"
            up.append(Level(c_ins, c, attend, resample, d_time, config, rngs=rngs))
        self.up_blocks = nnx.List(up)
        self.conv_norm_out = GroupNorm(width[0], config.groups)
        c_out = c_pixel * (2 if config.learned_variance else 1)
        self.conv_out = Conv(width[0], c_out, rngs=rngs, init=init_zero, dtype=dtype)

    def __call__(
        self, x_t: jax.Array, t: jax.Array, c: jax.Array | None, key: jax.Array | None = None, seen: dict | None = None
    ) -> jax.Array:
        config, n_block = self.config, 0
        seen = {} if seen is None else seen  # the activations by name, for `activations`

        def block_key() -> jax.Array | None:
            nonlocal n_block
            n_block += 1
            return None if key is None or config.dropout == 0 else jax.random.fold_in(key, n_block)

        temb = self.time_embedding(time_embedding(t, config.channels))  # (B, 4·channels)
        if config.num_classes:
            temb = temb + self.class_embedding[...][c]

        h = self.conv_in(space_to_depth(x_t, config.patch))
        skips = [h]
        seen["in"] = h
        for i, level in enumerate(self.down_blocks):
            for j, block in enumerate(level.resnets):
                h = block(h, temb, block_key())
                h = seen[f"down.{i}.{j}"] = level.attentions[j](h) if level.attend else h
                skips.append(h)
            if level.resample == "down":
                h = level.downsamplers[0](h)
                skips.append(h)
            seen[f"down.{i}"] = h

        h = self.mid_block.resnets[0](h, temb, block_key())
        h = self.mid_block.attentions[0](h)
        h = seen["mid"] = self.mid_block.resnets[1](h, temb, block_key())

        for i, level in enumerate(self.up_blocks):
            for j, block in enumerate(level.resnets):
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), temb, block_key())
                h = seen[f"up.{i}.{j}"] = level.attentions[j](h) if level.attend else h
            if level.resample == "up":
                h = level.upsamplers[0](h)
            seen[f"up.{i}"] = h

        h = self.conv_out(nnx.silu(self.conv_norm_out(h)))
        seen["out"] = depth_to_space(h.astype(jnp.float32), config.patch)
        return seen["out"]


# --- the door to the rest of the library ------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def build(config: UNetConfig) -> tuple[Callable[..., dict], Callable[..., jax.Array]]:
    """The network as two pure functions, `init(key) -> params` and `apply(params, x_t, t, c=None, key=None) -> ε̂`.

    The same config gives the same functions, so nothing compiles twice.
    """

    def make(key: jax.Array) -> UNet:
        return UNet(config, rngs=nnx.Rngs(key))

    graphdef, _ = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))), nnx.Param)

    @jax.jit
    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(make(key), nnx.Param)[1])

    def apply(
        params: dict,
        x_t: jax.Array,
        t: jax.Array,
        c: jax.Array | None = None,
        key: jax.Array | None = None,
        seen: dict | None = None,
    ) -> jax.Array:
        B = x_t.shape[0]
        if x_t.ndim != 4 or x_t.shape[1:] != config.image_shape:
            raise ValueError(
                f"x_t has shape {x_t.shape}; this network wants (B, {', '.join(map(str, config.image_shape))})"
            )
        t = jnp.broadcast_to(t, (B,))
        if config.num_classes:
            c = jnp.full((B,), config.num_classes) if c is None else check.labels(c, B, config.num_classes)
        elif c is not None:
            raise ValueError("c was given to a network without classes (num_classes = 0); leave it None")
        return nnx.merge(graphdef, params)(x_t, t, c, key, seen)

    return init, apply


def eps_fn(config: UNetConfig, params: dict) -> Eps:
    """The denoiser `eps(x_t, t, c)` with these parameters: a pytree, so it goes through `jit` as an argument."""
    return Partial(build(config)[1], params)


def activations(config: UNetConfig, params: dict, x_t: jax.Array, t: jax.Array, c: jax.Array | None = None) -> dict:
    """What every layer says about (x_t, t, c), by name, in the order of the computation: {name: (B, h, w, C)}.

    `in`; then `down.i.j`, block j of level i with its attention, and `down.i`, the level with its change of size;
    `mid`; `up.i.j` and `up.i` likewise (i = 0 is the smallest size); and `out`, which is ε̂. Inside `jit`, layers that
    are not used cost nothing.
    """
    seen: dict[str, jax.Array] = {}
    build(config)[1](params, x_t, t, c, seen=seen)
    return seen


def count(params: Any) -> int:
    """The number of parameters."""
    return sum(math.prod(a.shape) for a in jax.tree.leaves(params))


def param_shapes(config: UNetConfig) -> dict:
    """Shapes and types of the parameters, without making any."""
    return jax.eval_shape(build(config)[0], jax.random.key(0))
