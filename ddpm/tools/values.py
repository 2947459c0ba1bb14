"""Look at the values of arrays, where they are known; JAX is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np


def has_nan(x: Any) -> bool:
    """True if `x` is known to hold a NaN; inside `jit`, where values are not known, False."""
    try:
        return bool(np.isnan(x).any())
    except TypeError:  # a tracer cannot become a NumPy array
        return False


def visible(images: Any) -> np.ndarray:
    """Images (N, H, W, C) as they are if they are grey or RGB; of any other C the mean, as an X-ray: (N, H, W, 1)"""
    x = np.asarray(images)
    return x if x.shape[-1] in (1, 3) else x.mean(-1, keepdims=True)
