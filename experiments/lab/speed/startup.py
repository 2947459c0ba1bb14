"""The cost of a start: import, compilation of the training step, first image, peak memory; without and with the cache.

    python -m experiments.lab.speed.startup CACHE_FOLDER PRESET SECONDS    one start, as a line of JSON

Each start is a separate process. The first finds an empty persistent cache (as if it were off, since writing it costs
little); the second finds it filled.
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


def start(cache: str, preset: str, began: str) -> dict[str, float]:
    """Measure this process, which was started at `began` (seconds of the clock)."""
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    from ddpm.config import unet_config
    from ddpm.sample import Sampling
    from ddpm.samplers.generation import generate
    from ddpm.zoo import model
    from experiments.lab.speed.parts import our_step

    imported = time.time()
    m = model.load("fashion_mnist")
    c = [0] if m.num_classes else None
    generate(m.eps, m.schedule, jax.random.key(0), m.image_shape, c, Sampling(steps=50, guidance=2.0))
    image, image_memory = time.time(), peak_mib()
    step, about = our_step(unet_config(preset), 64)
    step()
    return {
        "import_seconds": round(imported - float(began), 2),
        "first_image_seconds": round(image - float(began), 2),
        "peak_MiB_after_first_image": image_memory,
        "compile_training_step_seconds": about["compile_seconds"],
        "peak_MiB_after_training_step": peak_mib(),
    }


def peak_mib() -> float:
    """The most memory this process has held, MiB. On Linux from VmHWM: ru_maxrss begins with that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return round(int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # a Mac counts bytes


def measure(preset: str) -> dict[str, Any]:
    """Two starts, one after the other, on a fresh cache folder."""
    with tempfile.TemporaryDirectory() as cache:
        result = {}
        for name in ("cache_empty", "cache_filled"):
            command = [sys.executable, "-m", "experiments.lab.speed.startup", cache, preset, str(time.time())]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
            result[name] = json.loads(done.stdout.strip().splitlines()[-1])
        return result


if __name__ == "__main__":
    print(json.dumps(start(*sys.argv[1:4])))
