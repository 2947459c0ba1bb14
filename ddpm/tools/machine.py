"""Report the package versions and the device behind a result."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform

import jax

import ddpm


def versions() -> dict[str, str]:
    """Return the versions of Python, this library and the packages that affect results."""
    packages = {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {"python": platform.python_version(), "ddpm": ddpm.__version__, **packages}


def device_name() -> str:
    """Describe the device that JAX computes on."""
    d = jax.devices()[0]
    if d.platform != "cpu":
        return f"{jax.device_count()} x {d.device_kind}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # missing on macOS
    return f"CPU, {cores} core{'' if cores == 1 else 's'}"


def give_memory_back() -> None:
    """Return freed memory to the system. glibc keeps it otherwise, also what a compilation has needed once."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
