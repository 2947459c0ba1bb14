"""Cache results under the hash of everything that they depend on.

    path = cache.path("evaluation", weights_sha256, data_sha256, settings, cache.code(scoring, metrics))

A different weight, image, setting or line of the code that computes a result gives a different file name, so a cached
result is never out of date. The folder may be deleted at any time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from ddpm.tools.files import Damaged, digest, read_json, write_atomic


def folder() -> Path:
    """Return the cache folder: DDPM_CACHE_DIR, or the user's cache such as ~/.cache/ddpm."""
    chosen = os.environ.get("DDPM_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else user_folder()


def user_folder() -> Path:
    """Return the user's cache such as ~/.cache/ddpm; without a home, as in some containers, a temporary folder."""
    with warnings.catch_warnings():  # in a notebook without ipywidgets, tqdm warns when pooch imports its bars
        warnings.simplefilter("ignore")
        import pooch

    try:
        place = Path(pooch.os_cache("ddpm"))
        if place.is_absolute():
            return place
    except (RuntimeError, KeyError, OSError):  # no HOME, and the user's number has no entry in passwd
        pass
    return _temporary()


@functools.cache
def _temporary() -> Path:
    """Return a temporary folder that belongs to this user alone."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir()) / f"ddpm-cache-{user}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        if place.is_symlink() or place.stat().st_uid != user:  # somebody else's: not to be trusted
            place = Path(tempfile.mkdtemp(prefix="ddpm-cache-"))
    except OSError:
        pass  # nothing can be kept; whoever writes there reports it
    return place


def key(*parts: Any) -> str:
    """Hash plain values to 16 hex digits of SHA-256; the order of dicts is ignored."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code(*modules: ModuleType) -> str:
    """Hash the source code of these modules."""
    return key(*(Path(str(m.__file__)).read_text(encoding="utf-8") for m in modules))


def write(path: Path, value: Any) -> None:
    """Keep a plain value with its digest; a folder that cannot be written is reported, and no error."""
    try:
        write_atomic(path, json.dumps({"sha256": digest({"value": value}), "value": value}).encode())
    except OSError as e:
        print(f"could not keep the result for the next time: {e}", file=sys.stderr)


def read(path: Path) -> Any:
    """Return the value that `write` kept; None if it is missing, or if a bit of it was changed."""
    try:
        found = read_json(path)
    except (Damaged, OSError):
        return None
    if "sha256" not in found and "value" not in found:
        return found  # written before there was a digest
    return found.get("value") if found.get("sha256") == digest({"value": found.get("value")}) else None


def path(kind: str, *parts: Any) -> Path:
    """Return the file, without suffix, of a result of this kind that depends only on these parts."""
    return folder() / f"{kind}-{key(*parts)}"
