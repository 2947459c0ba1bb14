"""The cost of a start: import, first image, compilation of the training step, most memory; without and with the cache.

    python -m experiments.lab.speed.startup CACHE_FOLDER SECONDS image|PRESET    one start, as a line of JSON

Each start is a process of its own, which draws an image or makes one training step of a preset. The first of each finds
an empty persistent cache (as if it were off, since writing it costs little); the second finds it filled.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WHAT = ("image", "cpu", "small")


def start(cache: str, began: str, what: str) -> dict[str, float]:
    """Measure this process, which was started at `began` (seconds of the clock)."""
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    found = image(float(began)) if what == "image" else training_step(what)
    return found | {"peak_MiB": peak_mib()}


def image(began: float) -> dict[str, float]:
    """Draw one garment of 50 guided steps."""
    import jax

    from ddpm.sample import Sampling
    from ddpm.samplers.generation import generate
    from ddpm.zoo import model

    imported = time.time()
    m = model.load("fashion_mnist")
    generate(m.eps, m.schedule, jax.random.key(0), m.image_shape, [0], Sampling(steps=50, guidance=2.0))
    return {"import_seconds": round(imported - began, 2), "first_image_seconds": round(time.time() - began, 2)}


def training_step(preset: str) -> dict[str, float]:
    """Compile and make one step of 64 images."""
    from ddpm.config import unet_config
    from experiments.lab.speed.parts import our_step

    step, about = our_step(unet_config(preset), 64)
    step()
    return {"compile_seconds": about["compile_seconds"]}


def peak_mib() -> float:
    """The most memory this process has held, MiB. On Linux from VmHWM: ru_maxrss begins with that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return round(int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # a Mac counts bytes


def measure() -> dict[str, Any]:
    """Two starts of each kind, one after the other, on a fresh cache folder."""
    result: dict[str, Any] = {}
    for what in WHAT:
        with tempfile.TemporaryDirectory() as cache:
            for name in ("cache_empty", "cache_filled"):
                command = [sys.executable, "-m", "experiments.lab.speed.startup", cache, str(time.time()), what]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
                result.setdefault(what, {})[name] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    print(json.dumps(start(*sys.argv[1:4])))
