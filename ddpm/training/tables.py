"""Read and write the tables of a run: metrics.csv, eval.csv, layers.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
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
