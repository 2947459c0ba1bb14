"""The diffusion transformer with adaLN-Zero: tokens of pixels in place of a U-Net.   [Peebles and Xie 2023, DiT]

    h = W patchify(x_t) + position                       (β, γ, α) × 2 = Linear(silu(time + class)),  zero at first
    h ← h + α_1 attention((1 + γ_1) norm(h) + β_1)       h ← h + α_2 mlp((1 + γ_2) norm(h) + β_2)          [Fig. 3]
    ε̂ = unpatchify(Linear((1 + γ) norm(h) + β)),  zero at first

A new network is therefore 0, and each of its blocks the identity. The functions `build` here serve U-Nets and
transformers alike, by the class of their configuration; the rest of the library takes either.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial

from ddpm import network
from ddpm.config import UNetConfig
from ddpm.contracts import Eps
from ddpm.networks.crossattention import build_text
from ddpm.networks.dit_config import DiTConfig
from ddpm.networks.text_config import TextConfig
from ddpm.tools import check, ops
from ddpm.tools.layers import Draws, Linear, runs_once, traced_once
from ddpm.tools.ops import depth_to_space, space_to_depth, time_embedding

zeros = nnx.initializers.zeros_init()


def norm(h: jax.Array) -> jax.Array:
    """(h - mean)/√(var + 1e-6) over the channels, without parameters, in float32."""
    h = h.astype(jnp.float32)
    return (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-6)


def modulate(h: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """(1 + γ) norm(h) + β: (B, N, D), (B, D), (B, D) -> (B, N, D)"""
    return norm(h) * (1 + scale[:, None]) + shift[:, None]


def positions(rows: int, columns: int, D: int) -> np.ndarray:
    """The fixed code of each position, half for its row and half for its column: (rows·columns, D)

    Each half is [sin(i ω), cos(i ω)], ω = 10000^(-k/(D/4)).   [Vaswani et al. 2017; the released code of DiT]
    """
    omega = 10_000.0 ** (-np.arange(D // 4) / (D // 4))
    line = np.outer(np.arange(max(rows, columns)), omega)
    line = np.concatenate([np.sin(line), np.cos(line)], 1)  # (n, D/2)
    row, column = np.repeat(line[:rows], columns, 0), np.tile(line[:columns], (rows, 1))
    return np.concatenate([row, column], 1).astype(np.float32)


class Block(nnx.Module):
    """Attention and MLP, each modulated by time and class, and gated by a factor that is 0 at first."""

    def __init__(self, config: DiTConfig, *, draws: Draws):
        D, dtype = config.channels, jnp.dtype(config.dtype)
        self.modulation = Linear(D, 6 * D, draws=draws, init=zeros)
        self.to_qkv = Linear(D, 3 * D, draws=draws, dtype=dtype)
        self.to_out = Linear(D, D, draws=draws, dtype=dtype)
        self.mlp_in = Linear(D, 4 * D, draws=draws, dtype=dtype)
        self.mlp_out = Linear(4 * D, D, draws=draws, dtype=dtype)
        self.heads = config.attention_heads

    def __call__(self, h: jax.Array, condition: jax.Array) -> jax.Array:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(self.modulation(condition), 6, axis=-1)  # (B, D)
        h = h + gate_1[:, None] * self.attend(modulate(h, shift_1, scale_1))
        mlp = self.mlp_out(nnx.gelu(self.mlp_in(modulate(h, shift_2, scale_2)), approximate=True))
        return h + gate_2[:, None] * mlp

    def attend(self, h: jax.Array) -> jax.Array:
        """softmax(q kᵀ/√d) v in each head: (B, N, D) -> (B, N, D)"""
        B, N, D = h.shape
        d = D // self.heads
        qkv = self.to_qkv(h).reshape(B, N, 3, self.heads, d).transpose(2, 0, 3, 1, 4)  # (3, B, heads, N, d)
        out = ops.attend(*qkv.reshape(3, B * self.heads, N, d))
        return self.to_out(out.reshape(B, self.heads, N, d).transpose(0, 2, 1, 3).reshape(B, N, D))


class DiT(nnx.Module):
    """ε̂(x_t, t, c): (B, H, W, C), (B,), (B,) -> (B, H, W, C), or 2C channels with a learned variance."""

    def __init__(self, config: DiTConfig, *, draws: Draws):
        D, C, dtype = config.channels, config.image_channels, jnp.dtype(config.dtype)
        self.embed = Linear(config.patch**2 * (C + config.extra_channels), D, draws=draws, dtype=dtype)
        self.time_1, self.time_2 = Linear(D, D, draws=draws), Linear(D, D, draws=draws)
        if config.num_classes:
            normal = nnx.initializers.normal(0.02)
            self.class_embedding = nnx.Param(draws(normal, (config.num_classes + 1, D)))
        self.layers = nnx.List([Block(config, draws=draws) for _ in range(config.blocks)])
        self.modulation = Linear(D, 2 * D, draws=draws, init=zeros)
        out = config.patch**2 * C * (2 if config.learned_variance else 1)
        self.last = Linear(D, out, draws=draws, init=zeros, dtype=dtype)
        self.config = config

    def __call__(self, x_t: jax.Array, t: jax.Array, c: jax.Array | None, seen: dict | None = None) -> jax.Array:
        config, D = self.config, self.config.channels
        seen = {} if seen is None else seen  # the activations by name, for `activations`
        # The condition
        condition = self.time_2(nnx.silu(self.time_1(time_embedding(t, D))))  # (B, D)
        if config.num_classes:
            condition = condition + self.class_embedding[...][c]
        condition = nnx.silu(condition)
        # Tokens, of an image that whole patches cover
        (H, W, _), (below, right) = config.image_shape, config.padded
        image = space_to_depth(jnp.pad(x_t, ((0, 0), (0, below - H), (0, right - W), (0, 0))), config.patch)
        B, rows, columns, _ = image.shape
        h = self.embed(image.reshape(B, rows * columns, -1)) + jnp.asarray(positions(rows, columns, D))[None]
        seen["in"] = h.reshape(B, rows, columns, D)
        for i, block in enumerate(self.layers):
            h = block(h, condition)
            seen[f"block.{i}"] = h.reshape(B, rows, columns, D)
        # The image
        shift, scale = jnp.split(self.modulation(condition), 2, axis=-1)
        out = self.last(modulate(h, shift, scale)).astype(jnp.float32)
        seen["out"] = depth_to_space(out.reshape(B, rows, columns, -1), config.patch)[:, :H, :W]
        return seen["out"]


# --- networks of either kind ------------------------------------------------------------------------------------------


def build(config: UNetConfig) -> tuple[Callable[..., dict], Callable[..., jax.Array]]:
    """Build `init(key) -> params` and `apply(params, x_t, t, c=None, key=None) -> ε̂` of a network of any kind."""
    if isinstance(config, TextConfig):
        return build_text(config)
    return _build(config) if isinstance(config, DiTConfig) else network.build(config)


def eps_fn(config: UNetConfig, params: dict) -> Eps:
    """Return the denoiser `eps(x_t, t, c)` with these parameters, of a U-Net or a DiT."""
    return Partial(build(config)[1], params)


@lru_cache(maxsize=32)
def _build(config: DiTConfig) -> tuple[Callable[..., dict], Callable[..., jax.Array]]:
    draws = Draws()
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: DiT(config, draws=draws)), nnx.Param)
    forward = traced_once(lambda params, *inputs: nnx.merge(graphdef, params)(*inputs))

    @runs_once
    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(DiT(config, draws=draws.of(key)), nnx.Param)[1])

    def apply(params: dict, x_t: jax.Array, t: Any, c: Any = None, key: Any = None, seen: Any = None) -> jax.Array:
        B, (H, W, C) = x_t.shape[0], config.image_shape
        check.fits("x_t", x_t, (H, W, C + config.extra_channels), "network")
        if jnp.issubdtype(jnp.result_type(t), jnp.integer):
            check.times(t, x_t, float("inf"), low=0)
        if config.num_classes:
            c = jnp.full((B,), config.num_classes, jnp.int32) if c is None else check.labels(c, B, config.num_classes)
        elif c is not None:
            raise ValueError("c was given to a network without classes (num_classes = 0); leave it None")
        return forward(params, x_t, jnp.broadcast_to(t, (B,)), c, seen=seen)

    init.shapes = nnx.to_pure_dict(shapes)  # type: ignore[attr-defined]
    apply.labels = lambda *_: config.num_classes  # type: ignore[attr-defined]
    return init, apply
