"""Write frames as an animation (.webp, .gif) or as a strip (.png), in at most as many bytes as are allowed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ddpm.tools.files import write_atomic

SUFFIXES = (".webp", ".gif", ".png")
MOST_BYTES = 2_000_000
STRIP = 8  # frames of a strip
BAR = 14  # pixels of the line of text above a frame


def check_suffix(path: Path, more: Sequence[str] = ()) -> Path:
    """Return the path of a film; refuse a kind of file that is not written."""
    known = (*SUFFIXES, *more)
    if path.suffix.lower() not in known:
        raise ValueError(f"film is {path}; the name of a film ends in {', '.join(known)}")
    return path


def titled(frame: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text above a frame: (H, W, 3) uint8 -> (H + BAR, W, 3)"""
    bar = Image.new("RGB", (frame.shape[1], BAR), "white")
    ImageDraw.Draw(bar).text((2, 1), text, fill="black", font_size=10)
    return np.concatenate([np.asarray(bar), frame])


def even(n: int, most: int) -> np.ndarray:
    """Choose at most `most` of n frames, evenly, with the first and the last."""
    return np.unique(np.round(np.linspace(0, n - 1, min(n, max(2, most)))).astype(int))


def save(path: Path, frames: Sequence[np.ndarray], seconds: float = 5.0, most_bytes: int = MOST_BYTES) -> int:
    """Write frames (H, W, 3) uint8 of one shape; return how many were kept.

    An animation lasts `seconds`, and its last frame two more. Where it has too many bytes, fewer frames are kept,
    evenly chosen, with the first and the last. A strip has up to eight frames, one above the other.
    """
    kept, strip = (
        even(len(frames), STRIP if path.suffix.lower() == ".png" else len(frames)),
        path.suffix.lower() == ".png",
    )
    while True:
        some = [frames[i] for i in kept]
        data = _png(some) if strip else _animation(some, path.suffix.lower()[1:], seconds)
        if len(data) <= most_bytes or len(kept) <= 2:
            break
        kept = kept[even(len(kept), int(len(kept) * min(0.9, most_bytes / len(data))))]
    if len(data) > most_bytes:
        raise ValueError(
            f"two frames of {path} take {len(data):,} bytes; {most_bytes:,} are allowed. Show fewer images"
        )
    write_atomic(path, data)
    return len(kept)


def _png(frames: Sequence[np.ndarray]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.concatenate(frames)).save(out, "PNG", optimize=True)
    return out.getvalue()


def _animation(frames: Sequence[np.ndarray], kind: str, seconds: float) -> bytes:
    first, *rest = [Image.fromarray(f) for f in frames]
    each = max(20, round(1000 * seconds / len(frames)))
    time = [each] * (len(frames) - 1) + [each + 2000]  # milliseconds
    out = io.BytesIO()
    how = {"lossless": True, "method": 4} if kind == "webp" else {"disposal": 1}
    first.save(out, kind, save_all=True, append_images=rest, duration=time, loop=0, **how)
    return out.getvalue()
