"""Keep images that were slow to read, in the cache: completely or not at all, and with a checksum over all of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ddpm.datasets.split import Divided
from ddpm.tools import cache

STALE = 86_400  # seconds after which what an interrupted process left is swept


def _place(key: str) -> Path:
    return cache.folder() / f"images-{key}"


def _digest(about: dict, x: np.ndarray, y: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for a in (x, y):
        digest.update(f"{a.shape} {a.dtype}".encode())
        digest.update(a.data)
    return digest.hexdigest()


def find(key: str) -> Divided | None:
    """Return what was kept under this key, as arrays that stay on the disk; None if nothing was, or it is damaged."""
    place = _place(key)
    if not place.is_dir():
        return None
    try:
        card = json.loads((place / "card.json").read_text(encoding="utf-8"))
        x, y = (np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("images", "labels"))
        about = card["about"]
        if _digest(about, x, y) != card["sha256"]:
            raise ValueError("its checksum does not match")
        return Divided(x, np.array(y), about["train"], tuple(about["classes"]), about["notes"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        print(f"{place} is damaged ({e}); the images are read again", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        return None


def keep(key: str, images: Divided) -> Divided:
    """Write the images to the cache and return them; where that cannot be done, say so and go on."""
    place = _place(key)
    tmp = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        tmp = Path(tempfile.mkdtemp(prefix=".images-", dir=place.parent))
        for name, array in (("images", images.x), ("labels", images.y)):
            with open(tmp / f"{name}.npy", "wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        about = {"train": images.train, "classes": list(images.classes), "notes": images.notes}
        card = {"about": about, "sha256": _digest(about, images.x, images.y)}
        (tmp / "card.json").write_text(json.dumps(card), encoding="utf-8")
        os.rename(tmp, place)
    except OSError as e:
        if not place.is_dir():  # else another process was faster
            print(f"could not keep the images in {place} for the next time: {e}", file=sys.stderr)
    finally:
        if tmp is not None:
            shutil.rmtree(tmp, ignore_errors=True)
    return images


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed left behind."""
    for left in folder.glob(".images-*"):
        if time.time() - left.stat().st_mtime > STALE:
            shutil.rmtree(left, ignore_errors=True)
