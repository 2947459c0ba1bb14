"""Features of a denoiser: what the U-Net says inside about an image, and where two images correspond.

    f(x0, c) = mean_k h_layer(√ᾱ_t x0 + √(1-ᾱ_t) ε_k, t, c),    ε_k ~ N(0, I), k = 1…ensemble   [DIFT, Tang et al. 2023]

A little noise, and a layer on the way up: features in which corresponding parts of two images lie near each other.
The noises are the same for all images, so that the features of one do not depend on the others in the batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ddpm import check
from ddpm.config import UNetConfig
from ddpm.forward import q_sample
from ddpm.network import activations, param_shapes
from ddpm.parts import parts
from ddpm.schedule import Schedule


def layers(config: UNetConfig) -> dict[str, tuple[int, int, int]]:
    """The names of the layers, in the order of the computation, with the shape (h, w, C) of what they say of an image.

    `up.1` is the second level on the way up, counted from the smallest: the layer of DIFT and of Siglidis et al.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def look(params: dict, x: jax.Array, t: jax.Array) -> None:
        shapes.update({name: a.shape[1:] for name, a in activations(config, params, x, t).items()})

    jax.eval_shape(look, param_shapes(config), jnp.zeros((1, *config.image_shape)), jnp.ones(1, jnp.int32))
    return shapes


def default_time(T: int) -> int:
    """.16 T, at least 1: the time of Siglidis et al.'s features (161 of 1,000)."""
    return max(1, round(0.16 * T))


def default_layer(config: UNetConfig) -> str:
    """`up.1`; of a network with one level only `up.0.0`, its first block on the way up (the last prepares ε̂)."""
    return "up.1" if len(config.multipliers) > 1 else "up.0.0"


def dift(
    config: UNetConfig,
    params: dict,
    schedule: Schedule,
    x0: Any,
    c: Any,
    key: jax.Array,
    *,
    t: int | None = None,
    layer: str = "up.1",
    ensemble: int = 8,
    batch: int = 64,
    progress: bool = False,
) -> np.ndarray:
    """f(x0, c) above: (B, h, w, C) float32, not normalised.   [Tang et al. 2023, Sec. 3.2]

    x0: (B, H, W, C) in [-1, 1];  c: (B,) labels, one for all, or None for the null label;  t: 1..T, .16 T if None, or
    0 for the clean image (then one draw is as good as eight);  layer: a name of `layers(config)`.
    """
    x0 = np.asarray(check.images(x0, config.image_shape))
    check.choice("layer", layer, layers(config))
    check.whole("ensemble", ensemble, 1)
    t = default_time(schedule.T) if t is None else check.whole("t", t, 0, schedule.T)
    if c is not None:
        c = np.asarray(check.labels(np.broadcast_to(c, len(x0)), len(x0), config.num_classes))
    found = []
    for ids, m in tqdm(parts(len(x0), batch), desc=f"features of {layer}", unit="batch", disable=not progress):
        part = _dift(
            config, params, schedule, x0[ids], None if c is None else c[ids], key, jnp.int32(t), layer, ensemble
        )
        found.append(np.asarray(part)[:m])
    return np.concatenate(found) if found else np.zeros((0, *layers(config)[layer]), np.float32)


@partial(jax.jit, static_argnames=("config", "layer", "ensemble"))
def _dift(
    config: UNetConfig,
    params: dict,
    schedule: Schedule,
    x0: jax.Array,
    c: jax.Array | None,
    key: jax.Array,
    t: jax.Array,
    layer: str,
    ensemble: int,
) -> jax.Array:
    def draw(k: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, k), x0.shape[1:], x0.dtype)
        x_t = q_sample(schedule, x0, t, jnp.broadcast_to(noise, x0.shape))
        return activations(config, params, x_t, t, c)[layer].astype(jnp.float32)

    return jax.lax.fori_loop(1, ensemble, lambda k, total: total + draw(k), draw(jnp.int32(0))) / ensemble


# --- patches ----------------------------------------------------------------------------------------------------------


def patch_features(f: Any, image: Any, corner: Any, side: int, image_size: int) -> np.ndarray:
    """The mean of f over each patch, divided by its length: (n, C).   [Siglidis et al. 2024, released code]

    f: (B, h, w, C) of whole images;  image: (n,) int, which of them;  corner: (n, 2) int, top and left in pixels;
    side: of the patches, and image_size: height of the images, pixels. A patch covers the cells floor(top·h/H) to
    floor((top + side)·h/H) and at least one.
    """
    f, image, corner = np.asarray(f), np.asarray(image), np.asarray(corner)
    if corner.shape != (len(image), 2):
        raise ValueError(f"corner has shape {corner.shape}; give top and left of each of the {len(image)} patches")
    if not 1 <= side <= image_size:
        raise ValueError(f"side is {side}; a patch is 1..{image_size} pixels wide, as the image is {image_size}")
    if corner.size and not (corner.min() >= 0 and corner.max() + side <= image_size):
        raise ValueError(f"corner lies in {corner.min()}..{corner.max()}, outside 0..{image_size - side}")
    scale = f.shape[1] / image_size
    first = np.floor(corner * scale).astype(int)
    end = np.maximum(np.floor((corner + side) * scale).astype(int), first + 1)
    means = [f[i, a:b, p:q].mean((0, 1)) for i, (a, p), (b, q) in zip(image, first, end, strict=True)]
    return unit(np.array(means).reshape(len(image), f.shape[-1]))


def unit(f: Any) -> np.ndarray:
    """f divided by its length along the last axis; zero stays zero."""
    f = np.asarray(f, dtype=np.float32)
    length = np.linalg.norm(f, axis=-1, keepdims=True)
    return f / np.where(length > 0, length, 1)


# --- correspondence ---------------------------------------------------------------------------------------------------


def resize(f: Any, size: tuple[int, int]) -> np.ndarray:
    """Features (B, h, w, C) brought to (B, *size, C) bilinearly, as DIFT compares them at the image's resolution."""
    f = jnp.asarray(f)
    return np.asarray(jax.image.resize(f, (f.shape[0], *size, f.shape[-1]), "bilinear"))


def correspondence(f_a: Any, f_b: Any, points: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """For each point of image a the position in image b whose feature has the largest cosine with it.

    f_a, f_b: (B, h, w, C), pairs of images (`resize` them to the image's size for positions in pixels);  points:
    (B, n, 2) int, row and column in a; None: all h·w positions in row order. Returns positions (B, n, 2) in b and the
    cosines (B, n).   [Tang et al. 2023, Sec. 3.3: nearest neighbour, nothing else]
    """
    a: Any = unit(f_a)
    b: Any = unit(f_b)
    check.same_shape("f_a", a, "f_b", b)
    if a.ndim != 4:
        raise ValueError(f"f_a has shape {a.shape}; give features (B, h, w, C)")
    B, h, w, C = a.shape
    if points is None:
        points = np.broadcast_to(np.stack(np.divmod(np.arange(h * w), w), 1), (B, h * w, 2))
    points = np.asarray(points)
    if points.ndim != 3 or points.shape[0] != B or points.shape[2] != 2:
        raise ValueError(f"points has shape {points.shape}; give rows and columns ({B}, n, 2)")
    if points.size and not (points.min() >= 0 and np.all(points.max((0, 1)) < (h, w))):
        raise ValueError(f"points lie outside the {h} x {w} positions of the features")
    asked = a[np.arange(B)[:, None], points[..., 0], points[..., 1]]  # (B, n, C)
    cosine = asked @ b.reshape(B, h * w, C).transpose(0, 2, 1)  # (B, n, hw)
    best = cosine.argmax(2)
    return np.stack(np.divmod(best, w), 2), np.take_along_axis(cosine, best[..., None], 2)[..., 0]


def pck(found: Any, truth: Any, size: float, alpha: float = 0.1) -> float:
    """Percentage of correct keypoints, as a share: the points within α·size of the truth.   [Yang and Ramanan 2013]

    found, truth: (..., 2) in the same units;  size: the larger side of the image, or of the object, in these units.
    """
    found, truth = (np.asarray(a, dtype=np.float64) for a in (found, truth))
    check.same_shape("found", found, "truth", truth)
    if not found.size:
        raise ValueError("found holds no points; there is no share of none")
    if not (size > 0 and alpha > 0):
        raise ValueError(f"size is {size} and alpha is {alpha}; give positive numbers")
    return float((np.linalg.norm(found - truth, axis=-1) <= alpha * size + 1e-9).mean())
