"""A template repository for GitHub Classroom: the lessons with stubs, and a workflow that checks each exercise.

Each exercise is a step worth one point, `ddpm course check 1.2`; Classroom's own reporter adds them up. The workflow
checks with the inputs that learners have themselves. For marks that count, clone the repositories and grade them with
a seed of yours: `ddpm course grade FOLDER --own-seeds --isolate`.
"""

from __future__ import annotations

from pathlib import Path

from ddpm.course import lesson as lessons
from ddpm.course import state, student

WORKFLOW = """\
name: Autograding Tests
on: [push, workflow_dispatch]
permissions:
  checks: write
  actions: read
  contents: read
jobs:
  exercises:
    runs-on: ubuntu-latest
    if: github.actor != 'github-classroom[bot]'
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install --quiet "{source}"
{steps}
      - name: Autograding Reporter
        uses: classroom-resources/autograding-grading-reporter@v1
        env:
{results}
        with:
          runners: {runners}
"""
STEP = """\
      - name: "{number} {title}"
        id: {name}
        uses: classroom-resources/autograding-command-grader@v1
        with:
          test-name: "{number} {title}"
          command: ddpm course check {number}
          timeout: 5
          max-score: 1"""
README = """\
# Diffusion models from scratch

1. `pip install "{source}"`
2. Open `{first}` and read. Where it says `TODO`, write the lines that are missing.
3. `ddpm course check {number}` says whether they are right, and names your mistake if it is a known one;
   `ddpm course hint {number}` helps.
4. Commit and push. Each exercise that is right is a point.
"""


def write(out: Path, chosen: list[int], source: str) -> None:
    """Write the template into `out`; existing files are never replaced.

    chosen: the numbers of the lessons;  source: what the workflow installs, as in `student.install`
    """
    if not source:
        raise ValueError(
            "source is empty: the workflow has to install the package; give a git address (git+https://…) or a wheel"
        )
    student.install(source)  # refuses what could be another project
    tasks = [task for number in chosen for task in lessons.tasks(lessons.text_of(number))]
    if not tasks:
        raise ValueError(f"lessons: {chosen} have no exercises")
    names = {task.number: "exercise-" + task.number.replace(".", "-") for task in tasks}
    # Nothing is written before all names are known to be free
    stems = [lessons.files()[number].stem for number in chosen]
    files = {Path(f"{stem}.py"): student.text(number) for stem, number in zip(stems, chosen, strict=True)}
    files[Path(".github/workflows/classroom.yml")] = WORKFLOW.format(
        source=source,
        steps="\n".join(STEP.format(number=t.number, title=plain(t.title), name=names[t.number]) for t in tasks),
        results="\n".join(
            f'          {name.upper()}_RESULTS: "${{{{steps.{name}.outputs.result}}}}"' for name in names.values()
        ),
        runners=",".join(names.values()),
    )
    files[Path("README.md")] = README.format(source=source, first=f"{stems[0]}.py", number=tasks[0].number)
    if there := [str(out / file) for file in files if (out / file).exists()]:
        raise ValueError(f"{there[0]} is there already; choose another --out, or delete it first")
    for file, text in files.items():
        student.put(out / file, text)
    state.save(out, {})  # makes the folder a course for `ddpm course check`
    print(f"{out}: {len(stems)} lessons and {len(tasks)} exercises, a point each, in .github/workflows/classroom.yml")
    print("Push this folder as a template repository, and choose it for an assignment in GitHub Classroom")


def plain(title: str) -> str:
    """A title without what YAML or Markdown would read: quotes, dollars, backslashes."""
    return title.translate(str.maketrans("", "", '"$\\`{}'))
