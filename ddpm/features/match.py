"""Semantic correspondence: matches of points by their features, and their score (PCK)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.features.activations import unit
from ddpm.tools import check


def resize(f: Any, size: tuple[int, int]) -> np.ndarray:
    """Resize features (B, h, w, C) bilinearly to (B, *size, C), as DIFT does to the image's resolution."""
    f = jnp.asarray(f)
    return np.asarray(jax.image.resize(f, (f.shape[0], *size, f.shape[-1]), "bilinear"))


def correspondence(f_a: Any, f_b: Any, points: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Find, for each point of image a, the position in image b with the largest cosine of features.

    f_a, f_b: (B, h, w, C), pairs of images (`resize` them to the image's size for positions in pixels);  points:
    (B, n, 2) int, row and column in a; None: all h·w positions in row order. Returns positions (B, n, 2) in b and the
    cosines (B, n).   [Tang et al. 2023, Sec. 3.3: plain nearest neighbours]
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
    query = a[np.arange(B)[:, None], points[..., 0], points[..., 1]]  # (B, n, C)
    cosine = query @ b.reshape(B, h * w, C).transpose(0, 2, 1)  # (B, n, hw)
    best = cosine.argmax(2)
    return np.stack(np.divmod(best, w), 2), np.take_along_axis(cosine, best[..., None], 2)[..., 0]


def pck(found: Any, truth: Any, size: float, alpha: float = 0.1) -> float:
    """Compute the share of correct keypoints (PCK): those within α·size of the truth.   [Yang and Ramanan 2013]

    found, truth: (..., 2) in the same units;  size: the larger side of the image, or of the object, in these units.
    """
    found, truth = (np.asarray(a, dtype=np.float64) for a in (found, truth))
    check.same_shape("found", found, "truth", truth)
    if not found.size:
        raise ValueError("found holds no points; there is no share of none")
    if not (size > 0 and alpha > 0):
        raise ValueError(f"size is {size} and alpha is {alpha}; give positive numbers")
    return float((np.linalg.norm(found - truth, axis=-1) <= alpha * size + 1e-9).mean())
