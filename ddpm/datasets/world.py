"""`cities`: drawn house fronts with planted motifs, and an exactly known distribution.

    image = 4 x 4 cells of 7 x 7 pixels: a row of roofs, two floors, the street; in one of three lights

Given the city and the light, each cell takes one tile independently: plain wall, or an object that all cities share,
or, on the floors, one of two ornaments that only this city has. All cities have as many ornaments and differ only in
which ones. So "what makes this class look like itself" has a known answer, the planted motifs wherever they are.
Because this is a distribution of `ddpm.oracles.cell_grid`, the best denoiser with and without the class is known too:
it is given by `distribution`.

Tiles are written as letters. An object stands at one of four positions in its cell (of two on the street). Drawing
needs only NumPy and is a pure function of (seed, n, the options).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ddpm import data
from ddpm.datasets import formats

if TYPE_CHECKING:
    from ddpm.oracles.cell_grid import Cells
CELL, CELLS = 7, 4  # side of a cell in pixels; side of the image in cells
SIZE = CELL * CELLS  # side of the image in pixels
BOX = 6  # side of a motif in pixels
CLASSES = ("Aldan", "Brevik", "Corvo", "Dunmore")
RATES = (0.07, 0.06)  # probability that a floor cell has the city's first ornament, and its second
COMMON = 0.4  # probability that a cell without an ornament has a common object
LIGHTS = ((0.9, 0.3), (0.4, 0.0), (-0.85, -0.3))  # noon, evening, night: the grey of sky and wall
GREY = {"#": -0.45, "-": -0.22, ".": 0.0, "+": 0.22, "o": 0.45}  # letters relative to the wall; a blank is the sky


class Motif(NamedTuple):
    """One object that can stand in a cell."""

    name: str
    row: str  # floor or street
    art: str  # 6 x 6 letters
    city: int = -1  # the class in which it is planted; -1: common to all


MOTIFS = (
    Motif("window", "floor", "++++++/+##+#+/+##+#+/++++++/+##+#+/+##+#+"),
    Motif("shutters", "floor", "o#--#o/o#--#o/o#--#o/o#--#o/o#--#o/++++++"),
    Motif("niche", "floor", "..##../.####./.####./.####./.####./++++++"),
    Motif("rose", "floor", ".+oo+./+o##o+/o#oo#o/o#oo#o/+o##o+/.+oo+."),
    Motif("door", "street", ".++++./.+##+./.+##+./.+#o+./.+##+./.+##+."),
    Motif("shop", "street", "o#o#o#/o#o#o#/+####+/+####+/+####+/++++++"),
    Motif("tree", "street", ".----./-####-/-####-/.-##-./..##../..##.."),
    Motif("lamp", "street", "..oo../.oooo./..oo../..##../..##../.####."),
    Motif("ring", "floor", "oooooo/o####o/o#oo#o/o#oo#o/o####o/oooooo", 0),
    Motif("saltire", "floor", "#oooo#/o#oo#o/oo##oo/oo##oo/o#oo#o/#oooo#", 0),
    Motif("cross", "floor", "oo##oo/oo##oo/######/######/oo##oo/oo##oo", 1),
    Motif("arrow", "floor", "oo##oo/o####o/######/oooooo/######/oooooo", 1),
    Motif("bars", "floor", "######/oooooo/oooooo/######/######/oooooo", 2),
    Motif("checks", "floor", "##oo##/##oo##/oo##oo/oo##oo/##oo##/##oo##", 2),
    Motif("posts", "floor", "#oo##o/#oo##o/#oo##o/#oo##o/#oo##o/#oo##o", 3),
    Motif("bend", "floor", "##oo##/#oo##o/oo##oo/o##oo#/##oo##/#oo##o", 3),
)
ROOFS = (  # 7 x 7 letters
    "       /       /       /       /ooooooo/-------/.......",
    "       /  ##   /  ##   /  ##   /ooooooo/-------/.......",
    "       /   #   /  ###  / ##### /#######/-------/.......",
    "       /  ooo  / oo#oo / o###o /ooooooo/-------/.......",
    "       /       / # # # / # # # /#######/-------/.......",
)
WALLS = (  # of the floors: plain, and with a few bricks
    "......./......./......./......./......./......./.......",
    "......./.++..../......./......./....++./......./.......",
)
STREET = "......./......./......./......./......./......./-------"  # plain, above the pavement


def planted(label: int) -> list[int]:
    """Return the indices in MOTIFS of the two motifs that only this city has."""
    return [m for m, motif in enumerate(MOTIFS) if motif.city == label]


# --- the distribution: tiles and their probabilities ------------------------------------------------------------------


class Tiles(NamedTuple):
    """All possible appearances of a cell."""

    pixels: np.ndarray  # (S, V, 7, 7) uint8: tile v in light s
    motif: np.ndarray  # (V,) its index in MOTIFS, or -1
    corner: np.ndarray  # (V, 2) top and left of the motif's box in the cell
    row: np.ndarray  # (V,) 0 for roofs, 1 for floors, 2 for the street


@lru_cache(maxsize=1)
def tiles() -> Tiles:
    """Build the tiles: backgrounds, and each motif at each of its places on a plain background."""
    arts = [(art, -1, (0, 0), 0) for art in ROOFS] + [(art, -1, (0, 0), 1) for art in WALLS]
    arts += [(STREET, -1, (0, 0), 2)]
    for m, motif in enumerate(MOTIFS):
        for top, left in itertools.product((0, 1), repeat=2):
            if motif.row == "floor" or top == 0:
                ground = [list(line) for line in (WALLS[0] if motif.row == "floor" else STREET).split("/")]
                for i, line in enumerate(motif.art.split("/")):
                    ground[top + i][left : left + BOX] = line
                arts.append(("/".join(map("".join, ground)), m, (top, left), 1 if motif.row == "floor" else 2))
    art, kind, corner, row = zip(*arts, strict=True)
    return Tiles(np.stack([_paint(art, *light) for light in LIGHTS]), *(np.array(a) for a in (kind, corner, row)))


def _paint(arts: Sequence[str], sky: float, wall: float) -> np.ndarray:
    """Convert letters to (V, 7, 7) uint8."""
    grey = {" ": sky} | {letter: wall + value for letter, value in GREY.items()}
    x = np.array([[[grey[letter] for letter in line] for line in art.split("/")] for art in arts])
    return np.round((x + 1) * 127.5).astype(np.uint8)


def probabilities(rate: float | Sequence[float] = RATES) -> np.ndarray:
    """p(v | j, c), the probability of each tile in each cell of a city: (K, 16, V).

    rate: of the city's first and second ornament in a floor cell; each of the four positions has a quarter of it.
    """
    rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), (2,))
    if not (rates.min() >= 0 and rates.sum() <= 1):
        raise ValueError(f"rate is {rate}; give the probabilities of two ornaments in a cell, >= 0 with a sum <= 1")
    v, p = tiles(), np.zeros((len(CLASSES), 3, len(tiles().motif)))
    for row in range(3):
        backdrop = (v.row == row) & (v.motif < 0)
        common = np.array([m for m in np.unique(v.motif[v.row == row]) if m >= 0 and MOTIFS[m].city < 0], dtype=int)
        rest = 1 - rates.sum() if row == 1 else 1.0
        p[:, row, backdrop] = rest * (1 - COMMON * bool(len(common))) / backdrop.sum()
        for m in common:
            p[:, row, v.motif == m] = rest * COMMON / len(common) / (v.motif == m).sum()
    for c in range(len(CLASSES)):
        for m, share in zip(planted(c), rates, strict=True):
            p[c, 1, v.motif == m] = share / 4
    return np.repeat(p[:, [0, 1, 1, 2]], CELLS, axis=1)  # rows of the image: roofs, floor, floor, street


def distribution(rate: float | Sequence[float] = RATES) -> Cells:
    """Return the exact distribution of `draw`; its `eps(schedule)` is the best possible denoiser.

    It works with and without a class.
    """
    from ddpm.oracles.cell_grid import cells

    return cells(data.to_float(tiles().pixels[..., None]), probabilities(rate))


# --- drawing ----------------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """Images with the motifs that they contain."""

    images: np.ndarray  # (n, 28, 28, 1) uint8
    labels: np.ndarray  # (n,) int32
    motif: np.ndarray  # (n, 28, 28) int8: the index in MOTIFS of the motif whose 6 x 6 box covers the pixel, or -1
    boxes: np.ndarray  # (m, 4) int32: image, motif, top, left of each motif's 6 x 6 box

    @property
    def mask(self) -> np.ndarray:
        """Mark the boxes of planted motifs: (n, 28, 28) bool."""
        return np.array([*(m.city >= 0 for m in MOTIFS), False])[self.motif]  # motif -1 is the last entry


def draw(n: int, seed: int = 0, *, rate: float | Sequence[float] = RATES, label: int | None = None) -> World:
    """Draw n images x0 ~ distribution(rate), with their labels and the positions of their motifs.

    rate: as in `probabilities`;  label: one city for all images, else the cities take turns.
    """
    if n < 1 or seed < 0:
        raise ValueError(f"n is {n} and seed is {seed}; give n >= 1 and seed >= 0")
    if label is not None and not 0 <= label < len(CLASSES):
        raise ValueError(f"label is {label}; the cities are 0..{len(CLASSES) - 1}: {', '.join(CLASSES)}")
    v, up_to = tiles(), probabilities(rate).cumsum(-1)  # (K, 16, V)
    rng = np.random.default_rng([seed, n])
    labels = np.arange(n, dtype=np.int32) % len(CLASSES) if label is None else np.full(n, label, dtype=np.int32)
    light = rng.integers(0, len(LIGHTS), n)
    u = rng.random((n, CELLS**2)) * up_to[..., -1].min()  # 1 up to rounding
    tile = np.array([(u[i, :, None] >= up_to[c]).sum(-1) for i, c in enumerate(labels)])  # (n, 16)
    images = _assemble(v.pixels[light[:, None], tile])[..., None]
    image, cell = np.nonzero(v.motif[tile] >= 0)
    number = v.motif[tile[image, cell]]
    corner = CELL * np.stack(np.divmod(cell, CELLS), 1) + v.corner[tile[image, cell]]
    motif = np.full((n, SIZE, SIZE), -1, dtype=np.int8)
    for i, m, (top, left) in zip(image, number, corner, strict=True):
        motif[i, top : top + BOX, left : left + BOX] = m
    return World(images, labels, motif, np.column_stack([image, number, corner]).astype(np.int32))


def _assemble(cells: np.ndarray) -> np.ndarray:
    """Join the cells of each image: (n, 16, 7, 7) -> (n, 28, 28)"""
    return cells.reshape(-1, CELLS, CELLS, CELL, CELL).transpose(0, 1, 3, 2, 4).reshape(-1, SIZE, SIZE)


@lru_cache(maxsize=1)
def cities() -> data.Dataset:
    """Draw the data set: 12,000 training and 2,000 test images, the same number for each city."""
    train, test = draw(12_000, seed=1), draw(2_000, seed=2)
    arrays = {"x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels}
    arrays = formats.checked(arrays, "the drawn cities", (SIZE, SIZE, 1), len(CLASSES))
    return data.Dataset("cities", CLASSES, **arrays, source="drawn by ddpm.datasets.world")
