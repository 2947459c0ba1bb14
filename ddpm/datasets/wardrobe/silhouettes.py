"""Where each pixel of a picture belongs: garment, ink, ground, or one of the 16 cells of a badge.

A geometry is (garment, size, column, row, pattern): 6 · 2 · 3 · 2 · 4 = 288 of them, with 72 silhouettes. Each cuts
the image into regions, every pixel in exactly one of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ddpm.datasets.wardrobe.words import BITS, COLUMNS, GARMENTS, PATTERNS, ROWS, SIDES, SIZE

Points = tuple[tuple[float, float], ...]
# Outlines in a box of side 1 as (x, y), y downwards, of which a second one cuts a hole; and the centre of the badge.
OUTLINES: dict[str, tuple[tuple[Points, ...], tuple[float, float]]] = {
    "shirt": (
        (
            (
                *((0.25, 0.05), (0.38, 0.05), (0.5, 0.15), (0.62, 0.05), (0.75, 0.05), (1, 0.3), (0.87, 0.46)),
                *((0.77, 0.38), (0.77, 0.97), (0.23, 0.97), (0.23, 0.38), (0.13, 0.46), (0, 0.3)),
            ),
        ),
        (0.5, 0.58),
    ),
    "dress": (
        (
            (
                *((0.28, 0), (0.38, 0), (0.42, 0.12), (0.58, 0.12), (0.62, 0), (0.72, 0), (0.74, 0.46), (0.98, 1)),
                *((0.02, 1), (0.26, 0.46)),
            ),
        ),
        (0.5, 0.68),
    ),
    "trousers": (
        (((0.18, 0), (0.82, 0), (0.93, 1), (0.6, 1), (0.52, 0.48), (0.48, 0.48), (0.4, 1), (0.07, 1)),),
        (0.5, 0.24),
    ),
    "shoe": (
        (((0.02, 0.2), (0.42, 0.2), (0.47, 0.48), (0.8, 0.6), (0.98, 0.72), (0.98, 0.92), (0.02, 0.92)),),
        (0.27, 0.66),
    ),
    "bag": (
        (
            (
                *((0.05, 0.38), (0.28, 0.38), (0.28, 0.08), (0.72, 0.08), (0.72, 0.38), (0.95, 0.38)),
                *((0.95, 0.98), (0.05, 0.98)),
            ),
            ((0.38, 0.38), (0.38, 0.18), (0.62, 0.18), (0.62, 0.38)),
        ),
        (0.5, 0.68),
    ),
    "hat": (
        (((0.26, 0.12), (0.74, 0.12), (0.78, 0.66), (1, 0.66), (1, 0.86), (0, 0.86), (0, 0.66), (0.22, 0.66)),),
        (0.5, 0.4),
    ),
}  # fmt: skip


class Shapes(NamedTuple):
    """The 288 geometries in the order (garment, size, column, row, pattern), the last one fastest."""

    silhouette: np.ndarray  # (72, 28, 28) bool
    region: np.ndarray  # (288, 28, 28) int8: 0 ground, 1 garment, 2 ink, 3… the cells of the badge
    attributes: np.ndarray  # (288, 5) the attributes of each geometry


def inside(outlines: tuple[Points, ...], side: int) -> np.ndarray:
    """Mark the pixels whose centres lie inside the outlines, by the even-odd rule: (side, side) bool."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    odd = np.zeros((side, side), bool)
    for points in outlines:
        for (x0, y0), (x1, y1) in zip(points, (*points[1:], points[0]), strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return odd


def divided(garment: np.ndarray, pattern: str, centre: tuple[float, float]) -> np.ndarray:
    """Divide a garment's box (side, side) bool into its regions: int8, 0 outside."""
    side = len(garment)
    row, column = np.mgrid[:side, :side]
    region = garment.astype(np.int8)
    if pattern == "striped":
        region[garment & (row // 2 % 2 == 1)] = 2
    if pattern == "checked":
        region[garment & ((row // 2 + column // 2) % 2 == 1)] = 2
    if pattern == "badged":
        cell = 2 if side >= 20 else 1
        left, top = (round(c * side) - 2 * cell for c in centre)
        i, j = (row - top) // cell, (column - left) // cell
        inside = (i >= 0) & (i < 4) & (j >= 0) & (j < 4)
        region[inside] = (3 + 4 * i + j)[inside]
    return region


@lru_cache(maxsize=1)
def shapes() -> Shapes:
    """Draw all geometries."""
    region, index = [], []
    for g, name in enumerate(GARMENTS):
        outlines, centre = OUTLINES[name]
        for size, side in enumerate(SIDES):
            boxes = [divided(inside(outlines, side), pattern, centre) for pattern in PATTERNS]
            for column in range(len(COLUMNS)):
                for row in range(ROWS):
                    left = (SIZE - side) * column // (len(COLUMNS) - 1)
                    top = (SIZE - side) * row // (ROWS - 1)
                    for p, box in enumerate(boxes):
                        image = np.zeros((SIZE, SIZE), np.int8)
                        image[top : top + side, left : left + side] = box
                        region.append(image)
                        index.append((g, size, column, row, p))
    regions = np.stack(region)
    return Shapes(regions[:: len(PATTERNS)] > 0, regions, np.array(index))


def edges(region: np.ndarray) -> np.ndarray:
    """Mark the pixels whose right or lower neighbour is of another region; the cells of a badge count as one.

    region: (..., 28, 28) int8 -> (..., 28, 28) bool, what a controlled network sees as outlines. All 288 differ.
    """
    kind = np.minimum(region, 3)
    found = np.zeros(kind.shape, bool)
    found[..., :-1] |= kind[..., :-1] != kind[..., 1:]
    found[..., :-1, :] |= kind[..., :-1, :] != kind[..., 1:, :]
    return found


def geometry(
    garment: np.ndarray, size: np.ndarray, column: np.ndarray, row: np.ndarray, pattern: np.ndarray
) -> np.ndarray:
    """Number of each geometry in `shapes()`."""
    counts = (len(GARMENTS), len(SIDES), len(COLUMNS), ROWS, len(PATTERNS))
    return np.ravel_multi_index((garment, size, column, row, pattern), counts)


CELLS = range(3, 3 + BITS)  # the region numbers of a badge
