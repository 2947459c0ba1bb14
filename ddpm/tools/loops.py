"""Loops of many lengths as one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SHORT, LONG = 64, 1024  # lists of up to 64 steps are padded to 64, longer ones to the next multiple of 1,024


def padded(times: np.ndarray) -> np.ndarray:
    """Repeat the last of n+1 times until n is one of few lengths, so that a loop over them compiles once for each."""
    n = times.size - 1
    return np.pad(times, (0, -n % (SHORT if n <= SHORT else LONG)), mode="edge")


def first_steps(
    step: Callable[[Any, jax.Array], Any], x: Any, n: jax.Array, length: int, path: bool = False
) -> tuple[Any, Any]:
    """Apply step(x, i) for i = 0…n-1, n ≤ length, which alone is compiled in; the steps behind n cost nothing.

    Returns (x, None), or with `path` (x, x after each of `length` steps, stacked). Derivatives go through it.
    """

    def body(x: Any, i: jax.Array) -> tuple[Any, Any]:
        x = jax.lax.cond(i < n, step, lambda x, i: x, x, i)
        return x, x if path else None

    return jax.lax.scan(body, x, jnp.arange(length))
