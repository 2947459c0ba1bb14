"""The report of mining: one HTML file with embedded pictures, and its parts as pixel arrays."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.data import to_uint8
from ddpm.mining import patches
from ddpm.mining.patterns import Mined
from ddpm.plot import overlay
from ddpm.tools.files import write_atomic

FRAME = np.array([255, 200, 0], dtype=np.uint8)


def rgb(images: Any) -> np.ndarray:
    """Convert (..., H, W, 1 or 3) in [-1, 1] to uint8 with three channels."""
    x = to_uint8(np.asarray(images))
    return np.broadcast_to(x, (*x.shape[:-1], 3)).copy()


def enlarge(pixels: np.ndarray, zoom: int) -> np.ndarray:
    """Enlarge each pixel of (H, W, 3) to a square of zoom × zoom."""
    return pixels.repeat(zoom, 0).repeat(zoom, 1)


def in_place(image: np.ndarray, top: int, left: int, k: int, zoom: int = 4) -> np.ndarray:
    """Enlarge an image (H, W, C) and draw the frame of its patch."""
    x = enlarge(rgb(image), zoom)
    a, b, c, d = top * zoom, (top + k) * zoom - 1, left * zoom, (left + k) * zoom - 1
    x[a, c : d + 1] = x[b, c : d + 1] = FRAME
    x[a : b + 1, c] = x[a : b + 1, d] = FRAME
    return x


def tiles(images: np.ndarray, mined: Mined, ids: Any, k: int, maps: np.ndarray | None = None) -> list[np.ndarray]:
    """Draw a column for each patch: the patch, its place in the image, and the map if given."""
    out, zoom = [], 4
    most = None if maps is None else float(np.quantile(np.abs(maps), 0.99)) / 1.5
    for i in ids:
        image, top, left = mined.patches.where[i]
        size = images.shape[2] * zoom
        patch = rgb(patches.cut(images, mined.patches.where[i : i + 1], k)[0])
        near = patch[np.arange(size) * k // size][:, np.arange(size) * k // size]  # enlarged to the width of the image
        parts = [near, in_place(images[image], top, left, k, zoom)]
        if maps is not None:
            red = overlay(images[image : image + 1], maps[image : image + 1], most)  # type: ignore[arg-type]
            parts.append(in_place(red[0], top, left, k, zoom))
        gap = np.full((3, size, 3), 255, np.uint8)
        out.append(np.concatenate([p for part in parts for p in (part, gap)][:-1]))
    return out


def row(columns: list[np.ndarray], gap: int = 4) -> np.ndarray:
    """Place columns side by side."""
    white = np.full((columns[0].shape[0], gap, 3), 255, np.uint8)
    return np.concatenate([p for c in columns for p in (c, white)][:-1], 1)


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels as a PNG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def save(path: str | Path, **content: Any) -> None:
    """Fill page.html with the content; bytes are pictures, which are embedded."""
    import jinja2

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(v) for v in value]
        if isinstance(value, dict):
            return {k: inline(v) for k, v in value.items()}
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    write_atomic(Path(path), template.render(inline(content)).encode())
