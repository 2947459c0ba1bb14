"""Features of patches without a network: histograms of oriented gradients (HOG).   [Dalal and Triggs 2005]

The settings suit images of about 28 pixels: cells of 2 × 2 pixels, 8 orientations, patches of k × k pixels at stride 1;
for colour images also the a and b of Lab in each cell. Needs scikit-image: pip install scikit-image
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.mining.patches import pooled, side

ORIENTATIONS = 8


def hog_patches(images: Any, k: int, cell: int = 2) -> np.ndarray:
    """Compute the HOG of every k × k patch at stride 1.   [Dalal and Triggs 2005]

    images: (n, H, W, C) uint8 or floats  ->  (n, H-k+1, W-k+1, F) float32, each of mean 0 and length 1.
    Blocks of 2 × 2 cells with L2-Hys;  F = (k/cell - 1)²·4·8, and 2 (k/cell)² more with colour (the a and b of Lab in
    each cell). The gradients at the border of a patch include the pixels around it.
    """
    hog = _hog()
    # Validation
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"images has shape {images.shape}; give (n, H, W, C)")
    n, H, W, C = images.shape
    side("k", k, H, W)
    if cell < 1 or k % cell or k < 2 * cell:
        raise ValueError(f"k is {k} and cell is {cell}; a patch is a whole number of cells wide, at least two")
    # Sizes of the result
    blocks, cells = k // cell - 1, k // cell
    F = blocks**2 * 4 * ORIENTATIONS + (2 * cells**2 if C == 3 else 0)
    out = np.zeros((n, H - k + 1, W - k + 1, F), np.float32)
    how = {"orientations": ORIENTATIONS, "pixels_per_cell": (cell, cell), "cells_per_block": (2, 2)}
    for i, image in enumerate(images):
        colour = _lab(image) if C == 3 else None
        # Every shift of the grid of cells
        for y in range(cell):
            for x in range(cell):
                part = image[y:, x:]
                h = hog(part, **how, feature_vector=False, channel_axis=-1)  # (rows, columns, 2, 2, 8) of blocks
                h = _windows(h.reshape(*h.shape[:2], -1), blocks)
                if colour is not None:
                    ab = _windows(_cell_means(colour[y:, x:], cell), cells)
                    h = np.concatenate([h, ab[: h.shape[0], : h.shape[1]]], -1)
                rows, columns = out[i, y::cell, x::cell].shape[:2]
                out[i, y::cell, x::cell] = h[:rows, :columns]
    # Normalisation to mean 0 and length 1
    out -= out.mean(-1, keepdims=True)
    length = np.linalg.norm(out, axis=-1, keepdims=True)
    return out / np.where(length > 1e-6, length, 1)


def _hog() -> Any:
    try:
        from skimage.feature import hog
    except ImportError:
        raise ValueError("the baseline of Doersch et al. needs scikit-image: pip install scikit-image") from None
    return hog


def _lab(image: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2lab

    rgb = image / 255 if image.dtype == np.uint8 else (image + 1) / 2
    return rgb2lab(rgb)[..., 1:] / 100


def _cell_means(a: np.ndarray, cell: int) -> np.ndarray:
    rows, columns = (s // cell for s in a.shape[:2])
    a = a[: rows * cell, : columns * cell]
    return a.reshape(rows, cell, columns, cell, a.shape[-1]).mean((1, 3))


def _windows(a: np.ndarray, size: int) -> np.ndarray:
    """Concatenate the entries of each window: (h, w, d) -> (h-size+1, w-size+1, size²·d)"""
    v = np.lib.stride_tricks.sliding_window_view(a, (size, size), axis=(0, 1))
    return v.transpose(0, 1, 3, 4, 2).reshape(*v.shape[:2], -1)


def contrast(images: Any, k: int) -> np.ndarray:
    """Compute the standard deviation of the pixels in each patch: (n, H-k+1, W-k+1), averaged over channels."""
    x = np.moveaxis(np.asarray(images, dtype=np.float64), -1, 0)
    x = x - x.mean((2, 3), keepdims=True)
    return np.sqrt(np.maximum(pooled(x**2, k) - pooled(x, k) ** 2, 0)).mean(0)
