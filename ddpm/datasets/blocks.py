"""`blocks`: drawn bodies of 4 x 4 x 4 cells with planted parts, seen from five sides, and exactly known distributions.

A shape has a category (tower, gate or table) and a style. The category says which cells are solid, which are slots and
which are empty; it is a nuisance. Each slot holds, independently, one of two parts that only this style has, or a part
that all styles share, or nothing. So "what makes this style look like itself" has a known answer in three dimensions.

A cell has 6 x 6 x 6 voxels. A view is orthographic, 24 x 24 pixels: the grey of the first voxel that the ray meets,
times .93 for each voxel of depth. A column of cells along the rays is one cell of the picture, and its contents are
independent of the other columns given style and category: so each view has a distribution of `ddpm.oracles.cell_grid`
(`distribution`), and its best denoiser is known. Axes are x, y, z with z up; ids of voxels and cells are in C order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ddpm import data
from ddpm.datasets import formats
from ddpm.tools import check

if TYPE_CHECKING:
    from ddpm.oracles.cell_grid import Cells
CELL, CELLS = 6, 4  # side of a cell in voxels; side of the shape in cells
SIZE = CELL * CELLS
CLASSES = ("Amra", "Beli", "Ceto", "Dura")
CATEGORIES = ("tower", "gate", "table")
VIEWS = ("+x", "-x", "+y", "-y", "-z")  # the way that the rays go; -z looks from above
RATES = (0.035, 0.03)  # probability that a slot holds the style's first part, and its second
COMMON = 0.35  # probability that a slot without them holds a part that all styles share
FADE = 0.93  # of the grey, with each voxel of depth
EMPTY, BODY = 0, 1  # contents of a cell; the others are 2 + the index in PARTS


class Part(NamedTuple):
    """One thing that can stand in a slot."""

    name: str
    inside: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # of x, y, z in -1…1
    style: int = -1  # the class in which it is planted; -1: common to all


PARTS = (
    Part("cube", lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < 0.7),
    Part("ball", lambda x, y, z: x**2 + y**2 + z**2 < 0.9),
    Part("slab", lambda x, y, z: abs(z) < 0.4),
    Part("post", lambda x, y, z: np.maximum(abs(x), abs(y)) < 0.4),
    Part("ring", lambda x, y, z: (x**2 + y**2 > 0.3) & (abs(z) < 0.6), 0),
    Part("jack", lambda x, y, z: (abs(x) < 0.3) + 1 * (abs(y) < 0.3) + (abs(z) < 0.3) >= 2, 0),
    Part("cage", lambda x, y, z: (abs(x) > 0.7) + 1 * (abs(y) > 0.7) + (abs(z) > 0.7) >= 2, 1),
    Part("pyramid", lambda x, y, z: np.maximum(abs(x), abs(y)) < (1.1 - z) / 2, 1),
    Part("fins", lambda x, y, z: (abs(x) > 0.3) & (abs(y) > 0.3), 2),
    Part("stairs", lambda x, y, z: z < np.maximum(x, y), 2),
    Part("crown", lambda x, y, z: (np.maximum(abs(x), abs(y)) > 0.7) & ((z < -0.3) | (abs(x * y) > 0.2)), 3),
    Part("wall", lambda x, y, z: abs(x - y) < 0.4, 3),
)
_TOWER, _RING = "..../.##./.##./....", ".oo./o##o/o##o/.oo."
LAYOUTS = {  # four floors from below, of rows x = 0…3 and columns y = 0…3: # body, o slot, a dot is empty
    "tower": (_TOWER, _RING, _TOWER, _RING),
    "gate": ("o##o/..../..../o##o", ".##./..../..../.##.", "o##o/..../..../o##o", ".##./o##o/o##o/.##."),
    "table": ("#oo#/..../..../#oo#", "####/####/####/####", "o.o./.o.o/o.o./.o.o", "..../..../..../...."),
}


def planted(label: int) -> list[int]:
    """Return the indices in PARTS of the two parts that only this style has."""
    return [i for i, part in enumerate(PARTS) if part.style == label]


@lru_cache(maxsize=1)
def layouts() -> np.ndarray:
    """The letters of each category: (3, 4, 4, 4) of '#', 'o' and '.', by x, y, z."""
    floors = [[[list(row) for row in floor.split("/")] for floor in LAYOUTS[name]] for name in CATEGORIES]
    return np.moveaxis(np.array(floors), 1, 3)  # (category, z, x, y) -> (category, x, y, z)


@lru_cache(maxsize=1)
def solids() -> np.ndarray:
    """The grey of each voxel of each content, 0 where it is empty: (14, 6, 6, 6)"""
    x, y, z = (2 * np.indices((CELL,) * 3) + 1) / CELL - 1
    greys = [np.zeros(x.shape), np.full(x.shape, 0.55), *(0.9 * part.inside(x, y, z) for part in PARTS)]
    return np.stack(greys)


def probabilities(rate: float | Sequence[float] = RATES) -> np.ndarray:
    """p(content | slot, style): (K, 14).   rate: of the style's first and second part"""
    rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), (2,))
    if not (rates.min() >= 0 and rates.sum() <= 1):
        raise ValueError(f"rate is {rate}; give the probabilities of two parts in a slot, >= 0 with a sum <= 1")
    p, shared = np.zeros((len(CLASSES), 2 + len(PARTS))), planted(-1)
    for c in range(len(CLASSES)):
        p[c, EMPTY] = (1 - rates.sum()) * (1 - COMMON)
        p[c, [2 + i for i in shared]] = (1 - rates.sum()) * COMMON / len(shared)
        p[c, [2 + i for i in planted(c)]] = rates
    return p


# --- views ------------------------------------------------------------------------------------------------------------


def turned(a: np.ndarray, view: str) -> np.ndarray:
    """Turn (..., x, y, z) into (..., row, column, depth) of a view; row 0 is on top, depth 0 is near.

    Left and right are those of an eye that looks along the rays; the view from above has y upwards.
    """
    check.choice("view", view, VIEWS)
    if view == "-z":
        return np.swapaxes(a, -3, -2)[..., ::-1, :, ::-1]
    depth, column = (-3, -2) if view[1] == "x" else (-2, -3)
    out = np.moveaxis(a, (a.ndim - 1, a.ndim + column, a.ndim + depth), (-3, -2, -1))[..., ::-1, :, :]
    out = out if view[0] == "+" else out[..., ::-1]
    return out if view in ("-x", "+y") else out[..., ::-1, :]


def render(volume: np.ndarray, view: str) -> np.ndarray:
    """Draw volumes of grey (..., x, y, z), 0 where empty: uint8 (..., rows, columns), black where no voxel is.

    The eye is outside: a body that fills the volume shows its nearest voxels, at depth 0.
    """
    check.number("volume", volume)
    return _first(turned(volume, view))


def _first(along: np.ndarray) -> np.ndarray:
    """The faded grey of the first voxel that is not empty: (..., depth) -> (...)"""
    depth = (along > 0).argmax(-1)
    grey = np.take_along_axis(along, depth[..., None], -1)[..., 0] * FADE**depth
    return np.round(255 * grey).astype(np.uint8)


def hits(volume: np.ndarray, view: str) -> np.ndarray:
    """The id of the voxel that each pixel shows, -1 where it shows none: (..., rows, columns)"""
    along = turned(check.number("volume", volume), view)
    ids = turned(np.arange(np.prod(volume.shape[-3:])).reshape(volume.shape[-3:]), view)
    depth = (along > 0).argmax(-1)
    found = np.take_along_axis(np.broadcast_to(ids, along.shape), depth[..., None], -1)[..., 0]
    return np.where((along > 0).any(-1), found, -1)


def volumes(content: np.ndarray) -> np.ndarray:
    """Grey of every voxel: (n, 4, 4, 4) contents -> (n, 24, 24, 24)"""
    content = np.asarray(content)
    if content.shape[-3:] != (CELLS,) * 3 or content.min() < 0 or content.max() > 1 + len(PARTS):
        raise ValueError(f"content has shape {content.shape}; give contents 0..{1 + len(PARTS)} of shape (n, 4, 4, 4)")
    blocks = solids()[content]  # (n, 4, 4, 4, 6, 6, 6)
    return blocks.transpose(0, 1, 4, 2, 5, 3, 6).reshape(-1, SIZE, SIZE, SIZE)


@cache
def _columns(view: str, rate: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The tiles of a view (V, 6, 6) uint8 and p(tile | cell, style, category), (K, S, 16, V).

    All contents of a column are listed, behind a solid cell nothing; each is drawn, and equal tiles are merged.
    """
    slot, blocks = probabilities(rate), turned(solids(), view)  # (14, rows, columns, depth)
    number: dict[bytes, int] = {}
    found: dict[tuple[int, int, int, int], float] = {}

    @cache
    def tile(contents: tuple[int, ...]) -> int:
        column = np.concatenate([blocks[k] for k in contents], -1)  # (6, 6, 24)
        return number.setdefault(_first(column).tobytes(), len(number))

    for s, letters in enumerate(turned(layouts(), view)):
        for j, column in enumerate(letters.reshape(-1, CELLS)):
            seen = list(itertools.takewhile(lambda a: a != "#", column)) + ["#"] * ("#" in column)
            for c, p in enumerate(slot):
                options = {"#": [(BODY, 1.0)], ".": [(EMPTY, 1.0)], "o": [(k, q) for k, q in enumerate(p) if q > 0]}
                for contents in itertools.product(*(options[a] for a in seen)):
                    kinds = tuple(k for k, _ in contents) + (EMPTY,) * (CELLS - len(seen))
                    at = c, s, j, tile(kinds)
                    found[at] = found.get(at, 0.0) + float(np.prod([q for _, q in contents]))
    prob = np.zeros((len(CLASSES), len(CATEGORIES), CELLS**2, len(number)))
    for place, q in found.items():
        prob[place] = q
    return np.frombuffer(b"".join(number), np.uint8).reshape(-1, CELL, CELL), prob


def distribution(view: str, rate: float | Sequence[float] = RATES) -> Cells:
    """Return the exact distribution of one view of `draw`; the style is its class, and the category its light."""
    from ddpm.oracles.cell_grid import cells

    check.choice("view", view, VIEWS)
    probabilities(rate)
    tiles, prob = _columns(view, tuple(np.broadcast_to(np.asarray(rate, dtype=float), (2,)).tolist()))
    return cells(data.to_float(tiles[None, ..., None]), prob)


# --- drawing ----------------------------------------------------------------------------------------------------------


class Shapes(NamedTuple):
    """Shapes with what they hold."""

    content: np.ndarray  # (n, 4, 4, 4) int8: EMPTY, BODY, or 2 + the index in PARTS
    labels: np.ndarray  # (n,) int32, the style
    category: np.ndarray  # (n,) int32

    @property
    def mask(self) -> np.ndarray:
        """Mark the cells that hold a planted part: (n, 4, 4, 4) bool."""
        return np.array([False, False, *(part.style >= 0 for part in PARTS)])[self.content]

    def views(self) -> np.ndarray:
        """Draw all five views: (n, 5, 24, 24, 1) uint8."""
        parts = np.array_split(self.content, -(-len(self.content) // 64))  # a volume has 100 KB
        drawn = [np.stack([render(volumes(part), view) for view in VIEWS], axis=1) for part in parts]
        return np.concatenate(drawn)[..., None]


def draw(n: int, seed: int = 0, *, rate: float | Sequence[float] = RATES, label: int | None = None) -> Shapes:
    """Draw n shapes; the styles take turns, or all have `label`.   rate: as in `probabilities`"""
    if n < 1 or seed < 0:
        raise ValueError(f"n is {n} and seed is {seed}; give n >= 1 and seed >= 0")
    if label is not None and not 0 <= label < len(CLASSES):
        raise ValueError(f"label is {label}; the styles are 0..{len(CLASSES) - 1}: {', '.join(CLASSES)}")
    rng, up_to = np.random.default_rng([seed, n]), probabilities(rate).cumsum(-1)
    labels = np.arange(n, dtype=np.int32) % len(CLASSES) if label is None else np.full(n, label, dtype=np.int32)
    category = rng.integers(0, len(CATEGORIES), n).astype(np.int32)
    letters = layouts()[category]  # (n, 4, 4, 4)
    u = rng.random(letters.shape) * up_to[:, -1].min()  # 1 up to rounding
    held = (u[..., None] >= up_to[labels][:, None, None, None]).sum(-1)
    content = np.where(letters == "#", BODY, np.where(letters == "o", held, EMPTY))
    return Shapes(content.astype(np.int8), labels, category)


SPLITS = {"train": (2400, 1), "test": (400, 2)}  # shapes and seed


def shapes_of(split: str) -> Shapes:
    """The shapes of the data set; the views of shape i are its images 5 i … 5 i + 4, in the order of `VIEWS`."""
    n, seed = SPLITS[check.choice("split", split, SPLITS)]
    return draw(n, seed)


@lru_cache(maxsize=1)
def views_data() -> data.Dataset:
    """Draw the data set of views: 12,000 pictures of 2,400 shapes, and 2,000 of 400; the label is the style."""
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        shapes = shapes_of(split)
        arrays[f"x_{split}"] = shapes.views().reshape(-1, SIZE, SIZE, 1)
        arrays[f"y_{split}"] = np.repeat(shapes.labels, len(VIEWS))
    arrays = formats.checked(arrays, "the drawn blocks", (SIZE, SIZE, 1), len(CLASSES))
    return data.Dataset("blocks", CLASSES, **arrays, source="drawn by ddpm.datasets.blocks")
