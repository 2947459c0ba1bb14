"""Collect the answers of the learner's functions on the inputs of a part, errors included.

This module has no access to the truth: the grader calls `collect` in one process, and `judge` in another.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm.course import limits
from ddpm.course.part import Part


@dataclass(frozen=True)
class Answer:
    """The outcome of one call: arrays, or an exception."""

    arrays: tuple[np.ndarray, ...] = ()
    several: str = ""  # "tuple" or "list", if the function returned one
    none: bool = False  # the result, or a part of it, is None
    error: str = ""  # the exception's type
    message: str = ""
    line: int = 0  # of the learner's file


def answer_of(value: Any) -> Answer:
    """Convert any returned value to arrays."""
    if value is None:
        return Answer(none=True)
    if isinstance(value, (tuple, list)):
        if any(v is None for v in value):
            return Answer(none=True)
        try:
            arrays = tuple(plain(v) for v in value)
        except TypeError:
            arrays = (plain(value),)
        return Answer(arrays, "list" if isinstance(value, list) else "tuple")
    return Answer((plain(value),))


def plain(value: Any) -> np.ndarray:
    """Convert a number or array to a NumPy array; TypeError for anything else."""
    a = np.asarray(value)
    if a.dtype.kind not in "biufc":
        if a.dtype.name == "bfloat16":
            return a.astype(np.float32)
        raise TypeError(f"it returned a {type(value).__name__}; wanted are numbers or arrays of numbers")
    return a


def ask(run: Callable[..., Any], functions: Sequence[Callable], case: tuple) -> Answer:
    """Call the functions once and record the result or the exception."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return answer_of(run(*functions, *locked(case)))
    except (limits.TooLong, KeyboardInterrupt):
        raise
    except BaseException as e:
        return Answer(error=type(e).__name__, message=str(e), line=line_of(e, functions))


def locked(case: tuple) -> tuple:
    """Copy the arrays as read-only ones, so that no call changes the inputs of the next."""
    out = []
    for a in case:
        if isinstance(a, np.ndarray):
            a = a.copy()
            a.flags.writeable = False
        out.append(a)
    return tuple(out)


def line_of(e: BaseException, functions: Sequence[Callable]) -> int:
    """Find the deepest traceback line in the learner's file; 0 if there is none."""
    names = {f.__code__.co_filename for f in functions if hasattr(f, "__code__")}
    lines = [line for frame, line in traceback.walk_tb(e.__traceback__) if frame.f_code.co_filename in names]
    return lines[-1] or 0 if lines else 0


def cases_of(part: Part, seed: int, place: int) -> list[tuple]:
    """Generate the inputs of a part from the seed and the part's place in the exercise."""
    return list(part.cases(np.random.default_rng([seed, place])))


def collect(part: Part, functions: Sequence[Callable], seeds: Sequence[int], place: int) -> list[Answer]:
    """Run all cases of all seeds of a part."""
    cases = [case for seed in seeds for case in cases_of(part, seed, place)]
    return gather(part.run, functions, cases, part.traceable)


def gather(
    run: Callable[..., Any], functions: Sequence[Callable], cases: Sequence[tuple], traceable: bool
) -> list[Answer]:
    """Run all cases; at the end the first one again inside `jit`, if the lesson traces the function."""
    answers, call = [], on_device(run) if traceable else run
    for case in cases:
        answers.append(ask(call, functions, case))
        if answers[-1].error == "NotImplementedError":
            return answers
    if traceable and not any(a.error for a in answers):
        answers.append(ask(traced(run), functions, cases[0]))
    return answers


def on_device(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make the call with JAX arrays, as in the lesson: NumPy arrays cannot be indexed inside `vmap`."""

    def moved(*args: Any) -> Any:
        import jax.numpy as jnp

        return run(*(jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args))

    return moved


def traced(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make the call inside `jit`: arrays and floats are tracers, whole numbers stay concrete."""

    def jitted(*args: Any) -> Any:
        import jax

        moving = [i for i, a in enumerate(args) if isinstance(a, (np.ndarray, float))]

        def inside(*values: Any) -> Any:
            full = list(args)
            for i, value in zip(moving, values, strict=True):
                full[i] = value
            return run(*full)

        return jax.jit(inside)(*(args[i] for i in moving))

    return jitted
