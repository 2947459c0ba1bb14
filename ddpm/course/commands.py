"""The commands of learners: init, status, next, check, hint, solution, watch, reset.

Only `check` and `watch` run the learner's code; only they import NumPy, and JAX if the exercise does.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from ddpm.course import lesson as lessons
from ddpm.course import line, state, student


def init(folder: Path, notebooks: bool, source: str = "") -> None:
    """Write the lessons, keep existing files, and print how to begin."""
    written, kept = student.write(folder, notebooks, source)
    if not (folder / state.NAME).exists():
        state.save(folder, {})
    print(f"{len(written)} lessons written to {folder}/" + (f", {len(kept)} left as they are" if kept else ""))
    first = (written or kept)[0].name
    if folder.resolve() != Path().resolve():
        print(f"  cd {folder}")
    print("  ddpm course next      # the first exercise, and where it is")
    print(f"  ddpm course watch     # while you read and edit {first}: checks what you save")
    if shutil.which("ddpm") is None:  # the command was called by its path
        bin_ = Path(sys.executable).parent
        print(f"If your shell does not find `ddpm`:  source {bin_ / 'activate'}")


def status(folder: Path) -> None:
    """Print one line per lesson: title, bar, and a mark for each exercise."""
    marks = state.marks(folder)
    width = max((len(title(lesson)) for lesson in {lessons.task(number).lesson for number in marks}), default=0)
    for lesson in lessons.files():
        tasks = [t for t in lessons.all_tasks().values() if t.lesson == lesson and t.number in marks]
        if not tasks:
            continue
        done = sum(marks[t.number] == "✓" for t in tasks)
        bar = "█" * done + "░" * (len(tasks) - done)
        row = "  ".join(f"{marks[t.number]}{t.number}" for t in tasks)
        print(f"{title(lesson):{width}} {bar:10} {done}/{len(tasks)}   {row}")
    print("✓ passed   ✗ tried   ~ changed since it passed   · not yet")
    print(f"{sum(m == '✓' for m in marks.values())} of {len(marks)} have passed. {going_on(folder)}")


def title(lesson: int) -> str:
    """Return the title of a lesson, such as 'L1. The forward process'."""
    for cell in lessons.cells(lessons.text_of(lesson)):
        for text in cell.lines:
            if text.startswith("# # "):
                return text[4:].strip()
    return f"L{lesson}"


def current(folder: Path) -> str | None:
    """Find the first exercise that has not passed."""
    return next((number for number, mark in state.marks(folder).items() if mark != "✓"), None)


def going_on(folder: Path) -> str:
    """Name the next exercise and its place: 'Next: 1.2 - one step, l01_forward.py:75'."""
    number = current(folder)
    if number is None:
        return "All exercises have passed."
    task = lessons.task(number)
    file = state.file_of(folder, task.lesson)
    return f"Next: {number} - {task.title}, {place(file, lessons.read(file), task)}"


def words(number: str) -> str:
    """Return the text below the heading of an exercise; if empty, the paragraph above it."""
    for cell in lessons.cells(lessons.text_of(lessons.task(number).lesson)):
        places = [i for i, text in enumerate(cell.lines) if (h := lessons.HEADING.match(text)) and h.group(1) == number]
        if places:
            prose = [text.removeprefix("#").removeprefix(" ") for text in cell.lines]
            above, below = ("\n".join(part).strip() for part in (prose[: places[0]], prose[places[0] + 1 :]))
            return below or above.split("\n\n")[-1]
    return ""


def show_next(folder: Path) -> None:
    """Print where to continue: the exercise, its place, its text, and the stub."""
    number = current(folder)
    if number is None:
        print("All exercises have passed.")
        return
    task = lessons.task(number)
    file = state.file_of(folder, task.lesson)
    print(f"Exercise {number} - {task.title}\n{place(file, lessons.read(file), task)}\n")
    print("\n\n".join(filter(None, [words(number), *student.stub(number).values()])))
    print(f"\nThen: ddpm course check {number}     Stuck? ddpm course hint {number}")


def numbers_of(folder: Path, wanted: tuple[str, ...]) -> list[str]:
    """Expand the arguments: '1.2' is an exercise, '1' a lesson, nothing means the next exercise."""
    if not wanted:
        number = current(folder)
        return [number] if number else []
    out = []
    for a in wanted:
        whole = [n for n in lessons.all_tasks() if n.partition(".")[0] == a]
        out += whole or [lessons.task(a).number]
    return out


def check(folder: Path, wanted: tuple[str, ...], show: bool = False) -> bool:
    """Check exercises in turn; True if all passed. show: with the first failing input of each"""
    numbers = numbers_of(folder, wanted)
    if not numbers:
        print("All exercises have passed.")
    return all([check_one(folder, number, show) for number in numbers])


def check_one(folder: Path, number: str, show: bool = False) -> bool:
    """Print one verdict: a tick and the reference, or what is wrong and how to get a hint."""
    if sys.stderr.isatty():  # NumPy and JAX take a second to load
        print(f"Checking {number} …", file=sys.stderr, flush=True)
    from ddpm.course import checks, judge, load, replay

    task, exercise = lessons.task(number), checks.find(number)
    file = state.file_of(folder, task.lesson)
    text = lessons.read(file)
    try:
        result = judge.verdict(exercise, load.functions(text, number, file.name), folder=folder)
    except ValueError as e:  # a missing function, or invalid Python
        result = judge.Verdict(number, False, "load", str(e))
    except Exception as e:  # an import that fails
        result = judge.Verdict(number, False, "load", f"{file.name} cannot be loaded: {type(e).__name__}: {e}")
    print(line(result))
    entry = state.load(folder).get(number, {})
    if result.passed:
        state.note(folder, number, passed=lessons.fingerprint(text, task.functions))
        own = "\n\n\n".join(lessons.source(text, name) or "" for name in task.functions)
        show_reference(number, own)
        print(f"  {going_on(folder)}")
    else:
        if result.kind != "todo":
            state.note(folder, number, tries=entry.get("tries", 0) + 1, passed=None)
        if show and result.kind in ("mistake", "value", "nan", "shape", "none", "exception"):
            print(replay.first_failure(number, load.functions(text, number, file.name)))
        print(f"  line: {place(file, text, task)}   hint: ddpm course hint {number}")
    return result.passed


def place(file: Path, text: str, task: lessons.Task) -> str:
    """Format the place of an exercise, such as 'l01_forward.py:54'."""
    for i, row in enumerate(text.splitlines(), 1):
        if row.startswith(f"def {task.functions[0]}("):
            return f"{file.name}:{i}" if file.suffix == ".py" else file.name
    return file.name


def show_reference(number: str, own: str) -> None:
    """Print the reference for comparison, unless it is the same code."""
    reference = lessons.solution(number)
    if lessons.without_words(own) == lessons.without_words(reference):
        print("  It is the reference, word for word.")
    else:
        print("  The reference, to compare:\n")
        print("\n".join("    " + row for row in lessons.without_words(reference).splitlines()) + "\n")


def hint(folder: Path, number: str) -> None:
    """Print the next hint, and how many are left."""
    from ddpm.course import checks

    hints = checks.find(lessons.task(number).number).hints
    shown = state.load(folder).get(number, {}).get("hints", 0)
    if not hints:
        print(f"There is no hint for {number}; the text above the exercise is one.")
        return
    i = min(shown, len(hints) - 1)
    print(f"Hint {i + 1} of {len(hints)}: {hints[i]}")
    if shown >= len(hints):
        print(f"That was the last one. `ddpm course solution {number} --give-up` shows the reference.")
    else:
        if i + 1 < len(hints):
            print("  The next call gives a longer hint.")
        state.note(folder, number, hints=shown + 1)


def solution(folder: Path, number: str, give_up: bool) -> None:
    """Print the reference: after passing, or on request, which is recorded."""
    number = lessons.task(number).number
    entry = state.load(folder).get(number, {})
    if not (entry.get("passed") or entry.get("gave_up") or give_up):
        raise ValueError(f"{number} has not passed yet; `ddpm course hint {number}`, or add --give-up to see it anyway")
    if not entry.get("passed"):
        state.note(folder, number, gave_up=True)
    print(lessons.solution(number))


def reset(folder: Path, number: str) -> None:
    """Restore the stub and append the learner's code to old_answers.py."""
    task = lessons.task(number)
    old = student.reset(state.file_of(folder, task.lesson), number)
    attic = folder / "old_answers.py"
    with open(attic, "a", encoding="utf-8") as f:
        f.write(f"# {number}, until {time.strftime('%Y-%m-%d %H:%M')}\n{old}\n\n\n")
    state.note(folder, number, passed=None, tries=0)
    print(f"{number} is as it was at the beginning; your code is at the end of {attic.name}.")


def watch(folder: Path, every: float = 0.3, rounds: int | None = None) -> None:
    """Check changed exercises whenever a file is saved, in one warm process. Ctrl-C ends it."""
    import numpy  # noqa: F401  (warm)
    from jax import numpy as jnp

    jnp.zeros(1).block_until_ready()
    print("Watching; save a lesson to have its exercises checked. Ctrl-C ends.", going_on(folder), sep="\n", flush=True)
    before = prints(folder)
    while rounds is None or rounds > 0:
        time.sleep(every)
        now = prints(folder)
        for number in [n for n in now if now[n] != before.get(n)]:
            start = time.perf_counter()
            check_one(folder, number)
            print(f"  ({time.perf_counter() - start:.1f} s)", flush=True)
        before = now
        rounds = rounds - 1 if rounds is not None else None


def prints(folder: Path) -> dict[str, str]:
    """Hash the functions of each exercise: {number: hash}; a file being written is skipped."""
    out = {}
    for lesson in lessons.files():
        try:
            text = lessons.read(state.file_of(folder, lesson))
        except (ValueError, OSError):
            continue
        for task in lessons.tasks(lessons.text_of(lesson)):
            out[task.number] = lessons.fingerprint(text, task.functions)
    return out
