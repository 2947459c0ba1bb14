"""From maps of several views to one map of the solid that they show.

A pixel belongs to the voxel that its ray meets first. The value of a voxel is the mean over the pixels that see it; a
voxel that no view sees has none, NaN, and is neither typical nor untypical.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.tools import check


def lifted(maps: Any, hits: Any, voxels: int) -> np.ndarray:
    """Average the maps over the views that see each voxel: (n, voxels), NaN where none does.

    maps: (n, V, H, W), one for each view;  hits: (n, V, H, W) the id of the voxel at each pixel, -1 where there is
    none, as `ddpm.datasets.blocks.hits` gives it.
    """
    maps, hits = np.asarray(maps, dtype=np.float64), np.asarray(hits)
    check.whole("voxels", voxels, 1)
    if maps.ndim != 4 or maps.shape != hits.shape or not np.issubdtype(hits.dtype, np.integer):
        raise ValueError(f"maps has shape {maps.shape} and hits {hits.dtype} {hits.shape}; give both as (n, V, H, W)")
    if hits.size and not -1 <= hits.min() <= hits.max() < voxels:
        raise ValueError(f"hits lies in {hits.min()}..{hits.max()}; the ids are 0..{voxels - 1}, and -1 for none")
    unseen = ~(hits >= 0).any((1, 2, 3))
    if unseen.any():
        raise ValueError(f"no view of shape {int(unseen.argmax())} shows a voxel; a shape needs a surface")
    shape = np.broadcast_to(np.arange(len(maps))[:, None, None, None], hits.shape)
    seen = hits >= 0
    at = shape[seen] * voxels + hits[seen]
    count = np.bincount(at, minlength=len(maps) * voxels)
    total = np.bincount(at, maps[seen], minlength=len(maps) * voxels)
    with np.errstate(invalid="ignore"):
        return (total / count).reshape(len(maps), voxels)


def by_cell(values: Any, cell: int) -> np.ndarray:
    """Average over the voxels of each cell that are seen: (n, side³) -> (n, side/cell, side/cell, side/cell), or NaN.

    cell: its side in voxels.
    """
    values = np.asarray(values, dtype=np.float64)
    side = round(values.shape[-1] ** (1 / 3))
    if values.ndim != 2 or side**3 != values.shape[1] or side % check.whole("cell", cell, 1):
        raise ValueError(f"values has shape {values.shape}; give (n, side³) with a side that {cell} divides")
    k = side // cell
    blocks = values.reshape(-1, k, cell, k, cell, k, cell).transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, k, k, k, cell**3)
    seen = np.isfinite(blocks)
    with np.errstate(invalid="ignore"):
        return np.where(seen, blocks, 0).sum(-1) / seen.sum(-1)
