"""Show the first failing input of an exercise, with the answer and the expected one, so that it can be replayed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ddpm.course import checks, judge
from ddpm.course.answers import Answer, cases_of, collect
from ddpm.course.compare import fits
from ddpm.course.part import Part

MOST = 60  # longer arrays are made again by `case` instead of printed


def case(number: str, place: int, seed: int, i: int) -> tuple:
    """Make input `i` of part `place` of an exercise again."""
    part = checks.find(number).parts[place]
    assert isinstance(part, Part)
    return cases_of(part, seed, place)[i]


def first_failure(number: str, functions: dict[str, Callable], seeds: Sequence[int] = judge.SEEDS) -> str:
    """Describe the first input whose answer is not the expected one; '' if there is none, or it is a bet."""
    for place, part in enumerate(checks.find(number).parts):
        if not isinstance(part, Part) or part.secret:
            continue
        used = [functions[name] for name in part.names]
        answers, want = collect(part, used, seeds, place), judge.wanted(part, seeds, place)
        inputs = [(seed, i) for seed in seeds for i in range(len(cases_of(part, seed, place)))]
        inputs += [inputs[0]] * part.traceable
        for k, (answer, expected) in enumerate(zip(answers, want, strict=False)):
            if not fits(answer, expected):
                jit = part.traceable and k == len(want) - 1
                return described(number, place, *inputs[k], part, used[-1], answer, expected, jit)
    return ""


def described(
    number: str, place: int, seed: int, i: int, part: Part, f: Callable, answer: Answer, expected: Any, jit: bool
) -> str:
    """Write the input as Python, then both outputs."""
    values = case(number, place, seed, i)
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        names = []
    names = names if len(names) == len(values) else [f"input_{k}" for k in range(len(values))]
    rows = [f"Input {i + 1} of seed {seed}" + (", inside jit" if jit else "") + ":"]
    if all(isinstance(v, (int, float, tuple)) or (isinstance(v, np.ndarray) and v.size <= MOST) for v in values):
        rows += [f"{name} = {written(v)}" for name, v in zip(names, values, strict=True)]
    else:
        rows.append("from ddpm.course import replay")
        rows.append(f"{', '.join(names)}{',' * (len(names) == 1)} = replay.case({number!r}, {place}, {seed}, {i})")
    yours = f"{answer.error}: {answer.message.splitlines()[0] if answer.message else ''}" if answer.error else None
    yours = yours or ("None" if answer.none else ", ".join(map(written, answer.arrays)))
    right = expected if isinstance(expected, str) else ", ".join(written(value) for value, _ in expected)
    what = " (" + "; ".join(part.labels) + ")" if part.labels else ""
    return "\n".join([*rows, f"# `{part.names[-1]}` gives{what}:", yours, "# expected:", right])


def written(value: Any) -> str:
    """Write a value as Python; of a long array the beginning and the end."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    if value.ndim == 0:
        return repr(value.item())
    numbers = np.array2string(value, separator=", ", threshold=MOST, floatmode="unique")
    return f"np.array({numbers})"
