"""A wrong answer is refused with every seed, so that a learner's check and a teacher's grade agree."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from ddpm.course import answers, checks, compare, explain, grade, judge, load, replay, student
from ddpm.course import lesson as lessons
from ddpm.course.part import Part

SEEDS = range(1000, 1030)
SLOW = {
    "2.5": 5,
    "15.1": 15,
    "16.4": 15,
    "16.6": 20,
    "20.3": 10,
    "20.4": 5,
}  # fewer seeds where the truth walks in Python
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


def of_two(second):
    """The second row made of the first."""

    def rows(key, n):
        x = jax.random.normal(key, (n,))
        return x, second(x, key)

    return rows


@pytest.mark.parametrize(
    "wrong, words",
    [
        (of_two(lambda x, key: np.roll(x, 7)), "another order"),
        (of_two(lambda x, key: jax.random.permutation(key, x)), "another order"),
        (of_two(lambda x, key: x * jax.random.rademacher(jax.random.fold_in(key, 1), x.shape)), "both rows"),
        (of_two(lambda x, key: x[::-1]), "another order"),
        (lambda key, n: (jax.random.normal(jax.random.key(3), (n,)), jax.random.normal(key, (n,))), "another key"),
        (lambda key, n: 3**0.5 * jax.random.uniform(key, (2, n), minval=-1), "fourth power"),
        (lambda key, n: tuple(jax.random.normal(k, (n, 1)) for k in jax.random.split(key)), "shape"),
    ],
)
def test_wrong_ways_to_draw_are_refused_by_their_property(wrong, words):
    result = judge.verdict(checks.find("0.1"), {"two_normals": lambda key, n: tuple(wrong(key, n))}, (5,))
    assert not result.passed and words in result.sentence


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: np.sin(x), "`np`"),
        (lambda x: float(x[0]), "float()"),
        (lambda x: x[x > 0], "true and false"),
        (lambda x: x if x[0] > 0 else -x, "`if`"),
    ],
)
def test_each_thing_that_jit_forbids_has_its_own_remedy(call, words):
    answer = answers.ask(lambda f, x: jax.jit(f)(x), [call], (np.ones(3),))
    assert words in explain.exception("`f`", answer, True)


def test_a_syntax_error_in_one_exercise_does_not_block_another():
    text = lessons.text_of(1).replace("def q_sample(", "def q_sample((")
    assert load.functions(text, "1.2")["q_step"](1.0, 0.0, 5.0) == 1.0
    with pytest.raises(ValueError, match=f"line {1 + text[: text.index('q_sample((')].count(chr(10))}"):
        load.functions(text, "1.3")
    with pytest.raises(ValueError, match="line 1"):  # not an exercise: perhaps the imports
        load.functions("import (\n" + text, "1.2")


def test_a_file_saved_as_utf_16_is_read_and_reset(tmp_path):
    file, right = tmp_path / "l01_forward.py", lessons.text_of(1)
    file.write_text(right, encoding="utf-16")
    assert lessons.read(file) == right
    assert student.reset(file, "1.1") == lessons.source(right, "alpha_bar")
    assert 'NotImplementedError("1.1")' in file.read_text(encoding="utf-8")


def test_no_cell_of_the_scores_is_a_formula():
    rows = {name: [judge.Verdict("1.1", False, "value", "no")] for name in ("=1+1", "@x", "ada")}
    assert [row.partition(",")[0] for row in grade.table(rows).splitlines()[1:]] == ["'=1+1", "'@x", "ada"]


def test_the_failing_input_can_be_replayed():
    """The text is Python: its input gives the answer below it, and the truth the expected one."""
    shown = replay.first_failure("1.1", {"alpha_bar": lambda beta: np.cumprod(1 - beta)})
    given, yours, right = re.split(r"# .*:\n", shown)
    scope = {"np": np}
    exec(given.partition("\n")[2], scope)
    assert np.allclose(np.cumprod(1 - scope["beta"]), eval(yours, scope))
    assert np.allclose(np.cumprod(np.append(1, 1 - scope["beta"])), eval(right, scope))
    assert not replay.first_failure("1.1", load.reference("1.1"))
    long = replay.first_failure("1.2", {"q_step": lambda x, b, e: x})
    exec(long.partition("\n")[2].partition("#")[0], scope)
    assert scope["x"].shape == scope["e"].shape == (3, 5, 7, 1)
    assert not replay.first_failure("0.4", {"times_traced": lambda: 6.0})  # a bet keeps its answer


@pytest.mark.parametrize(
    "given, wrong", [([True, False], [False, True]), ([1.0, 0.0], [1, 1]), ([1 + 0j, 0j], [1j, 1j])]
)
def test_answers_that_are_true_or_false_or_complex_are_compared(given, wrong):
    truth, band = np.array([True, False]), np.zeros(2)
    assert not compare.off(np.array(given), truth, band).any() and compare.off(np.array(wrong), truth, band).any()
