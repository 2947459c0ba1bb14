"""Conditions other than words, as evidence with ε* in closed form: outlines, known pixels, instructions, subjects.

outlined(hint)            edges or a silhouette, exact, or a sketch whose pixels are flipped with some probability
known(x0, mask)           inpainting, uncropping, every second pixel
in_grey(x0)               colourisation
instructed(z, name, to)   the picture after an instruction: one attribute is new, the others are as they were
subject(bits, …)          a badge by its 16 bits, with its garment and colour, in any picture
merged(a, b, …)           several at once
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddpm.datasets.wardrobe.law import LOG_0, ROLES, asked, one_hot, weights
from ddpm.datasets.wardrobe.silhouettes import edges, geometry, shapes
from ddpm.datasets.wardrobe.words import ATTRIBUTES, BITS, SHADES, Attributes
from ddpm.oracles.region_colours import Evidence
from ddpm.tools import check

HINTS = ("edges", "silhouette")
SIGMA = 0.01  # of the noise on a known pixel


def merged(*parts: Evidence) -> Evidence:
    """All of these conditions at once: log-weights add; observed pixels come from one of them only."""

    def add(values: tuple[Any, ...]) -> Any:
        given = [v for v in values if v is not None]
        return sum(given[1:], given[0]) if given else None

    seen = {}
    for field in ("pixels", "precision", "grey", "grey_precision"):
        given = [v for part in parts if (v := getattr(part, field)) is not None]
        if len(given) > 1:
            raise ValueError(f"{len(given)} of the {len(parts)} conditions hold {field}; give one of them")
        seen[field] = given[0] if given else None
    columns = zip(*(part.colours or (None,) * len(ROLES) for part in parts), strict=True)
    colours = tuple(add(column) for column in columns)
    geometry, light = (add(tuple(getattr(part, name) for part in parts)) for name in ("geometry", "light"))
    return Evidence(geometry, light, () if all(c is None for c in colours) else colours, **seen)


# --- pictures ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def hints(kind: str) -> np.ndarray:
    """The hint of every geometry, (288, 28, 28) bool; kind: `edges` or `silhouette`."""
    region = shapes().region
    return edges(region) if check.choice("kind", kind, HINTS) == "edges" else region > 0


def outlined(hint: Any, kind: str = "edges", flip: float = 0.0) -> Evidence:
    """p(g | y) ∝ p(g) p(y | g) for hints y (B, 28, 28) of 0 and 1, each pixel flipped with probability `flip`.

    flip = 0: the hint is exact, and one that belongs to no geometry is refused.
    """
    y, table = np.asarray(hint), hints(kind).reshape(-1, 28 * 28)
    if y.ndim != 3 or y.shape[1:] != (28, 28) or not np.isin(y, (0, 1)).all():
        raise ValueError(f"hint has shape {y.shape}; give (B, 28, 28) of 0 and 1")
    if not 0 <= check.number("flip", flip) < 0.5:
        raise ValueError(f"flip is {flip}; give a probability in [0, .5): at .5 a sketch tells nothing")
    wrong = (y.reshape(len(y), 1, -1) != table[None]).sum(-1)  # (B, 288)
    if flip == 0:
        if (lost := np.flatnonzero(~(wrong == 0).any(1))).size:
            raise ValueError(f"hint {lost[0]} is the {kind} of no geometry; give flip > 0 for a sketch")
        return Evidence(np.where(wrong == 0, 0.0, LOG_0).astype(np.float32))
    return Evidence((wrong * np.log(flip / (1 - flip))).astype(np.float32))


def known(x0: Any, mask: Any, sigma: float = SIGMA) -> Evidence:
    """The pixels of x0 (B, 28, 28, 3) in [-1, 1] where mask (28, 28) or (B, 28, 28) is True, up to noise of σ."""
    x0, precision = _observed(x0, mask, sigma)
    return Evidence(pixels=x0, precision=precision)


def in_grey(x0: Any, mask: Any = True, sigma: float = SIGMA) -> Evidence:
    """The grey value .299 R + .587 G + .114 B of x0 (B, 28, 28, 3) where mask is True, up to noise of σ."""
    x0, precision = _observed(x0, mask, sigma)
    return Evidence(grey=x0 @ jnp.array([0.299, 0.587, 0.114], x0.dtype), grey_precision=precision)


def _observed(x0: Any, mask: Any, sigma: float) -> tuple[Any, Any]:
    x0 = check.images(x0, (28, 28, 3))
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma is {sigma}; give a positive number, as small as wished")
    return x0, jnp.broadcast_to(jnp.asarray(mask), x0.shape[:3]).astype(x0.dtype) / sigma**2


# --- attributes -------------------------------------------------------------------------------------------------------


def exactly(z: Attributes, free: tuple[str, ...] = ()) -> Evidence:
    """The pictures with all attributes of z, their rows, shades and bits too; those named in `free` are left open.

    An open colour has open shades. The row goes with the geometry: it is never open.
    """
    for name in free:
        check.choice("attribute", name, ATTRIBUTES)
    shape = geometry(z.garment, z.size, z.column, z.row, z.pattern)
    index, of = shapes().attributes, ("garment", "size", "column", "row", "pattern")
    fixed = [i for i, name in enumerate(of) if name not in free]
    same = (index[shape][:, None, fixed] == index[None][..., fixed]).all(-1)  # (B, 288)
    colours = [
        None
        if name in free
        else one_hot(SHADES * getattr(z, name) + z.shade[:, i], SHADES * len(ATTRIBUTES[name]))[:, None]
        for name, i in (("ground", 2), ("colour", 0), ("ink", 1))
    ]
    light = None if "light" in free else one_hot(z.light, len(ATTRIBUTES["light"]))
    return Evidence(np.where(same, 0.0, LOG_0).astype(np.float32), light, (*colours, badge(z.bits)))


def instructed(z: Attributes, name: str, to: Any) -> Evidence:
    """The pictures after the instruction that attribute `name` becomes `to` (B,), drawn from z before it.

    All else is as it was; the shade of a changed colour is drawn anew.
    """
    check.choice("attribute", name, ATTRIBUTES)
    values = np.full((len(z.garment), len(ATTRIBUTES)), -1, np.int32)
    values[:, list(ATTRIBUTES).index(name)] = to
    kept = exactly(z, (name,))
    after = asked(values)
    if name == "ink":  # of a plain garment the ink cannot be seen, and may change all the same
        after = after._replace(geometry=None)
    return merged(kept, after)


def badge(bits: np.ndarray) -> np.ndarray:
    """log-weights of black and white in each cell of a badge: (B, 16) of 0, 1, or -1 for open -> (B, 16, 2)"""
    bits = np.asarray(bits)
    if bits.ndim != 2 or bits.shape[1] != BITS or not np.isin(bits, (-1, 0, 1)).all():
        raise ValueError(f"bits has shape {bits.shape}; give (B, {BITS}) of 0 and 1, or -1 for open")
    return one_hot(bits.reshape(-1), 2).reshape(-1, BITS, 2)


def subject(bits: np.ndarray, garment: np.ndarray, colour: np.ndarray) -> Evidence:
    """A garment of this kind and colour with this badge, (B, 16), (B,) and (B,), in any picture."""
    B = len(bits)
    badged = np.full(B, ATTRIBUTES["pattern"].index("badged"))
    given = {"garment": garment, "pattern": badged, "colour": colour}
    of_words = weights(**{name: one_hot(np.asarray(v), len(ATTRIBUTES[name])) for name, v in given.items()})
    return merged(of_words, Evidence(colours=(None, None, None, badge(bits))))
