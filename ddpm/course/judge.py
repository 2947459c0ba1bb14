"""From answers to one sentence: run the learner's functions, compare with the truth, and name the mistake.

In this order: not written yet; a mistake that has a name; nothing returned; an exception; the wrong shape; NaN; else
the worst entry and its relative error. `collect` runs the learner's code and knows no truth, `judge` knows the truth
and runs none of it: the grader calls them in two processes.
"""

from __future__ import annotations

import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.course import limits
from ddpm.course.exercise import Artefact, Exercise, Figure, Part, exists

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Answer:
    """What came out of one call: arrays, or an exception."""

    arrays: tuple[np.ndarray, ...] = ()
    several: str = ""  # "tuple" or "list", if it was one
    none: bool = False  # it, or a part of it, is None
    error: str = ""  # the exception's type
    message: str = ""
    line: int = 0  # of the learner's file


@dataclass(frozen=True)
class Verdict:
    """What to say about one exercise."""

    number: str
    passed: bool
    kind: str  # passed, todo, mistake, none, exception, shape, nan, value, load, time, forbidden, ...
    sentence: str
    function: str = ""


def answer_of(value: Any) -> Answer:
    """Any returned value as arrays."""
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
    """A number or array as a NumPy array; TypeError for anything else."""
    a = np.asarray(value)
    if a.dtype.kind not in "biufc":
        if a.dtype.name == "bfloat16":
            return a.astype(np.float32)
        raise TypeError(f"it returned a {type(value).__name__}; wanted are numbers or arrays of numbers")
    return a


def ask(run: Callable[..., Any], functions: Sequence[Callable], case: tuple) -> Answer:
    """One call, whatever happens in it."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return answer_of(run(*functions, *locked(case)))
    except (limits.TooLong, KeyboardInterrupt):
        raise
    except BaseException as e:
        return Answer(error=type(e).__name__, message=str(e), line=line_of(e, functions))


def locked(case: tuple) -> tuple:
    """Copies of the arrays that cannot be written to, so that no call spoils the next."""
    out = []
    for a in case:
        if isinstance(a, np.ndarray):
            a = a.copy()
            a.flags.writeable = False
        out.append(a)
    return tuple(out)


def line_of(e: BaseException, functions: Sequence[Callable]) -> int:
    """The deepest line of the traceback that is in the file of the learner's functions; 0 if none is."""
    names = {f.__code__.co_filename for f in functions if hasattr(f, "__code__")}
    lines = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename in names]
    return lines[-1] or 0 if lines else 0


def cases_of(part: Part, seed: int, place: int) -> list[tuple]:
    """The inputs of a part; the seed and the part's place in the exercise decide them."""
    return list(part.cases(np.random.default_rng([seed, place])))


def collect(part: Part, functions: Sequence[Callable], seeds: Sequence[int], place: int) -> list[Answer]:
    """All cases of all seeds in turn; at the end, where the lesson will trace the function, one call inside `jit`."""
    answers, run = [], on_device(part.run) if part.traceable else part.run
    for seed in seeds:
        for case in cases_of(part, seed, place):
            answers.append(ask(run, functions, case))
            if answers[-1].error == "NotImplementedError":
                return answers
    if part.traceable and not any(a.error for a in answers):
        answers.append(ask(traced(part.run), functions, cases_of(part, seeds[0], place)[0]))
    return answers


def on_device(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same call with JAX's arrays, as in the lesson: a NumPy array cannot be indexed inside `vmap`."""

    def moved(*args: Any) -> Any:
        import jax.numpy as jnp

        return run(*(jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args))

    return moved


def traced(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same call inside `jit`: arrays and floats are tracers, whole numbers stay what they are."""

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


Band = Callable[[np.ndarray], np.ndarray]


def wanted(part: Part, seeds: Sequence[int], place: int) -> list[Any]:
    """What `collect` should have found: for each case [(value, band)], or the name of an exception."""
    out: list[Any] = []
    for seed in seeds:
        for case in cases_of(part, seed, place):
            try:
                with np.errstate(all="ignore"):
                    out.append(part.expect(*locked(case)))
            except ValueError:
                out.append("ValueError")
    if part.traceable:
        out.append(out[0])
    return out


def fits(answer: Answer, want: Any) -> bool:
    """Is the answer what was wanted, within the bands?"""
    if isinstance(want, str) or answer.error or answer.none:
        return bool(answer.error) and answer.error == want
    arrays = arranged(answer, len(want))
    return len(arrays) == len(want) and all(
        a.shape == value.shape and not np.any(off(a, value, band))
        for a, (value, band) in zip(arrays, want, strict=True)
    )


def arranged(answer: Answer, n: int) -> tuple[np.ndarray, ...]:
    """The arrays as `n` things: a list is one array where one is wanted."""
    if n == 1 and answer.several == "list" and len({a.shape for a in answer.arrays}) == 1:
        return (np.stack(answer.arrays),)
    return answer.arrays


def off(a: np.ndarray, value: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Entries that are outside the band; NaN is, unless NaN was wanted; the same infinity is not."""
    with np.errstate(all="ignore"):
        near = np.abs(a - value) <= band
    return ~(near | (a == value) | (np.isnan(a) & np.isnan(value)))


def judge(part: Part, answers: list[Answer], seeds: Sequence[int], place: int) -> tuple[str, str]:
    """(kind, sentence) of one part; ("passed", "") if all is well."""
    if any(a.error == "NotImplementedError" for a in answers):
        return "todo", f"`{part.names[-1]}` is not written yet."
    want = wanted(part, seeds, place)
    wrong = [i for i, (a, w) in enumerate(zip(answers, want, strict=False)) if not fits(a, w)]
    if not wrong and len(answers) >= len(want) - part.traceable:
        return "passed", ""
    for mistake in part.mistakes:
        if same(part, answers, mistake.wrong, seeds, place):
            return "mistake", mistake.sentence
    first = wrong[0] if wrong else 0
    return explain(part, answers[first], want[first], in_jit=part.traceable and first == len(want) - 1)


def same(part: Part, answers: list[Answer], wrong: Callable, seeds: Sequence[int], place: int) -> bool:
    """Does the wrong formula give the learner's answers, in every case?"""
    guilty = collect(replace(part, traceable=False), [wrong] * len(part.names), seeds, place)
    return len(answers) >= len(guilty) and all(alike(a, g, part.band) for a, g in zip(answers, guilty, strict=False))


def alike(a: Answer, b: Answer, band: Band) -> bool:
    """Two answers are one and the same, an exception of the same type included."""
    if b.error or b.none:
        return (a.error, a.none) == (b.error, b.none)
    return fits(a, [(v, band(v)) for v in arranged(b, 1 if b.several == "list" else len(b.arrays))])


def explain(part: Part, answer: Answer, want: Any, in_jit: bool) -> tuple[str, str]:
    """A failed case for which there is no named mistake."""
    f = f"`{part.names[-1]}`"
    if answer.none:
        return "none", f"{f} returned nothing (None). Is there a `return`?"
    if answer.error:
        return "exception", exception(f, answer, in_jit)
    if isinstance(want, str):
        return "value", f"{f} accepted an input that it should refuse with a {want}."
    arrays = arranged(answer, len(want))
    if len(arrays) != len(want):
        return "shape", f"{f} returned {things(len(arrays))}; wanted: {things(len(want))}."
    for a, (value, _) in zip(arrays, want, strict=True):
        if a.shape != value.shape:
            return "shape", f"{f} returned the shape {a.shape}; wanted: {value.shape}."
    for a, (value, _) in zip(arrays, want, strict=True):
        if np.any(np.isnan(a) & ~np.isnan(value)):
            where = place_of(np.argmax(np.isnan(a) & ~np.isnan(value)), a.shape)
            return "nan", f"{f} returned NaN (not a number){where}: a root of something negative, or 0/0?"
    return "value", worst(part, f, arrays, want)


def things(n: int) -> str:
    """'one array', 'a tuple of 2'"""
    return "one array" if n == 1 else f"a tuple of {n}"


def place_of(flat: Any, shape: tuple[int, ...]) -> str:
    """' at [1, 2]', or nothing for a number."""
    return f" at {[int(i) for i in np.unravel_index(flat, shape)]}" if shape else ""


def exception(f: str, answer: Answer, in_jit: bool) -> str:
    """What the exception says, with the remedy where one is known."""
    message = answer.message.strip().split("\n")[0][:200]
    if "Tracer" in answer.error or (in_jit and "Tracer" in answer.message):
        return f"{f} works on NumPy arrays, but the lesson calls it inside `jit`: use `jnp` instead of `np`, no `if`."
    said = f"{f} stopped with {answer.error}: {message}" + (f" (line {answer.line})" if answer.line else "")
    if "read-only" in message:
        said += ". It changes its argument in place; make a new array instead"
    if answer.error == "NameError":
        said += (
            ". An exercise has its arguments, the imports and functions; other names exist only when the lesson runs"
        )
    return said.rstrip(".") + "."


def worst(part: Part, f: str, arrays: Sequence[np.ndarray], want: Any) -> str:
    """The entry that is furthest outside its band."""
    if part.secret:
        return f"{f}: not within the tolerance. Keep your guess in mind, run the lesson, and compare."
    found, total, bad = (-1.0, ""), 0, 0
    for k, (a, (value, band)) in enumerate(zip(arrays, want, strict=True)):
        outside = off(a, value, band)
        total, bad = total + a.size, bad + int(outside.sum())
        if not outside.any():
            continue
        with np.errstate(all="ignore"):
            ratio = np.where(outside, np.abs(a - value) / np.maximum(band, 1e-300), -1.0)
        i = int(np.nanargmax(np.where(np.isfinite(ratio), ratio, 1e300)))
        got, right = a.ravel()[i], value.ravel()[i]
        relative = f", relative error {abs(got - right) / abs(right):.2g}" if right and np.isfinite(right) else ""
        if part.kind == "moments":
            relative = f", allowed ± {np.ravel(band)[i]:.2g}"
        which = f", result {k + 1} of {len(arrays)}," if len(arrays) > 1 else ""
        if ratio.ravel()[i] > found[0]:
            found = (ratio.ravel()[i], f"{f}{which}{place_of(i, a.shape)} is {got:.6g}; expected {right:.6g}{relative}")
    route = " The two routes do not agree." if part.kind == "identity" else ""
    return f"{found[1]}. {bad} of {total} numbers are off.{route}"


def too_long(name: str, s: float) -> str:
    """The sentence for a loop."""
    return f"`{name}` did not finish in {s:g} s. Is there a loop that never ends?"


def artefact(part: Artefact, folder: Path) -> tuple[str, str]:
    """Measure the file again."""
    file = exists(folder, part)
    if file is None:
        return "todo", f"{part.file} is not there yet; run the lesson to make it."
    try:
        with zipfile.ZipFile(file) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > 2**30:
                raise ValueError("it is larger than 1 GB")
        with np.load(file, allow_pickle=False) as arrays:
            value = float(part.measure(dict(arrays)))
    except Exception as e:
        return "exception", f"{part.file} cannot be measured: {type(e).__name__}: {e}."
    if not part.low <= value <= part.high:
        return "value", f"{part.says} is {value:.4g}; wanted: {part.low:.4g} to {part.high:.4g}."
    return "passed", f"{part.says}: {value:.4g}"


def verdict(
    exercise: Exercise,
    functions: dict[str, Callable],
    seeds: Sequence[int] = SEEDS,
    folder: Path = Path(),
    s: float = 10.0,
) -> Verdict:
    """All parts in order, in this process; the first that fails speaks.   s: seconds for each part"""
    for place, part in enumerate(exercise.parts):
        if isinstance(part, Figure):
            continue
        name = "" if isinstance(part, Artefact) else part.names[-1]
        if isinstance(part, Artefact):
            kind, sentence = artefact(part, folder)
        else:
            try:
                with limits.seconds(s):
                    answers = collect(part, [functions[n] for n in part.names], seeds, place)
            except limits.TooLong:
                kind, sentence = "time", too_long(name, s)
            else:
                kind, sentence = judge(part, answers, seeds, place)
        if kind != "passed":
            return Verdict(exercise.number, False, kind, sentence, name)
    return Verdict(exercise.number, True, "passed", "", "")
