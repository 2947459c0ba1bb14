"""What a class got wrong: from the files of `grade` to a page and a table.

A row is one sentence about one exercise: a misconception that has a name, or how an answer went wrong. It counts the
submissions, and tells how many hints they had looked at by then.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ddpm.course import lesson as lessons
from ddpm.course.grade import no_formula

STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .2rem .6rem; vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } tr + tr td { border-top: 1px solid #ddd; }
.bar { background: #ddd; width: 12rem; } .bar div { background: #3b7; height: .8rem; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } tr + tr td { border-color: #444; }
  .bar { background: #444; } }
"""


@dataclass(frozen=True)
class Row:
    """One sentence about one exercise, and who got it."""

    number: str
    kind: str  # mistake, value, shape, exception, time, …
    sentence: str
    students: tuple[str, ...]
    hints: tuple[int, ...]  # that each had looked at


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the results of all submissions in a folder of `grade`: {student: tests}."""
    if not folder.is_dir():
        raise ValueError(f"scores: {folder} is not a folder; give the one that `ddpm course grade` has written")
    results = {}
    for file in sorted(folder.glob("*.json")):
        try:
            results[file.stem] = [t for t in json.loads(file.read_text(encoding="utf-8"))["tests"] if t["number"]]
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(f"scores: {file} is not a result of `ddpm course grade` ({type(e).__name__})") from None
    if not results:
        raise ValueError(f"scores: there are no results in {folder}; `ddpm course grade SUBMISSIONS --out {folder}`")
    return results


def rows(results: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Collect what went wrong: by exercise, and in it the most frequent sentence first."""
    found: dict[tuple[str, str, str], list[tuple[str, int]]] = defaultdict(list)
    for student, tests in results.items():
        for test in tests:
            if test["status"] != "passed":
                extra = test.get("extra_data", {})
                kind = extra.get("kind", "")
                key = test["number"], kind, general(test["output"], kind)
                found[key].append((student, int(extra.get("hints", 0))))
    made = [Row(*key, *zip(*who, strict=True)) for key, who in found.items()]
    order = {number: i for i, number in enumerate(lessons.all_tasks())}
    return sorted(made, key=lambda row: (order.get(row.number, len(order)), -len(row.students), row.sentence))


def general(sentence: str, kind: str) -> str:
    """Put … for the numbers, which differ from submission to submission; named mistakes have the same ones."""
    return sentence if kind == "mistake" else re.sub(r"(?<![\w.])-?\d(?:[\d.e+-]*\d)?", "…", sentence)


def table(made: list[Row]) -> str:
    """Format report.csv: a row per sentence."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["exercise", "title", "kind", "submissions", "hints", "sentence", "students"])
    for row in made:
        title, names = lessons.task(row.number).title, " ".join(row.students)
        words = [no_formula(cell) for cell in (row.sentence, names)]
        writer.writerow([row.number, title, row.kind, len(row.students), mean(row.hints), *words])
    return text.getvalue()


def mean(hints: tuple[int, ...]) -> str:
    """Format a mean number of hints."""
    return f"{sum(hints) / len(hints):.1f}"


def page(results: dict[str, list[dict[str, Any]]], made: list[Row]) -> str:
    """Write report.html: how many passed each exercise, and what the others got wrong."""
    passed: dict[str, list[bool]] = defaultdict(list)
    for tests in results.values():
        for test in tests:
            passed[test["number"]].append(test["status"] == "passed")
    body = [f"<h1>{len(results)} submissions</h1>", "<table><tr><th>exercise<th><th class=n>passed"]
    for number, right in passed.items():
        share = 100 * sum(right) / len(right)
        bar = f'<div class="bar"><div style="width:{share:.0f}%"></div></div>'
        name = f'<a href="#e{number}">{number} {escape(lessons.task(number).title)}</a>'
        body.append(f"<tr><td>{name}<td>{bar}<td class=n>{sum(right)} of {len(right)}")
    body.append("</table>")
    for number in dict.fromkeys(row.number for row in made):
        body.append(f'<h2 id="e{number}">{number} {escape(lessons.task(number).title)}</h2>')
        body.append("<table><tr><th class=n>submissions<th class=n>hints, mean<th>what went wrong")
        for row in (row for row in made if row.number == number):
            body.append(f'<tr title="{escape(", ".join(row.students))}"><td class=n>{len(row.students)}')
            body.append(f"<td class=n>{mean(row.hints)}<td>{escape(row.sentence)}")
        body.append("</table>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Course report</title><style>{STYLE}</style>'
    return "\n".join([head, *body]) + "\n"


def main(scores: Path) -> None:
    """Write report.html and report.csv into the folder of scores, and print the five most frequent sentences."""
    from ddpm.tools.files import write_atomic

    results = read(scores)
    made = rows(results)
    write_atomic(scores / "report.html", page(results, made).encode())
    write_atomic(scores / "report.csv", table(made).encode())
    for row in sorted(made, key=lambda row: -len(row.students))[:5]:
        print(f"{len(row.students):4} of {len(results)}  {row.number}  {row.sentence}")
    print(f"{scores / 'report.html'} and {scores / 'report.csv'}")
