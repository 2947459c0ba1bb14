"""The course: lessons with exercises that check themselves.

In a lesson of yours (`ddpm course init DIR` writes them):

    q_sample = checked("1.3", q_sample)    # says what is wrong, and goes on with the reference version if something is

The map: lesson (the text), load (definitions only), part and exercise (what is asked, and the kinds of it), checks (the
questions of each lesson), answers (run the functions), compare, judge, explain (from answers to one sentence), student
(files for learners), state, commands, cli (`ddpm course`); for instructors grade, process and worker (one process for
each submission), limits, export (nbgrader, otter).
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
    """The functions of exercise `number` if they are right, else the reference's; prints one line.

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
            print(f"  A hint: `ddpm course hint {number}`. The lesson goes on with the reference version.")
        reference = load.reference(number)
        chosen = [reference[name] for name in lessons.task(number).functions]
        for f, own in zip(chosen, functions, strict=True):
            setattr(f, "learners", own)  # noqa: B010  so that asking again asks about this one
    return chosen[0] if len(chosen) == 1 else tuple(chosen)


def require(number: str, *functions: Callable, seed: int = 0) -> None:
    """AssertionError with the sentence, unless exercise `number` is right: for notebooks that others grade."""
    result = verdict(number, tuple(map(learners, functions)), (seed, seed + 1, seed + 2))
    if not result.passed:
        raise AssertionError(line(result))


def learners(function: Callable) -> Callable:
    """The learner's function, where the lesson has gone on with the reference's under its name."""
    return getattr(function, "learners", function)


def verdict(number: str, functions: tuple[Callable, ...], seeds: tuple[int, ...] | None = None) -> Verdict:
    """The verdict on functions that exist already."""
    from ddpm.course import checks, judge, lesson

    names = lesson.task(number).functions
    if len(names) != len(functions):
        raise ValueError(
            f"exercise {number} asks for {len(names)} functions ({', '.join(names)}), not {len(functions)}"
        )
    answers = dict(zip(names, functions, strict=True))
    return judge.verdict(checks.find(number), answers, seeds or judge.SEEDS, Path())


def line(result: Verdict) -> str:
    """`✓ 1.2`, or `✗ 1.2  what is wrong`, or `· 1.2  not written yet`."""
    mark = "✓" if result.passed else "·" if result.kind == "todo" else "✗"
    where = f"{result.function}: " if result.function and f"`{result.function}`" not in result.sentence else ""
    return f"{mark} {result.number}  {where}{result.sentence}".rstrip()
