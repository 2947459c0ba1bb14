"""Draw pictures of `wardrobe`: a pure function of (seed, n)."""

from __future__ import annotations

import numpy as np

from ddpm.datasets.wardrobe.silhouettes import geometry, shapes
from ddpm.datasets.wardrobe.words import ATTRIBUTES, BITS, INKED, ROWS, SHADES, Attributes, palette


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, Attributes]:
    """Draw n pictures (n, 28, 28, 3) uint8 with their attributes, from NumPy alone."""
    z = draw_attributes(n, seed)
    return painted(z), z


def draw_attributes(n: int, seed: int = 0) -> Attributes:
    """Draw the attributes of n pictures, all independent and uniform."""
    if n < 1 or seed < 0:
        raise ValueError(f"n is {n} and seed is {seed}; give n >= 1 and seed >= 0")
    rng = np.random.default_rng([seed, n])
    named = {name: rng.integers(0, len(words), n, dtype=np.int32) for name, words in ATTRIBUTES.items()}
    row = rng.integers(0, ROWS, n, dtype=np.int32)
    shade = rng.integers(0, SHADES, (n, 3), dtype=np.int32)
    return Attributes(**named, row=row, shade=shade, bits=rng.integers(0, 2, (n, BITS), dtype=np.int32))


def painted(z: Attributes) -> np.ndarray:
    """Paint the pictures with these attributes: (n, 28, 28, 3) uint8."""
    region = shapes().region[geometry(z.garment, z.size, z.column, z.row, z.pattern)]  # (n, 28, 28)
    colour, ink, ground, black_white = (palette(role) for role in ("colour", "ink", "ground", "badge"))
    light = z.light
    paints = [
        ground[light, SHADES * z.ground + z.shade[:, 2]],
        colour[light, SHADES * z.colour + z.shade[:, 0]],
        ink[light, SHADES * z.ink + z.shade[:, 1]],
        *(black_white[light, z.bits[:, j]] for j in range(BITS)),
    ]
    paint = np.stack(paints, 1)  # (n, regions, 3)
    return paint[np.arange(len(region))[:, None, None], region]


def values_of(z: Attributes) -> np.ndarray:
    """All that words can say about the pictures, (n, 8) in the order of ATTRIBUTES; ink is -1 where there is none."""
    values = np.stack([getattr(z, name) for name in ATTRIBUTES], 1)
    values[~np.isin(z.pattern, INKED), list(ATTRIBUTES).index("ink")] = -1
    return values
