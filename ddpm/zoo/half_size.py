"""Weights at half of their size: float16 in the file, float32 in use."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def half(params: dict) -> dict:
    """Round float32 parameters to float16, of half the size; what float16 cannot hold is refused."""

    def rounded(path: Any, a: Any) -> np.ndarray:
        if not np.isfinite(small := np.asarray(a).astype(np.float16)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"{name} holds numbers above {np.finfo(np.float16).max:g} or no numbers; keep float32")
        return small

    with np.errstate(over="ignore"):
        return jax.tree_util.tree_map_with_path(rounded, params)
