"""Grade a folder of submissions: each exercise of each lesson, in processes that cannot hurt each other.

A worker gets the learner's statements, the questions and their inputs, and sends the answers back (process.py); it
never has the truth, and this module makes the verdict. A worker that hangs, prints without end or dies costs its
submission one exercise: the next worker continues with the rest. Results: scores.csv, and for each submission a JSON
file in the format of Gradescope.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ddpm.course import checks, judge, load, rules, state
from ddpm.course import lesson as lessons
from ddpm.course.answers import cases_of
from ddpm.course.judge import Verdict
from ddpm.course.part import Artefact, Part
from ddpm.course.process import Limits, isolated, run_worker, unpack
from ddpm.course.rules import Forbidden
from ddpm.course.worker import Job, Question

if TYPE_CHECKING:
    from ddpm.course.options import Grade

PARSING = Lock()  # Python 3.11 cannot make syntax trees in two threads at once


def decide(number: str, head: dict[str, Any], body: bytes, seeds: list[int], folder: Path, limits: Limits) -> Verdict:
    """Make the verdict from one frame."""
    exercise = checks.find(number)
    if "failed" in head:
        names = lessons.task(number).functions
        sentence = judge.too_long(names[-1], limits.seconds) if head["kind"] == "time" else str(head["sentence"])
        return Verdict(number, False, str(head["kind"]), sentence)
    answers = iter(unpack(head, body))
    for place, part in enumerate(exercise.parts):
        if isinstance(part, Part):
            kind, sentence = judge.judge(part, next(answers), seeds, place)
        elif isinstance(part, Artefact):
            kind, sentence = judge.artefact(part, folder)
        else:
            continue
        if kind != "passed":
            return Verdict(number, False, kind, sentence)
    return Verdict(number, True, "passed", "")


def exercises_of(lesson: int) -> list[str]:
    """List the exercises of a lesson that have checks."""
    return [n for n in lessons.all_tasks() if lessons.task(n).lesson == lesson and n in checks.of_lesson(lesson)]


def job(text: str, number: str, name: str, seeds: list[int]) -> tuple[Job, str]:
    """Make the job of one exercise, and the remark on it; `Forbidden` or ValueError if it is not run."""
    task = lessons.task(number)
    nodes = load.closure(text, number, name)
    shipped = load.closure(lessons.text_of(task.lesson), number, name)
    if reason := rules.forbidden(nodes, name, shipped):
        raise Forbidden(reason)
    questions = [
        Question(part.names, part.run, [c for seed in seeds for c in cases_of(part, seed, place)], part.traceable)
        for place, part in enumerate(checks.find(number).parts)
        if isinstance(part, Part)
    ]
    return Job(number, task.functions, nodes, name, questions), rules.remark(nodes, name, shipped)


def jobs_of(text: str, numbers: list[str], name: str, seeds: list[int]) -> tuple[list[Job], dict[str, Any]]:
    """Make the jobs of a lesson.   ->  (jobs, {number: a verdict if it is not run, else the remark})"""
    jobs: list[Job] = []
    notes: dict[str, Any] = {}
    for number in numbers:
        try:
            made, notes[number] = job(text, number, name, seeds)
            jobs.append(made)
        except Forbidden as e:
            notes[number] = Verdict(number, False, "forbidden", f"Not run: {e}.")
        except ValueError as e:
            notes[number] = Verdict(number, False, "load", str(e)[:500])
    return jobs, notes


def together(jobs: list[Job]) -> list[Job]:
    """Choose the jobs of the next worker; one that is given another exercise's solution is alone in it."""
    return [j for j in jobs if all(file == j.name for _, file in j.nodes)] or jobs[:1]


def grade_lesson(folder: Path, lesson: int, seeds: list[int], limits: Limits, until: float) -> list[Verdict]:
    """Grade all exercises of one lesson of one submission."""
    # The file of the lesson
    numbers = exercises_of(lesson)
    try:
        file = state.file_of(folder, lesson)
        if file.is_symlink() or file.stat().st_size > 2**24:
            raise ValueError(f"{file.name} is a link or larger than 16 MB")
        text = lessons.read(file)
    except (ValueError, OSError) as e:
        sentence = str(e) if "16 MB" in str(e) or "notebook" in str(e) else "Not handed in."
        return [Verdict(n, False, "missing", sentence) for n in numbers]
    # One worker after another, until every exercise has its verdict
    with PARSING:
        jobs, notes = jobs_of(text, numbers, file.name, seeds)
    verdicts: dict[str, Verdict] = {n: v for n, v in notes.items() if isinstance(v, Verdict)}
    while left := [j for j in jobs if j.number not in verdicts]:
        if time.monotonic() > until:
            late = f"Not run: the submission took more than {limits.total / 60:g} minutes."
            verdicts |= {j.number: Verdict(j.number, False, "time", late) for j in left}
            break
        batch = together(left)
        try:
            results, guilty, why = run_worker(batch, limits, until)
        except ValueError as e:
            results, guilty, why = {}, batch[0].number, f"sent something that cannot be read ({e})"
        for number in [j.number for j in batch if j.number in results]:
            head, body = results[number]
            try:
                verdicts[number] = decide(number, head, body, seeds, folder, limits)
            except Exception as e:  # the frame was tampered with
                verdicts[number] = Verdict(number, False, "crash", f"The answer cannot be read ({type(e).__name__}).")
        # The exercise that ended the worker has failed
        remaining = [j.number for j in batch if j.number not in verdicts]
        if remaining:
            number = guilty if guilty in remaining else remaining[0]
            verdicts[number] = Verdict(number, False, "crash", f"The code {why or 'sent no answer'}.")
    return [replace(v, sentence=notes[v.number]) if v.passed else v for v in map(verdicts.__getitem__, numbers)]


def row(folder: Path, lesson: int, seeds: list[int], limits: Limits, until: float) -> list[Verdict]:
    """Run `grade_lesson` and catch any error, so that the other submissions get their rows."""
    try:
        return grade_lesson(folder, lesson, seeds, limits, until)
    except Exception as e:
        return [
            Verdict(n, False, "crash", f"It cannot be graded ({type(e).__name__}: {e}).") for n in exercises_of(lesson)
        ]


def submissions(folder: Path) -> list[Path]:
    """List the submissions in `folder` by name; `folder` itself if it holds lessons."""
    if not folder.is_dir():
        raise ValueError(f"submissions: {folder} is not a folder; give one that holds a folder for each student")
    if any(folder.glob("l[0-9][0-9]_*.py")) or any(folder.glob("l[0-9][0-9]_*.ipynb")):
        return [folder]
    found = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not found:
        raise ValueError(
            f"submissions: there are no folders in {folder}; give one that holds a folder for each student"
        )
    return found


def gradescope(verdicts: list[Verdict], seconds: float, history: state.State) -> dict[str, Any]:
    """Convert one submission to the results.json of Gradescope.   history: the learner's own state, as handed in"""
    tests = []
    for v in verdicts:
        name = f"{v.number} {lessons.task(v.number).title}"
        status = "passed" if v.passed else "failed"
        tests.append({"name": name, "number": v.number, "score": int(v.passed), "max_score": 1, "status": status})
        kept = history.get(v.number, {})
        extra = {"kind": v.kind, "gave_up": kept.get("gave_up") is True}
        extra |= {k: kept[k] if isinstance(kept.get(k), int) else 0 for k in ("hints", "tries")}
        tests[-1] |= {"output": v.sentence or "Right.", "extra_data": extra}
    score = sum(v.passed for v in verdicts)
    return {"score": score, "execution_time": round(seconds, 1), "output_format": "text", "tests": tests}


def history_of(folder: Path) -> state.State:
    """Read the tries and hints that a submission brings with it, if it does."""
    try:
        file = folder / state.NAME
        return {} if file.is_symlink() or file.stat().st_size > 2**20 else state.load(folder)
    except (ValueError, OSError, RecursionError):
        return {}


def seeds_of(seed: int, student: str, own: bool) -> list[int]:
    """Choose the three seeds of a submission; with `own` they come from the seed and the name."""
    if own:
        seed = int(hashlib.sha256(f"{seed}/{student}".encode("utf-8", "replace")).hexdigest()[:7], 16)
    return [seed, seed + 1, seed + 2]


def table(rows: dict[str, list[Verdict]]) -> str:
    """Format scores.csv: a row per submission, a column per exercise (1 or 0), then the messages."""
    numbers = [v.number for v in next(iter(rows.values()))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "score", "of", *numbers, "remarks"])
    for student, verdicts in rows.items():
        student = no_formula(student)
        remarks = " | ".join(f"{v.number}: {v.sentence}" for v in verdicts if v.sentence)
        remarks = no_formula(" ".join(remarks.split()))
        writer.writerow(
            [student, sum(v.passed for v in verdicts), len(verdicts), *(int(v.passed) for v in verdicts), remarks]
        )
    return text.getvalue()


def no_formula(cell: str) -> str:
    """Put a ' before a cell that a spreadsheet would compute."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def main(config: Grade) -> None:
    """Grade, write, and print the table."""
    from ddpm.tools.files import write_atomic

    # Validation
    if os.name != "posix":
        raise ValueError("grade needs the process limits of Linux or macOS; use it there, or in a container")
    if min(config.seconds, config.minutes, config.memory, config.jobs) <= 0 or config.seed < 0:
        raise ValueError("seconds, minutes, memory and jobs have to be positive, and seed not negative")
    # Submissions, lessons, seeds and limits
    folders = submissions(config.submissions)
    chosen = [n for n in lessons.files() if checks.of_lesson(n) and (not config.lessons or n in config.lessons)]
    if not chosen:
        raise ValueError(f"lessons: none of {config.lessons} has checks; there are {checks.lessons_with_checks()}")
    hidden = (str(config.submissions.resolve()), str(config.out.resolve()))
    limits = Limits(config.seconds, config.memory, total=60 * config.minutes, hidden=hidden, isolate=config.isolate)
    if config.isolate:
        isolated("", ())  # is bubblewrap there?

    # All lessons of one submission
    def one(folder: Path) -> tuple[list[Verdict], float]:
        start = time.monotonic()
        seeds = seeds_of(config.seed, folder.name, config.own_seeds)
        until = start + limits.total
        return [v for n in chosen for v in row(folder, n, seeds, limits, until)], time.monotonic() - start

    # Several submissions at once; a JSON file for each
    rows: dict[str, list[Verdict]] = {}
    with ThreadPoolExecutor(config.jobs) as pool:
        graded = tqdm(zip(folders, pool.map(one, folders), strict=True), total=len(folders), unit="submission")
        for folder, (verdicts, seconds) in graded:
            name = (folder.name or folder.resolve().name).encode("utf-8", "replace").decode()
            rows[name] = verdicts
            result = json.dumps(gradescope(verdicts, seconds, history_of(folder)), indent=1, ensure_ascii=False) + "\n"
            write_atomic(config.out / f"{name}.json", result.encode())
    write_atomic(config.out / "scores.csv", table(rows).encode())
    for name, verdicts in rows.items():
        print(f"{name:30.30} {sum(v.passed for v in verdicts)}/{len(verdicts)}")
    print(f"{config.out / 'scores.csv'}, and a JSON file for each submission")
    print(f"  ddpm course report {config.out}    # what went wrong, by exercise: a page and a table")
