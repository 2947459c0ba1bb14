"""What a command owes the terminal: text that any encoding can print, and one sentence for each error."""

from __future__ import annotations

import dis
import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def replace_unknown_characters() -> None:
    """Print `?` for a character that the terminal's encoding lacks, such as β in cp1252, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def on_purpose(e: BaseException) -> bool:
    """True if this library raised `e` itself, with the word `raise` in one of its own files.

    Its message is then written for the user. That of a KeyError from a dictionary, or of another package, is not.
    """
    trace = e.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or isinstance(e, AssertionError):
        return False
    code = trace.tb_frame.f_code
    ours = Path(code.co_filename).resolve().is_relative_to(PACKAGE)
    return ours and code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def exit_status(e: Exception) -> int:
    """Print one sentence for an exception, and return the exit status of the command.

    2 for errors of the input and of the system; 1 for an unexpected one, whose traceback is kept in a file.
    DDPM_TRACEBACK=1 raises the exception instead.
    """
    if os.environ.get("DDPM_TRACEBACK"):
        raise e
    if isinstance(e, OSError) or on_purpose(e):
        print(f"ddpm: {e}", file=sys.stderr)
        return 2
    if isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e):
        print(f"ddpm: the memory does not suffice; ask for fewer images at a time ({e})", file=sys.stderr)
        return 2
    print(
        f"ddpm: unexpected {type(e).__name__}: {e}\nThis should not happen. Please report it, with {_kept(e)}",
        file=sys.stderr,
    )
    return 1


def _kept(e: Exception) -> str:
    """Write the traceback, the command and the versions to a new file; return its path, or the text itself."""
    import ddpm

    about = f"ddpm {ddpm.__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n"
    text = about + "".join(traceback.format_exception(e))
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="ddpm-", suffix=".txt", delete=False) as f:
            f.write(text)
        return f"the file {f.name}"
    except OSError:
        return f"this:\n{text}"
