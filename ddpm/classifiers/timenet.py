"""A classifier of noisy images, p(c | x_t, t): a small residual network conditioned on t.

    h = W_0 * halve(x_t)                                        halve: each 2 × 2 pixels become channels of one position
    h = h + W_2 * silu((1 + s_t) norm(W_1 * silu(norm(h))) + b_t)   at each size; then h = W halve(h)
    f = W vec(silu(norm(h))) + b                                the d features
    logits = (W silu(f) + b)/√d

What makes `convnet` good at clean images makes it bad at noisy ones. A maximum over pixels picks out the noise; the
statistics of a batch mix all its times; and mirrored, moved and partly erased images follow another distribution than
p(x_t). Here group norms use one image at a time, t sets the scale and shift of every block [Perez et al. 2018;
Dhariwal and Nichol 2021, Sec. 3.1], every function is smooth, because guidance needs the gradient, and the last layer
has separate weights for each position: where there is much noise, the best classifier is nearly a linear function of
the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.tools import check
from ddpm.tools.layers import runs_once
from ddpm.tools.ops import conv, group_norm, space_to_depth, time_embedding

K_TIME = 64  # width of the time's embedding


@dataclass(frozen=True)
class TimeNetConfig:
    """A network of a few sizes, and its noise schedule."""

    image_size: int = 28  # height and width of the image, pixels
    image_channels: int = 1  # 1 grey, 3 colour
    num_classes: int = 10
    widths: tuple[int, ...] = (32, 64, 96)  # channels at each size; the first is half of the image's, each half of that
    features: int = 64  # width of the penultimate layer
    time: int = 128  # width of the time features that the blocks receive
    groups: int = 8  # of the norms
    schedule: str = "cosine"  # the noise schedule
    T: int = 1000  # its noise levels

    def __post_init__(self) -> None:
        check.whole("image_size", self.image_size, 4)
        check.whole("features", self.features, 1)
        check.whole("groups", self.groups, 1)
        if not self.widths or any(w < 1 or w % self.groups for w in self.widths):
            raise ValueError(
                f"widths is {self.widths}; give at least one size, each a multiple of groups, {self.groups}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return (self.image_size, self.image_size, self.image_channels)


def halve(h: jax.Array) -> jax.Array:
    """Halve the size: (B, H, W, C) -> (B, ⌈H/2⌉, ⌈W/2⌉, 4C); odd sizes are padded with zeros."""
    _, H, W, _ = h.shape
    return space_to_depth(jnp.pad(h, ((0, 0), (0, H % 2), (0, W % 2), (0, 0))), 2)


def _norm(config: TimeNetConfig, p: dict, h: jax.Array) -> jax.Array:
    return group_norm(h, p["scale"], p["bias"], config.groups)


def _block(config: TimeNetConfig, p: dict, h: jax.Array, e: jax.Array) -> jax.Array:
    a = conv(jax.nn.silu(_norm(config, p["norm1"], h)), p["conv1"])
    scale, shift = jnp.split((e @ p["time"])[:, None, None, :], 2, axis=-1)
    return h + conv(jax.nn.silu(_norm(config, p["norm2"], a) * (1 + scale) + shift), p["conv2"])


def forward(config: TimeNetConfig, params: dict, x_t: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute logits (B, K) and features (B, d) of x_t (B, H, W, C) at t (B,): the equations above."""
    e = jax.nn.silu(time_embedding(t, K_TIME) @ params["time"])
    h = x_t
    for i in range(len(config.widths)):
        p, h = params["stages"][i], halve(h)
        h = conv(h, p["in"]) if i == 0 else h @ p["in"]
        h = _block(config, p["block"], h, e)
    h = jax.nn.silu(_norm(config, params["norm"], h)).reshape(len(h), -1)
    features = h @ params["feature"]["kernel"] + params["feature"]["bias"].reshape(1, -1)
    head = params["head"]
    logits = (jax.nn.silu(features) @ head["kernel"] + head["bias"].reshape(1, -1)) / config.features**0.5
    return logits, features


def _normal(key: jax.Array, *shape: int, gain: float = 1.0) -> jax.Array:
    return jax.random.normal(key, shape) * (gain / np.prod(shape[:-1])) ** 0.5


def _identity(width: int) -> dict:
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


@lru_cache(maxsize=32)
def build(config: TimeNetConfig) -> tuple[Callable[..., dict], Callable[..., tuple[jax.Array, jax.Array]]]:
    """Return `init(key) -> params` and `apply(params, x_t, t) -> (logits (B, K), features (B, d))`.

    x_t: (B, H, W, C), any floats;  t: () or (B,) int in 0..T.
    """
    d, K = config.features, config.num_classes

    @runs_once
    def init(key: jax.Array) -> dict:
        keys = iter(jax.random.split(key, 4 * len(config.widths) + 3))
        # The stages, each at half the size of the previous one
        stages, width, size = {}, config.image_channels, config.image_size
        for i, w in enumerate(config.widths):
            size = -(-size // 2)
            stages[i] = {
                "in": _normal(next(keys), *((3, 3) if i == 0 else ()), 4 * width, w),
                "block": {
                    "norm1": _identity(w),
                    "conv1": _normal(next(keys), 3, 3, w, w, gain=2.0),
                    "time": _normal(next(keys), config.time, 2 * w, gain=0.1),
                    "norm2": _identity(w),
                    "conv2": _normal(next(keys), 3, 3, w, w, gain=0.1),  # each block starts near the identity
                },
            }
            width = w
        return {
            "time": _normal(next(keys), K_TIME, config.time, gain=2.0),
            "stages": stages,
            "norm": _identity(width),
            "feature": {"kernel": _normal(next(keys), size * size * width, d, gain=2.0), "bias": jnp.zeros(d)},
            "head": {"kernel": _normal(next(keys), d, K), "bias": jnp.zeros(K)},
        }

    def apply(params: dict, x: jax.Array, t: Any = None) -> tuple[jax.Array, jax.Array]:
        check.fits("x", x, config.image_shape, "classifier")
        if t is None:
            raise ValueError(f"this classifier is p(c | x_t, t) on the {config.schedule} schedule; give it t")
        return forward(config, params, x, jnp.broadcast_to(check.times(t, x, config.T, low=0), x.shape[:1]))

    return init, apply
