"""Results that are kept under the hash of all that they depend on, so that asking again costs nothing.

    path = cache.path("evaluation", weights_sha256, data_sha256, settings, cache.code(scoring, metrics))

The name of a file is its content's recipe: another weight, image, setting or line of the code that computes it is
another name, and nothing is ever out of date. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any


def folder() -> Path:
    """Where results are kept: DDPM_CACHE_DIR, or ~/.cache/ddpm or alike."""
    chosen = os.environ.get("DDPM_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("ddpm"))


def key(*parts: Any) -> str:
    """16 hex digits of the SHA-256 of the parts, which are plain values; dicts count without their order."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code(*modules: ModuleType) -> str:
    """The hash of the source of these modules."""
    return key(*(Path(str(m.__file__)).read_text() for m in modules))


def path(kind: str, *parts: Any) -> Path:
    """The file, without its suffix, for a result of this kind that depends on these parts alone."""
    return folder() / f"{kind}-{key(*parts)}"
