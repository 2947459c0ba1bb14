"""Small networks: an encoder, a decoder that is also the generator of a GAN, and a discriminator.

    encode : x (B, H, W, C), c (B,) -> m (B, k), log v (B, k)  an autoencoder uses m alone, and no labels
    decode : z (B, k), c (B,) -> x̂ (B, H, W, C) in [-1, 1]      of a VAE, and G of a GAN
    disc   : x (B, H, W, C), c (B,) -> a (B,), log C (B, K)    the logit of D, and log probabilities of labels

All convolutions have stride 1, between blocks of pixels that become channels, so no upsampling is uneven. A label
scales and shifts the channels of the decoder (FiLM). A VAE may ignore it, because its codes carry the class already; so
there it also shifts the first map of the decoder, and the codes of the encoder: the KL then keeps the codes of each
class around 0, and the decoder has to learn the class from the label. InfoGAN's category shifts the first map only,
which is the same as one-hot numbers appended to z: if it scaled channels, it could choose textures and brightness, but
hardly a shape, and Q would be content with those. The discriminator has no norm: one over a batch would hide how far
real and generated images are apart, one over an image hides its mean and contrast. It sees the label by projection,
a + ⟨e_c, h⟩/√d with the d features h.

[Miyato and Koyama 2018; Perez et al. 2018]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm.generators.table import ENCODED, KINDS
from ddpm.tools import check
from ddpm.tools.layers import Conv, Draws, GroupNorm, Linear, runs_once
from ddpm.tools.ops import depth_to_space, space_to_depth


@dataclass(frozen=True)
class GeneratorConfig:
    """The kind of generator and the sizes of its networks."""

    kind: str = "vae"
    image_size: int = 28
    image_channels: int = 1
    num_classes: int = 10  # labels of the data; 0: none
    codes: int = 16  # k, numbers a code
    width: int = 24  # channels at half of the image's size; twice as many at a quarter of it
    categories: int = 10  # infogan: values of the code that it finds

    def __post_init__(self) -> None:
        check.choice("kind", self.kind, KINDS)
        if self.image_size % 4 or not self.image_size:
            raise ValueError(f"image_size is {self.image_size}; give a multiple of 4, as --size 28 makes of own images")
        D = self.image_size**2 * check.whole("image_channels", self.image_channels, 1)
        check.whole("codes", self.codes, 1, D)  # more codes than numbers in an image are of no use
        check.whole("width", self.width, 4)
        check.whole("num_classes", self.num_classes, 1 if self.kind in ("cgan", "acgan") else 0)
        check.whole("categories", self.categories, 2)

    @property
    def labels(self) -> int:
        """How many labels the decoder takes; 0: none."""
        return {"ae": 0, "gan": 0, "infogan": self.categories}.get(self.kind, self.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        return (self.image_size, self.image_size, self.image_channels)


# Where a label shifts the decoder's first map: the deviation of the shifts at the start. What the noise brings there
# has deviation 1, and a category that begins much smaller than that may stay a matter of texture.
SHIFTED = {"vae": 0.1, "infogan": 1.0}


def leaky(h: jax.Array) -> jax.Array:
    """max(h, h/5)"""
    return jnp.maximum(h, 0.2 * h)


class Body(nnx.Module):
    """What encoder and discriminator share: x (B, H, W, C) -> (B, H/4 · W/4 · 2 width), without a norm."""

    def __init__(self, config: GeneratorConfig, *, draws: Draws):
        conv = partial(Conv, draws=draws, dtype=jnp.float32)
        self.conv_1 = conv(4 * config.image_channels, config.width)
        self.conv_2 = conv(4 * config.width, 2 * config.width)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = leaky(self.conv_1(space_to_depth(x, 2)))
        return leaky(self.conv_2(space_to_depth(h, 2))).reshape(len(x), -1)


class Encoder(nnx.Module):
    """m(x, c) and log v(x, c): a label shifts both"""

    def __init__(self, config: GeneratorConfig, *, draws: Draws):
        self.body = Body(config, draws=draws)
        self.out = Linear(2 * config.width * (config.image_size // 4) ** 2, 2 * config.codes, draws=draws)
        zeros = nnx.initializers.zeros_init()
        self.table = nnx.Param(draws(zeros, (config.labels, 2 * config.codes))) if config.labels else None

    def __call__(self, x: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = self.out(self.body(x))
        m, log_v = jnp.split(h if self.table is None else h + self.table[...][c], 2, axis=-1)
        return m, log_v


class Film(nnx.Module):
    """(1 + γ_c) norm(h) + β_c; without labels γ and β are one row."""

    def __init__(self, channels: int, labels: int, *, draws: Draws):
        self.norm = GroupNorm(channels, 4)
        self.table = nnx.Param(draws(nnx.initializers.normal(0.1), (max(labels, 1), 2 * channels)))

    def __call__(self, h: jax.Array, c: jax.Array) -> jax.Array:
        scale, shift = jnp.split(self.table[...][c][:, None, None, :], 2, axis=-1)
        return (1 + scale) * self.norm(h) + shift


class Decoder(nnx.Module):
    """x̂(z, c)"""

    def __init__(self, config: GeneratorConfig, *, draws: Draws):
        conv, w, side = partial(Conv, draws=draws, dtype=jnp.float32), config.width, config.image_size // 4
        self.first = Linear(config.codes, 2 * w * side**2, draws=draws)
        shifts, std = (config.labels, 2 * w * side**2), SHIFTED.get(config.kind, 0.0) if config.labels else 0.0
        self.table = nnx.Param(draws(nnx.initializers.normal(std), shifts)) if std else None
        self.films = 0 if config.kind == "infogan" else config.labels
        self.film_1, self.conv_1 = Film(2 * w, self.films, draws=draws), conv(2 * w, 4 * w)
        self.film_2, self.conv_2 = Film(w, self.films, draws=draws), conv(w, 4 * config.image_channels)
        self.side = side

    def __call__(self, z: jax.Array, c: jax.Array) -> jax.Array:
        h = self.first(z) if self.table is None else self.first(z) + self.table[...][c]
        h = h.reshape(len(z), self.side, self.side, -1)
        c = c if self.films else jnp.zeros_like(c)
        h = depth_to_space(self.conv_1(nnx.silu(self.film_1(h, c))), 2)
        return jnp.tanh(depth_to_space(self.conv_2(nnx.silu(self.film_2(h, c))), 2))


class Discriminator(nnx.Module):
    """a(x, c), and log C(· | x) where the kind has such a head"""

    def __init__(self, config: GeneratorConfig, *, draws: Draws):
        features, kind = 4 * config.width, config.kind
        self.body = Body(config, draws=draws)
        self.hidden = Linear(2 * config.width * (config.image_size // 4) ** 2, features, draws=draws)
        self.logit = Linear(features, 1, draws=draws)
        small = nnx.initializers.normal(0.1)
        self.table = nnx.Param(draws(small, (config.labels, features))) if kind == "cgan" else None
        self.classes = Linear(features, config.labels, draws=draws) if kind in ("infogan", "acgan") else None

    def __call__(self, x: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        h = leaky(self.hidden(self.body(x)))
        a = self.logit(h)[:, 0]
        if self.table is not None:
            a = a + (self.table[...][c] * h).sum(-1) / h.shape[-1] ** 0.5
        return a, None if self.classes is None else jax.nn.log_softmax(self.classes(h))


class Networks(NamedTuple):
    """`init(key) -> params` and the functions of the parameters; those that a kind lacks are None."""

    init: Callable[[jax.Array], dict]
    decode: Callable[..., jax.Array]  # (params, z, c=None) -> x̂
    encode: Callable[..., Any] | None  # (params, x, c=None) -> m, log v
    disc: Callable[..., Any] | None  # (params, x, c=None) -> a, log C


def _pure(make: Callable[..., nnx.Module]) -> tuple[Callable[[jax.Array], dict], Callable[..., Any]]:
    """`init(key) -> params` and `apply(params, *inputs)` of one module."""
    draws = Draws()
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: make(draws=draws)), nnx.Param)

    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(make(draws=draws.of(key)), nnx.Param)[1])

    return init, lambda params, *inputs: nnx.merge(graphdef, params)(*inputs)


@lru_cache(maxsize=32)
def build(config: GeneratorConfig) -> Networks:
    """Build the networks of a kind; the same config gives the same functions, so nothing compiles twice.

    params has `decoder`, and `encoder` or `disc`; of a VAE also `log_r2`, the log of the decoder's variance r², which
    begins at 0: at that level the codes do little, and the decoder learns from the label first. As r² falls, the codes
    take up what the label has not told.
    """
    second = "encoder" if config.kind in ENCODED else "disc"
    init_1, decoder = _pure(partial(Decoder, config))
    init_2, other = _pure(partial(Encoder if second == "encoder" else Discriminator, config))

    @runs_once
    def init(key: jax.Array) -> dict:
        params = {"decoder": init_1(jax.random.fold_in(key, 0)), second: init_2(jax.random.fold_in(key, 1))}
        return params | ({"log_r2": jnp.zeros(())} if config.kind == "vae" else {})

    def labels(c: Any, n: int) -> jax.Array:
        if not config.labels:
            return jnp.zeros(n, jnp.int32)
        if c is None:
            raise ValueError(f"c is None; this {config.kind} needs a label in 0..{config.labels - 1} for each image")
        span, c = check.bounds(c), jnp.asarray(c)
        if c.shape != (n,) or (span and not (0 <= span[0] and span[1] < config.labels)):
            raise ValueError(f"c has shape {c.shape} and lies in {span}; give {n} labels in 0..{config.labels - 1}")
        return c

    def decode(params: dict, z: jax.Array, c: Any = None) -> jax.Array:
        if z.ndim != 2 or z.shape[1] != config.codes:
            raise ValueError(f"z has shape {z.shape}; this decoder takes codes (B, {config.codes})")
        return decoder(params["decoder"], z, labels(c, len(z)))

    def encode(params: dict, x: jax.Array, c: Any = None) -> tuple[jax.Array, jax.Array]:
        check.fits("x", x, config.image_shape, "encoder")
        return other(params["encoder"], x, labels(c, len(x)))

    def disc(params: dict, x: jax.Array, c: Any = None) -> tuple[jax.Array, jax.Array | None]:
        check.fits("x", x, config.image_shape, "discriminator")
        seen = labels(c, len(x)) if config.kind == "cgan" else jnp.zeros(len(x), jnp.int32)
        return other(params["disc"], x, seen)

    is_encoded = second == "encoder"
    return Networks(init, decode, encode if is_encoded else None, None if is_encoded else disc)
