"""The options of `ddpm course`, as frozen dataclasses: one a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional


@dataclass(frozen=True)
class Init:
    """Write the lessons, with holes where the exercises are. Files that are there stay as they are."""

    folder: Positional[Path | None] = None  # where to: DIR, else the course that you are in, else ./course
    notebooks: bool = False  # .ipynb instead of .py (needs the extra `course`)
    source: str = "ddpm"  # what a notebook's first cell installs on Colab: a name, a wheel's URL, git+https://…


@dataclass(frozen=True)
class Status:
    """Which exercises have passed, and which is next."""


@dataclass(frozen=True)
class Next:
    """The first exercise that has not passed: where it is, what it asks, and its stub."""


@dataclass(frozen=True)
class Check:
    """Check exercises: `1.2`, a whole lesson: `1`, or without a number the next one."""

    numbers: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NUMBER …]")] = ()  # exercises or lessons


@dataclass(frozen=True)
class Hint:
    """The next hint for an exercise; each says a little more, none gives the line."""

    number: Annotated[Positional[str], tyro.conf.arg(metavar="NUMBER")]  # for instance 1.2


@dataclass(frozen=True)
class Solution:
    """The reference solution, once you have passed."""

    number: Annotated[Positional[str], tyro.conf.arg(metavar="NUMBER")]  # for instance 1.2
    give_up: bool = False  # see it before


@dataclass(frozen=True)
class Watch:
    """Check each exercise as you save it. Ctrl-C ends."""


@dataclass(frozen=True)
class Reset:
    """Put the stub of an exercise back; your code is kept in old_answers.py."""

    number: Annotated[Positional[str], tyro.conf.arg(metavar="NUMBER")]  # for instance 1.2


@dataclass(frozen=True)
class Grade:
    """For instructors: grade a folder of submissions (one folder each) to CSV and Gradescope JSON.

    Each runs in processes of its own, with limits. This keeps accidents apart; it is no sandbox against attackers.
    """

    submissions: Positional[Path]  # one folder a student, with l01_forward.py or .ipynb and so on
    seed: int = 7  # of the inputs; learners check with 0
    out: Path = Path("scores")  # scores.csv and one NAME.json each
    lessons: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[N …]")] = ()  # only these; else all
    seconds: float = 20.0  # of processor time for one exercise
    memory: float = 4.0  # GB for one submission
    jobs: int = 2  # submissions at once


@dataclass(frozen=True)
class Export:
    """For instructors: source notebooks for nbgrader or otter-grader, with solutions and tests."""

    to: Literal["nbgrader", "otter"]  # the grader
    out: Path = Path("export")  # where to
    seed: int = 7  # of the inputs that the tests use
    lessons: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[N …]")] = ()  # only these; else all


COMMANDS = (
    Annotated[Init, tyro.conf.subcommand("init")]
    | Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Next, tyro.conf.subcommand("next")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Hint, tyro.conf.subcommand("hint")]
    | Annotated[Solution, tyro.conf.subcommand("solution")]
    | Annotated[Watch, tyro.conf.subcommand("watch")]
    | Annotated[Reset, tyro.conf.subcommand("reset")]
    | Annotated[Grade, tyro.conf.subcommand("grade")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)
