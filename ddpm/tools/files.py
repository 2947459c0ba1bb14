"""Save and load arrays safely: damaged files are refused, interrupted saves leave the old file intact.

A pytree of nested dicts becomes one `.safetensors` file, with names such as `down_blocks/0/resnets/1/conv1/kernel`, and
a `.json` card with its SHA-256 and any further information. The card is written last; without it, or with a checksum
that does not match, the file is not loaded. (safetensors alone would load a flipped byte silently.) The card also has
a digest of itself, so that a changed class name is found as well; cards written before it existed have none.

Every reader here takes regular files only, up to a stated size: a pipe would hang it, a device never ends.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import socket
import stat
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes

MOST_JSON = 16 * 2**20  # bytes of a card or a configuration that are read
MOST_WEIGHTS = 16 * 2**30  # bytes of a file of arrays that are read
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")  # of tensors
STALE = 24 * 3600  # seconds after which the temporary file of another machine was left by a kill


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
            if not isinstance(node, dict):
                raise Damaged(f"the tensor {name} lies inside another tensor")
        node[leaf] = array
    return tree


def refuse_other_shapes(found: dict, wanted: Any, what: str) -> None:
    """Refuse arrays whose names or shapes are not those of `wanted`, a tree of arrays or of their shapes."""
    has, needs = ({k: tuple(a.shape) for k, a in flatten(tree).items()} for tree in (found, wanted))
    for name in sorted(has.keys() | needs.keys(), key=str):
        if has.get(name) != needs.get(name):
            raise ValueError(
                f"{what} do not fit their config: {name} should have shape {needs.get(name)}, "
                f"the file has {has.get(name)}"
            )


# --- reading ----------------------------------------------------------------------------------------------------------


def read_bytes(file: str | Path, most: int = MOST_WEIGHTS) -> bytes:
    """Read a regular file of at most `most` bytes; anything else is `Damaged`."""
    return check_regular(file, most).read_bytes()


def check_members(archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile where the list of an .npz differs from its members, or hides one of them.

    numpy.savez writes no comments; a changed length makes a comment of the member that is listed next.
    """
    for info in archive.infolist():
        archive.open(info).close()  # a name that was changed in the list differs from that of its member
        if info.comment:
            raise zipfile.BadZipFile(f"{info.filename} has a comment of {len(info.comment)} bytes, numpy writes none")


def check_regular(file: str | Path, most: int = MOST_WEIGHTS) -> Path:
    """Return the path of a regular file of at most `most` bytes; anything else is `Damaged`."""
    file = Path(file)
    try:
        about = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"{file} is missing") from None
    if not stat.S_ISREG(about.st_mode):
        what = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe, a socket or a device"
        raise Damaged(f"{file} is {what}, not a file")
    if about.st_size > most:
        raise Damaged(f"{file} has {about.st_size:,} bytes; at most {most:,} are read")
    return file


def read_json(file: str | Path) -> dict[str, Any]:
    """Read a JSON object; `Damaged` names the file and says what it holds instead."""
    data = read_bytes(file, MOST_JSON)
    if not data.strip():
        raise Damaged(f"{file} is empty; it was cut short")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise Damaged(f"{file} is not valid JSON ({str(e) or type(e).__name__}); it was cut short or changed") from None
    if not isinstance(value, dict):
        what = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
        raise Damaged(f"{file} holds {what}, not an object {{…}}; it was changed, or is another kind of file")
    return value


def tensors(data: bytes, file: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file; `Damaged` names the file, and a tensor whose type NumPy lacks."""
    try:
        head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        for name, about in head.items():
            if name != "__metadata__" and about["dtype"] not in DTYPES:
                raise Damaged(
                    f"{file}: {name} has the type {str(about['dtype'])[:20]}, which is not read; "
                    f"save it as float32 or float16"
                )
        return load_bytes(data)
    except Damaged:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise Damaged(f"{file} is damaged or cut short ({type(e).__name__}: {str(e)[:200]})") from None


# --- writing ----------------------------------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file atomically: write a temporary neighbour, flush it to disk, rename it.

    `path` is either the complete old file or the complete new one. An OSError, such as a full disk, names `path`.
    """
    try:
        refuse_device(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        tmp = path.with_name(f".{path.name}.{host()}.{os.getpid()}.tmp")
        try:
            with open(tmp, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(tmp, path)
        finally:
            tmp.unlink(missing_ok=True)
    except OSError as e:
        raise type(e)(e.errno, e.strerror or str(e), str(path)) from e


def refuse_device(path: Path) -> None:
    """Refuse a device, a pipe or a socket: the rename of `write_atomic` would put a file in its place."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file", str(path))


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table, with six digits per number, completely or not at all."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([[f"{v:.6g}" if isinstance(v, (float, np.floating)) else v for v in row] for row in rows])
    write_atomic(path, text.getvalue().encode("utf-8"))


def check_writable(path: Path) -> Path:
    """Refuse a path at which no file can be written, before long work starts; nothing is left behind."""
    made = [folder for folder in path.parents if not folder.exists()]
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        refuse_device(path)
    except OSError as e:
        raise OSError(f"{path} cannot be written ({e.strerror or e}); give another path") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        for folder in made:  # the innermost first
            with contextlib.suppress(OSError):
                folder.rmdir()
    return path


def write_json(path: Path, value: Any, indent: int = 1) -> None:
    """Write JSON in UTF-8, atomically."""
    write_atomic(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode("utf-8"))


def sweep(folder: str | Path, name: str = "") -> list[Path]:
    """Delete the temporary files that a killed `write_atomic` left, of all files or of one name; return them.

    Left is what belongs to a process of this machine that has ended, or is a day old.
    """
    gone = []
    for tmp in Path(folder).glob(".*.tmp"):
        m = re.fullmatch(r"\.(.+?)(?:\.([\w-]+))?\.(\d+)\.tmp", tmp.name)
        if not m or (name and not tmp.name.startswith(f".{name}.")):
            continue
        try:
            if (m[2] == host() and not is_running(int(m[3]))) or time.time() - tmp.stat().st_mtime > STALE:
                tmp.unlink()
                gone.append(tmp)
        except OSError:  # another process was faster, or it is not ours to delete
            continue
    return gone


def host() -> str:
    """Return the name of this machine, as it stands in the names of temporary files and in locks."""
    return re.sub(r"[^\w-]", "-", socket.gethostname()) or "-"


def is_running(pid: int) -> bool:
    """True if a process with this number runs here, or if that cannot be asked."""
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


# --- arrays with a card -----------------------------------------------------------------------------------------------


def digest(card: dict) -> str:
    """SHA-256 of the content of a card, without its own digest; order and spelling of the JSON do not matter."""
    content = json.loads(json.dumps({k: v for k, v in card.items() if k != "card_sha256"}))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def signed(card: dict) -> dict:
    """The card with its digest, right behind the digest of its file if it has one."""
    first = {"sha256": card["sha256"]} if "sha256" in card else {}
    return first | {"card_sha256": digest(card)} | {k: v for k, v in card.items() if k not in ("sha256", "card_sha256")}


def save(path: str | Path, tree: dict, card: dict) -> None:
    """Write `path`.safetensors and then `path`.json: the card, with the checksum and a digest of itself."""
    path = Path(path)
    data = save_bytes({name: np.asarray(a, order="C") for name, a in flatten(tree).items()})
    write_atomic(path.with_name(path.name + ".safetensors"), data)
    write_json(path.with_name(path.name + ".json"), signed(card | {"sha256": hashlib.sha256(data).hexdigest()}))


def load_card(path: str | Path) -> dict:
    """Load the card of `path` without reading the arrays; a card with a digest must match it."""
    path = Path(path)
    file = path.with_name(path.name + ".json")
    card = read_json(file)
    if "card_sha256" in card and card["card_sha256"] != digest(card):
        raise Damaged(f"{file} does not match its own digest (card_sha256): it was changed")
    return card


def load(path: str | Path) -> tuple[dict, dict]:
    """Load (arrays, card); raise `Damaged` if a file is missing or the checksum does not match."""
    path, card = Path(path), load_card(path)
    file = path.with_name(path.name + ".safetensors")
    data = read_bytes(file)
    if hashlib.sha256(data).hexdigest() != card.get("sha256"):
        raise Damaged(f"{file} does not match the checksum in its card: it was cut short or changed")
    return unflatten(tensors(data, file)), card
