"""A convolutional autoencoder: codes f times smaller on each side, with few channels.   [Rombach et al. 2022, Sec. 3.1]

    L = E ‖x0 - decode(m + σ ε)‖²/D + w E ‖m‖²/k,   m = encode(x0),  ε ~ N(0, I)

D pixels, k numbers of a code. With σ = w = 0 it is a plain autoencoder. Else it is a VAE whose codes have the fixed
variance σ², up to constants: near codes then decode to near images, and a chain that is a little wrong in the codes is
a little wrong in the images.

    encoder : pixels f times coarser, a residual block at each size, then 3x3 convolutions to the channels of a code
    decoder : the same in the other direction
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ddpm.contracts import Partial
from ddpm.latents.codec import Codec, with_scale
from ddpm.tools import check
from ddpm.tools.layers import Conv, Draws, GroupNorm, init_zero, runs_once
from ddpm.tools.ops import depth_to_space, space_to_depth


@dataclass(frozen=True)
class AutoencoderConfig:
    """The sizes of the network. Codes are (image_size/factor, image_size/factor, code_channels)."""

    image_size: int = 28  # height and width of the image, pixels
    image_channels: int = 1  # 1 grey, 3 colour
    factor: int = 4  # f, a power of two: pixels of a side for one position of the code
    code_channels: int = 4
    channels: int = 32  # width at half of the image's size; doubled at each further half
    groups: int = 8  # of the norms

    def __post_init__(self) -> None:
        for name in ("image_channels", "code_channels", "channels", "groups"):
            check.whole(name, getattr(self, name), 1)
        check.whole("factor", self.factor, 2)
        if self.factor & (self.factor - 1) or self.image_size % self.factor:
            raise ValueError(
                f"factor is {self.factor}; give a power of two that divides image_size, which is {self.image_size}"
            )
        if self.channels % self.groups:
            raise ValueError(f"channels {self.channels} is not divisible by groups {self.groups}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return (self.image_size, self.image_size, self.image_channels)

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """(H/f, W/f, k) of one code."""
        return (self.image_size // self.factor, self.image_size // self.factor, self.code_channels)

    @property
    def widths(self) -> list[int]:
        """Channels at each size, from half of the image's to the code's."""
        return [self.channels * 2**i for i in range(self.factor.bit_length() - 1)]


class Block(nnx.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))"""

    def __init__(self, width: int, groups: int, *, draws: Draws):
        self.norm1, self.norm2 = GroupNorm(width, groups), GroupNorm(width, groups)
        self.conv1 = Conv(width, width, draws=draws, dtype=jnp.float32)
        self.conv2 = Conv(width, width, draws=draws, init=init_zero, dtype=jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.conv2(nnx.silu(self.norm2(self.conv1(nnx.silu(self.norm1(x))))))


class Encoder(nnx.Module):
    """Images (B, H, W, C) -> codes (B, H/f, W/f, k)"""

    def __init__(self, config: AutoencoderConfig, *, draws: Draws):
        w, c = config.widths, [config.image_channels, *config.widths]
        into = partial(Conv, draws=draws, dtype=jnp.float32)
        self.into = nnx.List([into(4 * c[i], w[i], 1 if i else 3) for i in range(len(w))])
        self.blocks = nnx.List([Block(width, config.groups, draws=draws) for width in w])
        self.norm = GroupNorm(w[-1], config.groups)
        self.out = Conv(w[-1], config.code_channels, draws=draws, dtype=jnp.float32)

    def __call__(self, h: jax.Array) -> jax.Array:
        for into, block in zip(self.into, self.blocks, strict=True):
            h = block(into(space_to_depth(h, 2)))
        return self.out(nnx.silu(self.norm(h)))


class Decoder(nnx.Module):
    """Codes (B, H/f, W/f, k) -> images (B, H, W, C)"""

    def __init__(self, config: AutoencoderConfig, *, draws: Draws):
        w = config.widths[::-1]
        self.first = Conv(config.code_channels, w[0], draws=draws, dtype=jnp.float32)
        self.blocks = nnx.List([Block(width, config.groups, draws=draws) for width in w])
        self.up = nnx.List([Conv(w[i], 4 * w[i + 1], 1, draws=draws, dtype=jnp.float32) for i in range(len(w) - 1)])
        self.norm = GroupNorm(w[-1], config.groups)
        self.out = Conv(w[-1], 4 * config.image_channels, draws=draws, dtype=jnp.float32)

    def __call__(self, z: jax.Array) -> jax.Array:
        h = self.blocks[0](self.first(z))
        for up, block in zip(self.up, list(self.blocks)[1:], strict=True):
            h = block(depth_to_space(up(h), 2))
        return depth_to_space(self.out(nnx.silu(self.norm(h))), 2)


@lru_cache(maxsize=32)
def build(config: AutoencoderConfig) -> tuple[Callable[..., dict], Callable[..., Any], Callable[..., Any]]:
    """Build `init(key) -> {"encoder", "decoder"}`, `encode(params, x0)` and `decode(params, z)`, pure functions.

    Each of the last two takes its own half of the parameters. The same config gives the same functions.
    """
    kinds: dict[str, Any] = {"encoder": Encoder, "decoder": Decoder}
    draws = {name: Draws() for name in kinds}
    graphs = {
        name: nnx.split(nnx.eval_shape(lambda name=name: kinds[name](config, draws=draws[name])), nnx.Param)[0]
        for name in kinds
    }

    @runs_once
    def init(key: jax.Array) -> dict:
        made = {}
        for i, (name, kind) in enumerate(kinds.items()):
            network = kind(config, draws=draws[name].of(jax.random.fold_in(key, i)))
            made[name] = nnx.to_pure_dict(nnx.split(network, nnx.Param)[1])
        return made

    def encode(params: dict, x0: jax.Array) -> jax.Array:
        check.fits("x0", x0, config.image_shape, "encoder")
        return nnx.merge(graphs["encoder"], params)(x0)

    def decode(params: dict, z: jax.Array) -> jax.Array:
        check.fits("z", z, config.code_shape, "decoder")
        return nnx.merge(graphs["decoder"], params)(z)

    return init, encode, decode


def copy_loss(
    config: AutoencoderConfig, params: dict, key: jax.Array, x0: jax.Array, noise: float = 0.0, weight: float = 0.0
) -> jax.Array:
    """E ‖x0 - decode(m + σ ε)‖²/D + w E ‖m‖²/k of a batch: a number.   noise: σ;  weight: w;  x0: (B, H, W, C)"""
    _, encode, decode = build(config)
    m = encode(params["encoder"], x0)
    z = m + noise * jax.random.normal(key, m.shape, m.dtype)
    return ((x0 - decode(params["decoder"], z)) ** 2).mean() + weight * (m**2).mean()


def make_codec(config: AutoencoderConfig, params: dict, x0: Any) -> Codec:
    """The codec of trained parameters, with mean and standard deviation of the codes over training images x0 (N, …).

    Refused is a decoder whose copies are further from the images than the mean image is: it belongs to another encoder.
    """
    _, encode, decode = build(config)
    made = with_scale(Partial(encode, params["encoder"]), Partial(decode, params["decoder"]), x0)
    some = np.asarray(x0[:256])
    error = float(((np.asarray(made.decode(made.encode(jnp.asarray(some)))) - some) ** 2).mean())
    var = float(((some - np.asarray(x0).mean(0)) ** 2).mean())
    if not error < var:
        raise ValueError(
            f"the decoder does not fit the encoder: its copies have the error {error:.3g}, and the mean image "
            f"{var:.3g}; give both halves of one training, or train for longer"
        )
    return made
