"""Comparison of arrays within a band around each entry; shapes, infinities and exceptions count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm.course.answers import Answer

Band = Callable[[np.ndarray], np.ndarray]


def fits(answer: Answer, want: Any) -> bool:
    """Test whether the answer is the expected one, within the bands."""
    if isinstance(want, str) or answer.error or answer.none:
        return bool(answer.error) and answer.error == want
    arrays = arranged(answer, len(want))
    return len(arrays) == len(want) and all(
        a.shape == value.shape and a.dtype.kind != "c" and not np.any(off(a, value, band))
        for a, (value, band) in zip(arrays, want, strict=True)
    )


def arranged(answer: Answer, n: int) -> tuple[np.ndarray, ...]:
    """Arrange the arrays as `n` results: a list becomes one array where one is expected."""
    if n == 1 and answer.several == "list" and len({a.shape for a in answer.arrays}) == 1:
        return (np.stack(answer.arrays),)
    return answer.arrays


def off(a: np.ndarray, value: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Mark entries outside the band, and NaN unless NaN is expected; an equal infinity is inside; true is 1."""
    with np.errstate(all="ignore"):
        near = np.isfinite(value) & (np.abs(1 * a - 1 * value) <= band)  # the band around an infinity is infinite
    return ~(near | (a == value) | (np.isnan(a) & np.isnan(value)))


def alike(a: Answer, b: Answer, band: Band) -> bool:
    """Test whether two answers agree; exceptions agree if their types do."""
    if b.error or b.none:
        return (a.error, a.none) == (b.error, b.none)
    return fits(a, [(v, band(v)) for v in arranged(b, 1 if b.several == "list" else len(b.arrays))])
