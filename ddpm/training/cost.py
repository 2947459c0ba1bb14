"""What a training will cost, on what, and with which versions: said before it starts."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.networks.inspect import count
from ddpm.tools.machine import device_name
from ddpm.train import TrainState
from ddpm.training.config import TrainConfig


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
