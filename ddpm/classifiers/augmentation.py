"""Augmentation: images are moved, mirrored and partly erased at random, against overfitting."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def augment(key: jax.Array, x: jax.Array, shift: int, flip: bool, erase: int = 0) -> jax.Array:
    """Augment images x (B, H, W, C): move by up to `shift` pixels, mirror half, erase a square.

    Moved images repeat their edge. The square, erase × erase, is set to 0; its corner lies anywhere from -erase/2, so
    parts of it may lie outside.
    """
    key_shift, key_flip, key_erase = jax.random.split(key, 3)
    B, H, W, C = x.shape
    padded = jnp.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corner = jax.random.randint(key_shift, (B, 2), 0, 2 * shift + 1)
    x = jax.vmap(lambda a, at: jax.lax.dynamic_slice(a, (at[0], at[1], 0), (H, W, C)))(padded, corner)
    mirror = jax.random.bernoulli(key_flip, 0.5, (B, 1, 1, 1)) & flip
    x = jnp.where(mirror, x[:, :, ::-1], x)
    if not erase:
        return x
    most = jnp.broadcast_to(jnp.array([[H, W]]) - erase // 2, (B, 2))
    at = jax.random.randint(key_erase, (B, 2), jnp.full((B, 2), -(erase // 2)), most)
    row, column = (jnp.arange(n)[None] - at[:, i : i + 1] for i, n in enumerate((H, W)))  # (B, H), (B, W)
    hole = ((row >= 0) & (row < erase))[:, :, None] & ((column >= 0) & (column < erase))[:, None, :]
    return jnp.where(hole[..., None], 0.0, x)
