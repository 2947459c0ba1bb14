"""Batches for the compiled step, as a pure function of (seed, step)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ddpm import data
from ddpm.training.devices import my_rows, place_rows, place_same


class Feed:
    """`feed(step, k)` returns the data arguments of step + 1 … step + k.

    They follow the state and the schedule in the arguments of the compiled step. On one device the whole data set
    is stored there as uint8, and only the indices of the images are transferred. On a mesh each process reads the rows
    of its own devices.
    """

    def __init__(self, seed: int, batch: int, images: np.ndarray, labels: np.ndarray, mesh: Mesh | None = None):
        self.key = np.asarray(jax.random.key_data(jax.random.key(seed)))
        self.seed, self.batch, self.mesh, self.size = seed, batch, mesh, len(images)
        self.images = jnp.asarray(images) if mesh is None else images
        self.labels = jnp.asarray(labels) if mesh is None else labels

    def ids(self, step: int) -> np.ndarray:
        """Return the indices of the images of step + 1: (B,)"""
        return data.batch_ids(self.seed, step, self.size, self.batch)

    def __call__(self, step: int, k: int = 1) -> tuple[Any, ...]:
        n: Any = np.arange(step, step + k, dtype=np.int32) if k > 1 else np.int32(step)
        ids = np.stack([self.ids(i) for i in range(step, step + k)]) if k > 1 else self.ids(step)
        if self.mesh is None:
            return self.images, self.labels, ids, n, self.key
        own, axis = ids[..., my_rows(self.batch)], ids.ndim - 1
        images, labels = (place_rows(self.mesh, np.asarray(a[own]), axis) for a in (self.images, self.labels))
        return images, labels, place_same(self.mesh, n), place_same(self.mesh, self.key)
