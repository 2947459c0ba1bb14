"""Functions that pass through `jit` as arguments.

A denoiser closes over parameters; were it a plain closure, every new set of parameters or guidance scale would compile
again. `Partial` makes a function with its arrays a pytree: the function is static, the arrays are traced. Every `eps`,
`guide` and `step` of this library is one, so a compiled sampler is used again for new weights, scales and schedules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
from jax.tree_util import Partial

Eps = Callable[..., jax.Array]  # (x_t (B, ...), t (B,) int, c | None) -> ε̂ (B, ...)
Step = Callable[..., Any]  # (key, x_t, t, s) -> x_s


def partial_of(f: Callable[..., Any]) -> Partial:
    """`f` itself if it is a Partial; a plain function becomes one without arrays (it compiles once per function)."""
    return f if isinstance(f, Partial) else Partial(f)


def technique(*together: Callable[..., Any], **checks: Callable[[Any], Any]) -> Callable[..., Callable[..., Partial]]:
    """Turn f(x_t, t, c, /, eps, scale) into f(eps, scale): it checks these, returns a Partial that awaits the others.

    Each of `checks` refuses or converts the parameter of its name; each of `together` sees all before, and returns None
    or new values for some. After a default, `c=None, /`, Python wants a star: `*, eps` may be given by position too.
    """

    def decorate(f: Callable[..., Any]) -> Callable[..., Partial]:
        bound = [p for p in inspect.signature(f).parameters.values() if p.kind is not p.POSITIONAL_ONLY]
        if all(p.kind is p.KEYWORD_ONLY for p in bound):
            bound = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in bound]
        signature = inspect.Signature(bound, return_annotation="Partial")

        @wraps(f)
        def make(*args: Any, **kwargs: Any) -> Partial:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as e:
                raise TypeError(f"{f.__name__}: {e}") from None
            given.apply_defaults()
            for of_all in together:
                given.arguments.update(of_all(**given.arguments) or {})
            return Partial(f, **{k: checks[k](v) if k in checks else v for k, v in given.arguments.items()})

        make.__signature__ = signature  # type: ignore[attr-defined]
        return make

    return decorate


@technique()
def constant(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, value: jax.Array) -> jax.Array:
    """Return `value` for any input: a denoiser that has been evaluated already."""
    return value


def falls(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a step function that goes down only (s < t), so that `walk` refuses it a list of times that climbs."""
    f.falls = True  # type: ignore[attr-defined]
    return f
