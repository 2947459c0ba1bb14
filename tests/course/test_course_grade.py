"""Grading: each submission gets its row, whatever it does, and none can hurt the others; exports run in the graders."""

import csv
import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from ddpm.course import (
    answers,
    checks,
    exercise,
    export,
    grade,
    judge,
    load,
    parcel,
    process,
    rules,
    student,
    worker,
)
from ddpm.course import lesson as lessons
from ddpm.course.cli import main
from ddpm.course.part import Part

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are those of Unix")
SEEDS = [7, 8, 9]
QUICK = process.Limits(seconds=1.0, memory=4.0)


def submission(folder, text=None, **bodies):
    """A lesson with its solutions, but for the bodies that are given."""
    folder.mkdir(parents=True, exist_ok=True)
    text = lessons.text_of(1) if text is None else text
    for name, body in bodies.items():
        head = lessons.source(text, name).split("\n")[0]
        text = text.replace(lessons.source(text, name), head + "\n    " + body.replace("\n", "\n    "))
    (folder / "l01_forward.py").write_text(text)
    return folder


def verdicts(folder, numbers=("1.1", "1.4", "1.6"), limits=QUICK, monkeypatch=None):
    """Those of some exercises that do without JAX."""
    monkeypatch.setattr(grade, "exercises_of", lambda lesson: list(numbers))
    return {v.number: v for v in grade.grade_lesson(folder, 1, SEEDS, limits, time.monotonic() + 200)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "body, kind, words",
    [
        ("return np.sqrt(alpha_bar_t / alpha_bar_s) * (1 - alpha_bar_s)", "passed", ""),
        ("return 1 - alpha_bar_s", "mistake", "variance at time s alone"),
        ("while True: pass", "time", "never ends"),
        ("return sum(range(10**12))", "crash", "did not finish"),  # in C, where the alarm is not heard
        ("import time\ntime.sleep(1e6)", "crash", "on the clock"),  # it needs no processor
        ("while True: print('x' * 10_000)", "crash", "printed more than 1 MB"),
        ("import os\nwhile True: os.fork()", "forbidden", "imports os"),
        ("from ddpm.course.checks import c01\nreturn c01.covariance(1, 1)", "forbidden", "ddpm.course"),
        ("import ddpm.course.checks.c01 as c\nreturn c.covariance(1, 1)", "forbidden", "ddpm.course"),
        ("return __import__('os').getpid()", "forbidden", "__import__"),
        ("return (1).__class__", "forbidden", "__class__"),
        ("return open('x', 'w')", "forbidden", "open"),
        ("np.save('x.npy', np.ones(3))", "forbidden", "open"),
        ("np.zeros(6 * 10**8)\nreturn 1", "exception", "MemoryError"),  # 4.8 GB, of 4
        ("raise SystemExit(0)", "exception", "SystemExit"),
        ("return np.zeros(10**7)", "forbidden", "32 MB"),
    ],
)
def test_whatever_one_exercise_does_the_others_are_graded(tmp_path, body, kind, words, monkeypatch):
    got = verdicts(submission(tmp_path / "ada", covariance=body), monkeypatch=monkeypatch)
    assert got["1.1"].passed and got["1.4"].passed
    assert got["1.6"].kind == kind and words in got["1.6"].sentence, got["1.6"]


def test_a_process_that_dies_costs_one_exercise(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "forbidden", lambda *args: "")
    crash = "pointer = np.ctypeslib.ctypes.POINTER(np.ctypeslib.ctypes.c_double)\n"
    crash += "return np.ctypeslib.as_array(np.ctypeslib.ctypes.cast(8, pointer), (5,)).sum()"
    got = verdicts(submission(tmp_path / "ada", alpha_bar=crash), monkeypatch=monkeypatch)
    assert not got["1.1"].passed and got["1.4"].passed and got["1.6"].passed
    assert "SIGSEGV" in got["1.1"].sentence or got["1.1"].kind == "forbidden"


def test_nothing_is_left_running(tmp_path):
    """A worker is ended with its session, also one that ignores the alarm."""
    folder = submission(tmp_path / "ada", alpha_bar="return sum(range(10**12))")
    (made,), _ = grade.jobs_of((folder / "l01_forward.py").read_text(), ["1.1"], "l01_forward.py", SEEDS)
    running = process.Worker([made], QUICK, str(tmp_path))
    time.sleep(1.0)
    running.kill()
    with pytest.raises(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIG_DFL)


def test_answers_cross_the_pipe_as_they_are_and_pickles_do_not():
    sent = [
        answers.Answer((np.arange(3.0), np.float32(2) * np.ones((1, 2))), "tuple"),
        answers.Answer(error="E", line=3),
    ]
    head, arrays = worker.frame("1.1", [sent])

    class Pipe(bytearray):
        def write(self, data):
            self.extend(data)

        def flush(self):
            pass

    pipe = Pipe()
    worker.send(pipe, head, arrays)
    ((back, body),) = process.frames(pipe)
    (got,) = process.unpack(back, body)
    assert got[1] == sent[1] and got[0].several == "tuple"
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(got[0].arrays, sent[0].arrays, strict=True))
    with pytest.raises(ValueError):
        worker.send(pipe, {}, [np.array([object()])])


CHEATS = {  # what the text rules do not see, because they are switched off here
    "load": "import ddpm.course.load as l\nreturn l.reference('1.6')['covariance'](alpha_bar_s, alpha_bar_t)",
    "expect": "from ddpm.course import checks\n"
    "return checks.find('1.6').parts[0].expect(alpha_bar_s, alpha_bar_t)[0][0]",
    "neighbour": "return float(open(NEIGHBOUR).read())",
    "folder": "import os\nreturn os.listdir(NEIGHBOUR_FOLDER)",
    "frames": "import sys\nf = sys._getframe()\n"
    "while f:\n    f.f_locals.get('caught', [''])[:] = []\n    f = f.f_back\nreturn open('x', 'w')",
    "thread": "import threading\nthreading.Thread(target=print).start()",
    "fork": "import os\nos.fork()",
    "process": "import subprocess\nsubprocess.run(['true'])",
    "network": "import socket\nsocket.socket().connect(('127.0.0.1', 9))",
    "swallowed": "try:\n    open('x', 'w')\nexcept BaseException:\n    pass\n"
    "return np.sqrt(alpha_bar_t / alpha_bar_s) * (1 - alpha_bar_s)",
}


def test_what_the_text_hides_is_refused_and_there_is_no_truth_to_find(tmp_path, monkeypatch):
    """One worker for all: a job each, without the rules for the text."""
    monkeypatch.setattr(rules, "forbidden", lambda *args: "")
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "l01.py").write_text("1.0")
    jobs = []
    for name, body in CHEATS.items():
        body = body.replace("NEIGHBOUR_FOLDER", repr(str(tmp_path / "bob")))
        body = body.replace("NEIGHBOUR", repr(str(tmp_path / "bob" / "l01.py")))
        text = (submission(tmp_path / name, covariance=body) / "l01_forward.py").read_text()
        made, _ = grade.job(text, "1.6", "l01_forward.py", SEEDS)
        jobs.append(dataclasses.replace(made, number=name))
    results, guilty, _ = process.run_worker(jobs, dataclasses.replace(QUICK, hidden=(str(tmp_path),)))
    assert guilty is None and {n: head.get("kind") for n, (head, _) in results.items()} == dict.fromkeys(
        CHEATS, "forbidden"
    )


@pytest.mark.parametrize("number", lessons.all_tasks())
def test_a_question_is_sent_without_its_answer(number):
    """Neither the truth nor a named mistake is among the functions that are sent."""
    made, _ = grade.job(lessons.text_of(lessons.task(number).lesson), number, "solution.py", SEEDS)
    sent = codes(pickle.loads(parcel.pack(made.questions)))
    kept = codes([(part.expect, part.mistakes) for part in checks.find(number).parts if isinstance(part, Part)])
    inputs = codes([q.cases for q in made.questions])
    assert not sent & kept - inputs - {identity_of(exercise.call)}
    assert all(np.array_equal(q.cases[0][0], answers.cases_of(p, 7, i)[0][0]) for i, (p, q) in asked(number, made))


def asked(number, made):
    """The parts that ask for an array, with the questions that are sent for them."""
    parts = [(i, part) for i, part in enumerate(checks.find(number).parts) if isinstance(part, Part)]
    pairs = [(i, (part, q)) for (i, part), q in zip(parts, made.questions, strict=True)]
    return [(i, (part, q)) for i, (part, q) in pairs if q.cases[0] and isinstance(q.cases[0][0], np.ndarray)]


def identity_of(function):
    return function.__code__.co_code, function.__code__.co_consts[1:], function.__code__.co_names


def codes(value, seen=None):
    """What all functions in a value compute, also in closures and among the names that they use."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, (np.ndarray, str, int, float)):
        return set()
    seen.add(id(value))
    if isinstance(value, types.FunctionType):
        inner = [value.__globals__[n] for n in parcel.names(value)] + [c.cell_contents for c in value.__closure__ or ()]
        return {identity_of(value)}.union(*(codes(v, seen) for v in inner))
    if dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    return set().union(*(codes(v, seen) for v in value)) if isinstance(value, (list, tuple)) else set()


@pytest.mark.parametrize(
    "body, words",
    [
        ("import ddpm\nreturn ddpm.course.load.reference('1.6')", "course"),
        ("return np.ctypeslib.as_array(1)", "ctypeslib"),
        ("return (lambda: (yield))().gi_frame.f_back", "f_back"),
        ("import random\nreturn random._os.getpid()", "_os"),
        ("import jax\njax.profiler.start_trace('x')", "profiler"),
        ("from jax import distributed\ndistributed.initialize()", "distributed"),
        ("return getattr(np, 'sq' + 'rt')(1)", "getattr"),
    ],
)
def test_ways_out_are_refused_in_the_text(tmp_path, body, words):
    text = (submission(tmp_path, covariance=body) / "l01_forward.py").read_text()
    with pytest.raises(rules.Forbidden, match=words):
        grade.job(text, "1.6", "l01_forward.py", SEEDS)


def test_an_exercise_is_graded_although_the_one_before_it_cannot_be_read(tmp_path, monkeypatch):
    """Exercise 1.3 is then the first that needs JAX, which lists folders as it starts: nothing that a learner did."""
    text = lessons.text_of(1).replace("def q_step(", "def q_step((")
    monkeypatch.syspath_prepend(str(tmp_path / "other"))  # a folder that nobody may list
    got = verdicts(submission(tmp_path, text), ("1.2", "1.3"), monkeypatch=monkeypatch)
    assert not got["1.2"].passed and "line" in got["1.2"].sentence and got["1.3"].passed, got


def test_the_librarys_own_answer_is_remarked_and_the_lessons_is_not(tmp_path):
    body = "from ddpm import forward\nreturn forward.covariance(alpha_bar_s, alpha_bar_t)"
    text = (submission(tmp_path, covariance=body) / "l01_forward.py").read_text()
    assert "library's ddpm.forward" in grade.job(text, "1.6", "l01_forward.py", SEEDS)[1]
    body = "import ddpm\nreturn ddpm.forward.covariance()"
    whole = (submission(tmp_path, covariance=body) / "l01_forward.py").read_text()
    assert "library's ddpm, which" in grade.job(whole, "1.6", "l01_forward.py", SEEDS)[1]
    nodes = load.closure(text, "1.6", "a.py")
    assert rules.remark(nodes, "a.py", []) and not rules.remark(nodes, "a.py", nodes)
    remarks = {n: grade.job(lessons.text_of(lessons.task(n).lesson), n, "a.py", SEEDS)[1] for n in lessons.all_tasks()}
    assert set(remarks.values()) == {""}
    passed = judge.Verdict("1.6", True, "passed", "It passes with the library's x.")
    assert "1.6: It passes with" in grade.table({"ada": [passed]})


def test_a_submission_has_its_time_and_then_the_rest_is_not_run(tmp_path):
    folder = submission(tmp_path / "ada")
    got = grade.grade_lesson(folder, 1, SEEDS, QUICK, until=time.monotonic() - 1)
    assert len(got) == 6 and all(v.kind == "time" and "more than 15 minutes" in v.sentence for v in got)


def test_an_exercise_that_is_given_anothers_solution_runs_alone():
    """Else it could keep that solution for the exercise which asks for it."""
    jobs, _ = grade.jobs_of(lessons.text_of(4), ["4.5", "4.6", "4.7"], "l04_train.py", SEEDS)
    assert [j.number for j in grade.together(jobs)] == ["4.5", "4.7"]
    assert [j.number for j in grade.together(jobs[1:2])] == ["4.6"]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_shows_no_files_but_pythons(tmp_path):
    """A process there, without hook and rules, finds neither the neighbour nor the truths nor the network."""
    cwd, bob = tmp_path / "cwd", tmp_path / "subs" / "bob"
    for folder in (cwd, bob):
        folder.mkdir(parents=True)
    command = process.isolated(str(cwd), (str(bob.parent),))
    code = "import os, sys, socket\n"
    code += "print(*(os.path.exists(p) and len(os.listdir(p)) for p in sys.argv[1:]), socket.if_nameindex())"
    places = [str(bob.parent), *process.TRUTHS, str(process.PACKAGE / "course")]
    done = subprocess.run([*command, sys.executable, "-I", "-c", code, *places], capture_output=True, text=True)
    *truths, package, network = done.stdout.split(" ", 4)
    assert not any(t.isdigit() and int(t) for t in truths) and int(package) > 9, done.stderr
    assert network.strip() in ("[]", "[(1, 'lo')]")


def test_isolate_without_bubblewrap_says_what_to_do(tmp_path, monkeypatch, capsys):
    submission(tmp_path / "subs" / "ada")
    monkeypatch.setenv("PATH", "")
    assert main(["grade", str(tmp_path / "subs"), "--isolate", "--out", str(tmp_path / "out")]) == 2
    assert "install bubblewrap" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_class_is_graded_to_csv_and_gradescope(tmp_path, capsys):
    subs = tmp_path / "subs"
    submission(subs / "ada")
    submission(subs / "bob", student.text(1))
    submission(subs / "eve", "this is (not Python\n" + lessons.text_of(1))
    submission(subs / "joe", q_step="return x_prev * np.sqrt(1 - beta_t) + beta_t * eps")
    (subs / "zoe").mkdir()
    (subs / os.fsdecode(b"caf\xe9")).mkdir()  # a name that is not UTF-8, and a file that is not a file
    os.mkfifo(subs / os.fsdecode(b"caf\xe9") / "l01_forward.py")
    out = tmp_path / "scores"
    assert main(["grade", str(subs), "--seed", "7", "--out", str(out), "--lessons", "1", "--seconds", "20"]) == 0
    rows = {row["student"]: row for row in csv.DictReader((out / "scores.csv").open())}
    assert {name: row["score"] for name, row in rows.items()} == {
        "ada": "6",
        "bob": "0",
        "eve": "0",
        "joe": "5",
        "zoe": "0",
        "caf?": "0",
    }
    assert all(row["of"] == "6" for row in rows.values()) and rows["joe"]["1.2"] == "0"
    assert "The image has its root, the noise has not" in rows["joe"]["remarks"]
    assert "not valid Python, line 1" in rows["eve"]["remarks"] and "Not handed in" in rows["zoe"]["remarks"]
    result = json.loads((out / "joe.json").read_text())
    assert result["score"] == 5 and len(result["tests"]) == 6
    assert sum(t["max_score"] for t in result["tests"]) == 6 and result["tests"][1]["status"] == "failed"


def test_the_report_counts_sentences_and_their_hints(tmp_path, capsys):
    """Two with one misconception after 1 and 3 hints, one with a wrong number, one who is right; names are text."""
    no = judge.Verdict("1.2", False, "mistake", "The image has its root, 1 < 2.")
    near = judge.Verdict("1.2", False, "value", "`q_step` at [0, 12] is 3.5; expected -2.")
    far = judge.Verdict("1.2", False, "value", "`q_step` at [3, 4] is 7; expected 1e-05.")
    right = judge.Verdict("1.2", True, "passed", "")
    for name, verdict, hints in (("=ada", no, 1), ("bob", no, 3), ("eve", near, 0), ("joe", far, 0), ("zoe", right, 2)):
        result = grade.gradescope([verdict], 1.0, {"1.2": {"hints": hints, "tries": "many"}})
        assert result["tests"][0]["extra_data"]["tries"] == 0
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    assert main(["report", str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert [(r["submissions"], r["hints"], r["sentence"], r["students"]) for r in rows] == [
        ("2", "2.0", "The image has its root, 1 < 2.", "'=ada bob"),
        ("2", "0.0", "`q_step` at […, …] is …; expected ….", "eve joe"),
    ]
    page = (tmp_path / "report.html").read_text()
    assert "1 of 5" in page and "root, 1 &lt; 2." in page and "http" not in page
    (tmp_path / "mine.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2 and "mine.json is not a result" in capsys.readouterr().err


def test_own_seeds_differ_by_name_and_come_again():
    assert grade.seeds_of(7, "ada", False) == [7, 8, 9] == grade.seeds_of(7, "bob", False)
    ada, bob, other = (grade.seeds_of(s, n, True) for s, n in ((7, "ada"), (7, "bob"), (8, "ada")))
    assert ada == grade.seeds_of(7, "ada", True) and len({*ada, *bob, *other}) == 9


@pytest.mark.slow
def test_one_of_each_and_the_class_is_graded(tmp_path):
    """A loop, a forbidden import, megabytes, a crash, an exit, a default that never ends, a million brackets."""
    crash = "p = np.ctypeslib.ctypes.POINTER(np.ctypeslib.ctypes.c_double)\n"
    crash += "return np.ctypeslib.as_array(np.ctypeslib.ctypes.cast(8, p), (5,)).sum()"
    bad = {
        "loop": {"alpha_bar": "while True: pass"},
        "imports": {"alpha_bar": "import socket\nreturn socket.gethostname()"},
        "prints": {"alpha_bar": "while True: print('x' * 100_000)"},
        "crash": {"alpha_bar": crash},
        "exits": {"alpha_bar": "raise SystemExit(0)"},
    }
    subs = tmp_path / "subs"
    for name, bodies in bad.items():
        submission(subs / name, **bodies)
    text = lessons.text_of(1)
    head = lessons.source(text, "alpha_bar").split("\n")[0]
    submission(subs / "default", text.replace(head, "def alpha_bar(beta, x=[i for i in iter(int, 1)]):"))
    submission(subs / "brackets", "x = " + "(" * 10**6 + "\n" + text)
    submission(subs / "good")
    args = ["--out", str(tmp_path / "out"), "--lessons", "1", "--seconds", "4"]
    assert main(["grade", str(subs), *args]) == 0
    rows = {row["student"]: row for row in csv.DictReader((tmp_path / "out" / "scores.csv").open())}
    assert set(rows) == {*bad, "default", "brackets", "good"}
    assert rows["good"]["score"] == "6" and rows["brackets"]["score"] == "0"
    for name in (*bad, "default"):
        assert rows[name]["score"] == "5" and rows[name]["1.1"] == "0", rows[name]
        assert len(rows[name]["remarks"]) < 500


def test_a_submission_that_breaks_the_grader_itself_gets_its_row(tmp_path, monkeypatch):
    submission(tmp_path / "subs" / "ada")
    monkeypatch.setattr(grade, "grade_lesson", lambda *args: 1 / 0)
    assert main(["grade", str(tmp_path / "subs"), "--out", str(tmp_path / "out"), "--lessons", "1"]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "scores.csv").open())
    assert row["score"] == "0" and "cannot be graded (ZeroDivisionError" in row["remarks"]


def test_a_memorised_answer_fails_with_the_graders_seed():
    """Whoever returns what the learner's seed wants is right there, and wrong with the teacher's."""
    part = checks.find("1.1").parts[0]
    known = {
        len(case[0]): answer
        for case, answer in zip(answers.cases_of(part, 0, 0), judge.wanted(part, (0,), 0), strict=True)
    }

    def memorised(beta):
        return known[len(beta)][0][0]

    assert judge.judge(part, answers.collect(part, [memorised], (0,), 0), (0,), 0)[0] == "passed"
    assert judge.judge(part, answers.collect(part, [memorised], (7,), 0), (7,), 0)[0] == "value"


# ------------------------------------------------------------------------------------------- nbgrader and otter


@pytest.mark.parametrize("to", ["nbgrader", "otter"])
@pytest.mark.parametrize("lesson", sorted(lessons.files()))
def test_exported_notebooks_are_valid_and_hold_every_exercise(lesson, to):
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.reads(export.notebook(lesson, to, 7), as_version=4)
    sources = [c.source for c in book.cells]
    code = [c.source for c in book.cells if c.cell_type == "code"]
    assert code[0] == student.install("") and code[1] == "from ddpm.course import checked, require"
    address = "git+https://example.org/course.git"
    book_ = nbformat.reads(export.notebook(lesson, to, 7, address), as_version=4)
    assert next(c.source for c in book_.cells if c.cell_type == "code") == student.install(address)
    assert "- ddpm" not in export.environment("") and f'- "{address}"' in export.environment(address)
    for task in lessons.tasks(lessons.text_of(lesson)):
        names = ", ".join(task.functions)
        assert sources.count(f'require("{task.number}", {names}, seed=7)') == 1
    if to == "nbgrader":
        ids = [c.metadata.nbgrader.grade_id for c in book.cells if "nbgrader" in c.metadata]
        assert len(ids) == len(set(ids)) and not any("." in i for i in ids)
        assert sum(c.metadata.nbgrader.get("points", 0) for c in book.cells if "nbgrader" in c.metadata) == len(
            lessons.tasks(lessons.text_of(lesson))
        )
    else:
        raw = [c.source.split("\n")[0] for c in book.cells if c.cell_type == "raw"]
        assert (
            raw.count("# BEGIN QUESTION") == raw.count("# END QUESTION") == len(lessons.tasks(lessons.text_of(lesson)))
        )


def graders_python(module):
    """The interpreter that has the grader: DDPM_GRADERS_PYTHON, or this one."""
    python = os.environ.get("DDPM_GRADERS_PYTHON", sys.executable)
    if subprocess.run([python, "-c", f"import {module}, jax, ddpm"], capture_output=True).returncode:
        pytest.skip(f"{module} is not installed (the extra `graders` has it; or set DDPM_GRADERS_PYTHON)")
    return python


def in_graders(python, *args, cwd):
    root = str(Path(lessons.FOLDER).parent)
    env = os.environ | {
        "DDPM_BUDGET": "smoke",
        "PYTHONPATH": root,
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run([python, "-m", *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_nbgrader_gives_the_solution_all_points_and_the_stub_none(tmp_path):
    python = graders_python("nbgrader")
    in_graders(python, "ddpm.cli", "course", "export", "--to", "nbgrader", "--out", ".", "--lessons", "1", cwd=tmp_path)
    in_graders(python, "nbgrader", "generate_assignment", "l01_forward", cwd=tmp_path)
    name = "l01_forward/l01_forward.ipynb"
    assert "BEGIN SOLUTION" not in (tmp_path / "release" / name).read_text()
    for student_, origin in (("ada", "source"), ("bob", "release")):
        target = tmp_path / "submitted" / student_ / name
        target.parent.mkdir(parents=True)
        target.write_text((tmp_path / origin / name).read_text())
    in_graders(python, "nbgrader", "autograde", "l01_forward", cwd=tmp_path)
    in_graders(python, "nbgrader", "export", cwd=tmp_path)
    rows = {row["student_id"]: row for row in csv.DictReader((tmp_path / "grades.csv").open())}
    assert (float(rows["ada"]["score"]), float(rows["bob"]["score"])) == (6, 0)
    assert float(rows["ada"]["max_score"]) == 6


@pytest.mark.slow
def test_otter_gives_the_solution_all_points_and_the_stub_none(tmp_path):
    python = graders_python("otter")
    in_graders(python, "ddpm.cli", "course", "export", "--to", "otter", "--out", ".", "--lessons", "1", cwd=tmp_path)
    folder = tmp_path / "l01_forward"
    in_graders(python, "otter", "assign", "l01_forward.ipynb", "dist", "--no-run-tests", cwd=folder)
    archive = str(next((folder / "dist" / "autograder").glob("*.zip")))
    for part, points in (("autograder", 6), ("student", 0)):
        (folder / f"of_{part}").mkdir()
        notebook = f"dist/{part}/l01_forward.ipynb"
        assert part == "autograder" or "BEGIN SOLUTION" not in (folder / notebook).read_text()
        in_graders(python, "otter", "run", "-a", archive, notebook, "-o", f"of_{part}", cwd=folder)
        tests = json.loads((folder / f"of_{part}" / "results.json").read_text())["tests"]
        assert sum(t.get("score", 0) for t in tests) == points


def test_the_reference_is_loaded_afresh_each_time():
    """So that a function that a learner has changed in place is not the next one's reference."""
    assert load.reference("1.1")["alpha_bar"] is not load.reference("1.1")["alpha_bar"]
