"""Draw figures; the only file that imports matplotlib, and it computes no results."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ddpm.data import to_uint8
from ddpm.tools.files import write_atomic
from ddpm.tools.values import visible

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(
        color=["#1b4f72", "#c0392b", "#7f8c8d", "#d68910", "#6c3483", "#1e8449"],
        linestyle=["-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 3))],
    ),
    "legend.frameon": False,
}


def style() -> Any:
    """Apply our style to figures drawn inside `with style(): …`."""
    return matplotlib.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure in our style, without changing the state of pyplot."""
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08))


def save_figure(path: str | Path, figure: Figure, dpi: int = 150) -> None:
    """Write the figure as PNG, atomically."""
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out) if figure.dpi == dpi else figure.savefig(out, format="png", dpi=dpi)
    write_atomic(Path(path), out.getvalue())


def grid(images: Any, columns: int, gap: int = 2) -> np.ndarray:
    """Arrange images (N, H, W, C) in [-1, 1] in one uint8 image (rows·H, columns·W, C) with white gaps."""
    N, H, W, C = (x := visible(images)).shape
    rows = -(-N // columns)
    canvas = np.full((rows * (H + gap) + gap, columns * (W + gap) + gap, C), 255, dtype=np.uint8)
    for i in range(N):
        r, c = gap + (i // columns) * (H + gap), gap + (i % columns) * (W + gap)
        canvas[r : r + H, c : c + W] = to_uint8(x[i])
    return canvas


def save_grid(path: str | Path, images: Any, columns: int = 10) -> None:
    """Write a grid of images as PNG, enlarged by a whole factor to about 64 pixels each."""
    from PIL import Image

    canvas, zoom = grid(images, columns), max(1, 64 // np.shape(images)[1])
    canvas = np.repeat(np.repeat(canvas, zoom, 0), zoom, 1)
    out = io.BytesIO()
    Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas).save(out, "PNG")
    write_atomic(Path(path), out.getvalue())


def save_loss(
    path: str | Path, metrics: dict[str, np.ndarray], baseline: float | None = None, what: str = "ε-MSE per pixel"
) -> None:
    """Plot the training loss by step, smoothed, with the exact Gaussian baseline as a line."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(6.4, 3.6)
        axes = figure.add_subplot()
        step, loss = metrics["step"], metrics["loss"]
        axes.plot(step, loss, color="#b0c4d4", linewidth=1, linestyle="-")
        width = max(1, len(loss) // 20)
        kernel = np.ones(width) / width
        if len(loss) >= width:
            middle = step[(width - 1) // 2 :][: len(loss) - width + 1]
            axes.plot(middle, np.convolve(loss, kernel, "valid"), label=f"network, mean of {width} rows")
        if baseline is not None:
            axes.axhline(
                baseline, color="#c0392b", linestyle="--", label=f"best linear-Gaussian denoiser {baseline:.4f}"
            )
        axes.set(xlabel="step", ylabel=f"{what} (training images)", yscale="log")
        axes.legend()
        save_figure(path, figure)


def save_rows(path: str | Path, rows: list[Any], names: list[str], title: str = "") -> None:
    """Draw rows of images (n, H, W, C), each with its name on the left."""
    canvas = grid(np.concatenate([np.asarray(r) for r in rows]), columns=len(rows[0]))
    height = (canvas.shape[0] - 2) / len(rows)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(1.6 + canvas.shape[1] / 55, 0.4 + canvas.shape[0] / 55)
        axes = figure.add_subplot()
        axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_yticks([2 + height * (i + 0.5) for i in range(len(rows))], names)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=10, loc="left")
        save_figure(path, figure)


def overlay(images: Any, maps: Any, most: float) -> np.ndarray:
    """Overlay signed maps (N, H, W) on images (N, H, W, C) in [-1, 1] as RGB: red positive, blue negative.

    For display, the maps are smoothed by a Gaussian of one pixel; `most` is the value of full colour.
    """
    from scipy.ndimage import gaussian_filter

    grey = 0.3 * (np.asarray(images, dtype=np.float64).mean(-1, keepdims=True) + 1) - 1
    value = gaussian_filter(np.asarray(maps, dtype=np.float64), (0, 1, 1))[..., None] / most
    strength = np.clip(np.abs(value), 0, 1) ** 0.7
    colour = np.where(value > 0, np.array([1.0, -0.35, -0.6]), np.array([-0.7, 0.1, 1.0]))
    return (1 - strength) * grey + strength * colour


def save_typicality(path: str | Path, rows: list[tuple[str, Any, Any, Any]], title: str = "") -> None:
    """Draw the images of each class (name, images, maps, values) above their typicality maps, with T on top."""
    most = float(np.quantile(np.abs(np.concatenate([np.asarray(m).ravel() for _, _, m, _ in rows])), 0.99)) / 1.5
    columns = max(len(images) for _, images, _, _ in rows)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(1.2 + 0.62 * columns, 0.4 + 1.42 * len(rows))
        axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for ax, (name, images, maps, values) in zip(axes, rows, strict=True):
            colour = np.broadcast_to(np.asarray(images), (*np.shape(images)[:3], 3))
            blank = np.ones((columns - len(images), *colour.shape[1:]))
            canvas = grid(np.concatenate([colour, blank, overlay(images, maps, most), blank]), columns)
            ax.imshow(canvas, interpolation="nearest")
            for j, value in enumerate(values):
                x = 2 + (j + 0.5) * colour.shape[2] + 2 * j
                ax.text(x, -1, f"{round(1000 * value, 1) + 0.0:+.1f}", fontsize=7, ha="center", va="bottom")
            ax.set_yticks([canvas.shape[0] / 2], [name], fontsize=8)
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        figure.suptitle(title, fontsize=9, x=0.02, ha="left")
        save_figure(path, figure)


def save_evaluation(path: str | Path, measures: dict[str, dict]) -> None:
    """Draw denoising error by time, accuracy by class, and shares, each with its baseline.

    Panels without measurements are omitted.
    """
    by_t = [(k, m["detail"]["by_t"]) for k, m in measures.items() if "by_t" in m["detail"]]
    by_class = measures.get("accuracy", {}).get("detail", {}).get("per_class", {})
    shares = [measures[k] for k in SHARES if k in measures]
    asked = [(k, m) for k, m in measures.items() if "_at_" in k]
    asked = [(k, m) for k, m in asked if k.split("_at_")[1] == asked[-1][0].split("_at_")[1]]  # the last guidance
    panels: list[Any] = [(_by_time, by_t), (_by_class, by_class), (_shares, shares), (_prompts, asked)]
    panels = [(draw, what) for draw, what in panels if what]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.5 * max(1, len(panels)), 3.6)
        for axes, (draw, what) in zip(figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False):
            draw(axes, what)
        save_figure(path, figure)


SHARES = ("precision", "recall", "density", "coverage", "nearest_pixels", "nearest_features")


def _by_time(axes: Any, by_t: list[tuple[str, list[dict]]]) -> None:
    for name, rows in by_t:
        t = [sum(r["t"]) / 2 for r in rows]
        error = [1.96 * r["standard_error"] for r in rows]
        given = "class given" if name == "eps_mse" else "no class"
        axes.errorbar(t, [r["value"] for r in rows], error, label=f"network, {given}", marker="o", markersize=3)
        if all("baseline" in r for r in rows):
            exact = [r["baseline"] for r in rows]
            axes.plot(t, exact, label=f"best linear-Gaussian, {given}", marker="s", markersize=3)
    axes.set(xlabel="t", ylabel="test ε-MSE per pixel", yscale="log")
    axes.legend(fontsize=7)


def _bars(axes: Any, names: list[str], rows: list[tuple[float, Any, Any]], ticks: str) -> None:
    """Draw one bar for each (value, interval, baseline or None)."""
    value = np.array([r[0] for r in rows])
    low, high = (np.array([r[1][i] for r in rows]) for i in (0, 1))
    position = np.arange(len(names))
    axes.barh(position, value, xerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)], color="#8fa9bd")
    reference = [r[2] for r in rows]
    if None not in reference:
        axes.plot(reference, position, "k|", markersize=12, linestyle="none", label=ticks)
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.set_yticks(position, names, fontsize=8)
    axes.invert_yaxis()


def _by_class(axes: Any, by_class: dict[str, dict]) -> None:
    rows = [(m["value"], m["interval"], m["classifier_on_test"]) for m in by_class.values()]
    _bars(axes, list(by_class), rows, "the classifier on real test images")
    axes.set(xlabel="share assigned to the requested class", xlim=(0, 1.02))


def _shares(axes: Any, shares: list[dict]) -> None:
    rows = [(m["value"], m["interval"], m["reference"]) for m in shares]
    _bars(axes, [m["name"].replace(", ", ",\n") for m in shares], rows, "test images, as many")
    axes.set(xlabel="share (density: a count over 5)")


def _prompts(axes: Any, asked: list[tuple[str, dict]]) -> None:
    names, scales = zip(*(k.split("_at_") for k, _ in asked), strict=True)
    _bars(axes, list(names), [(m["value"], m["interval"], None) for _, m in asked], "")
    axes.set(xlabel=f"share of pictures as the caption asks, guidance {scales[0]}", xlim=(0, 1.02))


def save_pairs(path: str | Path, groups: list[tuple[str, Any, Any, Any]], title: str = "") -> None:
    """Draw each group (name, images, others, numbers): images above their others, numbers on top."""
    with matplotlib.rc_context(STYLE):
        n, side = len(groups[0][1]), np.shape(groups[0][1])[1]
        figure = new_figure(2.1 + 0.62 * n, 0.6 + 1.62 * len(groups))
        for axes, (name, images, others, numbers) in zip(
            figure.subplots(len(groups), 1, squeeze=False)[:, 0], groups, strict=True
        ):
            axes.imshow(grid(np.concatenate([images, others]), n).squeeze(), "gray", vmin=0, vmax=255)
            for i, number in enumerate(numbers):
                axes.text(2 + (i + 0.5) * (side + 2), -0.5, f"{number:.3g}", ha="center", va="bottom", fontsize=7)
            axes.set_yticks([2 + side / 2, 4 + 1.5 * side], [name, "nearest in training"], fontsize=8)
            axes.set_xticks([])
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        figure.suptitle(title, fontsize=9)
        save_figure(path, figure)


def save_scores(path: str | Path, groups: list[tuple[str, np.ndarray]], label: str) -> None:
    """Overlay the histograms of several sets of scores, each with area 1."""
    low, high = np.quantile(np.concatenate([s for _, s in groups]), (0.002, 0.998))
    bins: Any = np.linspace(low, high, 61)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(6.4, 2.8)
        axes = figure.add_subplot()
        for name, score in groups:
            axes.hist(score, bins, density=True, histtype="step", label=f"{name} ({len(score)})")
        axes.set(xlabel=label, ylabel="density")
        axes.legend(fontsize=8)
        save_figure(path, figure)


def save_strips(path: str | Path, rows: list[tuple[str, np.ndarray]], title: str = "") -> None:
    """Stack strips of pixels (H, W, 3) uint8, each with its name on the left."""
    with matplotlib.rc_context(STYLE):
        inches = [pixels.shape[0] / 150 for _, pixels in rows]
        width = max(pixels.shape[1] for _, pixels in rows)
        figure = new_figure(1.9 + width / 150, 0.3 + sum(inches) + 0.12 * len(rows))
        axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": inches})[:, 0]
        for ax, (name, pixels) in zip(axes, rows, strict=True):
            white = np.full((pixels.shape[0], width - pixels.shape[1], 3), 255, np.uint8)
            ax.imshow(np.concatenate([pixels, white], 1), interpolation="nearest")
            ax.set_yticks([pixels.shape[0] / 2], [name], fontsize=8)
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        if title:
            figure.suptitle(title, fontsize=9, x=0.02, ha="left")
        save_figure(path, figure)
