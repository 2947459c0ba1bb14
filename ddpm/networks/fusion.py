"""How a network takes up the features f of a second one: four ways to change h, each by nothing at first.

    addition    h + Z f
    film        h ⊙ (1 + γ(f)) + β(f),  γ and β 1x1 convolutions of 0                          [Perez et al. 2018, FiLM]
    attention   h + W_o softmax(q kᵀ/√d) v,  q of h, k and v of all positions of f, W_o = 0
    token       the same with one key, the mean of the last f; softmax over one key is 1, so that h gets the same vector
                at all positions                                                    [Yang et al. 2023, Paint by Example]

ControlNet adds; Diffuse-to-Choose compares the first three   [Seyfioglu et al. 2024, Table 1]. FiLM of γ = 0 adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm.networks.crossattention import norm, zeros
from ddpm.tools.layers import Conv, Draws, Linear
from ddpm.tools.ops import attend

Way = Literal["addition", "film", "attention", "token"]
WAYS: tuple[str, ...] = get_args(Way)
Change = Callable[[jax.Array], jax.Array]  # h (B, H, W, C) -> what is added to it


class Attend(nnx.Module):
    """W_o softmax(q kᵀ/√d) v of h (B, H, W, C) and features f (B, H', W', C_f), both normalised by position."""

    def __init__(self, C: int, C_f: int, *, draws: Draws):
        self.to_q, self.to_k, self.to_v = (Linear(c, C, draws=draws) for c in (C, C_f, C_f))
        self.to_out = Linear(C, C, draws=draws, init=zeros)

    def __call__(self, h: jax.Array, f: jax.Array) -> jax.Array:
        q, f = (norm(a.reshape(len(a), -1, a.shape[-1])) for a in (h, f))
        return self.to_out(attend(self.to_q(q), self.to_k(f), self.to_v(f))).reshape(h.shape)


def layers(way: Way, widths: Sequence[int], dtype: Any, *, draws: Draws) -> nnx.List:
    """The layers that take up features of these widths, one for each h, in the same width: all begin as 0."""
    if way in ("addition", "film"):
        factor = 1 if way == "addition" else 2
        return nnx.List([Conv(C, factor * C, 1, draws=draws, init=zeros, dtype=dtype) for C in widths])
    return nnx.List([Attend(C, widths[-1] if way == "token" else C, draws=draws) for C in widths])


def changes(way: Way, layers: Any, features: Sequence[jax.Array]) -> list[Change]:
    """What is added to each h, given the features of its place."""
    if way == "addition":
        return [_constant(layer(f)) for layer, f in zip(layers, features, strict=True)]
    if way == "film":
        return [_scaled(*jnp.split(layer(f), 2, axis=-1)) for layer, f in zip(layers, features, strict=True)]
    if way == "token":
        features = [features[-1].mean((1, 2), keepdims=True)] * len(features)
    return [_attended(layer, f) for layer, f in zip(layers, features, strict=True)]


def _constant(z: jax.Array) -> Change:
    return lambda h: z


def _scaled(gamma: jax.Array, beta: jax.Array) -> Change:
    return lambda h: gamma * h + beta


def _attended(layer: Attend, f: jax.Array) -> Change:
    return lambda h: layer(h, f)
