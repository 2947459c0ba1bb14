"""What a training will cost, on what, and with which versions: said before it starts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.config import TrainConfig
from ddpm.network import count
from ddpm.train import TrainState


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


def describe(compiled: Any, config: TrainConfig, params: dict, seconds: float, left: int) -> str:
    """One line: parameters, FLOPs and memory of a step on each device, and the minutes of the steps that are left.

    XLA counts the body of a loop once: of `accumulate` parts one, and of many steps in a call one.
    """
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    gflop = cost.get("flops", float("nan")) / 1e9 * config.accumulate
    mib = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else float("nan")
    return (
        f"{count(params):,} parameters · {gflop:,.1f} GFLOP and {seconds:.3f} s a step of {config.batch} images "
        f"({gflop / seconds:,.0f} GFLOP/s) · {mib:,.0f} MiB · {left:,} steps: about {left * seconds / 60:,.0f} min "
        f"on {device_name()}"
    )


def time_step(compiled: Any, state: TrainState, *args: Any) -> float:
    """Seconds of one call, measured on a copy of the state (whose steps do not count: it changes nothing twice)."""
    copy, _ = jax.block_until_ready(compiled(jax.tree.map(jnp.copy, state), *args))
    start = time.perf_counter()
    for _ in range(2):
        copy, _ = jax.block_until_ready(compiled(copy, *args))
    return (time.perf_counter() - start) / 2
