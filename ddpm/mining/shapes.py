"""The page of mined shapes: maps of the views of `blocks`, lifted to the shapes that they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddpm.datasets import blocks
from ddpm.mining import turning
from ddpm.mining.lifting import lifted

MOST = 40  # shapes on one page


def write(path: Path, ids: np.ndarray, split: str, maps: np.ndarray, by: str) -> int:
    """Write the page of the shapes all of whose views are among the images; return their number, 0 without a page.

    ids: (n,) places of the images in the split of the data set;  maps: (n, H, W) of T;  by: the model, in words
    """
    V, place = len(blocks.VIEWS), {int(i): k for k, i in enumerate(ids)}
    whole = [i for i in sorted({i // V for i in place}) if all(V * i + v in place for v in range(V))]
    if not whole:
        return 0
    of, rows = blocks.shapes_of(split), [[place[V * i + v] for v in range(V)] for i in whole]
    volume = blocks.volumes(of.content[whole])
    hits = np.stack([blocks.hits(volume, view) for view in blocks.VIEWS], 1)
    T = lifted(maps[rows], hits, blocks.SIZE**3)
    planted = of.mask[whole]
    for axis in (1, 2, 3):
        planted = planted.repeat(blocks.CELL, axis)
    solids = [
        turning.Solid(f"{blocks.CATEGORIES[of.category[i]]} {i}", volume[k], T[k], planted[k])
        for k, i in enumerate(whole)
    ]
    style = blocks.CLASSES[of.labels[whole[0]]]
    words = (
        f"Each view was measured by {by}: T(x|c), how much the style {style} helps to denoise each pixel. A voxel has "
        f"the mean over the views that see it. The {min(len(whole), MOST)} shapes with the most typical cells, of "
        f"{len(whole)}."
    )
    solids = turning.ranked(solids, blocks.CELL)[0][:MOST]
    turning.save(path, f"What makes {style} look like {style}, in three dimensions", words, solids, blocks.CELL)
    return len(whole)
