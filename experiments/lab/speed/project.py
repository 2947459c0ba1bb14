"""What a newcomer and a contributor wait for: `make demo` and `make test`, from empty caches; time and memory.

    python -m experiments.lab.speed.project         on an idle machine, about eight minutes; the package is installed

Each is run once, in a process of its own. The most memory is that of the largest process it started, such as a worker
of the tests. Written to experiments/results/speed/project.json.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ddpm.tools import machine
from ddpm.tools.files import write_atomic
from ddpm.tools.origin import commit

ROOT = Path(__file__).parents[3]
RESULT = ROOT / "experiments" / "results" / "speed" / "project.json"
TARGETS = ("demo", "test")


def measure(command: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Seconds, processor seconds, and MiB of the largest process of a command; and the last line that it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "most_MiB_of_a_process": round(after.ru_maxrss * unit / 2**20),
        "passed": int(found[-1]) if (found := re.findall(r"(\d+) passed", done.stdout)) else None,
    }


def main() -> None:
    """Run each target of the Makefile with empty caches, and write what it took."""
    result: dict[str, Any] = {
        "device": machine.device_name(),
        "versions": machine.versions(),
        "commit": commit() or "unknown",
    }
    for target in TARGETS:
        with tempfile.TemporaryDirectory() as cache:
            caches = {"JAX_COMPILATION_CACHE_DIR": f"{cache}/jax", "DDPM_CACHE_DIR": f"{cache}/ddpm"}
            result[target] = measure(["make", target], os.environ | caches)
        print(f"make {target}: {result[target]}", flush=True)
    write_atomic(RESULT, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
