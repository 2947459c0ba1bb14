"""Entries of the challenge: read the file, find what it may not contain, and run it in the course's sandbox."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from ddpm.course import lesson, rules
from ddpm.course.answers import Answer
from ddpm.course.process import Limits, run_worker, unpack
from ddpm.course.worker import Job

PURE = ("numpy", "math", "itertools", "functools", "__future__")  # modules that every entry may import
LONGEST = 20_000  # characters of an entry: no room for weights or images


def defined(text: str, name: str) -> set[str]:
    """Collect the functions that an entry defines; a ValueError if it is not valid Python."""
    try:
        tree = ast.parse(text, name)
    except SyntaxError as e:
        raise ValueError(f"{name} is not valid Python, line {e.lineno}") from None
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def text_of(file: Path) -> str:
    """Read the file of an entry."""
    if not file.is_file():
        raise ValueError(f"file: {file} is not there; give the file of an entry, with a function `sample`")
    text = lesson.decoded(file)
    if len(text) > LONGEST:
        raise ValueError(f"{file.name} has {len(text):,} characters; an entry has at most {LONGEST:,}")
    return text


def checked(
    text: str, name: str, functions: dict[str, str], may_import: Callable[[str], bool], words: str
) -> rules.Nodes:
    """Return the statements of an entry, or raise a ValueError with what it lacks or may not contain.

    functions: name -> the parameters that it is called with;  words: what may be imported, in words
    """
    there = defined(text, name)
    for function, parameters in functions.items():
        if function not in there:
            raise ValueError(f"{name} has no function `{function}({parameters})`")
    nodes = [(node, name) for node in ast.parse(text, name).body]
    others = sorted(m for m in rules.modules(nodes) if not may_import(m))
    if others:
        raise ValueError(f"{name} imports {others[0]}; an entry may import {words}: no clock, no files")
    if reason := rules.forbidden(nodes, name, []):
        raise ValueError(f"{name} is not run: {reason.replace('no exercise', 'no entry')}")
    return nodes


def answers(job: Job, limits: Limits, name: str) -> list[Answer]:
    """Run the one question of a job in a process of its own; a ValueError tells why there is no answer."""
    results, _, why = run_worker([job], limits)
    if job.number not in results:
        raise ValueError(f"{name} {why or 'sent no answer'}")
    head, body = results[job.number]
    if "failed" in head:
        late = f"it needs more than {limits.seconds:g} seconds of processor time"
        raise ValueError(f"{name}: {late if head['kind'] == 'time' else head['sentence'].replace('exercise', 'entry')}")
    return unpack(head, body)[0]
