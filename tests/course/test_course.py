"""The course as a learner uses it: lessons as text, definitions only, one sentence for a mistake, and the commands."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ddpm.course import (
    answers,
    checked,
    checks,
    classroom,
    commands,
    exercise,
    judge,
    learners,
    load,
    require,
    state,
    student,
)
from ddpm.course import lesson as lessons
from ddpm.course.cli import main

SOLVED = {
    "alpha_bar": "    return np.concatenate([[1.0], np.cumprod(1 - beta)])",
    "q_step": "    return jnp.sqrt(1 - beta_t) * x_prev + beta_t * eps",
}


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A learner's folder, and we stand in it."""
    assert main(["init", str(tmp_path / "mine")]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


def write(file, **bodies):
    """Put bodies into the functions of a learner's file."""
    text = file.read_text()
    for name, body in bodies.items():
        old = lessons.source(text, name)
        head = old[: old.index('"""', old.index('"""') + 3) + 3]
        text = text.replace(old, f"{head}\n{body}")
    file.write_text(text)


def printed(capsys, *args):
    status = main(list(args))
    out = capsys.readouterr()
    return status, out.out + out.err


# ------------------------------------------------------------------------------------------- verdicts


def simple(truth=lambda x: 2 * x, mistakes=None, **options):
    """An exercise with one formula."""
    return exercise.formula(
        "f", truth, lambda rng: [(rng.normal(size=s),) for s in ((3, 2), (1,))], mistakes, **options
    )


def ask(part, *functions):
    return judge.judge(part, answers.collect(part, functions, (0, 1), 0), (0, 1), 0)


def test_a_right_answer_passes_in_either_precision():
    assert ask(simple(), lambda x: x + x) == ("passed", "")
    assert ask(simple(), lambda x: np.float32(2) * x.astype(np.float32)) == ("passed", "")
    assert ask(simple(), lambda x: jax.numpy.asarray(x) * 2) == ("passed", "")


def not_written(x):
    raise NotImplementedError


def in_place(x):
    x *= 2
    return x


def divides(x):
    return 1 // 0


@pytest.mark.parametrize(
    "wrong, kind, words",
    [
        (not_written, "todo", "not written"),
        (lambda x: 3 * x, "mistake", "You tripled"),
        (lambda x: None, "none", "return"),
        (lambda x: (2 * x, None), "none", "return"),
        (divides, "exception", "ZeroDivisionError"),
        (in_place, "exception", "in place"),
        (lambda x: "two", "exception", "str"),
        (lambda x: undefined, "exception", "the imports and functions"),  # noqa: F821
        (lambda x: (2 * x).ravel()[:1], "shape", "(3, 2)"),
        (lambda x: (2 * x)[None], "shape", "(1, 3, 2)"),
        (lambda x: (2 * x, 2 * x), "shape", "tuple of 2"),
        (lambda x: 2 * x * np.where(x == x.max(), np.nan, 1), "nan", "NaN"),
        (lambda x: 2 * x + (x == x.max()), "value", "1 of 6"),
    ],
)
def test_each_failure_has_its_sentence(wrong, kind, words):
    got, sentence = ask(simple(mistakes={"You tripled.": lambda x: 3 * x}), wrong)
    assert got == kind and words in sentence


def test_the_worst_entry_and_its_relative_error_are_shown():
    part = exercise.formula("f", lambda x: x, lambda rng: [(np.array([[1.0, 2.0], [3.0, 4.0]]),)])
    _, sentence = ask(part, lambda x: x * np.array([[1, 1.5], [1, 1.25]]))
    assert "at [0, 1] is 3; expected 2, relative error 0.5" in sentence and "2 of 4" in sentence


@pytest.mark.parametrize("convert", [bool, int, float])
def test_a_mask_that_is_wrong_in_one_place_is_answered_in_any_type(convert):
    """NumPy neither subtracts booleans nor prints them as numbers."""
    part = exercise.count("f", lambda n: np.eye(n, dtype=bool), lambda rng: [(3,)])
    wrong = np.eye(3)
    wrong[2, 1] = 1
    kind, sentence = ask(part, lambda n: wrong.astype(convert))
    assert kind == "value" and "at [2, 1] is 1; expected 0" in sentence and "1 of 9" in sentence


def test_numpy_in_a_derivative_is_told_apart_from_numpy_in_jit():
    part = exercise.gradient("f", np.exp, lambda rng: [(rng.normal(size=3),)])
    assert ask(part, jax.numpy.exp)[0] == "passed"
    kind, sentence = ask(part, np.exp)
    assert kind == "exception" and "differentiates `f`" in sentence and "`jnp`" in sentence and "jit" not in sentence


def test_an_exception_names_the_line_of_the_learners_file():
    text = student.text(1).replace("    # TODO 1.2: one line\n", "    return x_prev / eps.nothing\n")
    line = 1 + text[: text.index("eps.nothing")].count("\n")
    result = judge.verdict(checks.find("1.2"), load.functions(text, "1.2", "l01_forward.py"))
    assert result.kind == "exception" and f"(line {line})" in result.sentence


def test_a_mistake_counts_only_if_all_cases_agree_and_an_exception_can_be_one():
    refusing = exercise.formula("f", refuse_negative, lambda rng: [(1.0,), (-1.0,)], {"Never refuses.": lambda x: x})
    assert ask(refusing, refuse_negative) == ("passed", "")
    assert ask(refusing, lambda x: x) == ("mistake", "Never refuses.")
    kind, sentence = ask(refusing, lambda x: x if x < 0 else 2 * x)
    assert kind == "value" and "expected 1" in sentence
    kind, sentence = ask(refusing, lambda x: x if x > 0 else 7.0)
    assert kind == "value" and "refuse" in sentence


def refuse_negative(x):
    if x < 0:
        raise ValueError
    return x


def test_numpy_inside_jit_is_named():
    part = simple(traceable=True)
    assert ask(part, lambda x: 2 * x)[0] == "passed"
    kind, sentence = ask(part, lambda x: np.multiply(2, x))
    assert kind == "exception" and "jnp" in sentence


def test_where_the_lesson_traces_the_arrays_are_jaxs():
    def look_up(a, t):
        return jax.vmap(lambda i: a[i])(t)  # which a NumPy array refuses

    def cases(rng):
        return [(rng.normal(size=9), rng.integers(0, 9, 4))]

    part = exercise.formula("f", lambda a, t: a[t], cases, {"Backwards.": lambda a, t: a[-t]}, traceable=True)
    assert ask(part, look_up)[0] == "passed"
    assert ask(part, lambda a, t: look_up(a, -t)) == ("mistake", "Backwards.")


def test_a_loop_without_end_is_stopped():
    def loops(x):
        while True:
            pass

    result = judge.verdict(exercise.exercise("1.1", simple()), {"f": loops}, s=0.3)
    assert result.kind == "time" and "never ends" in result.sentence


# ------------------------------------------------------------------------------------------- kinds


def test_an_identity_sees_routes_that_part():
    part = exercise.identity(("f", "g"), lambda f, g, x: g(f(x)), lambda x: x, lambda rng: [(rng.normal(size=5),)])
    assert ask(part, np.exp, np.log)[0] == "passed"
    kind, sentence = ask(part, np.exp, np.log1p)
    assert kind == "value" and "two routes" in sentence


def test_moments_pass_inside_six_standard_errors_and_fail_outside():
    n = 4000

    def statistic(f, seed):
        return np.mean(f(np.random.default_rng(seed).normal(size=n)))

    part = exercise.moments(
        "f", statistic, lambda seed: (1.0, 1 / np.sqrt(n)), lambda rng: [(int(rng.integers(2**31)),) for _ in range(4)]
    )
    assert ask(part, lambda z: 1 + z)[0] == "passed"
    assert ask(part, lambda z: 1.0 + z + 3 / np.sqrt(n))[0] == "passed"  # three standard errors: not to be told apart
    kind, sentence = ask(part, lambda z: 1 + z + 12 / np.sqrt(n))
    assert kind == "value" and "allowed ±" in sentence


@pytest.mark.parametrize("value, named", [(4.3, True), (4.6, False), (1.1, False)])
def test_draws_of_a_mistake_have_an_error_in_proportion_to_its_moment(value, named):
    """The truth 1 is known to ± .06, so another draw of a mistake that gives 4.2 lies within ± .25."""
    part = exercise.moments("draw", lambda f: f(), lambda: (1.0, 0.01), lambda rng: [()], {"Too wide.": lambda: 4.2})
    kind, sentence = ask(part, lambda: value)
    assert (kind == "mistake") == named == (sentence == "Too wide.") and kind != "passed"


def test_counts_and_bits_are_exact():
    def cases(rng):
        return [(int(n),) for n in rng.integers(3, 90, 4)]

    counts = exercise.count("f", lambda n: n + 1, cases, {"One too few.": lambda n: n})
    assert ask(counts, lambda n: n + 1)[0] == "passed"
    assert ask(counts, lambda n: n) == ("mistake", "One too few.")
    assert ask(counts, lambda n: n + 1 + 1e-9)[0] == "value"
    bits = exercise.bitwise("f", lambda n: np.sqrt(n), cases)
    assert ask(bits, lambda n: np.sqrt(n))[0] == "passed"
    assert ask(bits, lambda n: np.nextafter(np.sqrt(n), 9))[0] == "value"


def test_a_gradient_is_compared_with_finite_differences():
    part = exercise.gradient(
        "f",
        lambda x, a: np.sum(np.sin(a * x)),
        lambda rng: [(rng.normal(size=(2, 3)), 1.5)],
        {"The gradient is stopped.": lambda x, a: jax.lax.stop_gradient(jax.numpy.sin(a * x).sum())},
    )
    assert ask(part, lambda x, a: jax.numpy.sin(a * x).sum())[0] == "passed"
    assert ask(part, lambda x, a: jax.numpy.sin(x).sum() * a)[0] == "value"
    assert ask(part, lambda x, a: jax.lax.stop_gradient(jax.numpy.sin(a * x).sum())) == (
        "mistake",
        "The gradient is stopped.",
    )


def test_a_prediction_is_graded_by_distance_and_keeps_the_answer_to_itself():
    part = exercise.prediction("f", (0.998, 0.854), 0.03, {"Not both.": (1.0, 1.0)})
    assert ask(part, lambda: (1.0, 0.85))[0] == "passed"
    assert ask(part, lambda: (1.0, 1.0)) == ("mistake", "Not both.")
    kind, sentence = ask(part, lambda: (0.5, 0.5))
    assert kind == "value" and "854" not in sentence and "998" not in sentence and "±0.03" in sentence


def test_an_artefact_is_measured_again_and_a_figure_is_never_graded(tmp_path):
    def loss(arrays):
        return float(np.mean(arrays["x"] ** 2))

    wanted = exercise.exercise("1.1", exercise.artefact("a.npz", loss, 0, 0.5, "the loss"), exercise.figure("a.png"))
    assert judge.verdict(wanted, {}, folder=tmp_path).kind == "todo"
    np.savez(tmp_path / "a.npz", x=np.ones(4), loss=np.zeros(1))  # what it claims does not count
    result = judge.verdict(wanted, {}, folder=tmp_path)
    assert result.kind == "value" and "the loss is 1; wanted: 0 to 0.5" in result.sentence
    np.savez(tmp_path / "a.npz", x=np.full(4, 0.1))
    assert judge.verdict(wanted, {}, folder=tmp_path).passed
    np.savez(tmp_path / "a.npz", x=np.array([object()], dtype=object), allow_pickle=True)
    assert judge.verdict(wanted, {}, folder=tmp_path).kind == "exception"
    outside = exercise.exercise("1.1", exercise.artefact("../a.npz", loss, 0, 1, "the loss"))
    (tmp_path / "in").mkdir()
    assert judge.verdict(outside, {}, folder=tmp_path / "in").kind == "todo"


# ------------------------------------------------------------------------------------------- definitions only


def test_only_definitions_are_executed(tmp_path):
    mark = tmp_path / "ran"
    text = student.text(1).replace("def alpha_bar(beta):", "def alpha_bar(beta):\n    return helper(SIZE)\n", 1)
    text = f"open({str(mark)!r}, 'w')\nSIZE = (1, 2)\nraise SystemExit\n\ndef helper(x):\n    return x\n" + text
    assert load.functions(text, "1.1")["alpha_bar"](None) == (1, 2)
    assert not mark.exists()


def test_an_earlier_mistake_spoils_no_later_answer():
    text = student.text(1).replace(
        "def covariance(", "def covariance(alpha_bar_s, alpha_bar_t):\n    return q_sample\n\n\ndef old("
    )
    x0 = np.ones(3)
    q_sample = load.functions(text, "1.6")["covariance"](1, 1)  # 1.3 is a stub in this file
    assert np.allclose(q_sample(x0, 0.25, x0), 0.5 + np.sqrt(0.75))


def test_a_file_that_is_not_python_says_so_with_its_line():
    with pytest.raises(ValueError, match=r"mine.py is not valid Python, line 2: `y = \(`"):
        load.functions("x = 1\ny = (\n", "1.1", "mine.py")
    with pytest.raises(ValueError, match="no function `alpha_bar`"):
        load.functions("x = 1\n", "1.1", "mine.py")


def test_source_is_found_in_text_that_is_not_valid():
    text = "def f(\n    x,\n):\n    return (x\n\n\ndef g(y):\n    return y\nz = 1\n"
    assert lessons.source(text, "f") == "def f(\n    x,\n):\n    return (x"
    assert lessons.source(text, "g") == "def g(y):\n    return y" and lessons.source(text, "h") is None


def test_the_fingerprint_is_of_the_code_not_of_its_words():
    one = 'def f(x):\n    """a"""\n    return x+1\n'
    assert lessons.fingerprint(one, ["f"]) == lessons.fingerprint("def f(x):\n    return x + 1  # b\n", ["f"])
    assert lessons.fingerprint(one, ["f"]) != lessons.fingerprint("def f(x):\n    return x + 2\n", ["f"])


# ------------------------------------------------------------------------------------------- in a lesson


def test_checked_goes_on_with_the_reference_and_still_asks_about_the_learners(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def alpha_bar(beta):
        return np.cumprod(1 - beta)

    going_on = checked("1.1", alpha_bar)
    assert "✗ 1.1" in (out := capsys.readouterr().out) and "The clean image is missing" in out
    assert np.allclose(going_on(np.array([0.5])), [1, 0.5]) and learners(going_on) is alpha_bar
    checked("1.1", going_on)
    assert "✗ 1.1" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="The clean image is missing"):
        require("1.1", going_on)
    right = lessons_reference = load.reference("1.1")["alpha_bar"]
    assert checked("1.1", right) is lessons_reference
    assert capsys.readouterr().out == "✓ 1.1\n"
    with pytest.raises(ValueError, match="2 functions"):
        checked("1.5", right)


# ------------------------------------------------------------------------------------------- commands


def test_a_learners_way(course, capsys):
    file = course / "l01_forward.py"
    capsys.readouterr()
    status, out = printed(capsys, "next")
    first = next(iter(lessons.all_tasks().values()))
    assert f"Exercise {first.number} - {first.title}" in out and f"TODO {first.number}: " in out and ".py:" in out
    assert "So a key must be used *once*" in out and "ddpm course hint" in out
    status, out = printed(capsys, "check", "1.1")
    assert status == 1 and out.startswith("· 1.1  `alpha_bar` is not written yet.\n  line: l01_forward.py:")

    write(file, **SOLVED)
    status, out = printed(capsys, "check", "1.1")
    assert status == 0 and out.startswith("✓ 1.1") and "The reference" in out and f"Next: {first.number} - " in out
    status, out = printed(capsys, "check", "1.2", "--show")
    assert status == 1 and "The image has its root, the noise has not" in out
    assert "x_prev, beta_t, eps = replay.case('1.2', 0, 0, 0)\n# `q_step` gives:\n" in out and "# expected:\n" in out
    status, out = printed(capsys, "status")
    assert "✓1.1  ✗1.2  ·1.3" in out and "1/6" in out and f"1 of {len(lessons.all_tasks())} have passed" in out

    hints = checks.find("1.2").hints
    for i, hint in enumerate(hints):
        assert f"Hint {i + 1} of {len(hints)}: {hint}" in printed(capsys, "hint", "1.2")[1]
    assert "last one" in printed(capsys, "hint", "1.2")[1]
    status, out = printed(capsys, "solution", "1.2")
    assert status == 2 and "--give-up" in out
    assert "jnp.sqrt(beta_t) * eps" in printed(capsys, "solution", "1.2", "--give-up")[1]
    assert "np.cumprod" in printed(capsys, "solution", "1.1")[1]
    kept = json.loads((course / state.NAME).read_text())
    assert kept["1.2"]["gave_up"] and kept["1.2"]["hints"] == len(hints) and kept["1.2"]["tries"] == 1


def test_an_edit_withdraws_the_tick_and_a_comment_does_not(course, capsys):
    file = course / "l01_forward.py"
    write(file, **SOLVED)
    printed(capsys, "check", "1.1")
    file.write_text(file.read_text().replace("np.cumprod(1 - beta)])", "np.cumprod(1 - beta)])  # so"))
    assert "✓1.1" in printed(capsys, "status")[1]
    file.write_text(file.read_text().replace("np.cumprod(1 - beta)", "np.cumprod(2 - beta)"))
    assert "~1.1" in printed(capsys, "status")[1]
    printed(capsys, "check", "1.1")
    assert "✗1.1" in printed(capsys, "status")[1]


def test_reset_puts_the_stub_back_and_keeps_the_code(course, capsys):
    file = course / "l01_forward.py"
    before = file.read_text()
    write(file, **SOLVED)
    assert main(["reset", "1.1"]) == 0 and main(["reset", "1.2"]) == 0
    assert file.read_text() == before
    assert SOLVED["alpha_bar"] in (course / "old_answers.py").read_text()


def test_init_overwrites_nothing(course, capsys):
    file = course / "l01_forward.py"
    file.write_text("mine")
    (course / "l02_schedules.py").unlink()
    assert main(["init", str(course)]) == 0
    assert "1 lessons written" in capsys.readouterr().out
    assert file.read_text() == "mine" and (course / "l02_schedules.py").exists()


@pytest.mark.parametrize(
    "args, words",
    [
        (["check", "1.77"], "1.1, 1.2"),
        (["check", "15.4"], "16.1 now"),
        (["check", "seven"], "no exercise"),
        (["hint", "99.1"], "no exercise"),
        (["grade", "nowhere"], "not a folder"),
        (["export", "--to", "otter", "--lessons", "99"], "there is none"),
    ],
)
def test_errors_are_one_line(course, capsys, args, words):
    capsys.readouterr()
    status, out = printed(capsys, *args)
    assert status == 2 and words in out and out.count("\n") == 1


def test_without_a_course_there_is_a_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out = printed(capsys, "status")
    assert status == 2 and "ddpm course init" in out
    (tmp_path / state.NAME).write_text("{")
    status, out = printed(capsys, "status")
    assert status == 2 and "damaged" in out


def test_without_a_command_one_is_told_where_one_is(course, capsys, tmp_path, monkeypatch):
    capsys.readouterr()
    assert "·1.1  ·1.2" in printed(capsys)[1]
    assert main(["init"]) == 0 and not (course / "course").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([])
    assert "ddpm course init DIR" in " ".join(capsys.readouterr().out.split())


def test_watch_checks_what_is_saved(course, capsys, monkeypatch):
    file, rounds = course / "l01_forward.py", iter(range(9))

    def save(_):
        if next(rounds) == 1:
            write(file, **SOLVED)

    monkeypatch.setattr(commands.time, "sleep", save)
    capsys.readouterr()
    commands.watch(course, rounds=3)
    out = capsys.readouterr().out
    assert "✓ 1.1" in out and "✗ 1.2" in out and "1.3" not in out


def test_quick_commands_import_neither_numpy_nor_jax(course):
    write(course / "l01_forward.py", **SOLVED)
    code = (
        "import sys, resource\n"
        "from ddpm.cli.start import main\n"
        "args = sys.argv[1:]\n"
        "main(['course', *args])\n"
        "print(sorted({'jax', 'numpy', 'matplotlib', 'flax'} & set(sys.modules)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
    )

    def run(*args):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
        modules, seconds = done.stdout.splitlines()[-2:]
        return modules, float(seconds)

    for command in (["status"], ["next"]):
        modules, seconds = run(*command)
        assert modules == "[]" and seconds < 0.6  # of this processor; the promise of .2 s is for an idle one
    assert run("hint", "1.2")[0] == "['numpy']"
    assert run("check", "1.1")[0] == "['numpy']"


# ------------------------------------------------------------------------------------------- notebooks and wheels


def test_a_notebook_is_a_course_file_too(tmp_path, monkeypatch, capsys):
    pytest.importorskip("jupytext")
    assert main(["init", str(tmp_path), "--notebooks"]) == 0
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "l01_forward.ipynb"
    book = json.loads(file.read_text())
    sources = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    assert "raise ImportError" in sources[0] and not any("BEGIN SOLUTION" in s for s in sources)
    for c in book["cells"]:
        c["source"] = "".join(c["source"]).replace(
            '    # TODO 1.1: one line\n    raise NotImplementedError("1.1")', SOLVED["alpha_bar"]
        )
    file.write_text(json.dumps(book))
    assert printed(capsys, "check", "1.1")[0] == 0
    assert "✓1.1" in printed(capsys, "status")[1]
    assert main(["reset", "1.1"]) == 0 and "TODO 1.1" in file.read_text()


@pytest.mark.parametrize("lesson", sorted(lessons.files()))
def test_every_lesson_is_a_notebook_with_stubs_and_an_install_cell(lesson):
    pytest.importorskip("jupytext")
    import nbformat

    text = student.notebook(lesson, "https://example.org/ddpm.whl")
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    code = [c.source for c in book.cells if c.cell_type == "code"]
    assert code[0].endswith('%pip install --quiet "https://example.org/ddpm.whl"')
    assert not any(line.lstrip().startswith("%") for source in code[1:] for line in source.splitlines())
    for source in code[1:]:
        compile(source, "a cell", "exec")
    for task in lessons.tasks(lessons.text_of(lesson)):
        names = ", ".join(task.functions)
        assert code.count(f'{names} = checked("{task.number}", {names})') == 1
        assert text.count(f'raise NotImplementedError(\\"{task.number}\\")') >= len(task.functions)
    assert lessons.BEGIN not in text and text == student.notebook(lesson, "https://example.org/ddpm.whl")


def test_the_first_cell_never_installs_a_package_by_its_name(monkeypatch):
    """The name `ddpm` on the public index is another project."""
    lines = student.install("").splitlines()
    assert not any("pip" in line for line in lines if not line.startswith("#"))
    exec("\n".join(lines))  # here the package is installed
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="ask your teacher for its address or its wheel"):
        exec("\n".join(lines))
    for source in ("git+https://example.org/a/course.git@v1", "dist/a-0.2.0-py3-none-any.whl", "a.whl", "../course"):
        assert student.install(source).endswith(f'%pip install --quiet "{source}"')
    for source in ("ddpm", "ddpm[course]", 'a"/b', "a\\/b"):
        with pytest.raises(ValueError, match="public index"):
            student.install(source)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The package as a wheel, built here without the network."""
    pytest.importorskip("hatchling")
    root, folder = Path(lessons.FOLDER).parent, tmp_path_factory.mktemp("wheel")
    if not (root / "pyproject.toml").exists():
        pytest.skip("this is an installed package already")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*build, "-w", str(folder), str(root)], check=True, capture_output=True)
    return next(folder.glob("ddpm_jax-*.whl"))


RUN = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()
print("".join(o.get("text", "") for c in book.cells for o in c.get("outputs", [])))
"""


@pytest.mark.slow
def test_a_students_notebook_runs_in_a_clean_environment(tmp_path, wheel):
    """A venv that knows what this package needs but not the package: the first cell installs it from the wheel.

    With nothing written: every exercise says so, and the lesson continues to its picture.
    """
    for module in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(module)
    venv, folder = tmp_path / "venv", tmp_path / "mine"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True)
    python = venv / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, here = (subprocess.check_output([p, "-c", where], text=True).strip() for p in (str(python), sys.executable))
    (Path(own) / "needs.pth").write_text(here + "\n")  # as a plain folder: an editable install there is not followed
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MPLBACKEND")}
    env |= {"DDPM_BUDGET": "smoke", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "JUPYTER_PATH": str(tmp_path)}
    missing = subprocess.run([python, "-c", "import ddpm"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'ddpm'" in missing.stderr

    folder.mkdir()
    (folder / "l01_forward.ipynb").write_text(student.notebook(1, str(wheel)))
    args = [python, "-c", RUN, "l01_forward.ipynb"]
    done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"· {t.number}" in done.stdout for t in lessons.tasks(lessons.text_of(1)))
    assert (folder / "out" / "l01.png").exists() and (Path(own) / "ddpm" / "course").is_dir()


@pytest.mark.slow
def test_a_students_script_runs_with_a_wrong_answer(course):
    write(course / "l01_forward.py", **SOLVED)
    env = os.environ | {"DDPM_BUDGET": "smoke", "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "l01_forward.py"], cwd=course, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "✓ 1.1" in done.stdout and "✗ 1.2" in done.stdout and "· 1.3" in done.stdout
    assert "✓1.1" not in done.stdout and json.loads((course / state.NAME).read_text())["1.1"]["passed"]


@pytest.mark.slow
def test_the_course_works_from_a_wheel(tmp_path, wheel):
    """Built here, unpacked elsewhere, used without the repository and without the network."""
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    there = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
    code = there + "from ddpm.cli.start import main; sys.exit(main())"

    def run(*args, cwd=tmp_path):
        return subprocess.run([sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True)

    assert run("course", "init", "mine").returncode == 0
    write(tmp_path / "mine" / "l01_forward.py", **SOLVED)
    done = run("course", "check", "1.1", cwd=tmp_path / "mine")
    assert done.returncode == 0 and "✓ 1.1" in done.stdout
    assert "✓1.1" in run("course", "status", cwd=tmp_path / "mine").stdout
    wanted = there + "from ddpm.course import lesson; print(lesson.FOLDER)"
    place = subprocess.run([sys.executable, "-c", wanted], capture_output=True, text=True, cwd=tmp_path)
    assert place.stdout.strip() == str(tmp_path / "site" / "lessons")


# ------------------------------------------------------------------------------------------- GitHub Classroom


def test_the_template_for_classroom_has_a_step_worth_a_point_for_each_exercise(tmp_path, monkeypatch, capsys):
    yaml = pytest.importorskip("yaml")
    address = "git+https://example.org/x/ddpm"
    classroom.write(tmp_path, [1, 9], address)
    job = yaml.safe_load((tmp_path / ".github/workflows/classroom.yml").read_text())["jobs"]["exercises"]
    graded = [step for step in job["steps"] if "command-grader" in step.get("uses", "")]
    numbers = [t.number for t in lessons.all_tasks().values() if t.lesson in (1, 9)]
    assert [step["with"]["command"] for step in graded] == [f"ddpm course check {n}" for n in numbers]
    assert sum(step["with"]["max-score"] for step in graded) == len(numbers)
    report = job["steps"][-1]
    assert report["with"]["runners"].split(",") == [step["id"] for step in graded]
    for step in graded:  # the reporter looks for the result of each runner under this name
        assert report["env"][f"{step['id'].upper()}_RESULTS"] == f"${{{{steps.{step['id']}.outputs.result}}}}"
    assert sum(address in str(step) for step in job["steps"]) == 1
    # The folder is a course with stubs, whose check fails and says so
    assert "NotImplementedError" in (tmp_path / "l01_forward.py").read_text() and state.find(tmp_path) == tmp_path
    with pytest.raises(ValueError, match="is there already"):
        classroom.write(tmp_path, [1], address)


@pytest.mark.parametrize("source, words", [("", "source is empty"), ("ddpm", "bare name")])
def test_the_template_needs_an_address_of_the_package(tmp_path, source, words):
    with pytest.raises(ValueError, match=words):
        classroom.write(tmp_path, [1], source)
    assert not list(tmp_path.iterdir())
