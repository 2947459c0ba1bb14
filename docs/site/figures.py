"""Figures twice: as they are for light pages, and with dark paper for dark ones. Pictures inside them stay as they are.

In the kernel that runs a lesson, `show_for_light_and_dark()` makes every figure come out twice; `sidebyside.py`
then says of the first that it is for light pages and of the second that it is for dark ones. `round_numbers()` makes
what a cell shows short enough to be read.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

PAPER, INK = (
    np.array([0x13, 0x14, 0x16]),
    np.array([0xE6, 0xE6, 0xE6]),
)  # for white (the dark page's own) and black
DPI = 110
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

# A half turn about the grey axis: an inverted colour gets its hue back (Rodrigues' formula, angle π).
TURN = 2.0 / 3.0 * np.ones((3, 3)) - np.eye(3)


def dark(image: Image.Image, keep: list[Box]) -> Image.Image:
    """Light and dark change places, the hue stays; the boxes in `keep` are left alone.   image: RGB"""
    x = np.asarray(image, np.float64) / 255
    turned = np.clip((1 - x) @ TURN, 0, 1)  # white -> black, navy -> light blue
    out = np.rint(PAPER + turned * (INK - PAPER)).astype(np.uint8)
    for left, top, right, bottom in keep:
        out[top:bottom, left:right] = np.asarray(image)[top:bottom, left:right]
    return Image.fromarray(out)


def strip(image: Image.Image, rows: tuple[int, ...], paper: tuple[int, ...]) -> Image.Image:
    """Some rows of a grid of equal pictures on white paper, without its labels, on paper of another colour.

    The grid is found by its gutters: rows and columns of pixels that are white.
    """
    grey = np.asarray(image.convert("L")) > 240
    columns, lines = (runs(grey.mean(axis) < 0.97) for axis in (0, 1))
    side = max(b - a for a, b in lines)
    columns = [(a, b) for a, b in columns if abs(b - a - side) <= 1]  # the others are labels
    x, gap = np.asarray(image), 5
    out = np.full((len(rows) * (side + gap) + gap, len(columns) * (side + gap) + gap, 3), paper, np.uint8)
    for i, row in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            (top, bottom), (y, z) = lines[row], (gap + i * (side + gap), gap + j * (side + gap))
            out[y : y + bottom - top, z : z + right - left] = x[top:bottom, left:right]
    return Image.fromarray(out)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """[(first, end)] of the stretches where a mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def boxes(figure: Any) -> list[Box]:
    """Where a drawn figure shows pictures, or colours that a colour bar explains."""
    from matplotlib.collections import QuadMesh
    from matplotlib.image import BboxImage, _ImageBase

    renderer, height = figure.canvas.get_renderer(), figure.canvas.get_width_height()[1]
    out = []
    for artist in figure.findobj(lambda a: isinstance(a, (_ImageBase, QuadMesh)) and a.get_visible()):
        area = artist.get_window_extent(renderer)
        if artist.axes is not None and not isinstance(artist, BboxImage):
            seen = artist.axes.get_window_extent(renderer)
            area = type(area).intersection(area, seen) if isinstance(artist, _ImageBase) else seen
        if area is not None:
            (x0, y0), (x1, y1) = np.floor(area.min).astype(int), np.ceil(area.max).astype(int)
            out.append((max(x0, 0), max(height - y1, 0), max(x1, 0), max(height - y0, 0)))
    return out


def both(figure: Any) -> tuple[bytes, bytes]:
    """PNG files of a figure: on light paper, on dark paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    light = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    files = []
    for image in (light, dark(light, boxes(figure))):
        image.save(stream := io.BytesIO(), "png", optimize=True)
        files.append(stream.getvalue())
    return files[0], files[1]


def show_for_light_and_dark() -> None:
    """From here on, each figure of a cell is displayed twice."""
    from IPython.display import Image as Shown
    from IPython.display import display
    from matplotlib import pyplot as plt
    from matplotlib_inline import backend_inline

    plt.switch_backend("module://matplotlib_inline.backend_inline")

    def show(close: Any = None, block: Any = None) -> None:
        for number in plt.get_fignums():
            for png in both(plt.figure(number)):
                display(Shown(png))
        plt.close("all")

    show._draw_called, show._to_draw = False, []  # type: ignore[attr-defined]
    backend_inline.show = show


def round_numbers() -> None:
    """From here on, numbers are shown with five digits, and without the name of their type."""
    from IPython import get_ipython

    get_ipython().run_line_magic("precision", "%.5g")
    np.set_printoptions(precision=5, suppress=False, legacy="1.25")  # as NumPy 1 did: 0.5, not np.float32(0.5)
