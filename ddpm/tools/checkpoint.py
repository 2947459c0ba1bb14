"""Save and restore checkpoints: `step_00001234.safetensors` with its card; the last few are kept."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm.tools import files


def steps(folder: str | Path) -> list[int]:
    """List the steps of all checkpoints in ascending order."""
    found = [re.fullmatch(r"step_(\d+)\.json", p.name) for p in Path(folder).glob("step_*.json")]
    return sorted(int(m[1]) for m in found if m)


def stem(folder: str | Path, step: int) -> Path:
    """Return the name of a checkpoint's files, without their suffix."""
    return Path(folder) / f"step_{step:08d}"


def _named(state: Any) -> dict[str, Any]:
    """Map the path of every leaf of a pytree to the leaf: {'params.conv_in.kernel': leaf}."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    }


def save(folder: str | Path, step: int, state: Any, card: dict, keep: int = 2) -> None:
    """Save any pytree of arrays under `step`, then delete all but the newest `keep`.

    An OSError, such as a full disk, names the file and says which step is saved.
    """
    try:
        files.save(stem(folder, step), {k: np.asarray(a) for k, a in _named(state).items()}, {"step": step, **card})
    except OSError as e:
        last = f"step {max(before):,} is saved" if (before := steps(folder)) else "no step is saved yet"
        raise type(e)(e.errno, f"{e.strerror} (step {step:,}; {last})", e.filename) from e
    for old in steps(folder)[:-keep]:
        for suffix in (".json", ".safetensors"):  # the card first: without it the checkpoint does not exist
            stem(folder, old).with_name(stem(folder, old).name + suffix).unlink(missing_ok=True)


def restore(folder: str | Path, like: Any, refuse: Callable[[dict], None] | None = None) -> tuple[Any, dict] | None:
    """Restore (state, card) from the newest intact checkpoint; return None if there is none.

    `like`: a pytree of the same structure and shapes; `refuse` sees the card before the arrays are compared. Damaged
    checkpoints, and those with NaN or infinite values, are skipped with a warning; if none is left, `files.Damaged`
    lists them. Temporary files that a kill left are deleted.
    """
    files.sweep(folder)
    refused = []
    for step in reversed(steps(folder)):
        path = stem(folder, step)
        try:
            arrays, card = files.load(path)
            if wrong := [name for name, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]:
                raise files.Damaged(f"{path}: {wrong[0]} holds NaN or infinite values")
        except files.Damaged as e:
            warnings.warn(f"checkpoint refused: {e}. The one before it is tried", stacklevel=2)
            refused.append(str(e))
            continue
        if refuse:
            refuse(card)
        # names and shapes against those of `like`
        named = _named(like)
        for name in sorted(named.keys() ^ arrays.keys()):
            raise ValueError(f"{path}: {name} is in {'this run' if name in named else 'the checkpoint'} only")
        for name, leaf in named.items():
            if arrays[name].shape != leaf.shape:
                raise ValueError(f"{path}: {name} has shape {arrays[name].shape}, this run wants {leaf.shape}")
        leaves = [jax.numpy.asarray(arrays[name]) for name in named]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), card
    if refused:
        raise files.Damaged(f"{folder} holds no checkpoint that can be used: {'; '.join(refused)}. Put back a copy")
    return None
