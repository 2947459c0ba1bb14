"""What an exercise is: questions about the learner's functions, a trained thing or a picture.

A `Part` asks one question of the learner's functions: it runs them on random inputs and says what should come out,
as arrays with a band around each entry. `exercise.py` makes the kinds that lessons use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Cases = Callable[[np.random.Generator], Sequence[tuple]]
Leaves = list[tuple[np.ndarray, np.ndarray]]  # what should come out, and how far it may be off: (value, band) each


@dataclass(frozen=True)
class Mistake:
    """A wrong formula, and the sentence for whoever wrote it."""

    sentence: str
    wrong: Callable


@dataclass(frozen=True)
class Part:
    """One question. `run(*functions, *case)` is the answer; `expect(*case)` is what it should be."""

    kind: str
    names: tuple[str, ...]  # of the learner's functions
    run: Callable[..., Any]
    expect: Callable[..., Leaves]
    cases: Cases  # random inputs: argument tuples, several and of odd shapes
    mistakes: tuple[Mistake, ...] = ()
    band: Callable[[np.ndarray], np.ndarray] = np.zeros_like  # how far two wrong answers may be apart to be the same
    traceable: bool = False  # the lesson calls it inside `jit`, so that NumPy's functions will not do
    secret: bool = False  # do not print the expected value


@dataclass(frozen=True)
class Artefact:
    """A file that a training leaves behind (.npz), whose measure is computed again by whoever grades."""

    file: str  # relative to the course's folder
    measure: Callable[[dict[str, np.ndarray]], float]
    low: float  # passes if low <= measure <= high
    high: float
    says: str  # what the measure is, with its unit
    kind: str = "artefact"


@dataclass(frozen=True)
class Figure:
    """A picture for the gallery: shown if it is there, never graded."""

    file: str
    kind: str = "figure"


@dataclass(frozen=True)
class Exercise:
    """A number, the questions, and the hints in order: each says a little more, none gives the line."""

    number: str
    parts: tuple[Part | Artefact | Figure, ...]
    hints: tuple[str, ...] = field(default=())


def exists(folder: Path, part: Artefact | Figure) -> Path | None:
    """The part's file inside `folder`, or None; a name that leads out of it is None as well."""
    file = (folder / part.file).resolve()
    return file if file.is_file() and file.is_relative_to(folder.resolve()) else None
