"""A wrong answer is refused with every seed, so that a learner's check and a teacher's grade agree."""

import dataclasses

import numpy as np
import pytest

from ddpm.course import answers, checks, compare, judge
from ddpm.course.part import Part

SEEDS = range(1000, 1030)
SLOW = {"2.5": 5, "15.1": 15, "15.7": 15, "15.9": 20}  # fewer seeds where the truth walks in Python
PARTS = [
    (e.number, i)
    for lesson in checks.lessons_with_checks()
    for e in checks.of_lesson(lesson).values()
    for i, p in enumerate(e.parts)
    if isinstance(p, Part) and p.kind in ("formula", "count", "spot-the-bug") and p.mistakes
]

# Wrong answers that once passed with some seeds: {exercise: [wrong, …]}
ACCEPTED_ONCE = {
    "1.2": [lambda x, b, e: np.sqrt(1 - max(b, 0.15)) * x + np.sqrt(max(b, 0.15)) * e],
    "1.3": [lambda x, a, e: np.sqrt(min(a, 0.9)) * x + np.sqrt(1 - min(a, 0.9)) * e],
    "1.1": [lambda beta: np.concatenate([[1.0], np.cumprod(1 - beta)]).astype(complex)],
    "15.2": [lambda a, u, c: abs(0.5 * np.trapezoid(u - c, np.log(a / (1 - a))))],
    "17.9": [lambda a, t: np.where(t > 1, a[t - 1], 1.0), lambda a, t: np.where(t > 0, a[np.maximum(t, 1) - 1], a[0])],
}


def accepted(number, place, wrong, expected):
    """The seeds with which a wrong answer passes."""
    part = dataclasses.replace(checks.find(number).parts[place], traceable=False)
    functions = [wrong] * len(part.names)
    passes = []
    for seed in expected:
        got = answers.collect(part, functions, (seed,), place)
        if all(compare.fits(a, w) for a, w in zip(got, expected[seed], strict=True)):
            passes.append(seed)
    return passes


def expected_of(number, place):
    """{seed: what is expected}"""
    part = dataclasses.replace(checks.find(number).parts[place], traceable=False)
    return {seed: judge.wanted(part, (seed,), place) for seed in SEEDS[: SLOW.get(number)]}


@pytest.mark.parametrize("number, place", PARTS)
def test_every_known_mistake_is_refused_with_every_seed(number, place):
    expected = expected_of(number, place)
    wrongs = [(m.sentence, m.wrong) for m in checks.find(number).parts[place].mistakes]
    wrongs += [("passed once", wrong) for wrong in ACCEPTED_ONCE.get(number, []) if place == 0]
    for sentence, wrong in wrongs:
        assert not accepted(number, place, wrong, expected), sentence
