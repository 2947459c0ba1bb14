"""Show the first failing input of an exercise, with the answer and the expected one, so that it can be replayed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm.course import checks, judge
from ddpm.course.answers import Answer, cases_of, collect
from ddpm.course.compare import fits
from ddpm.course.part import Part

MOST = 60  # longer arrays are made again by `case` instead of printed


@dataclass(frozen=True)
class Failure:
    """An input whose answer is not the expected one."""

    number: str
    place: int  # of the part in the exercise
    seed: int
    i: int  # of the input among those of the seed
    in_jit: bool
    answer: Answer
    expected: Any


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
        inputs += [inputs[0]] * part.traceable  # the last call is inside `jit`
        for k, (answer, expected) in enumerate(zip(answers, want, strict=False)):
            if not fits(answer, expected):
                in_jit = part.traceable and k == len(want) - 1
                return described(Failure(number, place, *inputs[k], in_jit, answer, expected), part, used[-1])
    return ""


def described(failure: Failure, part: Part, function: Callable) -> str:
    """Write the input as Python, then both answers."""
    # The arguments have the learner's names, if the part calls the function with them alone
    where = (failure.number, failure.place, failure.seed, failure.i)
    values = case(*where)
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    names = names if len(names) == len(values) else [f"input_{k}" for k in range(len(values))]
    rows = [f"Input {failure.i + 1} of seed {failure.seed}" + (", inside jit" if failure.in_jit else "") + ":"]
    # Short inputs are printed, long ones made again
    if all(isinstance(v, (int, float, tuple)) or (isinstance(v, np.ndarray) and v.size <= MOST) for v in values):
        rows += [f"{name} = {written(v)}" for name, v in zip(names, values, strict=True)]
    else:
        rows += ["from ddpm.course import replay", f"{', '.join(names)}{',' * (len(names) == 1)} = replay.case{where}"]
    # Both answers
    answer, expected = failure.answer, failure.expected
    yours = "None" if answer.none else ", ".join(map(written, answer.arrays))
    if answer.error:
        yours = f"{answer.error}: {answer.message}".splitlines()[0]
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
