"""The ε-prediction U-Net of Ho et al. (2020), in Flax.   [App. B and the released code]

Every attribute carries the name that diffusers' `UNet2DModel` gives it, so that released weights load by name.
Nothing outside this file and `train.py` knows that Flax exists: `build(config)` returns two pure functions,

    init(key) -> params                                a nested dict of float32 arrays
    apply(params, x_t, t, c=None, key=None) -> ε̂       key: draws the dropout; None means no dropout

and `eps_fn(config, params)` returns the denoiser `eps(x_t, t, c)` that the rest of the library takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import Partial

from ddpm.config import UNetConfig
from ddpm.contracts import Eps
from ddpm.tools import check, ops
from ddpm.tools.layers import Conv, Draws, GroupNorm, Linear, Resample, TimeMLP, init_zero, runs_once, traced_once
from ddpm.tools.ops import depth_to_space, space_to_depth, time_embedding


class ResBlock(nnx.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + time))))"""

    def __init__(self, c_in: int, c_out: int, d_time: int, config: UNetConfig, *, draws: Draws):
        dtype = jnp.dtype(config.dtype)
        self.norm1 = GroupNorm(c_in, config.groups, config.norm_eps)
        self.conv1 = Conv(c_in, c_out, draws=draws, dtype=dtype)
        self.time_emb_proj = Linear(d_time, c_out * (2 if config.scale_shift else 1), draws=draws)
        self.norm2 = GroupNorm(c_out, config.groups, config.norm_eps)
        self.drop = nnx.Dropout(config.dropout)
        self.conv2 = Conv(c_out, c_out, draws=draws, init=init_zero, dtype=dtype)
        self.conv_shortcut = Conv(c_in, c_out, 1, draws=draws, dtype=dtype) if c_in != c_out else None
        self.scale_shift = config.scale_shift

    def __call__(self, x: jax.Array, temb: jax.Array, key: jax.Array | None) -> jax.Array:
        h = self.conv1(nnx.silu(self.norm1(x)))
        time = self.time_emb_proj(nnx.silu(temb))[:, None, None, :].astype(h.dtype)  # (B, 1, 1, c)
        if self.scale_shift:
            scale, shift = jnp.split(time, 2, axis=-1)
            h = nnx.silu(self.norm2(h) * (1 + scale) + shift)
        else:
            h = nnx.silu(self.norm2(h + time))
        h = self.drop(h, deterministic=key is None, rngs=None if key is None else nnx.Rngs(key))
        return self.conv2(h) + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nnx.Module):
    """x + softmax(q kᵀ/√C) v over the positions of the image, one head as in the paper.   [Ho et al. 2020, App. B]"""

    def __init__(self, channels: int, config: UNetConfig, groups: int, *, draws: Draws):
        linear = partial(Linear, channels, channels, draws=draws, dtype=jnp.dtype(config.dtype))
        self.heads = channels // config.head_width if config.head_width else 1
        self.group_norm = GroupNorm(channels, groups, config.norm_eps) if groups else None
        self.to_q, self.to_k, self.to_v = linear(), linear(), linear()
        self.to_out = nnx.List([linear(init=init_zero)])

    def __call__(self, x: jax.Array) -> jax.Array:
        B, H, W, C = x.shape
        h = (x if self.group_norm is None else self.group_norm(x)).reshape(B, H * W, C)
        q, k, v = self.to_q(h), self.to_k(h), self.to_v(h)  # (B, HW, C)
        return x + self.to_out[0](ops.attend(q, k, v, self.heads)).reshape(B, H, W, C)


class Level(nnx.Module):
    """Residual blocks of one size, each followed by attention if requested, then the change of size."""

    def __init__(
        self, c_ins: list[int], c_out: int, attend: bool, resample: str, d_time: int, config: UNetConfig, *,
        draws: Draws,
    ):  # fmt: skip
        self.resnets = nnx.List([ResBlock(c, c_out, d_time, config, draws=draws) for c in c_ins])
        if attend:
            self.attentions = nnx.List([Attention(c_out, config, config.groups, draws=draws) for _ in c_ins])
        change = partial(Resample, c_out, resample == "up", config.symmetric, dtype=jnp.dtype(config.dtype))
        if resample == "down":
            self.downsamplers = nnx.List([change(draws=draws)])
        if resample == "up":
            self.upsamplers = nnx.List([change(draws=draws)])
        self.attend, self.resample = attend, resample


class Middle(nnx.Module):
    """Residual block, attention, residual block, at the smallest size."""

    def __init__(self, channels: int, d_time: int, config: UNetConfig, *, draws: Draws):
        self.resnets = nnx.List([ResBlock(channels, channels, d_time, config, draws=draws) for _ in range(2)])
        if config.middle_attention:
            groups = config.groups if config.middle_groups is None else config.middle_groups
            self.attentions = nnx.List([Attention(channels, config, groups, draws=draws)])


class UNet(nnx.Module):
    """ε̂ = UNet(x_t, t, c): down through the levels, the middle, and up again with a skip from every layer."""

    def __init__(self, config: UNetConfig, *, draws: Draws):
        self.config = config
        width = [config.channels * m for m in config.multipliers]
        size, d_time, dtype, last = config.map_sizes, 4 * config.channels, jnp.dtype(config.dtype), len(width) - 1
        c_pixel = config.image_channels * config.patch**2
        # Embeddings of time and class
        self.time_embedding = TimeMLP(config.channels, d_time, draws=draws)
        if config.num_classes:
            table = draws(nnx.initializers.normal(1.0), (config.num_classes + config.null_label, d_time))
            self.class_embedding = nnx.Param(table)  # the last row is the null label
        # The way down, the middle, and the way up with the skips
        self.conv_in = Conv(c_pixel + config.extra_channels * config.patch**2, width[0], draws=draws, dtype=dtype)
        skips, down, up = [width[0]], [], []
        for i, c in enumerate(width):
            c_ins = [skips[-1]] + [c] * (config.blocks - 1)
            attend, resample = size[i] in config.attention, "down" if i < last else "none"
            down.append(Level(c_ins, c, attend, resample, d_time, config, draws=draws))
            skips += [c] * (config.blocks + (i < last))
        self.down_blocks = nnx.List(down)
        self.mid_block = Middle(width[-1], d_time, config, draws=draws)
        h = width[-1]
        for i, c in reversed(list(enumerate(width))):
            c_ins = []
            for _ in range(config.blocks + 1):
                c_ins.append(h + skips.pop())
                h = c
            attend, resample = size[i] in config.attention, "up" if i > 0 else "none"
            up.append(Level(c_ins, c, attend, resample, d_time, config, draws=draws))
        self.up_blocks = nnx.List(up)
        self.conv_norm_out = GroupNorm(width[0], config.groups, config.norm_eps)
        c_out = c_pixel * (2 if config.learned_variance else 1)
        self.conv_out = Conv(width[0], c_out, draws=draws, init=init_zero, dtype=dtype)

    def __call__(
        self, x_t: jax.Array, t: jax.Array, c: jax.Array | None, key: jax.Array | None = None, seen: dict | None = None
    ) -> jax.Array:
        config, n_block = self.config, 0
        seen = {} if seen is None else seen  # the activations by name, for `activations`

        def block_key() -> jax.Array | None:
            nonlocal n_block
            n_block += 1
            return None if key is None or config.dropout == 0 else jax.random.fold_in(key, n_block)

        temb = self.time_embedding(time_embedding(t, config.channels, config.time_shift))  # (B, 4·channels)
        if config.num_classes:
            temb = temb + self.class_embedding[...][c]
        # Down, keeping every activation as a skip
        (H, W, _), (below, right) = config.image_shape, config.padded
        x_t = jnp.pad(x_t, ((0, 0), (0, below - H), (0, right - W), (0, 0)))
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
        # The middle
        h = self.mid_block.resnets[0](h, temb, block_key())
        h = self.mid_block.attentions[0](h) if config.middle_attention else h
        h = seen["mid"] = self.mid_block.resnets[1](h, temb, block_key())
        # Up, joined with the skips
        for i, level in enumerate(self.up_blocks):
            for j, block in enumerate(level.resnets):
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), temb, block_key())
                h = seen[f"up.{i}.{j}"] = level.attentions[j](h) if level.attend else h
            if level.resample == "up":
                h = level.upsamplers[0](h)
            seen[f"up.{i}"] = h
        h = self.conv_out(nnx.silu(self.conv_norm_out(h)))
        seen["out"] = depth_to_space(h.astype(jnp.float32), config.patch)[:, :H, :W]
        return seen["out"]


@lru_cache(maxsize=32)
def build(config: UNetConfig) -> tuple[Callable[..., dict], Callable[..., jax.Array]]:
    """Build two pure functions, `init(key) -> params` and `apply(params, x_t, t, c=None, key=None) -> ε̂`.

    The same config gives the same functions, so nothing compiles twice.
    """
    last = config.num_classes - (config.num_classes > 0 and not config.null_label)  # the greatest label
    draws = Draws()
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: UNet(config, draws=draws)), nnx.Param)  # without arrays
    forward = traced_once(lambda params, *inputs: nnx.merge(graphdef, params)(*inputs))

    @runs_once
    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(UNet(config, draws=draws.of(key)), nnx.Param)[1])

    def apply(
        params: dict, x_t: jax.Array, t: jax.Array,
        c: jax.Array | None = None, key: jax.Array | None = None, seen: dict | None = None,
    ) -> jax.Array:  # fmt: skip
        B, (H, W, C) = x_t.shape[0], config.image_shape
        check.fits("x_t", x_t, (H, W, C + config.extra_channels), "network")
        if jnp.issubdtype(jnp.result_type(t), jnp.integer):
            check.times(t, x_t, float("inf"), low=0)
        t = jnp.broadcast_to(t, (B,))
        if config.num_classes:
            if c is None and not config.null_label:
                raise ValueError("this network has no label for no class; give the classes c, and no guidance")
            c = jnp.full((B,), last, jnp.int32) if c is None else check.labels(c, B, last)
        elif c is not None:
            raise ValueError("c was given to a network without classes (num_classes = 0); leave it None")
        return forward(params, x_t, t, c, key, seen=seen)

    init.shapes = nnx.to_pure_dict(shapes)  # type: ignore[attr-defined]
    apply.labels = lambda *_: config.num_classes  # type: ignore[attr-defined]
    return init, apply


def eps_fn(config: UNetConfig, params: dict) -> Eps:
    """Return the denoiser `eps(x_t, t, c)` with these parameters: a pytree, so `jit` takes it as an argument."""
    return Partial(build(config)[1], params)
