"""What a learner has done: one small JSON file in the course's folder, which is also what makes it a course's folder.

A tick belongs to a hash of the functions. Edit them, and it is withdrawn until they are checked again.
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
    """The course's folder: `start` or the nearest folder above it that has a state file."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / NAME).is_file():
            return folder
    raise ValueError("there is no course here; `ddpm course init DIR` makes one, then work in DIR")


def here() -> Path | None:
    """The course's folder in which we stand, if it is one."""
    try:
        return find(Path())
    except ValueError:
        return None


def load(folder: Path) -> State:
    """The state; a damaged file is an error that says so, for it holds what cannot be made again."""
    try:
        state = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return {str(k): dict(v) for k, v in state.items()}
    except (ValueError, AttributeError, TypeError) as e:
        raise ValueError(f"{folder / NAME} is damaged ({e}); delete it, and `ddpm course init` starts afresh") from None


def save(folder: Path, state: State) -> None:
    """Write the state, whole or not at all."""
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
    """The learner's file of a lesson: .py or .ipynb, the one that was saved last if there are both."""
    stem = lessons.files()[lesson].stem
    found = [f for f in (folder / f"{stem}.py", folder / f"{stem}.ipynb") if f.is_file()]
    if not found:
        raise ValueError(f"{stem}.py is not in {folder}; `ddpm course init {folder}` puts back what is missing")
    return max(found, key=lambda f: f.stat().st_mtime)


def mark(entry: dict[str, Any], fingerprint: str) -> str:
    """✓ passed, ~ changed since, ✗ tried, · not yet"""
    if entry.get("passed"):
        return "✓" if entry["passed"] == fingerprint else "~"
    return "✗" if entry.get("tries") else "·"


def marks(folder: Path) -> dict[str, str]:
    """{'1.1': '✓', …} for the lessons that are in the folder."""
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
    """A notebook or script has passed: tick it, if there is a course here and the source can be read."""
    try:
        folder = find(Path())
        sources = [inspect.getsource(f) for f in functions]
    except (ValueError, OSError, TypeError):
        return
    note(folder, number, passed=lessons.fingerprint("\n\n".join(sources), lessons.task(number).functions))
