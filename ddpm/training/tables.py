"""Read and write the tables of a run: metrics.csv, eval.csv, layers.csv; optionally TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.tools.files import Damaged, write_atomic

COLUMNS = ["step", "loss", "grad_norm", "lr", "images_per_s", "seconds"]


def _rows(file: Path) -> list[list[str]]:
    """Read the cells of a table without its truncated rows; `Damaged` names the line that holds no numbers."""
    try:
        with open(file, newline="", encoding="utf-8") as f:
            rows = list(csv.reader(f))
        kept = rows[:1] + [r for r in rows[1:] if len(r) == len(rows[0])]
        for r in kept[1:]:
            [float(cell) for cell in r]
    except (ValueError, csv.Error) as e:
        raise Damaged(f"{file} is damaged ({e}); delete the line, or the file: the run writes a new one") from None
    return kept


def read_table(file: Path) -> dict[str, np.ndarray]:
    """Read a table of numbers as columns."""
    head, *rows = _rows(file) or [[]]
    return dict(zip(head, np.array(rows, float).T, strict=True)) if rows else {}


def read_metrics(folder: Path) -> dict[str, np.ndarray]:
    """Read metrics.csv as columns."""
    return {k: np.array([]) for k in COLUMNS} | read_table(Path(folder) / "metrics.csv")


class Table:
    """A CSV file whose first column is the step.

    Opening it at `step` deletes the rows after that step, because the resumed run writes them again.
    """

    def __init__(self, file: Path, columns: Sequence[str], step: int):
        self.file, self.columns = file, list(columns)
        self.last: list[str] | None = None  # the last row that was kept
        kept: list[list[str]] = []
        if file.exists():
            rows = [r for r in _rows(file)[1:] if len(r) == len(self.columns)]
            kept = [r for r in rows if r[0].isdecimal() and int(r[0]) <= step]
            self.last = kept[-1] if kept else None
        lines = [",".join(self.columns)] + [",".join(r) for r in kept]
        write_atomic(file, ("\n".join(lines) + "\n").encode())

    def add(self, row: Iterable[Any]) -> None:
        """Append a row, with six digits per number."""
        text = [v if isinstance(v, str) else f"{v:.6g}" if isinstance(v, float) else str(v) for v in row]
        try:
            with open(self.file, "a", encoding="utf-8") as f:
                f.write(",".join(text) + "\n")
        except OSError as e:
            raise type(e)(e.errno, e.strerror, str(self.file)) from e


class NoTable:
    """No-op table for non-writing processes."""

    last = None

    def add(self, row: Iterable[Any]) -> None:
        """Discard the row."""


class Board:
    """Write scalars for TensorBoard, through tensorboardX."""

    def __init__(self, folder: Path, step: int):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Write each value under its name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


def refuse_board() -> None:
    """Raise a clear error early if TensorBoard is requested but tensorboardX is missing."""
    if find_spec("tensorboardX") is None:
        raise ValueError("tensorboard wants tensorboardX, which is missing: pip install tensorboardX")
