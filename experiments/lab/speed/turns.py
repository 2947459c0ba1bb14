"""Processes that measure in turns: each builds its sides, then times the one that it is told.

    python -m experiments.lab.speed.turns     reads a job in JSON, then names of sides, a line each; answers in JSON

A process has its own threads and its own flags of XLA, which are read once, when JAX starts. `Worker` is the end of the
one who asks. Programs are compiled anew in each process, or kept in the folder `cache` of its own: the persistent cache
of the user would give one that was compiled for another number of threads.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
LEVEL = "--xla_backend_optimization_level"
Times = dict[str, list[tuple[float, float]]]  # of each side and round: processor and wall seconds of one call


class Worker:
    """A process with a job: `job["do"]` names a function of `experiments.lab.speed.jobs`, the rest its arguments."""

    def __init__(self, job: dict[str, Any], threads: int, level: int | None = None, cache: str = ""):
        env = os.environ | {
            "JAX_ENABLE_COMPILATION_CACHE": "true" if cache else "false",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "NPROC": str(threads),  # the threads of XLA
            "OMP_NUM_THREADS": str(threads),  # and of PyTorch, which wait without spinning
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        if level is not None:
            others = [flag for flag in env.get("XLA_FLAGS", "").split() if not flag.startswith(LEVEL)]
            env["XLA_FLAGS"] = " ".join([*others, f"{LEVEL}={level}"])
        command = [sys.executable, "-m", "experiments.lab.speed.turns"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)
        self.tell(job | {"threads": threads})

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                end.close()
        self.process.wait()

    def tell(self, message: Any) -> None:
        """Send one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Read one line; raise if the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a measuring process ended early; its error is printed above")
        return json.loads(line)

    def time(self, side: str) -> tuple[float, float]:
        """Processor and wall seconds of one call, the mean of some."""
        self.tell(side)
        processor, wall = self.hear()
        return processor, wall


def rounds_of(workers: dict[str, Worker], sides: Iterable[tuple[str, str, str]], rounds: int) -> Times:
    """Times of sides (name, worker, its name there), which take turns: forth in one round, back in the next."""
    order = list(sides)
    times: Times = {name: [] for name, _, _ in order}
    for r in range(rounds):
        for name, worker, side in order[:: -1 if r % 2 else 1]:
            times[name].append(workers[worker].time(side))
    return times


def middle(values: Iterable[float]) -> tuple[float, float]:
    """The median, and half of what lies between the quartiles."""
    v = list(values)
    low, median, high = statistics.quantiles(v, n=4, method="inclusive") if len(v) > 1 else v * 3
    return median, (high - low) / 2


def share(times: Times, side: str, of: str, clock: int = 0) -> tuple[float, float]:
    """Time of a side as a share of another's, inside each round: 0 processor, 1 wall."""
    return middle(a[clock] / b[clock] for a, b in zip(times[side], times[of], strict=True))


def serve(build: Callable[[dict[str, Any]], tuple[dict[str, Callable[[], Any]], Any]], lines: Iterator[str]) -> None:
    """Build the sides of the job in the first line, say what they are, and time those that are asked for."""
    job = json.loads(next(lines))
    sides, about = build(job)
    calls: dict[str, int] = {}
    for name, side in sides.items():
        side()
        start = time.process_time()
        side()
        calls[name] = max(1, min(1000, round(job["least"] / max(time.process_time() - start, 1e-5))))
    print(json.dumps({"sides": list(sides), "about": about}), flush=True)
    for line in lines:
        name = json.loads(line)
        processor, wall = time.process_time(), time.perf_counter()
        for _ in range(calls[name]):
            sides[name]()
        spent = time.process_time() - processor, time.perf_counter() - wall
        print(json.dumps([s / calls[name] for s in spent]), flush=True)


if __name__ == "__main__":
    from experiments.lab.speed.jobs import build

    serve(build, iter(sys.stdin))
