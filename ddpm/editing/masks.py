"""Masks for inpainting: True where a pixel is known."""

from __future__ import annotations

import numpy as np

from ddpm.tools import check


def half(H: int, W: int) -> np.ndarray:
    """The left half is known. (H, W, 1)"""
    return np.broadcast_to(np.arange(W)[None, :, None] < W // 2, (H, W, 1)).astype(np.float32)


def expand(H: int, W: int) -> np.ndarray:
    """The middle quarter of each side is known: 64² of 256²."""
    mask = np.zeros((H, W, 1), np.float32)
    h, w = max(1, H // 4), max(1, W // 4)
    top, left = (H - h) // 2, (W - w) // 2
    mask[top : top + h, left : left + w] = 1
    return mask


def every_second_row(H: int, W: int) -> np.ndarray:
    """Rows 0, 2, 4, … are known ("alternating lines")."""
    return np.broadcast_to(np.arange(H)[:, None, None] % 2 == 0, (H, W, 1)).astype(np.float32)


def every_second_pixel(H: int, W: int) -> np.ndarray:
    """Every second pixel of every second row is known, a quarter of all ("super-resolve 2×")."""
    return (every_second_row(H, W) * every_second_row(W, H).transpose(1, 0, 2)).astype(np.float32)


def strokes(H: int, W: int, seed: int = 0, thick: float = 0.12, share: float = 0.35) -> np.ndarray:
    """Random brush strokes are missing until at least `share` of the image is. thick: the brush, in heights."""
    check.number("thick", thick, 1e-3, 1)
    check.number("share", share, 0, 0.99)
    rng, mask = np.random.default_rng(seed), np.ones((H, W, 1), np.float32)
    rows, columns = np.mgrid[:H, :W]
    radius = max(0.5, thick * H / 2)
    while 1 - mask.mean() < share:
        place, angle = rng.uniform(0, [H, W]), rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(4, 12)):
            angle += rng.normal(0, 0.6)
            for _ in range(max(2, H // 10)):
                mask[(rows - place[0]) ** 2 + (columns - place[1]) ** 2 <= radius**2] = 0
                place = np.clip(place + np.array([np.sin(angle), np.cos(angle)]), 0, [H - 1, W - 1])
    return mask


def thin(H: int, W: int, seed: int = 0) -> np.ndarray:
    """Thin strokes are missing, a fifth of the image or a little more."""
    return strokes(H, W, seed, thick=0.05, share=0.2)


def wide(H: int, W: int, seed: int = 0) -> np.ndarray:
    """Wide strokes are missing, two fifths of the image or a little more."""
    return strokes(H, W, seed, thick=0.2, share=0.4)


MASKS = {
    "thin": thin,
    "wide": wide,
    "half": half,
    "expand": expand,
    "every_second_row": every_second_row,
    "every_second_pixel": every_second_pixel,
}


def make_mask(name: str, H: int, W: int) -> np.ndarray:
    """The mask of that name, (H, W, 1), 1 = known."""
    check.whole("H", H, 1)
    check.whole("W", W, 1)
    return MASKS[check.choice("mask", name, MASKS)](H, W)
