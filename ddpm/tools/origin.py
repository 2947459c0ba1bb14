"""Identify the commit of the code that produced a result."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """Return the current commit, with `+` if library files differ; empty outside a checkout."""
    here = str(Path(__file__).parent.parent)

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", here, *args], capture_output=True, check=True, stdin=subprocess.DEVNULL)
        return done.stdout.decode("utf-8", errors="replace").strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
