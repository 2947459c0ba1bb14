"""Sentences for wrong answers that are no known mistake.

Checked in this order: nothing returned; an exception; the wrong shape; NaN; else the worst entry and its relative
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm.course.answers import Answer
from ddpm.course.compare import arranged, off
from ddpm.course.part import Part

IN_JIT = {  # JAX's exceptions for what needs the numbers themselves
    "TracerArrayConversionError": "a function of `np` wants them; use that of `jnp`",
    "TracerBoolConversionError": "an `if` or `while` wants one; use `jnp.where`",
    "TracerIntegerConversionError": "a Python index or range wants one; use `jnp.take` or an array of places",
    "ConcretizationTypeError": "float(), int() and the functions of `math` want one; use those of `jnp`",
    "NonConcreteBooleanIndexError": "an index of true and false gives a length that nobody knows; use `jnp.where`",
}


def explain(part: Part, answer: Answer, want: Any, in_jit: bool) -> tuple[str, str]:
    """Explain a failed case that matches no named mistake."""
    f = f"`{part.names[-1]}`"
    if answer.none:
        return "none", f"{f} returned nothing (None). Is there a `return`?"
    if answer.error:
        return "exception", exception(f, answer, in_jit, part.kind)
    if isinstance(want, str):
        return "value", f"{f} accepted an input that it should refuse with a {want}."
    arrays = arranged(answer, len(want))
    if len(arrays) != len(want):
        return "shape", f"{f} returned {things(len(arrays))}; wanted: {things(len(want))}."
    for a, (value, _) in zip(arrays, want, strict=True):
        if a.shape != value.shape:
            return "shape", f"{f} returned the shape {a.shape}; wanted: {value.shape}."
    if any(a.dtype.kind == "c" for a in arrays):
        return "value", f"{f} returned complex numbers; wanted are real ones."
    for a, (value, _) in zip(arrays, want, strict=True):
        if np.any(np.isnan(a) & ~np.isnan(value)):
            where = place_of(np.argmax(np.isnan(a) & ~np.isnan(value)), a.shape)
            return "nan", f"{f} returned NaN (not a number){where}: a root of something negative, or 0/0?"
    return "value", worst(part, f, arrays, want)


def things(n: int) -> str:
    """Describe the form of an answer: 'one array', 'a tuple of 2'."""
    return "one array" if n == 1 else f"a tuple of {n}"


def place_of(flat: Any, shape: tuple[int, ...]) -> str:
    """Describe the place of an entry: ' at [1, 2]', or nothing for a number."""
    return f" at {[int(i) for i in np.unravel_index(flat, shape)]}" if shape else ""


def exception(f: str, answer: Answer, in_jit: bool, kind: str = "formula") -> str:
    """Report the exception, with the remedy if one is known."""
    message = answer.message.strip().split("\n")[0][:200]
    if answer.error in IN_JIT and kind == "gradient":
        return f"The lesson differentiates {f} with JAX, which has no plain numbers for it: {IN_JIT[answer.error]}."
    if answer.error in IN_JIT:
        return f"The lesson calls {f} inside `jit`, where the numbers are not known yet: {IN_JIT[answer.error]}."
    if in_jit and "tracer" in f"{answer.error} {answer.message}".lower():
        return f"The lesson calls {f} inside `jit`, where the numbers are not known yet: use `jnp`, and no `if`."
    sentence = f"{f} stopped with {answer.error}: {message}" + (f" (line {answer.line})" if answer.line else "")
    if "read-only" in message:
        sentence += ". It changes its argument in place; make a new array instead"
    if answer.error == "NameError":
        sentence += (
            ". An exercise has its arguments, the imports and functions; other names exist only when the lesson runs"
        )
    return sentence.rstrip(".") + "."


def worst(part: Part, f: str, arrays: Sequence[np.ndarray], want: Any) -> str:
    """Describe the entry that is furthest outside its band."""
    if part.secret:
        return f"{f}: not within ±{np.max(want[0][1]):g} of it. Keep your guess in mind, run the lesson, and compare."
    found, total, bad = (-1.0, ""), 0, 0
    for k, (a, (value, band)) in enumerate(zip(arrays, want, strict=True)):
        outside = off(a, value, band)
        total, bad = total + a.size, bad + int(outside.sum())
        if not outside.any():
            continue
        with np.errstate(all="ignore"):
            ratio = np.where(outside, np.abs(1.0 * a - value) / np.maximum(band, 1e-300), -1.0)  # true is 1
        i = int(np.nanargmax(np.where(np.isfinite(ratio), ratio, 1e300)))
        got, right = float(a.ravel()[i]), float(value.ravel()[i])
        relative = f", relative error {abs(got - right) / abs(right):.2g}" if right and np.isfinite(right) else ""
        if part.kind == "moments":
            relative = f", allowed ± {np.ravel(band)[i]:.2g}"
        if part.labels:
            sentence = f"{f}: {part.labels[i]} is {got:.4g}; expected {right:.4g}{relative}"
            found = max(found, (float(ratio.ravel()[i]), sentence))
            continue
        which = f", result {k + 1} of {len(arrays)}," if len(arrays) > 1 else ""
        if ratio.ravel()[i] > found[0]:
            found = (ratio.ravel()[i], f"{f}{which}{place_of(i, a.shape)} is {got:.6g}; expected {right:.6g}{relative}")
    if part.labels:
        return f"{found[1]}."
    route = " The two routes do not agree." if part.kind == "identity" else ""
    return f"{found[1]}. {bad} of {total} numbers are off.{route}"


def too_long(name: str, s: float) -> str:
    """Return the sentence for code that takes too long."""
    return f"`{name}` did not finish in {s:g} s. Is there a loop that never ends?"
