"""Verdicts: compare answers with the truth, and name the mistake in one sentence.

Checked in this order: not written yet; a named mistake; else the sentence of `explain`. `collect` runs the learner's
code without access to the truth, `judge` knows the truth and runs no learner's code: the grader uses two processes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.course import limits
from ddpm.course.answers import Answer, cases_of, collect, locked
from ddpm.course.compare import Band, alike, fits
from ddpm.course.explain import explain, too_long
from ddpm.course.part import Artefact, Exercise, Figure, Part, exists

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Verdict:
    """The result of one exercise, and the sentence about it."""

    number: str
    passed: bool
    kind: str  # passed, todo, mistake, none, exception, shape, nan, value, load, time, forbidden, ...
    sentence: str
    function: str = ""


def wanted(part: Part, seeds: Sequence[int], place: int) -> list[Any]:
    """Compute the expected answers: for each case [(value, band)], or the name of an exception."""
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


def judge(part: Part, answers: list[Answer], seeds: Sequence[int], place: int) -> tuple[str, str]:
    """Judge one part: (kind, sentence), or ("passed", "")."""
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
    """Test whether the wrong formula gives the learner's answers, in every case."""
    guilty = collect(replace(part, traceable=False), [wrong] * len(part.names), seeds, place)
    if part.kind == "moments":  # draws with other keys have the same properties, within the standard errors
        wants = [[(np.zeros(1), np.zeros(1))] if isinstance(w, str) else w for w in wanted(part, seeds, place)]
        bands = [partial(wider, part.band, *w[0]) for w in wants]
        return len(answers) == len(guilty) == len(bands) and all(map(alike, answers, guilty, bands))
    return len(answers) >= len(guilty) and all(alike(a, g, part.band) for a, g in zip(answers, guilty, strict=False))


def wider(band: Band, truth: np.ndarray, error: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return a band that has room for other draws too: the error of a moment is in proportion to it."""
    with np.errstate(all="ignore"):
        size = np.where(truth == 0, 1.0, np.abs(value / truth))
    return band(value) + error * np.maximum(1, size)


def artefact(part: Artefact, folder: Path) -> tuple[str, str]:
    """Judge an artefact: measure its file again."""
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
        return "value", f"{part.what} is {value:.4g}; wanted: {part.low:.4g} to {part.high:.4g}."
    return "passed", f"{part.what}: {value:.4g}"


def verdict(
    exercise: Exercise,
    functions: dict[str, Callable],
    seeds: Sequence[int] = SEEDS,
    folder: Path = Path(),
    s: float = 10.0,
) -> Verdict:
    """Judge the parts in order, in this process; the first failure gives the verdict.

    s: seconds of processor time for each part
    """
    # Pictures are not graded; trained results are measured again
    for place, part in enumerate(exercise.parts):
        if isinstance(part, Figure):
            continue
        name = "" if isinstance(part, Artefact) else part.names[-1]
        if isinstance(part, Artefact):
            kind, sentence = artefact(part, folder)
        else:
            try:
                with limits.seconds(6 * s), limits.seconds(s, processor=True):  # a busy machine makes no check fail
                    answers = collect(part, [functions[n] for n in part.names], seeds, place)
            except limits.TooLong:
                kind, sentence = "time", too_long(name, s)
            else:
                kind, sentence = judge(part, answers, seeds, place)
        if kind != "passed":
            return Verdict(exercise.number, False, kind, sentence, name)
    return Verdict(exercise.number, True, "passed", "", "")
