"""A page on which one turns shapes and sees where they are typical: one file, without a library."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm.mining.lifting import by_cell
from ddpm.tools import check
from ddpm.tools.files import write_atomic

SIDES = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))


class Solid(NamedTuple):
    """One shape of the page."""

    name: str
    volume: np.ndarray  # (s, s, s) grey in 0…1, 0 where it is empty
    T: np.ndarray  # (s³,) typicality of each voxel, NaN where no view sees it
    planted: np.ndarray | None = None  # (s, s, s) bool, the parts that should be found, where that is known


def packed(solid: Solid, most: float) -> bytes:
    """The open voxels as seven bytes each: x, y, z, grey, 100 + 100 T/most, planted, a bit for each open side."""
    filled = solid.volume > 0
    padded, inside = np.pad(filled, 1), slice(1, -1)
    open_ = np.zeros(filled.shape, np.uint8)
    for bit, side in enumerate(SIDES):
        near = np.roll(padded, tuple(-k for k in side), (0, 1, 2))[inside, inside, inside]
        open_ |= (filled & ~near).astype(np.uint8) << bit
    at = np.argwhere(open_ > 0)
    T = np.nan_to_num(solid.T.reshape(filled.shape))
    planted = np.zeros(filled.shape, bool) if solid.planted is None else solid.planted
    columns = (
        np.round(255 * solid.volume), 100 + np.clip(np.round(100 * T / most), -100, 100), planted, open_,
    )  # fmt: skip
    return np.column_stack([at, *(c[tuple(at.T)] for c in columns)]).astype(np.uint8).tobytes()


def ranked(solids: Sequence[Solid], cell: int) -> tuple[list[Solid], np.ndarray]:
    """The shapes by their most typical cell, the highest first, and that value of each."""
    best = np.array([np.nanmax(by_cell(s.T[None], cell)) for s in solids])
    order = np.argsort(-best, kind="stable")
    return [solids[i] for i in order], best[order]


def save(path: str | Path, title: str, words: str, solids: Sequence[Solid], cell: int) -> None:
    """Write the page.   title, words: text;  cell: side of a cell in voxels, whose mean ranks the shapes"""
    import jinja2

    if not solids:
        raise ValueError("there is no shape to show; give at least one")
    side = len(solids[0].volume)
    for s in solids:
        if s.volume.shape != (side,) * 3 or s.T.shape != (side**3,) or not (s.volume > 0).any():
            need = f"voxels ({side}, {side}, {side}), not all empty, and T of {side**3}"
            raise ValueError(f"shape {s.name!r} has voxels {s.volume.shape} and T {s.T.shape}; give {need}")
    check.whole("side", side, 1, 255)
    solids, best = ranked(solids, cell)
    strength = np.concatenate([np.abs(s.T[np.isfinite(s.T)]) for s in solids])
    most = max(float(np.quantile(strength, 0.99)), 1e-12)
    shapes: list[dict[str, Any]] = [
        {
            "name": s.name,
            "about": f"best cell: T × 1000 = {1000 * value:+.2f}",
            "truth": s.planted is not None,
            "voxels": base64.b64encode(packed(s, most)).decode(),
        }
        for s, value in zip(solids, best, strict=True)
    ]
    text = json.dumps(shapes, ensure_ascii=False).replace("<", "\\u003c")  # so that a name cannot end the script
    source = Path(__file__).with_name("turning.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    made = template.render(title=title, words=words, side=side, shapes=jinja2.utils.markupsafe.Markup(text))
    write_atomic(Path(path), made.encode())
