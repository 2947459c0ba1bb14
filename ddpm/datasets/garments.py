"""Two garments of each class, drawn by the shipped model: pictures that are at hand without any download.

    ddpm sample --model fashion_mnist --n 2 --steps 50 --guidance 2 --seed 1 --npz ddpm/datasets/garments.npz

They are drawn images, no photographs: for the pictures of lessons and for trying things out, not for measuring.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")


def load() -> tuple[np.ndarray, np.ndarray]:
    """20 images uint8 (20, 28, 28, 1) and their classes int32 (20,), two of each of the ten in order."""
    with np.load(FILE) as arrays:
        return arrays["arr_0"], arrays["arr_1"].astype(np.int32)
