"""The options of `ddpm course`: one frozen dataclass for each command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional


@dataclass(frozen=True)
class Init:
    """Write the lessons, with gaps for the exercises. Existing files are kept."""

    folder: Positional[Path | None] = None  # DIR; if not given, the course that you are in, else ./course
    notebooks: bool = False  # .ipynb instead of .py (needs the extra `course`)
    source: str = ""  # what a notebook's first cell installs on Colab: git+https://…, or a wheel's address or path


@dataclass(frozen=True)
class Status:
    """Show which exercises have passed, and which is next."""


@dataclass(frozen=True)
class Next:
    """Show the next exercise: where it is, its text, and its stub."""


@dataclass(frozen=True)
class Check:
    """Check exercises: `1.2`, a whole lesson: `1`, or without a number the next one."""

    numbers: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NUMBER …]")] = ()  # exercises or lessons
    show: bool = False  # also the failing input, your answer and the expected one, as Python to replay


@dataclass(frozen=True)
class Hint:
    """Show the next hint for an exercise; each tells a little more, none gives the line."""

    number: Annotated[Positional[str], tyro.conf.arg(metavar="NUMBER")]  # for instance 1.2


@dataclass(frozen=True)
class Solution:
    """Show the reference solution, once you have passed."""

    number: Annotated[Positional[str], tyro.conf.arg(metavar="NUMBER")]  # for instance 1.2
    give_up: bool = False  # show it before you have passed


@dataclass(frozen=True)
class Watch:
    """Check each exercise as you save it. Ctrl-C ends."""


@dataclass(frozen=True)
class Reset:
    """Restore the stub of an exercise; your code is kept in old_answers.py."""

    number: Annotated[Positional[str], tyro.conf.arg(metavar="NUMBER")]  # for instance 1.2


@dataclass(frozen=True)
class Grade:
    """For instructors: grade a folder of submissions (one folder each) to CSV and Gradescope JSON.

    Each runs in separate processes, with limits, which never have the answers. A hook refuses files, processes,
    threads and the network. This contains accidents and curiosity; against attackers use --isolate or a container.
    """

    submissions: Positional[Path]  # one folder per student, with l01_forward.py or .ipynb and so on
    seed: int = 7  # of the inputs; learners check with 0
    own_seeds: bool = False  # other inputs for each student, made from the seed and the name of the folder
    out: Path = Path("scores")  # the folder for scores.csv and one NAME.json per student
    lessons: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[N …]")] = ()  # only these; else all
    seconds: float = 20.0  # of processor time for one exercise
    minutes: float = 15.0  # on the clock for one submission; what is left then is not run
    memory: float = 4.0  # GB for one submission
    isolate: bool = False  # also in bubblewrap (bwrap): no network, and no files but Python's
    jobs: int = 2  # submissions at once


@dataclass(frozen=True)
class Report:
    """For instructors: which misconception, in which exercise, how many: a page and a CSV from a folder of scores."""

    scores: Positional[Path]  # the folder that `grade` has written; report.html and report.csv go there


@dataclass(frozen=True)
class Export:
    """For instructors: notebooks with solutions and tests for nbgrader or otter, or a template for GitHub Classroom."""

    to: Literal["nbgrader", "otter", "classroom"]  # the grader; classroom: a repository with stubs and a workflow
    out: Path = Path("export")  # the folder for the notebooks, or for the template
    seed: int = 7  # of the inputs that the notebooks' tests use
    source: str = ""  # what is installed where they run: git+https://…, or a wheel's address or path
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
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)
