"""All pictures that an edit can make of one picture: the exact answer of a network that follows instructions.

An edit draws an attribute, each with probability 1/8, then its value as the world draws it, with a new shade where it
is a colour; all else stays. So the world's distribution is unchanged by edits: without picture and instruction ε* is
that of the world. Given all attributes z before the edit, also those that its picture does not show (the ink of a plain
garment), there are 41 instructions and few pictures after it:

    p(x0 | z) = Σ_i p(i) p(x0 | z, i),   i = (attribute, value)      a finite set, whose classes are the instructions

so that ε*(x_t, t, i) with an instruction and ε*(x_t, t, ∅) without one are both in closed form.
"""

from __future__ import annotations

import math

import numpy as np

from ddpm.datasets.wardrobe.drawing import painted
from ddpm.datasets.wardrobe.words import ATTRIBUTES, SHADES, Attributes
from ddpm.oracles.finite_set import FiniteSet, finite

INSTRUCTIONS = tuple((name, value) for name, words in ATTRIBUTES.items() for value in range(len(words)))
SHADE_OF = {"colour": 0, "ink": 1, "ground": 2}  # column of Attributes.shade
COPIES = math.lcm(*(len(words) * (SHADES if name in SHADE_OF else 1) for name, words in ATTRIBUTES.items()))


def edited(z: Attributes, name: str, value: int) -> Attributes:
    """The pictures after the instruction that `name` becomes `value`: one for each shade of a colour, else one."""
    if len(z.garment) != 1:
        raise ValueError(f"z has {len(z.garment)} pictures; give one, such as z.take(np.array([0]))")
    if (name, value) not in INSTRUCTIONS:
        raise ValueError(
            f"name is {name!r} and value {value}; give an attribute of {', '.join(ATTRIBUTES)} and a value"
        )
    n = SHADES if name in SHADE_OF else 1
    after = z.take(np.zeros(n, int))._replace(**{name: np.full(n, value, np.int32)})
    if name in SHADE_OF:
        after.shade[:, SHADE_OF[name]] = np.arange(SHADES)
    return after


def after(z: Attributes) -> FiniteSet:
    """p(x0 | z) of one picture z, its classes being the numbers of INSTRUCTIONS.

    Every picture is there in proportion to its probability.
    """
    images, labels = [], []
    for i, (name, value) in enumerate(INSTRUCTIONS):
        made = painted(edited(z, name, value))
        copies = COPIES // (len(ATTRIBUTES[name]) * len(made))
        images += [made] * copies
        labels += [i] * copies * len(made)
    return finite(np.concatenate(images), np.array(labels))
