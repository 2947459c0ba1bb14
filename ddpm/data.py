"""Images and labels: stored as uint8, used as float32 in [-1, 1]; `ddpm.datasets.load` finds or downloads them.

Batches are a pure function of (seed, step): the only position to keep in a checkpoint is the step. This module does not
import JAX; `to_float` and `to_uint8` take arrays of either kind, inside `jit` too.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ddpm.tools.values import has_nan


@dataclass(frozen=True, eq=False)
class Dataset:
    """A complete data set in memory; the arrays are read-only."""

    name: str
    class_names: tuple[str, ...]
    x_train: np.ndarray  # (N, H, W, C) uint8
    y_train: np.ndarray  # (N,) int32 in 0..num_classes-1
    x_test: np.ndarray
    y_test: np.ndarray
    source: str  # where it was found

    @property
    def num_classes(self) -> int:
        """The number of classes K, which is also the null label."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return self.x_train.shape[1:]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the shapes and bytes of the four arrays, the same for every source."""
        digest = hashlib.sha256()
        for a in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{a.shape}".encode() + a.astype(a.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()


# --- scaling, classes, batches ----------------------------------------------------------------------------------------


def to_float(x: Any) -> Any:
    """x/127.5 - 1: uint8 0..255 -> float32 in [-1, 1]"""
    if getattr(x, "dtype", None) != np.uint8:
        raise TypeError(f"x has type {getattr(x, 'dtype', type(x).__name__)}; to_float scales uint8 images")
    return x.astype("float32") / 127.5 - 1


def to_uint8(x: Any) -> Any:
    """clip(round((x + 1)·127.5), 0, 255): floats in [-1, 1] -> uint8. The inverse of `to_float`."""
    if getattr(getattr(x, "dtype", None), "kind", "b") in "biu":
        raise TypeError(f"x has type {getattr(x, 'dtype', type(x).__name__)}; to_uint8 takes floats in [-1, 1]")
    if has_nan(x):
        raise ValueError("x holds NaN, which is no grey level; look at the weights and the steps that it came from")
    return ((x.astype("float32") + 1) * 127.5).round().clip(0, 255).astype("uint8")


def class_index(names: Sequence[str], label: int | str) -> int:
    """Find the class number of `label`: a number, '3', or a name in any case."""
    text = str(label).strip().lower()
    by_name = {n.lower(): i for i, n in enumerate(names)}
    if text in by_name:
        return by_name[text]
    if text.removeprefix("-").isdecimal():
        if 0 <= int(text) < len(names):
            return int(text)
        raise ValueError(f"class {text} is not known; the classes are 0..{len(names) - 1}: {', '.join(names)}")
    near = difflib.get_close_matches(text, by_name, n=1)
    hint = f" Did you mean {names[by_name[near[0]]]!r}?" if near else ""
    raise ValueError(f"class {label!r} is not known. Known: {', '.join(names)}, or 0..{len(names) - 1}.{hint}")


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    ids = np.random.default_rng([seed, epoch]).permutation(n).astype(np.int32)
    ids.flags.writeable = False
    return ids


def batch_ids(seed: int, step: int, n: int, batch: int) -> np.ndarray:
    """Choose the images of a step's batch: (batch,) int32, a pure function of (seed, step).

    Steps count from 0. An epoch is a permutation of the n images, without the last n mod batch of them.
    """
    if not 1 <= batch <= n:
        raise ValueError(f"batch is {batch}; a set of {n} images makes batches of 1..{n}")
    if seed < 0 or step < 0:
        raise ValueError(f"seed is {seed} and step is {step}; neither may be negative")
    epoch, i = divmod(int(step), n // batch)
    return _permutation(int(seed), epoch, n)[i * batch : (i + 1) * batch]
