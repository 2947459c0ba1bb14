"""`volumes`: the shapes of `blocks` themselves, 24 x 24 x 24 voxels as pictures of 24 x 24 pixels with 24 channels.

Rows are x, columns y, channels z: a position of a U-Net with patch 6 is one column of four cells. Given style and
category the 64 cells are independent, so the best denoiser of volumes is known too (`distribution`, `eps`). And a
volume that a network drew can be read: `read` finds the content of each cell that is nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddpm import data
from ddpm.contracts import Eps, Partial
from ddpm.datasets import formats
from ddpm.datasets.blocks import (
    BODY,
    CATEGORIES,
    CELL,
    CELLS,
    CLASSES,
    EMPTY,
    PARTS,
    RATES,
    SIZE,
    draw,
    layouts,
    probabilities,
    solids,
    volumes,
)
from ddpm.schedule import Schedule
from ddpm.tools import check

if TYPE_CHECKING:
    from ddpm.oracles.cell_grid import Cells
SPLITS = {"train": (8000, 11), "test": (400, 12)}  # shapes and seed


def pictures(content: np.ndarray) -> np.ndarray:
    """Volumes of contents (n, 4, 4, 4) as they are trained on: uint8 (n, 24, 24, 24), black where nothing is."""
    parts = np.array_split(np.asarray(content), -(-len(content) // 64))
    return np.concatenate([np.round(255 * volumes(part)).astype(np.uint8) for part in parts])


@lru_cache(maxsize=1)
def volumes_data() -> data.Dataset:
    """Draw the data set: 8,000 shapes and 400 others; the label is the style."""
    arrays: dict[str, np.ndarray] = {}
    for split, (n, seed) in SPLITS.items():
        shapes = draw(n, seed)
        arrays |= {f"x_{split}": pictures(shapes.content), f"y_{split}": shapes.labels}
    arrays = formats.checked(arrays, "the drawn volumes", (SIZE,) * 3, len(CLASSES))
    return data.Dataset("volumes", CLASSES, **arrays, source="drawn by ddpm.datasets.volumes")


# --- the exact denoiser -----------------------------------------------------------------------------------------------


def side_by_side(x: Any) -> Any:
    """(B, 24, 24, 24) -> (B, 24, 96, 6): the four floors of cells side by side, as a picture of 64 cells."""
    B = x.shape[0]
    return x.reshape(B, SIZE, SIZE, CELLS, CELL).swapaxes(2, 3).reshape(B, SIZE, SIZE * CELLS, CELL)


def stacked(x: Any) -> Any:
    """The inverse of `side_by_side`."""
    B = x.shape[0]
    return x.reshape(B, SIZE, CELLS, SIZE, CELL).swapaxes(2, 3).reshape(B, SIZE, SIZE, SIZE)


def distribution(rate: float | Sequence[float] = RATES) -> Cells:
    """Return the exact distribution of `side_by_side(x)`; the style is its class, and the category its light."""
    from ddpm.oracles.cell_grid import cells

    letters = layouts().transpose(0, 1, 3, 2).reshape(len(CATEGORIES), -1)  # (S, 64): x, z, y
    p = np.zeros((len(CLASSES), *letters.shape, 2 + len(PARTS)))
    p[:, letters == "#", BODY] = p[:, letters == ".", EMPTY] = 1
    p[:, letters == "o"] = probabilities(rate)[:, None]
    tiles = np.round(255 * solids()).astype(np.uint8)  # (14, 6, 6, 6)
    return cells(data.to_float(tiles)[None], p)


def eps(schedule: Schedule, rate: float | Sequence[float] = RATES) -> Partial:
    """ε* of volumes: the best denoiser (x_t (B, 24, 24, 24), t, c) -> ε̂"""
    return Partial(_eps, distribution(rate).eps(schedule))


def _eps(of_cells: Eps, x_t: Any, t: Any, c: Any = None) -> Any:
    return stacked(of_cells(side_by_side(x_t), t, c))


_eps.labels = lambda *_: len(CLASSES)  # type: ignore[attr-defined]


# --- reading what was drawn -------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What n volumes show, by the nearest content of each cell and the nearest category."""

    content: np.ndarray  # (n, 4, 4, 4)
    error: np.ndarray  # (n, 4, 4, 4) the rms distance to that content, in grey of 0…1
    category: np.ndarray  # (n,) the one whose layout explains most cells
    wrong: np.ndarray  # (n,) cells that this category cannot hold: no body where it is, something where nothing is


def read(x: Any) -> Reading:
    """Read volumes (n, 24, 24, 24) in [-1, 1], cell by cell."""
    x = np.asarray(x, np.float32)
    if x.ndim != 4 or x.shape[1:] != (SIZE,) * 3:
        raise ValueError(f"x has shape {x.shape}; give volumes (n, {SIZE}, {SIZE}, {SIZE})")
    check.number("x", x)
    n, k = len(x), CELLS
    cells = ((x + 1) / 2).reshape(n, k, CELL, k, CELL, k, CELL).transpose(0, 1, 3, 5, 2, 4, 6).reshape(n, k**3, -1)
    of = solids().reshape(len(solids()), -1).astype(np.float32)
    gap = (cells**2).mean(-1)[..., None] - 2 * cells @ of.T / of.shape[1] + (of**2).mean(-1)
    content, error = gap.argmin(-1), np.sqrt(np.maximum(gap.min(-1), 0))
    letters = layouts().reshape(len(CATEGORIES), -1)
    body, empty = content == BODY, content == EMPTY
    fits = np.where(letters[:, None] == "#", body, np.where(letters[:, None] == ".", empty, ~body))  # (3, n, 64)
    wrong = (~fits).sum(-1)
    category = wrong.argmin(0)
    shape = (n, k, k, k)
    return Reading(content.reshape(shape), error.reshape(shape), category, wrong[category, np.arange(n)])
