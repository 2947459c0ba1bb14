"""Estimate the cost of a training run before it starts: time, FLOPs and memory."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.networks.inspect import count
from ddpm.tools.machine import device_name, give_memory_back
from ddpm.train import TrainState
from ddpm.training.config import TrainConfig


def describe(compiled: Any, config: TrainConfig, params: dict, seconds: float, left: int) -> str:
    """Summarise parameters, FLOPs, memory and remaining time in one line.

    FLOPs and memory are those of one step on each device. XLA counts the body of a loop once, so it sees one of the
    `accumulate` parts, and one step of a call with many steps.
    """
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    gflop = cost.get("flops", float("nan")) / 1e9 * config.accumulate
    mib = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else float("nan")
    return (
        f"{count(params):,} parameters · {gflop:,.1f} GFLOP and {seconds:.3f} s a step of {config.batch} images "
        f"({gflop / seconds:,.0f} GFLOP/s) · {mib:,.0f} MiB · {left:,} steps: about {_time(left * seconds)} "
        f"on {device_name()}"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"


def time_step(compiled: Any, state: TrainState, *args: Any) -> float:
    """Measure the seconds of one call on a copy of the state, so the run itself is unchanged.

    That call fetches its temporary memory anew, so a step of the run takes some per cent less.
    """
    copy = jax.tree.map(jnp.copy, state)
    for _ in range(2):
        copy, _ = jax.block_until_ready(compiled(copy, *args))
        give_memory_back()  # their temporary arrays: the next ones may find no place in the gap
    start = time.perf_counter()
    jax.block_until_ready(compiled(copy, *args))
    return time.perf_counter() - start
