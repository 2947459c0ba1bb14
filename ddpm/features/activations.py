"""Features of a denoiser: the activations of the U-Net for an image.

    f(x0, c) = mean_k h_layer(√ᾱ_t x0 + √(1-ᾱ_t) ε_k, t, c),    ε_k ~ N(0, I), k = 1…ensemble   [DIFT, Tang et al. 2023]

With a little noise, and a layer on the way up, corresponding parts of two images have similar features.
The noises are the same for all images, so that the features of one do not depend on the others in the batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.forward import at, q_sample
from ddpm.networks.dit import eps_fn
from ddpm.networks.dit_config import DiTConfig
from ddpm.networks.inspect import activations, param_shapes
from ddpm.networks.preconditioning import InputScale, input_scale
from ddpm.networks.skip import with_x0
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.batches import parts, progress
from ddpm.tools.conditions import rows
from ddpm.tools.partials import check_labels


class Trained(Protocol):
    """A network with its parameters and schedule, such as `ddpm.zoo.model.Model`."""

    @property
    def unet(self) -> UNetConfig: ...
    @property
    def params(self) -> dict: ...
    @property
    def schedule(self) -> Schedule: ...


def weights_of(model: Trained) -> tuple[dict, Schedule, Any]:
    """Return its parameters, its schedule, and the Gaussian of its skip, the scale of its input, or ()."""
    scale = input_scale(model.schedule) if getattr(model, "predict", "") == "edm" else ()
    return model.params, model.schedule, getattr(model, "prior", None) or scale


def seen_by(config: UNetConfig, weights: tuple[dict, Schedule, Any], x_t: Any, t: jax.Array, c: Any = None) -> dict:
    """Compute the activations of every layer; its input may be scaled, or hold a Gaussian's estimate of x0."""
    params, schedule, prior = weights
    if isinstance(prior, InputScale):
        x_t = x_t / at(prior.r, t, x_t)
    elif prior:
        x_t = with_x0(prior.eps(schedule), schedule, x_t, t, c)
    return activations(config, params, x_t, t, c)


def layers(config: UNetConfig) -> dict[str, tuple[int, int, int]]:
    """List the layers in the order of the computation, with their shapes (h, w, C) for an image.

    `up.1` is the second level on the way up, counted from the smallest: the layer of DIFT and of Siglidis et al.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def look(params: dict, x: jax.Array, t: jax.Array) -> None:
        shapes.update({name: a.shape[1:] for name, a in activations(config, params, x, t).items()})

    H, W, C = config.image_shape
    shape = (1, H, W, C + config.extra_channels)
    jax.eval_shape(look, param_shapes(config), jnp.zeros(shape), jnp.ones(1, jnp.int32))
    return shapes


def default_time(T: int) -> int:
    """Return .16 T, at least 1: the time of the features of Siglidis et al. (161 of 1,000)."""
    return max(1, round(0.16 * T))


def default_layer(config: UNetConfig) -> str:
    """Return `up.1`, or `up.0.0` for a U-Net with one level, or the middle block of a transformer.

    `up.0.0` is its first block on the way up; the last block prepares ε̂.
    """
    if isinstance(config, DiTConfig):
        return f"block.{config.blocks // 2}"
    return "up.1" if len(config.multipliers) > 1 else "up.0.0"


def dift(
    model: Trained,
    x0: Any,
    c: Any,
    key: jax.Array,
    *,
    t: int | None = None,
    layer: str = "up.1",
    ensemble: int = 8,
    batch: int = 64,
) -> np.ndarray:
    """Compute f(x0, c) of this module: (B, h, w, C) float32, not normalised.   [Tang et al. 2023, Sec. 3.2]

    model: its unet, params and schedule are used;  x0: (B, H, W, C) in [-1, 1];  c: (B,) labels, one for all, a
    `Condition`, or None for ∅;  t: 1..T, .16 T if None, or 0 for the clean image (where one draw is as good as eight);
    layer: a name of `layers(model.unet)`.
    """
    # Validation
    config, schedule = model.unet, model.schedule
    x0 = np.asarray(check.images(x0, config.image_shape))
    check.choice("layer", layer, layers(config))
    check.whole("ensemble", ensemble, 1)
    t = default_time(schedule.T) if t is None else check.whole("t", t, 0, schedule.T)
    if c is not None:
        c = check_labels(eps_fn(config, model.params), c, (len(x0),), one=True)
    # Features, one batch at a time
    found = []
    for ids, m in progress(parts(len(x0), batch), desc=f"features of {layer}", unit="batch"):
        part = _dift(config, weights_of(model), x0[ids], rows(c, ids), key, jnp.int32(t), layer, ensemble)
        found.append(np.asarray(part)[:m])
    return np.concatenate(found) if found else np.zeros((0, *layers(config)[layer]), np.float32)


@partial(jax.jit, static_argnames=("config", "layer", "ensemble"))
def _dift(
    config: UNetConfig,
    weights: tuple[dict, Schedule, Any],
    x0: jax.Array,
    c: jax.Array | None,
    key: jax.Array,
    t: jax.Array,
    layer: str,
    ensemble: int,
) -> jax.Array:
    schedule = weights[1]

    def draw(k: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, k), x0.shape[1:], x0.dtype)
        x_t = q_sample(schedule, x0, t, jnp.broadcast_to(noise, x0.shape))
        return seen_by(config, weights, x_t, t, c)[layer].astype(jnp.float32)

    return jax.lax.fori_loop(1, ensemble, lambda k, total: total + draw(k), draw(jnp.int32(0))) / ensemble


# --- patches ----------------------------------------------------------------------------------------------------------


def patch_features(f: Any, image: Any, corner: Any, side: int, image_size: int) -> np.ndarray:
    """Average f over each patch and divide by the length: (n, C).   [Siglidis et al. 2024, released code]

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
    """Divide f by its length along the last axis; zero stays zero."""
    f = np.asarray(f, dtype=np.float32)
    length = np.linalg.norm(f, axis=-1, keepdims=True)
    return f / np.where(length > 0, length, 1)
