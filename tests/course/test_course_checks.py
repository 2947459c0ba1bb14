"""The checks are checked: of every lesson that has them, without naming any."""

import ast
import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from ddpm.course import answers, checks, compare, judge, load, student
from ddpm.course import lesson as lessons
from ddpm.course.part import Part

LESSONS = checks.lessons_with_checks()
EXERCISES = [e for lesson in LESSONS for e in checks.of_lesson(lesson).values()]
PARTS = [(e, i) for e in EXERCISES for i, p in enumerate(e.parts) if isinstance(p, Part)]
MISTAKES = [(e, i, j) for e, i in PARTS for j in range(len(e.parts[i].mistakes))]
SEEDS = [judge.SEEDS, (7, 8, 9), (100, 200, 300)]


@pytest.fixture(autouse=True)
def broadcasting():
    """Learners may broadcast; only the library may not."""
    with jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def reference(number):
    return load.reference(number)


def name_of(case):
    exercise, *rest = case if isinstance(case, tuple) else (case,)
    return "-".join([exercise.number, *map(str, rest)])


def verdict_of(part, functions, seeds, place):
    return judge.judge(part, answers.collect(part, functions, seeds, place), seeds, place)


def test_every_exercise_has_a_check_and_every_check_an_exercise():
    assert LESSONS and set(LESSONS) <= set(lessons.files())
    for lesson in LESSONS:
        assert list(checks.of_lesson(lesson)) == [t.number for t in lessons.tasks(lessons.text_of(lesson))]
    without = [t.number for t in lessons.all_tasks().values() if t.lesson not in LESSONS]
    assert not without, f"exercises without a check: {without}"


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_all_functions_are_asked_about_and_there_are_hints(exercise):
    covered = {n for p in exercise.parts if isinstance(p, Part) for n in p.names}
    functions = lessons.task(exercise.number).functions
    assert covered == set(functions)
    assert not functions or any(p.mistakes for p in exercise.parts if isinstance(p, Part))
    assert len(exercise.hints) >= 2 or not functions
    answer = [row.strip() for row in lessons.solution(exercise.number).splitlines() if len(row.strip()) > 20]
    for hint in exercise.hints:
        assert not any(row in hint for row in answer)
        assert hint.endswith((".", "?", "!"))


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda s: f"seed{s[0]}")
@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_the_reference_passes(exercise, seeds):
    result = judge.verdict(exercise, reference(exercise.number), seeds)
    assert result.passed, result


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_every_stub_fails_as_not_written(exercise):
    text = student.text(lessons.task(exercise.number).lesson)
    result = judge.verdict(exercise, load.functions(text, exercise.number), (3,))
    assert not result.passed and result.kind == "todo", result


@pytest.mark.parametrize("case", PARTS, ids=name_of)
def test_nothing_is_no_answer(case):
    exercise, place = case
    part = exercise.parts[place]
    kind, _ = verdict_of(part, [lambda *args: None] * len(part.names), (3,), place)
    assert kind not in ("passed", "todo")


@pytest.mark.slow
@pytest.mark.parametrize("case", MISTAKES, ids=name_of)
def test_every_mistake_is_caught_by_its_own_name(case):
    exercise, place, j = case
    part = exercise.parts[place]
    mistake = part.mistakes[j]
    for seeds in SEEDS:
        kind, sentence = verdict_of(part, [mistake.wrong] * len(part.names), seeds, place)
        assert (kind, sentence) == ("mistake", mistake.sentence)
    assert len(mistake.sentence) <= 200 and mistake.sentence.endswith((".", "?", "!"))
    answer = [row.strip() for row in lessons.solution(exercise.number).splitlines() if len(row.strip()) > 20]
    assert not any(row.removeprefix("return ") in mistake.sentence for row in answer)


@pytest.mark.slow
@pytest.mark.parametrize("case", PARTS, ids=name_of)
def test_one_per_cent_off_is_wrong(case):
    exercise, place = case
    part = exercise.parts[place]
    if part.kind not in ("formula", "spot-the-bug", "count", "bitwise"):
        pytest.skip("its bands are its own")

    def off(f):
        def scaled(*args):
            out = f(*args)
            if isinstance(out, (tuple, list)):
                return tuple(1.01 * np.asarray(a) for a in out)
            return 1.01 * np.asarray(out)

        return scaled

    functions = [off(reference(exercise.number)[n]) for n in part.names]
    once = dataclasses.replace(part, traceable=False)
    try:
        kind, _ = verdict_of(once, functions, (3,), place)
    except TypeError:
        return  # not a number: nothing to scale
    if all(isinstance(want, str) for want in judge.wanted(once, (3,), place)):
        return  # a part that asks for refusals only
    assert kind != "passed"


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_truth_stands_apart(lesson):
    """No JAX, library or lesson where the truth is computed: those imports may only be inside a `run` or statistic."""
    file = Path(checks.__file__).parent / f"c{lesson:02d}.py"
    tree = ast.parse(file.read_text())
    allowed = {"__future__", "numpy", "math", "itertools", "functools", "collections", "statistics", "hashlib"}
    for node in tree.body:
        for module in [a.name for a in node.names] if isinstance(node, ast.Import) else []:
            assert module.partition(".")[0] in allowed, f"{file.name} imports {module}"
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in allowed or node.module == "ddpm.course.exercise"
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(m.startswith(("lessons", "ddpm")) and m != "ddpm.course.exercise" for m in modules)


@pytest.mark.parametrize("case", PARTS, ids=name_of)
def test_the_truth_never_calls_the_learner(case):
    """What is wanted is the same, to the bit, before and after functions that spoil whatever they are given."""
    exercise, place = case
    part = exercise.parts[place]

    def spoil(*args):
        for a in args:
            if isinstance(a, np.ndarray):
                a[...] = 0.0
        return None

    before = judge.wanted(part, (3,), place)
    answers.collect(part, [spoil] * len(part.names), (3,), place)
    after = judge.wanted(part, (3,), place)
    assert len(before) == len(after)
    for one, two in zip(before, after, strict=True):
        if isinstance(one, str):
            assert one == two
        else:
            assert all(np.array_equal(a, b, equal_nan=True) for (a, _), (b, _) in zip(one, two, strict=True))


@pytest.mark.parametrize("case", PARTS, ids=name_of)
def test_inputs_are_by_seed_several_and_plain(case):
    exercise, place = case
    part = exercise.parts[place]
    if part.kind == "prediction":
        return
    one, again, other = (answers.cases_of(part, s, place) for s in (3, 3, 4))
    assert len(one) >= 1 and repr(one) == repr(again)
    assert repr(one) != repr(other) or part.kind in ("count", "bitwise"), "the inputs do not depend on the seed"
    for argument in (a for inputs in one for a in inputs):
        if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
            assert np.all(np.isfinite(argument))


@pytest.mark.parametrize("lesson", sorted(lessons.files()))
def test_no_solution_in_a_learners_file(lesson):
    text = student.text(lesson)
    compile(text, f"l{lesson:02d}", "exec")
    assert "BEGIN SOLUTION" not in text and "END SOLUTION" not in text
    full = lessons.text_of(lesson)
    for task in lessons.tasks(full):
        for function in task.functions:
            stub = lessons.source(text, function)
            assert f'raise NotImplementedError("{task.number}")' in stub
            inside = False
            for row in lessons.source(full, function).splitlines():
                inside = (inside or row.strip() == lessons.BEGIN) and row.strip() != lessons.END
                if inside and len(row.strip()) > 12 and row.strip() != lessons.BEGIN:
                    assert row.strip() not in stub
                    assert text.count(row.strip()) <= outside(full, row.strip()), f"{task.number}: {row.strip()}"
        if task.functions:
            names = ", ".join(task.functions)
            assert f'{names} = checked("{task.number}", {names})' in text


def outside(full, row):
    """How often a line stands in the lesson outside the marks, where it is not a leak."""
    count, inside = 0, False
    for line in full.splitlines():
        inside = (inside or line.strip() == lessons.BEGIN) and line.strip() != lessons.END
        count += not inside and row in line
    return count


def test_a_mistake_that_gives_infinity_is_not_every_wrong_answer():
    """Its band is infinite too: only the same infinity is near it."""
    infinite, finite = (answers.answer_of(np.array([v, 1.0])) for v in (np.inf, 3.0))

    def band(v):
        return 0.01 * np.abs(v)

    assert compare.alike(infinite, infinite, band) and not compare.alike(finite, infinite, band)
    assert compare.alike(finite, finite, band) and not compare.alike(infinite, finite, band)
