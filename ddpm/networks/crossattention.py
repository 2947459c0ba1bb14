"""A U-Net that reads a caption: a text encoder, and cross-attention after each attention.   [Rombach et al. 2022]

    h + W_o softmax(q kᵀ/√d) v,   q = W_q norm(h),  k = W_k τ(T),  v = W_v τ(T)                       [LDM, Sec. 3.3]

τ is a small transformer over the tokens of a text, trained with the U-Net. Filling is masked before the softmax, so
that a text means the same in a longer row. W_o is 0 at first: a new network equals the U-Net without words, to the bit.
∅ is the text without words, BEGIN alone: where the condition or its text is None, here and in training alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ddpm.network import UNet
from ddpm.networks.text_config import TextConfig
from ddpm.tools import check, tokens
from ddpm.tools.conditions import Condition, check_parts
from ddpm.tools.layers import Draws, GroupNorm, Linear, runs_once, traced_once

zeros = nnx.initializers.zeros_init()


def masked_attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, heads: int = 1) -> jax.Array:
    """softmax(q kᵀ/√d + log mask) v in each head: q (B, N, C), k and v (B, M, C), mask (B, M) bool -> (B, N, C)

    d = C/heads. Each row of the mask needs a True: of no keys at all there is no mean.
    """
    B, N, C = q.shape
    q, k, v = (a.reshape(B, -1, heads, C // heads) for a in (q, k, v))
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k).astype(jnp.float32) / math.sqrt(C // heads)
    weight = jax.nn.softmax(jnp.where(mask[:, None, None, :], logits, -jnp.inf))
    return jnp.einsum("bhqk,bkhc->bqhc", weight.astype(v.dtype), v).reshape(B, N, C)


def norm(h: jax.Array) -> jax.Array:
    """(h - mean)/√(var + 1e-6) over the channels."""
    return (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-6)


class TextLayer(nnx.Module):
    """h + attention(norm(h)), then h + mlp(norm(h))"""

    def __init__(self, width: int, heads: int, *, draws: Draws):
        self.to_q, self.to_k, self.to_v, self.to_out = (Linear(width, width, draws=draws) for _ in range(4))
        self.mlp_in, self.mlp_out = Linear(width, 4 * width, draws=draws), Linear(4 * width, width, draws=draws)
        self.heads = heads

    def __call__(self, h: jax.Array, mask: jax.Array) -> jax.Array:
        x = norm(h)
        h = h + self.to_out(masked_attention(self.to_q(x), self.to_k(x), self.to_v(x), mask, self.heads))
        return h + self.mlp_out(nnx.gelu(self.mlp_in(norm(h))))


class TextEncoder(nnx.Module):
    """τ(T): tokens (B, L) int -> (B, L, width), and the mask of what is no filling, (B, L) bool

    text_heard: `mean` gives their mean instead, (B, 1, width). Softmax over one key is 1: a cross-attention to it adds
    the same vector everywhere, a function of the text alone, as an embedding in the place of a label does. `both`: the
    mean is one more token, the first.
    """

    def __init__(self, config: TextConfig, *, draws: Draws):
        width, normal = config.text_width, nnx.initializers.normal(1.0)
        self.table = nnx.Param(draws(normal, (2 + len(config.words), width)))
        self.position = nnx.Param(draws(normal, (config.tokens, width)))
        self.layers = nnx.List([TextLayer(width, config.text_heads, draws=draws) for _ in range(config.text_layers)])
        self.heard = config.text_heard

    def __call__(self, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        mask = text != tokens.PAD
        h = self.table[...][text] + self.position[...][None, : text.shape[1]]
        for layer in self.layers:
            h = layer(h, mask)
        words = norm(h)
        if self.heard == "words":
            return words, mask
        mean = (words * mask[..., None]).sum(1, keepdims=True) / mask.sum(1).reshape(-1, 1, 1)
        if self.heard == "mean":
            return mean, mask[:, :1]
        return jnp.concatenate([mean, words], 1), jnp.concatenate([mask[:, :1], mask], 1)


class CrossAttention(nnx.Module):
    """h + W_o softmax(q kᵀ/√d) v, the keys and values being of a text."""

    def __init__(self, channels: int, config: TextConfig, *, draws: Draws):
        self.group_norm = GroupNorm(channels, config.groups, config.norm_eps)
        self.to_q = Linear(channels, channels, draws=draws)
        self.to_k, self.to_v = (Linear(config.text_width, channels, draws=draws) for _ in range(2))
        self.to_out = Linear(channels, channels, draws=draws, init=zeros)
        self.heads = config.text_heads

    def __call__(self, h: jax.Array, text: jax.Array, mask: jax.Array) -> jax.Array:
        B, H, W, C = h.shape
        q = self.to_q(self.group_norm(h).reshape(B, H * W, C))
        read = masked_attention(q, self.to_k(text), self.to_v(text), mask, self.heads)
        return h + self.to_out(read).reshape(B, H, W, C)


class Reading(nnx.Module):
    """An attention of the U-Net, followed by cross-attention to the text that `hear` was given."""

    def __init__(self, attention: nnx.Module, channels: int, config: TextConfig, *, draws: Draws):
        self.attention, self.cross = attention, CrossAttention(channels, config, draws=draws)

    def hear(self, text: jax.Array, mask: jax.Array) -> None:
        self.heard = nnx.data((text, mask))

    def __call__(self, h: jax.Array) -> jax.Array:
        return self.cross(self.attention(h), *self.heard)


class TextUNet(UNet):
    """ε̂(x_t, t, c): the U-Net, each of whose attentions is followed by cross-attention to the text."""

    def __init__(self, config: TextConfig, *, draws: Draws):
        super().__init__(config, draws=draws)  # first, so that it is drawn as without words
        width = [config.channels * m for m in config.multipliers]
        self.text = TextEncoder(config, draws=draws)
        for levels, channels in ((self.down_blocks, width), (self.up_blocks, width[::-1])):
            for level, C in zip(levels, channels, strict=True):
                if level.attend:
                    readings: list[Any] = [Reading(a, C, config, draws=draws) for a in level.attentions]
                    level.attentions = nnx.List(readings)
        if config.middle_attention:
            (attention,) = self.mid_block.attentions
            last: Any = Reading(attention, width[-1], config, draws=draws)
            self.mid_block.attentions = nnx.List([last])

    def readings(self) -> list[Reading]:
        """All of its cross-attentions, in the order of the computation."""
        levels = [*self.down_blocks, *([self.mid_block] if self.config.middle_attention else []), *self.up_blocks]
        return [r for level in levels for r in getattr(level, "attentions", ()) if isinstance(r, Reading)]

    def __call__(self, x_t: Any, t: Any, c: Any, key: Any = None, seen: dict | None = None) -> jax.Array:
        text, mask = self.text(c.text)
        for reading in self.readings():
            reading.hear(text, mask)
        return super().__call__(x_t, t, c.label, key, seen)


@lru_cache(maxsize=32)
def build_text(config: TextConfig) -> tuple[Callable[..., dict], Callable[..., jax.Array]]:
    """Build `init(key) -> params` and `apply(params, x_t, t, c=None, key=None) -> ε̂`, c a `Condition` or None."""
    draws = Draws()
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: TextUNet(config, draws=draws)), nnx.Param)
    forward = traced_once(lambda params, *inputs: nnx.merge(graphdef, params)(*inputs))
    takes = ("text", "label") if config.num_classes else ("text",)

    @runs_once
    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(TextUNet(config, draws=draws.of(key)), nnx.Param)[1])

    def apply(params: dict, x_t: jax.Array, t: Any, c: Any = None, key: Any = None, seen: Any = None) -> jax.Array:
        t, c = prepared(config, x_t, t, c, takes)
        return forward(params, x_t, t, c, key, seen=seen)

    init.shapes = nnx.to_pure_dict(shapes)  # type: ignore[attr-defined]
    apply.conditions = lambda *_: takes  # type: ignore[attr-defined]
    return init, apply


def prepared(config: TextConfig, x_t: jax.Array, t: Any, c: Any, takes: tuple[str, ...]) -> tuple[jax.Array, Condition]:
    """Check what a network that reads captions is given; fill in ∅ for what is None: t (B,), and c."""
    B, (H, W, C) = x_t.shape[0], config.image_shape
    check.fits("x_t", x_t, (H, W, C + config.extra_channels), "network")
    if jnp.issubdtype(jnp.result_type(t), jnp.integer):
        check.times(t, x_t, float("inf"), low=0)
    c = Condition() if c is None else c
    if not isinstance(c, Condition):
        raise TypeError(f"c is of type {type(c).__name__}; this network wants Condition(text=tokens)")
    check_parts(c, takes)
    text = jnp.asarray(tokens.nothing(B, config.tokens)) if c.text is None else _checked(c.text, B, config)
    label = None
    if config.num_classes:
        K = config.num_classes
        label = jnp.full((B,), K, jnp.int32) if c.label is None else check.labels(c.label, B, K)
    return jnp.broadcast_to(t, (B,)), c._replace(text=text, label=label)


def _checked(text: Any, B: int, config: TextConfig) -> jax.Array:
    """Check tokens (B, L): known numbers, each row begun."""
    span, given, text, most = check.bounds(text), text, jnp.asarray(text), 1 + len(config.words)
    if not jnp.issubdtype(text.dtype, jnp.integer) or text.ndim != 2 or len(text) != B or text.shape[1] > config.tokens:
        raise ValueError(
            f"c.text has shape {text.shape} and type {text.dtype}; give tokens ({B}, up to {config.tokens}), integers"
        )
    if span and not (0 <= span[0] and span[1] <= most):
        raise ValueError(f"c.text lies in {span[0]}..{span[1]}, outside 0..{most}")
    if check.known(given) and (np.asarray(given)[:, 0] == tokens.PAD).any():  # in NumPy, which jit does not trace
        raise ValueError("c.text has a row of filling alone; begin each with tokens.BEGIN, as tokens.encode does")
    return text
