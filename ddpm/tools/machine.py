"""The versions of the packages and the name of the device that a number comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import jax


def versions() -> dict[str, str]:
    """What a number depends on besides the code."""
    packages = {p: importlib.metadata.version(p) for p in ("ddpm", "jax", "jaxlib", "flax", "optax", "numpy")}
    return {"python": platform.python_version(), **packages}


def device_name() -> str:
    """The device that JAX computes on, in words."""
    d = jax.devices()[0]
    if d.platform != "cpu":
        return f"{jax.device_count()} x {d.device_kind}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # not on a Mac
    return f"CPU, {cores} core{'' if cores == 1 else 's'}"
