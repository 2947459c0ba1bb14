"""How long `ddpm course check` takes: the first time, in each later process, and where `watch` keeps one process.

    python -m experiments.lab.speed.course               all exercises; about ten minutes
    python -m experiments.lab.speed.course 1.5 4.1       these

A right answer is checked, the lesson's own, because it is compared in every case; wrong ones end sooner. Seconds are of
the processor, so that other work on the machine counts little: the median, and the slowest exercises by name. The first
time, the folder of compiled programs is empty.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ddpm.course import checks, judge, load, state
from ddpm.course import lesson as lessons
from ddpm.tools import machine

GOALS = {"the first time": 2.0, "in a new process": 2.0, "in the same process": 0.2}  # seconds


def cold(folder: Path, number: str, programs: Path) -> float:
    """Processor seconds of the command in a new process, with compiled programs kept in a folder."""
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(programs)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "ddpm.cli", "course", "check", number]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, f"{number}: {done.stdout}{done.stderr}"
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warm(number: str) -> float:
    """Processor seconds of the second verdict in this process."""
    functions = load.functions(lessons.text_of(lessons.task(number).lesson), number)
    for _ in range(2):
        start = time.process_time()
        verdict = judge.verdict(checks.find(number), functions)
        spent = time.process_time() - start
        assert verdict.passed, verdict.sentence
    return spent


def main(numbers: list[str]) -> None:
    """Measure, and print the medians, the slowest, and the goals."""
    numbers = numbers or list(lessons.all_tasks())
    found: dict[str, dict[str, float]] = {name: {} for name in GOALS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for lesson, file in lessons.files().items():
            (folder / file.name).write_text(lessons.text_of(lesson), encoding="utf-8")
        state.save(folder, {})
        for i, number in enumerate(numbers):
            with tempfile.TemporaryDirectory() as programs:
                first, again = (cold(folder, number, Path(programs)) for _ in range(2))
            for name, seconds in zip(GOALS, (first, again, warm(number)), strict=True):
                found[name][number] = seconds
            print(f"\r{i + 1} of {len(numbers)}: {number}  ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for name, spent in found.items():
        slowest = sorted(spent, key=spent.__getitem__, reverse=True)[:5]
        named = ", ".join(f"{number} {spent[number]:.2f}" for number in slowest)
        print(
            f"check, {name}: median {median(spent.values()):.3f} s of {len(spent)} exercises (goal {GOALS[name]:g}); "
            f"slowest {named}; {machine.device_name()}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
