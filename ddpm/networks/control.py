"""ControlNet: a copy of the encoder reads a hint, and is joined to the frozen network by zero convolutions.

    y_c = F(x; Θ) + Z(F(x + Z(hint; Θ_z1); Θ_c); Θ_z2)                                     [Zhang et al. 2023, Eq. 2]

Θ is frozen, Θ_c a copy of encoder and middle, Z are 1x1 convolutions with weights and biases 0; their outputs are added
to each skip and to the middle. At first nothing changes, to the bit. The gradient of the Z at the outputs is not 0
then, that of the copy and of the Z at the hint is exactly 0: they learn from the second step on. The hint passes
through an encoder with an ordinary start: with a Z alone on pixels a training did not learn in 50,000 steps.

    eps = controlled(config, params, make_control(key, config, params))
    eps(x_t, t, Condition(text=tokens, hint=edges))             without a hint it is the network itself

`kind` names what stands in place of the copy in the paper's ablation: `drawn` parameters, which a training made of
nothing has; or `lite`, convolutions of the hint alone, which see neither picture nor time nor words. `way` is how the
network takes up what the branch finds: `addition`, or another of `ddpm.networks.fusion`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct

from ddpm.contracts import Partial
from ddpm.networks import fusion
from ddpm.networks.crossattention import Reading, TextUNet, prepared, zeros
from ddpm.networks.lora import digest
from ddpm.networks.text_config import TextConfig
from ddpm.tools import check
from ddpm.tools.conditions import Condition
from ddpm.tools.layers import Conv, Draws, runs_once
from ddpm.tools.ops import space_to_depth, time_embedding

COPIED = ("time_embedding", "conv_in", "down_blocks", "mid_block")
KINDS = ("copy", "drawn", "lite")


@struct.dataclass
class Control:
    """Parameters added to a frozen network, the digest of the network's own, and how the two are joined."""

    params: dict
    base: str = struct.field(pytree_node=False)
    way: str = struct.field(pytree_node=False, default="addition")


class Branch(nnx.Module):
    """What is added to each skip and to the middle of the network, given a hint."""

    def __init__(self, config: TextConfig, channels: int, way: fusion.Way = "addition", *, draws: Draws):
        copy, dtype = TextUNet(config, draws=draws), jnp.dtype(config.dtype)
        self.time_embedding, self.conv_in = copy.time_embedding, copy.conv_in
        self.down_blocks, self.mid_block = copy.down_blocks, copy.mid_block
        width = [config.channels * m for m in config.multipliers]
        conv = partial(Conv, draws=draws, dtype=dtype)
        self.hint = nnx.List([conv(channels * config.patch**2, 16), conv(16, 32), conv(32, width[0], 1, init=zeros)])
        self.zeros = fusion.layers(way, [c for _, c in outlets(config)], dtype, draws=draws)
        self.config, self.way = config, way

    def __call__(self, base: TextUNet, x_t: jax.Array, t: jax.Array, c: Condition) -> list[fusion.Change]:
        config = self.config
        # What is the same as in the network: the words and the class, by its own encoders
        temb = self.time_embedding(time_embedding(t, config.channels, config.time_shift))
        temb = temb + base.class_embedding[...][c.label] if config.num_classes else temb
        heard = base.text(c.text)
        for level in (*self.down_blocks, self.mid_block):
            for reading in getattr(level, "attentions", ()):
                if isinstance(reading, Reading):
                    reading.hear(*heard)
        # The copy of the encoder, with the hint added behind its first layer
        x_t, y = (patches(config, a) for a in (x_t, c.hint))
        for layer in list(self.hint)[:-1]:
            y = nnx.silu(layer(y))
        h = self.conv_in(x_t) + self.hint[-1](y)
        found = [h]
        for level in self.down_blocks:
            for j, block in enumerate(level.resnets):
                h = block(h, temb, None)
                h = level.attentions[j](h) if level.attend else h
                found.append(h)
            if level.resample == "down":
                h = level.downsamplers[0](h)
                found.append(h)
        h = self.mid_block.resnets[0](h, temb, None)
        h = self.mid_block.attentions[0](h) if config.middle_attention else h
        found.append(self.mid_block.resnets[1](h, temb, None))
        return fusion.changes(self.way, self.zeros, found)


class Lite(nnx.Module):
    """Convolutions of the hint at the size of each skip and of the middle.   [Zhang et al. 2023, ControlNet-lite]"""

    def __init__(self, config: TextConfig, channels: int, *, draws: Draws):
        conv = partial(Conv, draws=draws, dtype=jnp.dtype(config.dtype))
        self.hint = nnx.List([conv(channels * config.patch**2, 16), conv(16, 32)])
        self.zeros = nnx.List([conv(32, c, 1, init=zeros) for _, c in outlets(config)])
        self.config = config

    def __call__(self, base: TextUNet, x_t: jax.Array, t: jax.Array, c: Condition) -> list[fusion.Change]:
        y = patches(self.config, c.hint)
        for layer in self.hint:
            y = nnx.silu(layer(y))
        sizes = [y]  # each half of the one before
        for _ in self.config.multipliers[1:]:
            sizes.append(nnx.avg_pool(sizes[-1], (2, 2), (2, 2)))
        found = [sizes[i] for i, _ in outlets(self.config)]
        return fusion.changes("addition", self.zeros, found)


def outlets(config: TextConfig) -> list[tuple[int, int]]:
    """(how often halved, channels) of each skip in the order of the way down, and of the middle, the last one."""
    width = [config.channels * m for m in config.multipliers]
    last, found = len(width) - 1, [(0, width[0])]
    for i, c in enumerate(width):
        found += [(i, c)] * config.blocks + [(i + 1, c)] * (i < last)
    return [*found, (last, width[-1])]


def patches(config: TextConfig, a: jax.Array) -> jax.Array:
    """An image or hint as the first layer of the network takes it."""
    (H, W, _), (below, right) = config.image_shape, config.padded
    return space_to_depth(jnp.pad(a, ((0, 0), (0, below - H), (0, right - W), (0, 0))), config.patch)


def joined(net: TextUNet, config: TextConfig, parts: list[fusion.Change], scale: Any) -> TextUNet:
    """Add parts to the skips and, the last one, to the middle of a network, an object that is used once."""
    *skips, middle = [partial(_changed, part, scale) for part in parts]
    first, last = net.mid_block.resnets
    object.__setattr__(net.mid_block, "resnets", [first, lambda *inputs: middle(last(*inputs))])
    width = [c for _, c in outlets(config)][:-1]
    for level in net.up_blocks:
        taken = [partial(_with_skip, block, skips.pop(), width.pop()) for block in level.resnets]
        object.__setattr__(level, "resnets", taken)
    return net


def _changed(part: fusion.Change, scale: Any, h: jax.Array) -> jax.Array:
    """h + scale part(h)"""
    return h + (scale * part(h)).astype(h.dtype)


def _with_skip(block: Callable, change: fusion.Change, C: int, h: jax.Array, temb: jax.Array, key: Any) -> jax.Array:
    """block(h ⊕ change(skip)): the skip is the last C of the channels."""
    return block(jnp.concatenate([h[..., :-C], change(h[..., -C:])], axis=-1), temb, key)


@lru_cache(maxsize=8)
def _built(
    config: TextConfig, channels: int, lite: bool, way: Any = "addition"
) -> tuple[Callable[..., dict], Callable[..., jax.Array]]:
    draws, base_draws = Draws(), Draws()
    part: Any = Lite if lite else partial(Branch, way=way)
    branch, _ = nnx.split(nnx.eval_shape(lambda: part(config, channels, draws=draws)), nnx.Param)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: TextUNet(config, draws=base_draws)), nnx.Param)
    takes = ("text", "hint", "label") if config.num_classes else ("text", "hint")

    @runs_once
    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(part(config, channels, draws=draws.of(key)), nnx.Param)[1])

    def apply(params: dict, control: dict, scale: Any, x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
        t, c = prepared(config, x_t, t, c, takes)
        net = nnx.merge(graphdef, params)
        if c.hint is not None:
            c = c._replace(hint=_checked(c.hint, x_t.shape[0], (*config.image_shape[:2], channels)))
            parts = nnx.merge(branch, control)(net, x_t, t, c)
            net = joined(net, config, parts, scale)
        return net(x_t, t, c)

    apply.conditions = lambda *_: takes  # type: ignore[attr-defined]
    return init, apply


def make_control(
    key: jax.Array, config: TextConfig, params: dict, channels: int = 1, kind: str = "copy", way: str = "addition"
) -> Control:
    """Copy the encoder of a network and draw what is new.

    channels: of the hint;  kind: `copy`, `drawn` or `lite`, which is added only;  way: one of `fusion.WAYS`
    """
    check.whole("channels", channels, 1)
    check.choice("way", way, ("addition",) if check.choice("kind", kind, KINDS) == "lite" else fusion.WAYS)
    copied = {name: params[name] for name in COPIED} if kind == "copy" else {}
    return Control(_built(config, channels, kind == "lite", way)[0](key) | copied, digest(params), way)


def controlled(config: TextConfig, params: dict, control: Control, scale: Any = 1.0) -> Partial:
    """The denoiser ε̂(x_t, t, Condition(text, hint)) of both; scale 0 is the network alone."""
    check.number("scale", scale)
    if all(check.known(a) for a in jax.tree.leaves(params)) and digest(params) != control.base:
        raise ValueError(f"the control was made for parameters {control.base[:12]}…, and not for these; load its base")
    channels = control.params["hint"][0]["kernel"].shape[2] // config.patch**2
    lite = "mid_block" not in control.params
    return Partial(_built(config, channels, lite, control.way)[1], params, control.params, scale)


def _checked(hint: Any, B: int, shape: tuple[int, int, int]) -> jax.Array:
    if jnp.shape(hint) != (B, *shape):
        raise ValueError(f"c.hint has shape {jnp.shape(hint)}; this control wants {(B, *shape)}")
    span = check.bounds(hint)
    if span and not (0 <= span[0] and span[1] <= 1):
        raise ValueError(f"c.hint lies in {span[0]:g}..{span[1]:g}; give it in [0, 1], not in the range of an image")
    return jnp.asarray(hint, jnp.float32)
