"""A small convolutional classifier whose batch norms are folded into its convolutions before it ships.

    h = gelu(W_0 * x)                         W_0: small patches in whitened coordinates, each with both signs; fixed
    h = gelu(norm(pool(W * h)));  h = gelu(norm(W * h))    at each size; each size is half of the one before
    f = W max_pixels h + b                    the d features
    logits = (W silu(f) + b)/√d

The design follows the networks that are trained on CIFAR-10 in seconds (Page 2019; Jordan 2024). In training `norm` is
(h - mean)/√(var + ε) + b over the batch: batch norm [Ioffe and Szegedy 2015] with its scale fixed at 1. A positive
factor passes through the maximum of a pool, so after training each norm is folded, exactly, into the kernel and bias of
its convolution. The shipped network is convolutions, maxima and two linear layers, without statistics or modes.
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
from ddpm.tools.ops import conv

EPSILON = 1e-5  # of the batch norms


@dataclass(frozen=True)
class ClassifierConfig:
    """A network of a few sizes, for clean images."""

    image_size: int = 28  # height and width of the image, pixels
    image_channels: int = 1  # 1 grey, 3 colour
    num_classes: int = 10
    patch: int = 3  # the first kernel sees patch x patch pixels; 2 or 3
    widths: tuple[int, ...] = (32, 64, 128)  # channels at each size; each size is half of the previous one, rounded up
    features: int = 64  # width of the penultimate layer
    mirror: bool = True  # after training, the features are the mean over the image and its mirror image

    def __post_init__(self) -> None:
        check.whole("image_size", self.image_size, 4)
        check.whole("features", self.features, 1)
        check.whole("patch", self.patch, 1, 3)
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths}; give the channels of at least one size")

    @property
    def schedule(self) -> str:
        """No schedule: these are classifiers of clean images (`timenet` has those of noisy ones)."""
        return ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return (self.image_size, self.image_size, self.image_channels)


def max_pool(h: jax.Array) -> jax.Array:
    """Take the maximum of each 2 × 2 positions: (B, H, W, C) -> (B, ⌈H/2⌉, ⌈W/2⌉, C).

    Written as a reshape: the gradient of XLA's own window maximum is slow on a CPU.
    """
    _, H, W, _ = h.shape
    h = jnp.pad(h, ((0, 0), (0, H % 2), (0, W % 2), (0, 0)), constant_values=-jnp.inf)
    h = jnp.maximum(h[:, 0::2], h[:, 1::2])
    return jnp.maximum(h[:, :, 0::2], h[:, :, 1::2])


def whitening(x: Any, patch: int = 3, epsilon: float = 5e-3) -> np.ndarray:
    """Compute the fixed first kernel, (3, 3, C, 2 p² C), from images (N, H, W, C) float.

    It holds the principal directions u_i of the patches, each as ±u_i/√(λ_i + ε), so that outputs have about unit
    variance. Outside its p × p it is 0.
    """
    x, p, C = np.asarray(x, dtype=np.float64), patch, x.shape[3]
    patches = np.lib.stride_tricks.sliding_window_view(x, (p, p), axis=(1, 2))[:, ::p, ::p]  # (N, h, w, C, p, p)
    lam, U = np.linalg.eigh(np.cov(patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, p * p * C).T))
    kernel = (U / np.sqrt(lam + epsilon)).reshape(p, p, C, -1)
    kernel = np.pad(kernel, ((3 - p, 0), (3 - p, 0), (0, 0), (0, 0)))
    return np.concatenate([kernel, -kernel], axis=3).astype(np.float32)


Norm = Callable[[str, jax.Array, jax.Array], jax.Array]  # (name, h, bias) -> h


def _folded(name: str, h: jax.Array, bias: jax.Array) -> jax.Array:
    return h + bias.reshape(1, 1, 1, -1)


class BatchNorm:
    """(h - mean)/√(var + ε) + b over the batch and its pixels; records the statistics by name."""

    def __init__(self) -> None:
        self.statistics: dict[str, tuple[jax.Array, jax.Array]] = {}

    def __call__(self, name: str, h: jax.Array, bias: jax.Array) -> jax.Array:
        rows = h.reshape(-1, h.shape[-1])
        mean = rows.mean(0, keepdims=True)
        centred = rows - mean
        var = (centred * centred).mean(0, keepdims=True)
        self.statistics[name] = (mean[0], var[0])
        return (centred * jax.lax.rsqrt(var + EPSILON) + bias.reshape(1, -1)).reshape(h.shape)


def forward(config: ClassifierConfig, params: dict, x: jax.Array, norm: Norm = _folded) -> tuple[jax.Array, jax.Array]:
    """Compute logits (B, K) and features (B, d) of x (B, H, W, C): the equations at the top of this file."""
    features = _features(config, params, x, norm)
    if config.mirror and norm is _folded:
        features = 0.5 * (features + _features(config, params, x[:, :, ::-1], norm))
    head = params["head"]
    logits = (jax.nn.silu(features) @ head["kernel"] + head["bias"].reshape(1, -1)) / config.features**0.5
    return logits, features


def _features(config: ClassifierConfig, params: dict, x: jax.Array, norm: Norm) -> jax.Array:
    h = jax.nn.gelu(conv(x, jax.lax.stop_gradient(params["whitening"])))
    for i in range(len(config.widths)):
        p = params["stages"][i]
        h = max_pool(conv(h, p["first"]))
        h = jax.nn.gelu(norm(f"{i}/first", h, p["first_bias"]))
        h = jax.nn.gelu(norm(f"{i}/second", conv(h, p["second"]), p["second_bias"]))
    return h.max((1, 2)) @ params["feature"]["kernel"] + params["feature"]["bias"].reshape(1, -1)


def fold(config: ClassifierConfig, params: dict, statistics: dict[str, tuple[Any, Any]]) -> dict:
    """Fold each norm into its convolution: W/√(var + ε), b - mean/√(var + ε)."""
    stages = {}
    for i, p in params["stages"].items():
        p = dict(p)
        for which in ("first", "second"):
            mean, var = statistics[f"{i}/{which}"]
            inverse = 1 / jnp.sqrt(var + EPSILON)
            p[which] = p[which] * inverse.reshape(1, 1, 1, -1)
            p[f"{which}_bias"] = p[f"{which}_bias"] - mean * inverse
        stages[i] = p
    return {**params, "stages": stages}


def _normal(key: jax.Array, shape: tuple[int, ...], gain: float = 2.0) -> jax.Array:
    return jax.random.normal(key, shape) * (gain / np.prod(shape[:-1])) ** 0.5


@lru_cache(maxsize=32)
def build(config: ClassifierConfig) -> tuple[Callable[..., dict], Callable[..., tuple[jax.Array, jax.Array]]]:
    """Return `init(key) -> params` and `apply(params, x, t=None) -> (logits (B, K), features (B, d))`.

    x: (B, H, W, C) in [-1, 1]. `init` sets the first kernel to unit patches; training replaces it by `whitening`.
    """
    C, K, d, p = config.image_channels, config.num_classes, config.features, config.patch

    @runs_once
    def init(key: jax.Array) -> dict:
        keys = iter(jax.random.split(key, 3 * len(config.widths) + 2))
        # The first kernel: each pixel of a patch, with both signs
        unit = jnp.eye(p * p * C).reshape(p, p, C, -1)
        unit = jnp.pad(unit, ((3 - p, 0), (3 - p, 0), (0, 0), (0, 0)))
        # The convolutions of every size
        stages, width = {}, 2 * p * p * C
        for i, w in enumerate(config.widths):
            stages[i] = {
                "first": _normal(next(keys), (3, 3, width, w)),
                "first_bias": jnp.zeros(w),
                "second": _normal(next(keys), (3, 3, w, w)),
                "second_bias": jnp.zeros(w),
            }
            _, width = next(keys), w  # one key stays unused, so that a seed keeps its parameters
        return {
            "whitening": jnp.concatenate([unit, -unit], axis=3),
            "stages": stages,
            "feature": {"kernel": _normal(next(keys), (width, d), 1.0), "bias": jnp.zeros(d)},
            "head": {"kernel": _normal(next(keys), (d, K), 1.0), "bias": jnp.zeros(K)},
        }

    def apply(params: dict, x: jax.Array, t: Any = None) -> tuple[jax.Array, jax.Array]:
        check.fits("x", x, config.image_shape, "classifier")
        if t is not None:
            raise ValueError("t was given to a classifier of clean images; leave it None")
        return forward(config, params, x)

    return init, apply
