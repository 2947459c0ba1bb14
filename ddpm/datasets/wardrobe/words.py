"""The attributes of a picture of `wardrobe`, their words, and their colours.

    z = (garment, size, column, row, pattern, colour, ink, ground, light; three shades; 16 bits of the badge)

All are drawn independently and evenly. A caption tells the first of them, but never the row, the shades and the badge.
The tone of a colour word depends on what it paints: a garment is of middle tone, the ink of a pattern dark, the ground
pale. So a silhouette never vanishes, although all three are drawn from the same eight words: "a red dress on blue" and
"a blue dress on red" hold the same words and are different pictures.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np

SIZE = 28  # side of the image in pixels
GARMENTS = ("shirt", "dress", "trousers", "shoe", "bag", "hat")
SIZES = ("small", "large")
SIDES = (14, 20)  # of a small and a large garment's box in pixels
COLUMNS = ("left", "centre", "right")
ROWS = 2  # upper and lower: a nuisance that no caption mentions
PATTERNS = ("plain", "striped", "checked", "badged")
INKED = (1, 2)  # the patterns that have ink
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
LIGHTS = ("day", "night")
SHADES, BITS = 2, 16  # shades of each colour word; cells of the badge, 4 x 4

ATTRIBUTES: dict[str, tuple[str, ...]] = {  # what a caption can mention, with its words
    "garment": GARMENTS,
    "size": SIZES,
    "column": COLUMNS,
    "pattern": PATTERNS,
    "colour": COLOURS,
    "ink": COLOURS,
    "ground": COLOURS,
    "light": LIGHTS,
}
HUES = (0, 27, 55, 120, 175, 222, 275, 322)  # degrees, of COLOURS
TONES = {  # saturation and value of the two shades of each role
    "colour": ((0.85, 0.72), (0.62, 0.82)),
    "ink": ((1.0, 0.42), (0.9, 0.3)),
    "ground": ((0.34, 0.97), (0.2, 0.93)),
}


class Attributes(NamedTuple):
    """n pictures in words: the index of each attribute's value, int32, and what no caption tells."""

    garment: np.ndarray  # (n,)
    size: np.ndarray
    column: np.ndarray
    pattern: np.ndarray
    colour: np.ndarray
    ink: np.ndarray  # seen only where the pattern is striped or checked
    ground: np.ndarray
    light: np.ndarray
    row: np.ndarray
    shade: np.ndarray  # (n, 3) of garment, ink and ground
    bits: np.ndarray  # (n, 16) of the badge, row by row: 0 black, 1 white; seen only where there is one

    def take(self, ids: np.ndarray) -> Attributes:
        """Select some of the pictures."""
        return Attributes(*(a[ids] for a in self))


def palette(role: str) -> np.ndarray:
    """Colours of a role, (2 lights, K, 3) uint8: each word in two shades, or of `badge` black and white.

    At night every colour m in [-1, 1] is 0.6 m - 0.32.
    """
    if role == "badge":
        day = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    else:
        day = np.array([colorsys.hsv_to_rgb(hue / 360, s, v) for hue in HUES for s, v in TONES[role]])
    m = 2 * day - 1
    return np.round((np.stack([m, 0.6 * m - 0.32]) + 1) * 127.5).astype(np.uint8)
