"""Lessons as text: cells of the percent format, the exercises in them, and the learner's functions.

This module neither runs a lesson nor imports NumPy, so that `ddpm course status` answers at once.
"""

from __future__ import annotations

import ast
import codecs
import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import ddpm

FOLDER = Path(ddpm.__file__).parent.parent / "lessons"  # next to the package, in the repository and when installed
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HEADING = re.compile(r"^# ### Exercise (\d+\.\d+) - (.+)$")
FOLD = '<details class="bet"><summary>You have written your number down? What happened</summary>'
HIDDEN = {"jupyter": {"source_hidden": True}}  # of a code cell, in a notebook
DEF = re.compile(r"^(?:async )?def (\w+)\(")
RENUMBERED = {f"15.{i}": f"16.{i - 3}" for i in range(4, 11)}  # Lesson 15 became two; for this release


@dataclass
class Cell:
    """The lines of a cell without its `# %%`; `start` is the number of the first line, from 1."""

    markdown: bool
    lines: list[str]
    start: int


@dataclass
class Task:
    """An exercise in a lesson: its functions with a solution mark, and the lengths of the solutions."""

    number: str
    title: str
    functions: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # lines of each solution, as a hint

    @property
    def lesson(self) -> int:
        return int(self.number.partition(".")[0])


def cells(text: str) -> list[Cell]:
    """Split a percent file into cells; text before the first `# %%` is the notebook's header."""
    out: list[Cell] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# %%"):
            out.append(Cell("[markdown]" in line, [], number + 1))
        elif out:
            out[-1].lines.append(line)
    return out


def is_bet(code: str) -> bool:
    """Whether a cell asks for a number that the learner writes down before running what follows."""
    return BEGIN in code and '"""Your bet' in code


def with_bets(text: str) -> list[tuple[Cell, bool]]:
    """List the cells, and whether each tells the answer of a bet: what follows it, up to the next heading.

    A cell of text that begins with the answer and then has a heading becomes two.
    """
    out, told = [], False
    for part in cells(text):
        at = next((i for i, line in enumerate(part.lines) if part.markdown and line.startswith("# #")), None)
        if told and at:
            out.append((Cell(True, part.lines[:at], part.start), True))
            part = Cell(True, part.lines[at:], part.start + at)
        told = told and at is None
        out.append((part, told))
        told = told or (not part.markdown and is_bet("\n".join(part.lines)))
    return out


def folded(text: str) -> str:
    """Fold a text in Markdown, until a click: what follows a bet tells its answer."""
    return f"{FOLD}\n\n{text.strip()}\n\n</details>"


def tasks(text: str) -> list[Task]:
    """List the exercises of a lesson with solutions, in order."""
    found: list[Task] = []
    name, inside = "", False
    for line in text.splitlines():
        if heading := HEADING.match(line):
            found.append(Task(heading.group(1), heading.group(2)))
        elif definition := DEF.match(line):
            name = definition.group(1)
        elif line.strip() == BEGIN and found:
            inside = True
            if name not in found[-1].functions:
                found[-1].functions.append(name)
                found[-1].sizes.append(0)
        elif line.strip() == END:
            inside = False
        elif inside:
            found[-1].sizes[-1] += 1
    return found


@cache
def files() -> dict[int, Path]:
    """List the shipped lessons, with solutions: {1: …/lessons/l01_forward.py, …}."""
    return {int(f.name[1:3]): f for f in sorted(FOLDER.glob("l[0-9][0-9]_*.py"))}


@cache
def text_of(lesson: int) -> str:
    """Read the text of a lesson as it ships, with solutions."""
    if lesson not in files():
        raise ValueError(f"there is no lesson {lesson}; there are {', '.join(map(str, files())) or 'none'}")
    return files()[lesson].read_text(encoding="utf-8")


@cache
def all_tasks() -> dict[str, Task]:
    """Collect the exercises of all lessons: {'1.1': …}."""
    return {task.number: task for lesson in files() for task in tasks(text_of(lesson))}


def task(number: str) -> Task:
    """Find the exercise '1.2', or raise a ValueError that lists the existing ones."""
    if number in RENUMBERED:
        raise ValueError(f"exercise {number} is exercise {RENUMBERED[number]} now, in Lesson 16")
    if number not in all_tasks():
        lesson = number.partition(".")[0]
        near = [n for n in all_tasks() if n.partition(".")[0] == lesson] or list(all_tasks())
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(near)}")
    return all_tasks()[number]


def decoded(file: Path) -> str:
    """Read a file as UTF-8, or as UTF-16 if it begins with that mark, as some editors on Windows save."""
    raw = file.read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return raw.decode("utf-16" if wide else "utf-8-sig", errors="replace").replace("\r\n", "\n")


def read(file: Path) -> str:
    """Read a learner's file as percent text; of a notebook, the code cells without Jupyter's magic lines."""
    text = decoded(file)
    if file.suffix != ".ipynb":
        return text
    try:
        notebook = json.loads(text)
        sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{file} is not a notebook that can be read ({e})") from None
    return "\n\n".join("# %%\n" + re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M) for source in sources) + "\n"


def source(text: str, name: str) -> str | None:
    """Find the last top-level `def name(…)`, or None; the text need not be valid Python."""
    found: str | None = None
    block: list[str] | None = None
    for line in text.splitlines():
        definition = DEF.match(line)
        if block is not None and line and not line[0].isspace() and line[0] != ")":
            found, block = "\n".join(block).rstrip(), None
        if definition and definition.group(1) == name:
            block = []
        if block is not None:
            block.append(line)
    return "\n".join(block).rstrip() if block is not None else found


def without_words(code: str) -> str:
    """Remove comments, docstrings and layout from code; invalid Python stays as it is."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return code
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def fingerprint(text: str, names: list[str]) -> str:
    """Hash the learner's functions; changes of comments, docstrings and layout keep the hash."""
    parts = [without_words(source(text, name) or "") for name in names]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def solution(number: str) -> str:
    """Return the functions of an exercise as they ship, without the marks."""
    exercise = task(number)
    parts = [source(text_of(exercise.lesson), name) or "" for name in exercise.functions]
    return "\n\n\n".join("\n".join(line for line in p.splitlines() if line.strip() not in (BEGIN, END)) for p in parts)
