"""Validate arguments on entry, before anything is computed.

JAX silently clamps an index that is too large and wraps a negative one, so a wrong time would go unnoticed. Shapes and
types are always checked; values are checked where they are known, that is, outside `jit`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def known(a: Any) -> bool:
    """True if the values of `a` can be read: it is not a tracer of `jit`, `scan`, `vmap` or `grad`."""
    return not isinstance(a, jax.core.Tracer)


def bounds(a: Any) -> tuple[float, float] | None:
    """Return the least and greatest value, or None if they cannot be read.

    This uses NumPy, because inside `jit` JAX would trace even this computation.
    """
    if not known(a) or np.size(a) == 0:
        return None
    values = np.asarray(a)
    return values.min().item(), values.max().item()


def choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; else raise a ValueError with the nearest match."""
    choices = list(choices)
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} {value!r} is not known. Known: {', '.join(choices)}.{hint}")


def times(t: Any, x: jax.Array, T: float, low: int = 1, name: str = "t") -> jax.Array:
    """Check integer times in low..T: one for all images () or one per image (B,)."""
    span, t = bounds(t), jnp.asarray(t)
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise TypeError(f"{name} has type {t.dtype}; times are integers in {low}..{T}")
    if t.ndim > 1 or (t.ndim == 1 and t.shape[0] != x.shape[0]):
        raise ValueError(f"{name} has shape {t.shape}; give one time () or one for each of the {x.shape[0]} images")
    if span and not (low <= span[0] and span[1] <= T):
        raise ValueError(f"{name} lies in {span[0]}..{span[1]}, outside {low}..{T} (t = 0 is clean data)")
    return t


def labels(c: Any, B: int, num_classes: int, name: str = "c") -> jax.Array:
    """Check integer labels (B,) in 0..num_classes, where `num_classes` is the null label ∅."""
    span, c = bounds(c), jnp.asarray(c)
    if not jnp.issubdtype(c.dtype, jnp.integer):
        raise TypeError(f"{name} has type {c.dtype}; labels are integers in 0..{num_classes} ({num_classes} = null)")
    if c.shape != (B,):
        raise ValueError(f"{name} has shape {c.shape}; give one label for each of the {B} images: ({B},)")
    if span and not (0 <= span[0] and span[1] <= num_classes):
        raise ValueError(f"{name} lies in {span[0]}..{span[1]}, outside 0..{num_classes} ({num_classes} = null label)")
    return c


def classes(name: str, c: Any, n: int, one: bool = False) -> np.ndarray:
    """Return labels (n,) int32 from n integers >= 0; with `one`, a single label stands for all."""
    c = np.asarray(c)
    if not np.issubdtype(c.dtype, np.integer) or c.shape not in ((n,), () if one else (n,)) or (c.size and c.min() < 0):
        right = f"one label, or one for each of the {n} images, as integers" if one else f"{n} whole numbers"
        raise ValueError(f"{name} is {c!r}; give {right} >= 0")
    return np.broadcast_to(c, (n,)).astype(np.int32)


def batch(x: Any, name: str = "x0") -> np.ndarray:
    """Return data (B, ...) as float32; images (B, H, W, C) have to lie in [-1, 1]."""
    x = np.asarray(x, dtype=np.float32)
    if x.ndim < 2 or not len(x):
        raise ValueError(f"{name} has shape {x.shape}; give a batch of images (B, H, W, C)")
    if x.ndim == 4:
        images(x, name=name)
    return x


def fits(name: str, x: jax.Array, image_shape: tuple[int, ...], what: str) -> None:
    """Refuse a batch whose images do not have the (H, W, C) that a network was built for."""
    if x.ndim != 4 or x.shape[1:] != image_shape:
        raise ValueError(f"{name} has shape {x.shape}; this {what} wants (B, {', '.join(map(str, image_shape))})")


def images(x: Any, shape: tuple[int, ...] | None = None, name: str = "x0") -> jax.Array:
    """Check float images (B, H, W, C) in [-1, 1]; `shape` is the (H, W, C) that the model expects."""
    span, x = bounds(x), jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} has type {x.dtype}; turn uint8 images into floats in [-1, 1] with ddpm.data.to_float")
    if x.ndim != 4 or (shape is not None and x.shape[1:] != tuple(shape)):
        want = "(B, H, W, C)" if shape is None else f"(B, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} has shape {x.shape}; wanted {want}, channels last")
    if span and not (span[0] >= -1.0001 and span[1] <= 1.0001):  # a NaN fails too
        raise ValueError(
            f"{name} lies in [{span[0]:.4g}, {span[1]:.4g}], outside [-1, 1]; scale it with ddpm.data.to_float"
        )
    return x


def by_time(name: str, a: Any, T: int) -> Any:
    """Check that `a` has one number for each time 0..T: (T+1,)."""
    if np.shape(a) != (T + 1,):
        raise ValueError(f"{name} has shape {np.shape(a)}; give one number for each time 0..{T}: ({T + 1},)")
    return a


def falling_to_0(times: Any, T: int | None = None) -> np.ndarray:
    """Check a list of times that a sampler walks down: (n+1,) integers that fall from at most T to 0."""
    times = np.asarray(times)
    falls = times.ndim == 1 and times.size > 1 and np.issubdtype(times.dtype, np.integer)
    if not falls or times[-1] != 0 or np.any(np.diff(times) >= 0) or (T is not None and times[0] > T):
        top = "T" if T is None else T
        raise ValueError(
            f"times is {times}, not a list falling to 0; give times in 0..{top} that fall to 0, as make_times does"
        )
    return times


def same_shape(name_a: str, a: jax.Array, name_b: str, b: jax.Array) -> None:
    """Refuse to broadcast two arrays that should have the same shape."""
    if a.shape != b.shape:
        raise ValueError(f"{name_a} has shape {a.shape} but {name_b} has shape {b.shape}; they must be equal")


def scale(s: Any, name: str = "guidance") -> Any:
    """Check a finite, non-negative guidance scale: 1 is conditional, 0 unconditional."""
    if known(s):
        values = np.asarray(s, dtype=np.float64)
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError(f"{name} is {s}; give a finite scale >= 0 (1 = conditional, 0 = unconditional)")
    return s


def scale_array(s: Any, name: str = "guidance") -> jax.Array:
    """Check a guidance scale and return it as a float array."""
    return jnp.asarray(scale(s, name), dtype=float)


def whole(name: str, value: int, low: int, high: float = math.inf) -> int:
    """Check a whole number in low..high."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not low <= value <= high:
        top = "" if high == math.inf else f"..{high}"
        raise ValueError(
            f"{name} is {value!r}; give a whole number {'>= ' + str(low) if not top else f'in {low}{top}'}"
        )
    return int(value)


def images_asked(name: str, value: int, low: int = 1) -> int:
    """Check a number of images, at most ten million: more would never be drawn, nor fit an index."""
    return whole(name, value, low, 10_000_000)


def seed(value: int, name: str = "seed") -> int:
    """Check a seed in 0..2³²-1: JAX drops the higher bits, so that 2³² would be 0."""
    return whole(name, value, 0, 2**32 - 1)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> Any:
    """Check a finite number, or an array of them, in low..high; tracers pass unchecked."""
    if known(value):
        a = np.asarray(value, dtype=np.float64)
        wrong = ~(np.isfinite(a) & (a >= low) & (a <= high))
        if wrong.any():
            at = tuple(map(int, np.argwhere(wrong)[0]))  # of a large array the first place alone
            what = f"is {value}" if a.size <= 20 else f"holds {a[at]:g} at {at}"
            raise ValueError(f"{name} {what}; give a finite number in [{low:g}, {high:g}]")
    return value


def falling(t: Any, s: Any) -> None:
    """Refuse s >= t if both can be read: a reverse step leads towards clean data."""
    if known(t) and known(s) and np.any(np.asarray(s) >= np.asarray(t)):
        raise ValueError(f"s is {s} and t is {t}; a step down wants s < t")


def eigenvalues(name: str, var: Any) -> np.ndarray:
    """Check the eigenvalues (D,) of a covariance, the largest first; float64."""
    var = np.asarray(number(name, var, 0), dtype=np.float64)
    if var.ndim != 1 or not var.size or np.any(np.diff(var) > 0):
        raise ValueError(f"{name} has shape {var.shape} or does not fall; give the eigenvalues (D,), the largest first")
    return var
