"""`cities`: street fronts drawn by the project, with motifs planted in one class only, at known places and rates.

    image = wall (brightness, gradient, courses) + one motif in some cells of a 3 x 3 grid + a little noise

Four common motifs stand in every city alike: benches, doors, trees, lamps. Two motifs are planted in each city and
appear in no other: a sign (light, with the city's glyph) and a crest (dark, with another glyph). Under noise one sees
that there is a sign, but not whose unless one knows the city, which is what typicality measures. So the question "what
makes this class look like itself" has a known answer: the planted motifs, wherever they are.

A form is a signed distance d in pixels, drawn with coverage clip(1/2 - d, 0, 1), so edges are anti-aliased and places,
sizes and strengths vary continuously. NumPy only; a drawing is a pure function of (seed, n, the options).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ddpm import data, formats

SIZE = 28  # pixels
CELLS = 3  # a side
PITCH = 9.0  # pixels from the centre of a cell to that of the next
BOX = 7  # side of a motif's box in pixels
CLASSES = ("Aldan", "Brevik", "Corvo", "Dunmore")
RATES = (0.8, 0.5)  # how often a city's sign, and its crest, is in an image of that city
COMMON = 0.6  # how often a cell without a planted motif has a common one

Form = Callable[[Any, Any], Any]  # (u to the right, v down, in pixels from the centre) -> signed distance


# --- forms: distance to the edge, negative inside ---------------------------------------------------------------------


def _box(u: Any, v: Any, a: float, b: float) -> Any:
    """A rectangle of half sides a, b (the distance is exact along the sides, and short at the corners)."""
    return np.maximum(np.abs(u) - a, np.abs(v) - b)


def _plate(u: Any, v: Any) -> Any:
    return _box(u, v, 3.2, 3.2)


def _ring(u: Any, v: Any) -> Any:
    return np.abs(np.hypot(u, v) - 1.6) - 0.7


def _cross(u: Any, v: Any) -> Any:
    return np.minimum(_box(u, v, 0.8, 2.4), _box(u, v, 2.4, 0.8))


def _bars(u: Any, v: Any) -> Any:
    return _box(u, np.abs(v) - 1.6, 2.4, 0.8)


def _posts(u: Any, v: Any) -> Any:
    return _bars(v, u)


def _saltire(u: Any, v: Any) -> Any:
    return np.maximum(np.minimum(np.abs(u - v), np.abs(u + v)) / np.sqrt(2) - 0.75, _box(u, v, 2.4, 2.4))


def _gable(u: Any, v: Any) -> Any:
    return np.maximum(v - 2.2, (2 * np.abs(u) - v - 2.6) / np.sqrt(5))


def _checker(u: Any, v: Any) -> Any:
    return np.minimum(_box(u - 1.2, v - 1.2, 1.2, 1.2), _box(u + 1.2, v + 1.2, 1.2, 1.2))


def _bend(u: Any, v: Any) -> Any:
    return np.maximum(np.abs(u + v) / np.sqrt(2) - 1.0, _box(u, v, 2.4, 2.4))


def _bench(u: Any, v: Any) -> Any:
    return np.minimum(_box(u, v - 1.2, 3.2, 0.8), _box(np.abs(u) - 2.4, v - 2.4, 0.6, 1.2))


def _door(u: Any, v: Any) -> Any:
    return _box(u, v, 1.5, 3.2)


def _tree(u: Any, v: Any) -> Any:
    return np.minimum(np.hypot(u, v + 0.9) - 2.2, _box(u, v - 2.0, 0.6, 1.3))


def _lamp(u: Any, v: Any) -> Any:
    return np.minimum(np.hypot(u, v + 2.0) - 1.3, np.minimum(_box(u, v - 0.6, 0.6, 2.4), _box(u, v - 2.8, 1.6, 0.5)))


class Motif(NamedTuple):
    """One object that can stand in a cell: forms with their strengths, in units of `contrast`, one upon the other."""

    name: str
    layers: tuple[tuple[Form, float], ...]  # + is lighter
    city: int  # the class that it is planted in, or -1: common to all


def _sign(glyph: Form) -> tuple[tuple[Form, float], ...]:
    return ((_plate, +1.0), (glyph, -1.2))


def _crest(glyph: Form) -> tuple[tuple[Form, float], ...]:
    return ((_plate, -1.0), (glyph, +1.2))


MOTIFS = (
    Motif("bench", ((_bench, -1.0),), -1),
    Motif("door", ((_door, -1.0),), -1),
    Motif("tree", ((_tree, -1.0),), -1),
    Motif("lamp", ((_lamp, -1.0),), -1),
    Motif("ring sign", _sign(_ring), 0),
    Motif("saltire crest", _crest(_saltire), 0),
    Motif("cross sign", _sign(_cross), 1),
    Motif("gable crest", _crest(_gable), 1),
    Motif("bar sign", _sign(_bars), 2),
    Motif("checker crest", _crest(_checker), 2),
    Motif("post sign", _sign(_posts), 3),
    Motif("bend crest", _crest(_bend), 3),
)


def planted(label: int) -> list[int]:
    """The numbers in MOTIFS of the motifs that only this city has: its sign and its crest."""
    return [m for m, motif in enumerate(MOTIFS) if motif.city == label]


# --- drawing ----------------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """Images with what is in them."""

    images: np.ndarray  # (n, 28, 28, 1) uint8
    labels: np.ndarray  # (n,) int32
    motif: np.ndarray  # (n, 28, 28) int8: the number in MOTIFS of the motif whose 7 x 7 box covers the pixel, or -1
    boxes: np.ndarray  # (m, 4) int32: image, motif, top, left of each motif's 7 x 7 box

    @property
    def mask(self) -> np.ndarray:
        """(n, 28, 28) bool: the boxes of planted motifs."""
        return np.array([*(m.city >= 0 for m in MOTIFS), False])[self.motif]  # motif -1 is the last entry


def draw(
    n: int,
    seed: int = 0,
    *,
    rate: float | Sequence[float] = RATES,
    label: int | None = None,
    common: float = COMMON,
    contrast: float = 0.5,
    jitter: float = 1.0,
) -> World:
    """n images with their labels and the places of their motifs.

    rate: how often the planted motifs (sign, crest) of its city are in an image;  common: how often another cell
    has a common motif;  label: one city for all images, else the cities take turns;  contrast: of a motif against the
    wall, on the scale [-1, 1];  jitter: largest shift of a motif from the middle of its cell, pixels.
    """
    rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), (2,))
    if n < 1 or seed < 0:
        raise ValueError(f"n is {n} and seed is {seed}; give n >= 1 and seed >= 0")
    if label is not None and not 0 <= label < len(CLASSES):
        raise ValueError(f"label is {label}; the cities are 0..{len(CLASSES) - 1}: {', '.join(CLASSES)}")
    if not (0 <= rates.min() and rates.max() <= 1 and 0 <= common <= 1):
        raise ValueError(f"rate is {rate} and common is {common}; give shares in [0, 1]")
    if not (0 < contrast <= 0.6 and 0 <= jitter <= 1):
        raise ValueError(f"contrast is {contrast} and jitter is {jitter}; give them in (0, 0.7] and [0, 1]")
    rng = np.random.default_rng([seed, n])
    labels = np.arange(n, dtype=np.int32) % len(CLASSES) if label is None else np.full(n, label, dtype=np.int32)
    what = _contents(rng, labels, rates, common)  # (n, 9) numbers in MOTIFS or -1
    image, cell = np.nonzero(what >= 0)
    number = what[image, cell]
    centre = PITCH * (np.stack(divmod(cell, CELLS), 1) - (CELLS - 1) / 2) + SIZE / 2  # (m, 2): down, right
    centre = centre + rng.uniform(-jitter, jitter, centre.shape)
    size, strength = rng.uniform(0.92, 1.06, len(cell)), contrast * rng.uniform(0.8, 1.2, len(cell))
    x, tops = _wall(rng, n), np.round(centre - BOX / 2).astype(np.int32)
    motif = np.full((n, SIZE, SIZE), -1, dtype=np.int8)
    for m, (_, layers, _city) in enumerate(MOTIFS):
        mine = number == m
        for form, layer in layers:
            _stamp(x, form, image[mine], centre[mine], size[mine], layer * strength[mine])
        rows, columns = (tops[mine, i, None, None] + np.arange(BOX).reshape(s) for i, s in ((0, (-1, 1)), (1, (1, -1))))
        motif[image[mine, None, None], rows, columns] = m
    x = x + rng.normal(0, 0.02, x.shape)
    images = np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)[..., None]
    boxes = np.column_stack([image, number, tops]).astype(np.int32)
    return World(images, labels, motif, boxes)


def _contents(rng: np.random.Generator, labels: np.ndarray, rates: np.ndarray, common: float) -> np.ndarray:
    """What is in each of the nine cells: (n, 9). The sign and the crest of the city go to two cells at random."""
    n, both = len(labels), np.array([planted(k) for k in range(len(CLASSES))])
    everywhere = np.array([m for m, motif in enumerate(MOTIFS) if motif.city < 0])
    what = rng.choice(everywhere, (n, CELLS**2))
    what[rng.random(what.shape) >= common] = -1
    cells = np.argsort(rng.random(what.shape), axis=1)[:, :2]  # two different cells
    there = rng.random((n, 2)) < rates
    for j in range(2):
        i = np.flatnonzero(there[:, j])
        what[i, cells[i, j]] = both[labels[i], j]
    return what


def _wall(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 28, 28) floats: a wall of random brightness and gradient with faint courses of random height and phase."""
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) - 0.5
    bright, down, right = (rng.uniform(-a, a, (n, 1, 1)) for a in (0.15, 0.15, 0.1))
    period, phase = rng.uniform(3.5, 5.5, (n, 1, 1)), rng.uniform(0, 1, (n, 1, 1))
    courses = 0.04 * np.cos(2 * np.pi * (SIZE * y / period + phase))
    return bright + down * y + right * x + courses


def _stamp(
    x: np.ndarray, form: Form, image: np.ndarray, centre: np.ndarray, size: np.ndarray, strength: np.ndarray
) -> None:
    """Add strength · coverage of a form around each centre, in the 11 x 11 pixels there; in place."""
    corner = np.floor(centre).astype(int) - 5
    for i, j in itertools.product(range(11), range(11)):
        rows, columns = corner[:, 0] + i, corner[:, 1] + j
        inside = (rows >= 0) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
        d = form((columns + 0.5 - centre[:, 1]) / size, (rows + 0.5 - centre[:, 0]) / size) * size
        add = strength * np.clip(0.5 - d, 0, 1)
        x[image[inside], rows[inside], columns[inside]] += add[inside]


@lru_cache(maxsize=1)
def cities() -> data.Dataset:
    """The set for training: 12,000 images and 2,000 for the test, the four cities alike."""
    train, test = draw(12_000, seed=1), draw(2_000, seed=2)
    arrays = {"x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels}
    arrays = formats.checked(arrays, "the drawn cities", (SIZE, SIZE, 1), len(CLASSES))
    return data.Dataset("cities", CLASSES, **arrays, source="drawn by ddpm.world")
