"""Sampling by choice: several candidates for each step, of which one is kept. No gradient is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.contracts import Step, falls, partial_of, technique
from ddpm.tools import check, keys


def _numbers(many: int) -> jax.Array:
    """0…M-1, an array, since its length has to be known where the step is compiled"""
    return jnp.arange(check.whole("many", many, 1))


@technique(step=partial_of, value=partial_of, many=_numbers)
@falls
def choose(
    key: jax.Array, x_t: jax.Array, t: jax.Array, s: jax.Array, /,
    step: Step, value: Callable[..., jax.Array], many: Any, c: Any = None, scale: Any = 1.0,
) -> jax.Array:  # fmt: skip
    """Draw M candidates x_s with `step`, and keep one with probability ∝ exp(V_s(x_s)/a).   [Li et al. 2024, SVDD]

    value: (x_s, s, c) -> (B,), also at s = 0, where it is the reward;  many: M;  scale: 1/a. With the exact value and
    M -> ∞ every step is the reverse step of p(x0) e^r(x0)/Z; M = 1 is `step` alone. The candidates are drawn one after
    the other, so memory does not grow with M.
    """
    key_step, key_choice = keys.split(key)

    def another(best: tuple[jax.Array, jax.Array], i: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        x_s = step(keys.fold_in(key_step, i), x_t, t, s).astype(x_t.dtype)
        gumbel = keys.draw(jax.random.gumbel, keys.fold_in(key_choice, i), x_t.shape[:1])
        score = scale * value(x_s, s, c) + gumbel  # the largest V + Gumbel is a draw from softmax V
        better = (score > best[1]).reshape(-1, *(1,) * (x_t.ndim - 1))
        return (jnp.where(better, x_s, best[0]), jnp.maximum(score, best[1])), None

    start = (x_t, jnp.full(x_t.shape[:1], -jnp.inf, x_t.dtype))
    return jax.lax.scan(another, start, many)[0][0]
