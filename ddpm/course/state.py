"""The state of a course: one small JSON file, which also marks its folder as a course.

A tick belongs to a hash of the functions. If they are edited, it is withdrawn until they are checked again.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm.course import lesson as lessons

NAME = ".ddpm-course.json"
State = dict[str, dict[str, Any]]  # {"1.2": {"passed": hash, "tries": 3, "hints": 1, "gave_up": False}}


def find(start: Path) -> Path:
    """Find the course's folder: `start` or the nearest folder above it with a state file."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / NAME).is_file():
            return folder
    raise ValueError("there is no course here; `ddpm course init DIR` makes one, then work in DIR")


def here() -> Path | None:
    """Find the course that contains the current folder, if there is one."""
    try:
        return find(Path())
    except ValueError:
        return None


def load(folder: Path) -> State:
    """Read the state; a damaged file raises an error, because it cannot be recreated."""
    try:
        state = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return {str(k): dict(v) for k, v in state.items()}
    except (ValueError, AttributeError, TypeError) as e:
        raise ValueError(f"{folder / NAME} is damaged ({e}); delete it, and `ddpm course init` starts afresh") from None


def save(folder: Path, state: State) -> None:
    """Write the state, completely or not at all."""
    import os

    tmp = folder / f"{NAME}.{os.getpid()}.tmp"
    tmp.write_text(json.dumps(state, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(tmp, folder / NAME)


def note(folder: Path, number: str, **changes: Any) -> None:
    """Change some entries of one exercise."""
    state = load(folder)
    state[number] = state.get(number, {}) | changes
    save(folder, state)


def file_of(folder: Path, lesson: int) -> Path:
    """Find the learner's file of a lesson: .py or .ipynb, the one saved last if both exist."""
    stem = lessons.files()[lesson].stem
    found = [f for f in (folder / f"{stem}.py", folder / f"{stem}.ipynb") if f.is_file()]
    if not found:
        raise ValueError(f"{stem}.py is not in {folder}; `ddpm course init {folder}` puts back what is missing")
    return max(found, key=lambda f: f.stat().st_mtime)


def mark(entry: dict[str, Any], fingerprint: str) -> str:
    """Mark an exercise: ✓ passed, ~ changed since, ✗ tried, · not yet."""
    if entry.get("passed"):
        return "✓" if entry["passed"] == fingerprint else "~"
    return "✗" if entry.get("tries") else "·"


def marks(folder: Path) -> dict[str, str]:
    """Collect the marks of the lessons in the folder: {'1.1': '✓', …}."""
    state, out = load(folder), {}
    for lesson in lessons.files():
        try:
            text = lessons.read(file_of(folder, lesson))
        except ValueError:
            continue
        for task in lessons.tasks(lessons.text_of(lesson)):
            out[task.number] = mark(state.get(task.number, {}), lessons.fingerprint(text, task.functions))
    return out


def record_live(number: str, functions: tuple[Callable, ...]) -> None:
    """Tick an exercise that passed in a notebook or script, if there is a course and a readable source."""
    try:
        folder = find(Path())
        sources = [inspect.getsource(f) for f in functions]
    except (ValueError, OSError, TypeError):
        return
    note(folder, number, passed=lessons.fingerprint("\n\n".join(sources), lessons.task(number).functions))
