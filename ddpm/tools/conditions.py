"""Conditions c of a denoiser: labels, or a pytree of arrays with one row for each image.

    c = None                                  ∅, nothing is given
    c = labels (B,) int                       classes
    c = Condition(text, image, hint, label)   words, an image, an outline, a class; None inside is ∅ of this part

Wrappers, samplers and measures pass c on as it is. What an oracle takes as evidence, such as
`ddpm.oracles.region_colours.Evidence`, and the pairs of `guides.two_scale`, travel in the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np


class Condition(NamedTuple):
    """What a picture should be like; each part (B, ...), or None where it is not given."""

    text: Any = None  # (B, L) int, the tokens of a caption
    image: Any = None  # (B, H, W, C) in [-1, 1], a picture to edit or to continue
    hint: Any = None  # (B, H, W, C) in [0, 1], edges or a silhouette
    label: Any = None  # (B,) int, a class


def structured(c: Any) -> bool:
    """True of a pytree with several parts, False of labels: an array, a number, or a list of numbers."""
    several = isinstance(c, tuple) and any(part is None or np.ndim(part) for part in c)
    return several or isinstance(c, dict) or hasattr(c, "_fields")


def rows(c: Any, ids: Any) -> Any:
    """Select images of a condition: labels c[ids], or the same of every array of a pytree."""
    return jax.tree.map(lambda a: a[ids], c)


def count(c: Any) -> int:
    """The number of images that a condition is for."""
    return len(jax.tree.leaves(c)[0]) if structured(c) else int(np.size(c))


def check_rows(c: Any, n: int, name: str = "c") -> Any:
    """Check a pytree of arrays with n rows each, and return it."""
    for path, a in jax.tree_util.tree_leaves_with_path(c):
        if np.ndim(a) == 0 or np.shape(a)[0] != n:
            part = f"{name}{jax.tree_util.keystr(path)}"
            raise ValueError(f"{part} has shape {np.shape(a)}; give one row for each of the {n} images")
    return c


def check_parts(c: Condition, takes: tuple[str, ...], name: str = "c") -> None:
    """Refuse parts of a condition that a denoiser does not take."""
    if wrong := [part for part, value in c._asdict().items() if value is not None and part not in takes]:
        known = " and ".join(takes) or "no condition"
        raise ValueError(f"{name} holds {wrong[0]}, but this denoiser takes {known}; leave {name}.{wrong[0]} None")
