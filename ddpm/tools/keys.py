"""Random keys: one for a whole batch, or one for each image, so that its noise does not depend on the batch.

    key: ()      one draw for the whole batch
    key: (B,)    image i is drawn from key i, whatever else is in the batch

Each function here takes either, and returns keys of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def per_image(key: jax.Array) -> bool:
    """True for an array of keys, one for each image (old keys of raw integers have one axis more)."""
    return key.ndim > (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)


def fold_in(key: jax.Array, i: Any) -> jax.Array:
    """Derive a key from each key and the number i."""
    return jax.vmap(jax.random.fold_in, (0, None))(key, i) if per_image(key) else jax.random.fold_in(key, i)


def of_images(key: jax.Array, ids: Any) -> jax.Array:
    """Derive the key of each image from its number: fold_in(key, i) for i in `ids`, (B,)."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(ids))


def split(key: jax.Array, n: int = 2) -> jax.Array:
    """Split each key into n, which are stacked in front."""
    return jax.vmap(lambda k: jax.random.split(k, n), out_axes=1)(key) if per_image(key) else jax.random.split(key, n)


def normal_like(key: jax.Array, x: jax.Array) -> jax.Array:
    """Draw z ~ N(0, I) like x (B, ...)."""
    return draw(lambda k, shape: jax.random.normal(k, shape, x.dtype), key, x.shape)


def draw(of: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw `of(key, shape)` for a batch of this shape (B, ...), or `of(key_i, shape[1:])` for each image."""
    if not per_image(key):
        return of(key, shape)
    if key.shape[0] != shape[0]:
        raise ValueError(f"there are {key.shape[0]} keys for {shape[0]} images; give one key, or one for each image")
    return jax.vmap(lambda k: of(k, shape[1:]))(key)
