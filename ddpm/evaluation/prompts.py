"""Do pictures of `wardrobe` show what their captions ask? Judged by the exact reader; and what binding is worth.

"red dress on blue" and "blue dress on red" are the same bag of words. A denoiser that sees a bag only, such as a sum of
word vectors, can at best draw from the mixture over the roles that the words could play: `bag_of_words` is its share of
right pictures, in closed form. A denoiser that reads the order has 1.
"""

from __future__ import annotations

import math

import numpy as np

from ddpm.datasets.wardrobe.law import read, right
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.statistics import wilson

PAINTED = [list(ATTRIBUTES).index(name) for name in ("colour", "ink", "ground")]
GARMENT, GROUND = PAINTED[0], PAINTED[2]


def prompts_right(x: np.ndarray, values: np.ndarray, seed: int | None = None) -> dict[str, Measure]:
    """The share of pictures with all that was asked, `all`, and with each attribute where it was asked.

    x: (n, 28, 28, 3) in [-1, 1], clipped before they are read;  values: (n, 8), -1 for what was not asked;
    seed: of the pictures, for the record.
    """
    if len(values) != len(x):
        raise ValueError(f"values has shape {np.shape(values)}; give one row for each of the {len(x)} pictures")
    reading = read(np.clip(x, -1, 1))
    is_right = np.asarray(right(reading, values))
    asked: dict[str, tuple[np.ndarray, np.ndarray]] = {"all": (is_right.min(1), np.ones(len(x), bool))}
    asked |= {name: (is_right[:, a], values[:, a] >= 0) for a, name in enumerate(ATTRIBUTES)}
    certain = float(np.quantile(reading.certainty.min(1), 0.01))
    return {
        name: _share(f"{name} asked right", found[where], seed, {"certainty_1_percent": certain})
        for name, (found, where) in asked.items()
        if where.any()
    }


def swapped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Captions of a garment and its ground in two colours, and the same with the two exchanged: (m, 8) each."""
    kept = values[(values[:, [GARMENT, GROUND]] >= 0).all(1) & (values[:, GARMENT] != values[:, GROUND])]
    other = kept.copy()
    other[:, [GARMENT, GROUND]] = kept[:, [GROUND, GARMENT]]
    return kept, other


def told_apart(x: np.ndarray, other: np.ndarray, values: np.ndarray, seed: int | None = None) -> Measure:
    """The share of pairs of `swapped` captions both of whose pictures have their two colours where they were asked.

    x, other: (m, 28, 28, 3) of the captions and of the exchanged ones, from the same noise;  values: of the former
    """
    two = [GARMENT, GROUND]
    first, second = (read(np.clip(a, -1, 1)).values[:, two] for a in (x, other))
    both = (first == values[:, two]).all(1) & (second == values[:, two[::-1]]).all(1)
    return _share("swapped colours told apart", both, seed, {})


def bag_of_words(values: np.ndarray) -> np.ndarray:
    """P(all colours right) of the best denoiser that knows which roles are asked and which words, not which is which.

    All different orders of the m colours, m!/Π(multiplicities!), are equally probable, and one is right: (n,)
    """
    orders = []
    for row in values:
        said = [int(v) for v in row[PAINTED] if v >= 0]
        orders.append(math.factorial(len(said)) // math.prod(math.factorial(said.count(v)) for v in set(said)))
    return 1 / np.array(orders)


def _share(name: str, found: np.ndarray, seed: int | None, detail: dict) -> Measure:
    p, n = float(found.mean()), len(found)
    return Measure(
        name,
        p,
        math.sqrt(p * (1 - p) / n),
        n,
        "pictures",
        "judged by the exact reader",
        "pixels",
        seed,
        "higher",
        "binomial; Wilson's interval",
        interval=wilson(p, n),
        detail=detail,
    )
