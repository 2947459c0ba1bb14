"""What the page on your own pictures contains, for experiments that do what it tells: its code and its commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "own_pictures.md"


def drawing() -> dict[str, Any]:
    """The functions of the page that draw pictures and write them into folders."""
    text, scope = PAGE.read_text(encoding="utf-8"), {"__name__": "page"}
    exec(compile(re.findall(r"```python\n(.*?)```", text, re.S)[0], PAGE.name, "exec"), scope)
    return scope


def commands() -> list[str]:
    """The lines that begin with `ddpm`, in the page's order."""
    return re.findall(r"^ddpm .*$", PAGE.read_text(encoding="utf-8"), re.M)
