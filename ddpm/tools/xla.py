"""Settings of XLA: flags for CPUs, set when `ddpm` is imported, and where compiled programs are kept between runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

# jaxlib 0.10 gives each convolution to YNNPACK, which uses one core; Eigen uses all of them. On two cores, Eigen makes
# a training step of the presets `cpu` and `small` 1.45 times as fast, and sampling 1.7 times. jaxlib 0.11 fixes this.
# To restore YNNPACK: XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=+individual_convolution
# By itself XLA orders the operations so that many could run side by side, and holds their results meanwhile. Ordered
# for little memory, the same operations need a seventh less of it in a training step (`compiled.memory_analysis()` for
# 64 images of the preset `small`: 630 MiB in place of 732), and no more time.
FLAGS = {
    "xla_cpu_experimental_ynn_fusion_type": "-individual_convolution",
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}
# Where the CPU is all there is. XLA has vectorised the loops before it gives them to LLVM, so at LLVM's first level of
# optimisation, in place of its third, a program compiles sooner and is about as fast (`experiments.forward_forms`).
CPU_FLAGS = {"xla_backend_optimization_level": "1"}


def set_flags() -> None:
    """Add the flags to XLA_FLAGS for jaxlib 0.10, but for those that the user has set."""
    if measured():
        given = os.environ.get("XLA_FLAGS", "")
        wanted = FLAGS | (CPU_FLAGS if only_the_cpu() else {})
        added = [f"--{name}={value}" for name, value in wanted.items() if name not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()


def measured() -> bool:
    """True for the jaxlib with which these settings were measured, 0.10. Others may not know their names."""
    try:
        return importlib.metadata.version("jaxlib").startswith("0.10.")
    except importlib.metadata.PackageNotFoundError:  # built by hand: speed alone is at stake
        return False


def only_the_cpu() -> bool:
    """True if JAX has only the CPU: by JAX_PLATFORMS, or because no accelerator's plugin is installed."""
    if chosen := os.environ.get("JAX_PLATFORMS"):
        return chosen == "cpu"
    return all(importlib.util.find_spec(name) is None for name in ("jax_plugins", "libtpu"))


def programs_folder() -> Path | None:
    """Return the folder of compiled programs: JAX_COMPILATION_CACHE_DIR, or ~/.cache/ddpm/jax, which is made.

    None where that cannot be, such as for a user without a home.
    """
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    folder = Path(os.path.expanduser("~")) / ".cache" / "ddpm" / "jax"
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def keep_small_programs() -> None:
    """Keep every program that is compiled, however small; JAX reads this when it is imported, so before.

    A short function that is not under jit compiles one small program for each of its operations. Where it runs in a new
    process again and again, as the exercises of the course do, reading them takes a tenth of the time.
    """
    if "jax" not in sys.modules and (folder := programs_folder()):
        for option, value in (
            ("JAX_COMPILATION_CACHE_DIR", str(folder)),
            ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0"),
            ("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1"),
        ):
            os.environ.setdefault(option, value)
