"""Arrays on disk, so that a damaged file is refused and an interrupted save leaves the old one whole.

A pytree of nested dicts becomes one `.safetensors` file, with names such as `down_blocks/0/resnets/1/conv1/kernel`, and
beside it a `.json` card that holds its SHA-256 and whatever there is to say. The card is written last: without it, or
with a checksum that does not fit, there is nothing to load. (safetensors by itself loads a flipped byte silently.)
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes


class Damaged(ValueError):
    """A file that is cut short, changed, or not there."""


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts -> {'a/b/0/kernel': leaf}"""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for k, v in tree.items():
        flat |= flatten(v, f"{prefix}/{k}" if prefix else str(k))
    return flat


def unflatten(flat: dict[str, np.ndarray]) -> dict:
    """The inverse of `flatten`; a part that is a number becomes an int key, as Flax names the items of a list."""
    tree: dict = {}
    for name, array in sorted(flat.items()):  # safetensors gives them back in any order
        *path, leaf = [int(k) if k.isdigit() else k for k in name.split("/")]
        node = tree
        for k in path:
            node = node.setdefault(k, {})
        node[leaf] = array
    return tree


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a neighbour, flush to the disk, rename: `path` is either the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(tmp, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


def save(path: str | Path, tree: dict, card: dict) -> None:
    """Write `path`.safetensors and then `path`.json (the card, with the checksum)."""
    path = Path(path)
    data = save_bytes({name: np.asarray(a, order="C") for name, a in flatten(tree).items()})
    write_atomic(path.with_name(path.name + ".safetensors"), data)
    card = {"sha256": hashlib.sha256(data).hexdigest(), **card}
    write_atomic(path.with_name(path.name + ".json"), (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())


def load_card(path: str | Path) -> dict:
    """The card of `path`, without reading the arrays."""
    path = Path(path)
    file = path.with_name(path.name + ".json")
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise Damaged(f"{file} is missing") from None
    except ValueError as e:
        raise Damaged(f"{file} is not valid JSON ({e}); it was cut short or changed") from None


def load(path: str | Path) -> tuple[dict, dict]:
    """(arrays, card) of `path`; `Damaged` if a file is missing or the checksum does not fit."""
    path, card = Path(path), load_card(path)
    file = path.with_name(path.name + ".safetensors")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{file} is missing") from None
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise Damaged(f"{file} does not match the checksum in its card: it was cut short or changed")
    return unflatten(load_bytes(data)), card
