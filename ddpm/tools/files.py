"""Save and load arrays safely: damaged files are refused, interrupted saves leave the old file intact.

A pytree of nested dicts becomes one `.safetensors` file, with names such as `down_blocks/0/resnets/1/conv1/kernel`, and
a `.json` card with its SHA-256 and any further information. The card is written last; without it, or with a checksum
that does not match, the file is not loaded. (safetensors alone would load a flipped byte silently.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes


class Damaged(ValueError):
    """A file is truncated, changed or missing."""


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to {'a/b/0/kernel': leaf}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for k, v in tree.items():
        flat |= flatten(v, f"{prefix}/{k}" if prefix else str(k))
    return flat


def unflatten(flat: dict[str, np.ndarray]) -> dict:
    """Invert `flatten`; numeric parts become int keys, as Flax names the items of a list."""
    tree: dict = {}
    for name, array in sorted(flat.items()):  # safetensors returns them in arbitrary order
        *path, leaf = [int(k) if k.isdigit() else k for k in name.split("/")]
        node = tree
        for k in path:
            node = node.setdefault(k, {})
        node[leaf] = array
    return tree


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file atomically: write a temporary neighbour, flush it to disk, rename it.

    `path` is either the complete old file or the complete new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(tmp, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    except OSError as e:  # a full disk does not say which file it was
        raise type(e)(e.errno, e.strerror, str(path)) from e
    finally:
        tmp.unlink(missing_ok=True)


def check_writable(path: Path) -> Path:
    """Refuse a path at which no file can be written, before long work starts; nothing is left behind."""
    made = [folder for folder in path.parents if not folder.exists()]
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
    except OSError as e:
        raise OSError(f"{path} cannot be written ({e.strerror or e}); give another path") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        for folder in made:  # the innermost first
            with contextlib.suppress(OSError):
                folder.rmdir()
    return path


def save(path: str | Path, tree: dict, card: dict) -> None:
    """Write `path`.safetensors and then `path`.json (the card, with the checksum)."""
    path = Path(path)
    data = save_bytes({name: np.asarray(a, order="C") for name, a in flatten(tree).items()})
    write_atomic(path.with_name(path.name + ".safetensors"), data)
    card = {"sha256": hashlib.sha256(data).hexdigest(), **card}
    write_atomic(path.with_name(path.name + ".json"), (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())


def load_card(path: str | Path) -> dict:
    """Load the card of `path` without reading the arrays."""
    path = Path(path)
    return read_json(path.with_name(path.name + ".json"))


def read_json(file: Path) -> dict:
    """Load a file that holds a JSON object; raise `Damaged`, which names the file, if it does not."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{file} is missing") from None
    except (ValueError, RecursionError) as e:
        raise Damaged(f"{file} is not valid JSON ({e}); it was cut short or changed") from None
    if not isinstance(found, dict):
        raise Damaged(f"{file} holds {json.dumps(found)[:20]}, not a JSON object; it was changed")
    return found


def load(path: str | Path) -> tuple[dict, dict]:
    """Load (arrays, card); raise `Damaged` if a file is missing or the checksum does not match."""
    path, card = Path(path), load_card(path)
    file = path.with_name(path.name + ".safetensors")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{file} is missing") from None
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise Damaged(f"{file} does not match the checksum in its card: it was cut short or changed")
    return unflatten(load_bytes(data)), card
