"""Functions that pass through `jit` as arguments.

A denoiser closes over parameters; were it a plain closure, every new set of parameters or guidance scale would compile
again. `Partial` makes a function with its arrays a pytree: the function is static, the arrays are traced. Every `eps`,
`guide` and `step` of this library is one, so a compiled sampler is used again for new weights, scales and schedules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

Eps = Callable[..., jax.Array]  # (x_t (B, ...), t (B,) int, c | None) -> ε̂ (B, ...)
Step = Callable[..., Any]  # (key, x_t, t, s) -> x_s


def partial_of(f: Callable[..., Any]) -> Partial:
    """`f` itself if it is a Partial; a plain function becomes one without arrays (it compiles once per function)."""
    return f if isinstance(f, Partial) else Partial(f)


def constant(value: jax.Array) -> Partial:
    """The denoiser that has already answered: `value`, whatever it is asked."""
    return Partial(_constant, value)


def _constant(value: jax.Array, x_t: jax.Array, t: jax.Array, c: Any = None) -> jax.Array:
    return value


def falls(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a step function that goes down only (s < t), so that `walk` refuses it a list of times that climbs."""
    f.falls = True  # type: ignore[attr-defined]
    return f


def inside(f: Partial) -> list[Partial]:
    """`f` and all the functions that it wraps, outermost first."""
    return [f, *(part for outer in find(f.args, Partial) for part in inside(outer))]


def find(tree: Any, kind: type) -> list[Any]:
    """All parts of a pytree that are of that class, such as the schedules inside a step."""
    parts = jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, kind))
    return [part for part in parts if isinstance(part, kind)]
