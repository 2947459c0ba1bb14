"""DDIM where each place of x has a time of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, falls, partial_of, technique
from ddpm.schedule import Schedule
from ddpm.tools import check


def _table(times: Any, schedule: Schedule, **_: Any) -> dict:
    times = np.asarray(times)
    whole = times.ndim == 2 and len(times) > 1 and np.issubdtype(times.dtype, np.integer)
    if not whole or np.any(np.diff(times, axis=0) > 0) or times.min() < 0 or times.max() > schedule.T:
        raise ValueError(
            f"times has shape {times.shape}; give whole times (n+1, D) in 0..{schedule.T} that fall or stay, a row for "
            "each moment of the walk"
        )
    if len(times) - 1 > schedule.T:
        raise ValueError(f"times has {len(times) - 1} steps; a chain with T = {schedule.T} takes at most {schedule.T}")
    return {"times": jnp.asarray(times[::-1])}  # row i is i steps before the end


@technique(_table, eps=partial_of)
@falls
def place_step(
    key: jax.Array, x: jax.Array, i: jax.Array, j: jax.Array, /, eps: Eps, schedule: Schedule, times: Any, c: Any = None
) -> jax.Array:
    """x_s = √ᾱ_s x̂0 + √(1-ᾱ_s) ε̂ in each place, with its times t and s; a place whose time stays keeps its value.

    times: (n+1, D), from noise to the end, as `ddpm.oracles.together` makes them. The walk counts steps, not times:
    walk(place_step(eps, schedule, times), key, x, np.arange(n, -1, -1)), where x has the noise of the first row.
    """
    t, s = times[i], times[j]
    eps_t = eps(x, t, c)
    a, b = (jnp.sqrt(schedule.alpha_bar[k])[None] for k in (t, s))
    x0 = (x - schedule.std[t][None] * eps_t) / a
    return jnp.where((t == s)[None], x, b * x0 + schedule.std[s][None] * eps_t)


def _within_table(i: Any, j: Any, *, times: Any, **_: Any) -> None:
    """Refuse a walk that begins before the first row: JAX would take that row for it."""
    if (span := check.bounds(i)) and span[1] > (n := jnp.shape(times)[0] - 1):
        raise ValueError(f"the walk counts from {span[1]}, and times has {n} steps; walk over np.arange({n}, -1, -1)")


place_step.__wrapped__.check_times = _within_table  # type: ignore[attr-defined]
