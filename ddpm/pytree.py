"""Functions that pass through `jit` as arguments.

A denoiser closes over parameters; were it a plain closure, every new set of parameters or guidance scale would compile
again. `Partial` makes a function with its arrays a pytree: the function is static, the arrays are traced. Every `eps`,
`guide` and `step` of this library is one, so a compiled sampler is used again for new weights, scales and schedules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.tree_util import Partial

__all__ = ["Partial", "partial_of"]


def partial_of(f: Callable[..., Any]) -> Partial:
    """`f` itself if it is a Partial; a plain function becomes one without arrays (it compiles once per function)."""
    return f if isinstance(f, Partial) else Partial(f)
