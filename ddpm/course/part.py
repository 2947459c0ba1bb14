"""The parts of an exercise: questions about the learner's functions, a training's file or a picture.

A `Part` is one question about the learner's functions: it runs them on random inputs and states the expected answer,
as arrays with a band around each entry. `exercise.py` makes the kinds that lessons use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Cases = Callable[[np.random.Generator], Sequence[tuple]]
Leaves = list[tuple[np.ndarray, np.ndarray]]  # the expected arrays and their tolerance: (value, band) each


@dataclass(frozen=True)
class Mistake:
    """A wrong formula, and the sentence that explains it."""

    sentence: str
    wrong: Callable


@dataclass(frozen=True)
class Part:
    """One question. `run(*functions, *case)` is the answer; `expect(*case)` is what it should be."""

    kind: str
    names: tuple[str, ...]  # of the learner's functions
    run: Callable[..., Any]
    expect: Callable[..., Leaves]
    cases: Cases  # random inputs: several argument tuples, also of unusual shapes
    mistakes: tuple[Mistake, ...] = ()
    band: Callable[[np.ndarray], np.ndarray] = np.zeros_like  # wrong answers within this distance count as the same
    traceable: bool = False  # the lesson calls it inside `jit`, where NumPy's functions fail
    secret: bool = False  # do not print the expected value
    labels: tuple[str, ...] = ()  # what the entries of a statistic are called in a sentence


@dataclass(frozen=True)
class Artefact:
    """A file written by a training (.npz), whose measure the grader computes again."""

    file: str  # relative to the course's folder
    measure: Callable[[dict[str, np.ndarray]], float]
    low: float  # passes if low <= measure <= high
    high: float
    what: str  # the name of the measure, with its unit
    kind: str = "artefact"


@dataclass(frozen=True)
class Figure:
    """A picture for the gallery: shown if it exists, never graded."""

    file: str
    kind: str = "figure"


@dataclass(frozen=True)
class Exercise:
    """A number, the questions, and the hints in order: each tells a little more, none gives the line."""

    number: str
    parts: tuple[Part | Artefact | Figure, ...]
    hints: tuple[str, ...] = field(default=())


def exists(folder: Path, part: Artefact | Figure) -> Path | None:
    """Find the part's file inside `folder`; None if missing, or if the name leads out of it."""
    file = (folder / part.file).resolve()
    return file if file.is_file() and file.is_relative_to(folder.resolve()) else None
