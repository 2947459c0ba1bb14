"""Source notebooks for two common graders: nbgrader and otter-grader.

Both get the lesson with its solutions, and after each exercise one test of one point: `require("1.2", q_step, seed=7)`,
which asks the same questions as `ddpm course check`. The graders themselves make the students' version, with
`nbgrader generate_assignment` and `otter assign`. The package has to be installed where they grade; the first cell of a
notebook installs it from `--source`, or reports that it is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm.course import classroom, student
from ddpm.course import lesson as lessons
from ddpm.course.student import put

if TYPE_CHECKING:
    from ddpm.course.options import Export

NBGRADER = """\
# nbgrader_config.py, written by `ddpm course export --to nbgrader`
c = get_config()
c.CourseDirectory.course_id = "ddpm"
c.ExecutePreprocessor.timeout = 600
"""
OTTER = """\
# ASSIGNMENT CONFIG
init_cell: false
export_cell: false
check_all_cell: false
runs_on: default
environment: environment.yml
generate:
    points_possible: {points}
"""


def main(config: Export) -> None:
    """Write the notebooks, and print what to run next."""
    chosen = [n for n in lessons.files() if not config.lessons or n in config.lessons]
    if not chosen:
        raise ValueError(
            f"lessons: there is none of {config.lessons}; there are {', '.join(map(str, lessons.files()))}"
        )
    if config.seed < 0:
        raise ValueError(f"seed is {config.seed}; give a whole number >= 0")
    if config.to == "classroom":
        classroom.write(config.out, chosen, config.source)
        return
    for lesson in chosen:
        stem = lessons.files()[lesson].stem
        inside = Path("source") / stem / f"{stem}.ipynb" if config.to == "nbgrader" else Path(stem) / f"{stem}.ipynb"
        text = notebook(lesson, config.to, config.seed, config.source)
        put(config.out / inside, text)
        if config.to == "otter":
            put(config.out / stem / "environment.yml", environment(config.source))
        print(config.out / inside)
    if config.to == "nbgrader":
        put(config.out / "nbgrader_config.py", NBGRADER)
        print(f"Then, in {config.out}:  nbgrader generate_assignment {lessons.files()[chosen[0]].stem}")
    else:
        stem = lessons.files()[chosen[0]].stem
        print(f"Then, in {config.out / stem}:  otter assign {stem}.ipynb dist")


ENVIRONMENT = """\
name: ddpm
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - otter-grader
      - ipykernel
      {ours}
"""


def environment(source: str) -> str:
    """Format the environment of otter; without a source, a comment states what to add."""
    ours = f'- "{source}"' if source else "# add the address or the wheel of the course's package, imported as ddpm"
    return ENVIRONMENT.format(ours=ours)


def notebook(lesson: int, to: str, seed: int, source: str = "") -> str:
    """Build one source notebook as JSON, in format 4.5.

    source: what its first cell installs, as in `student.install`
    """
    try:
        import nbformat
    except ImportError:
        raise ValueError("the export needs nbformat: pip install nbformat") from None
    # The exercises, and the cells of the chosen grader
    tasks = {t.number: t for t in lessons.tasks(lessons.text_of(lesson))}
    begin, end = {"nbgrader": (nbgrader_solution, nbgrader_test), "otter": (otter_solution, otter_test)}[to]
    cells: list[dict[str, Any]] = []
    if to == "otter":
        cells.append(cell("raw", OTTER.format(points=len(tasks))))
    # Cells of the lesson, in order; text first
    number, left = "", set[str]()
    for part, told in lessons.with_bets(lessons.text_of(lesson)):
        body = "\n".join(part.lines).strip("\n")
        for heading in filter(None, map(lessons.HEADING.match, part.lines)):
            number, left = heading.group(1), set(tasks[heading.group(1)].functions)
        if part.markdown:
            prose = "\n".join(line.removeprefix("#").removeprefix(" ") for line in part.lines)
            cells.append(cell("markdown", lessons.folded(prose) if told else prose))
            if len(cells) <= 2:
                cells.append(cell("code", student.install(source)))
                cells.append(cell("code", "from ddpm.course import checked, require"))
            continue
        # Code, with a test after the last function of an exercise
        names = tasks[number].functions if number else []
        defined = {m.group(1) for m in map(lessons.DEF.match, part.lines) if m}
        first = bool(left) and left == set(names)
        if lessons.BEGIN not in body:
            cells.append(cell("code", body))
            cells[-1]["metadata"] |= lessons.HIDDEN if told else {}
        else:
            cells += begin(number, body, len(cells), first)
        if left and not left - defined:
            joined = ", ".join(names)
            cells += end(number, f'require("{number}", {joined}, seed={seed})')
            cells.append(cell("code", f'{joined} = checked("{number}", {joined})'))
        left -= defined
    # Stable identifiers, and the notebook around the cells
    for i, c in enumerate(cells):
        c["id"] = f"l{lesson:02d}-{i:03d}"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    book = nbformat.from_dict({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


def cell(kind: str, source: str, **nbgrader: Any) -> dict[str, Any]:
    """Make a cell of a notebook; keywords become the metadata of nbgrader."""
    metadata: dict[str, Any] = {}
    if nbgrader:
        metadata["nbgrader"] = {"schema_version": 3, "task": False, **nbgrader}
    out = {"cell_type": kind, "metadata": metadata, "source": source.strip("\n")}
    return out | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def nbgrader_solution(number: str, body: str, place: int, first: bool) -> list[dict[str, Any]]:
    """Make a cell whose marked regions nbgrader empties. (Its names may have no dot.)"""
    name = f"solution-{number.replace('.', '-')}-{place}"
    return [cell("code", body, grade=False, solution=True, locked=False, grade_id=name)]


def nbgrader_test(number: str, test: str) -> list[dict[str, Any]]:
    """Make a locked cell worth one point."""
    name = f"check-{number.replace('.', '-')}"
    return [cell("code", test, grade=True, solution=False, locked=True, points=1, grade_id=name)]


def otter_solution(number: str, body: str, place: int, first: bool) -> list[dict[str, Any]]:
    """Make the solution of a question, with otter's marks in place of ours."""
    body = body.replace(lessons.BEGIN, "# BEGIN SOLUTION").replace(lessons.END, "# END SOLUTION")
    opening = [cell("raw", f"# BEGIN QUESTION\nname: q{number.replace('.', '_')}\npoints: 1")] if first else []
    return [*opening, cell("raw", "# BEGIN SOLUTION"), cell("code", body), cell("raw", "# END SOLUTION")]


def otter_test(number: str, test: str) -> list[dict[str, Any]]:
    """Make the test, and the end of the question."""
    return [
        cell("raw", "# BEGIN TESTS"),
        cell("code", test),
        cell("raw", "# END TESTS"),
        cell("raw", "# END QUESTION"),
    ]
