"""The course: lessons with exercises that check themselves.

In a learner's lesson (`ddpm course init DIR` writes them):

    q_sample = checked("1.3", q_sample)    # reports what is wrong, and then continues with the reference version

The modules: lesson (the text), load (definitions only), part and exercise (the kinds of questions), checks (the
questions of each lesson), answers (run the functions), compare, judge, explain (from answers to one sentence), replay
(print the failing input), student (files for learners), state, commands, cli (`ddpm course`); for instructors grade,
rules (for the text of a submission), process and worker (processes that run it), parcel (functions by value), limits,
report (what a class got wrong), export (nbgrader, otter).
Importing this package imports neither NumPy nor JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm.course.judge import Verdict

__all__ = ["checked", "require"]


def checked(number: str, *functions: Callable) -> Any:
    """Return the functions of exercise `number` if correct, else the reference; print one line.

    functions: in the lesson's order  ->  the one function, or a tuple of them
    """
    from ddpm.course import lesson as lessons
    from ddpm.course import load, state

    functions = tuple(map(learners, functions))
    result = verdict(number, functions)
    print(line(result))
    if result.passed:
        state.record_live(number, functions)
        chosen = list(functions)
    else:
        if result.kind != "todo":
            print(f"  A hint: `ddpm course hint {number}`. The lesson continues with the reference version.")
        reference = load.reference(number)
        chosen = [reference[name] for name in lessons.task(number).functions]
        for f, own in zip(chosen, functions, strict=True):
            setattr(f, "learners", own)  # noqa: B010  so that a second check is about this one
    return chosen[0] if len(chosen) == 1 else tuple(chosen)


def require(number: str, *functions: Callable, seed: int = 0) -> None:
    """Raise AssertionError with the sentence unless exercise `number` is correct: for graded notebooks."""
    result = verdict(number, tuple(map(learners, functions)), (seed, seed + 1, seed + 2))
    if not result.passed:
        raise AssertionError(line(result))


def learners(function: Callable) -> Callable:
    """Return the learner's function, even where the lesson continues with the reference."""
    return getattr(function, "learners", function)


def verdict(number: str, functions: tuple[Callable, ...], seeds: tuple[int, ...] | None = None) -> Verdict:
    """Judge functions that are defined already."""
    from ddpm.course import checks, judge, lesson

    names = lesson.task(number).functions
    if len(names) != len(functions):
        raise ValueError(
            f"exercise {number} asks for {len(names)} functions ({', '.join(names)}), not {len(functions)}"
        )
    answers = dict(zip(names, functions, strict=True))
    return judge.verdict(checks.find(number), answers, seeds or judge.SEEDS, Path())


def line(result: Verdict) -> str:
    """Format a verdict: `✓ 1.2`, or `✗ 1.2  what is wrong`, or `· 1.2  not written yet`."""
    mark = "✓" if result.passed else "·" if result.kind == "todo" else "✗"
    where = f"{result.function}: " if result.function and f"`{result.function}`" not in result.sentence else ""
    return f"{mark} {result.number}  {where}{result.sentence}".rstrip()
