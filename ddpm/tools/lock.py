"""Hold a folder for one process: its file `lock` names the owner for as long as it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ddpm.tools.files import check_regular, host, is_running


@contextmanager
def held(folder: Path) -> Iterator[str]:
    """Hold `folder` for this process; yield the owner who left a lock behind, or "" if nobody did.

    Refused with the owner's process and host while another process holds it. The system releases the lock of a process
    that ends in whatever way; then only the owner's name stays in the file.
    """
    file = folder / "lock"
    if file.exists():
        check_regular(file, 4096)  # a pipe, say
    while True:
        handle = open(file, "a+", encoding="utf-8", errors="replace")
        handle.seek(0)
        owner = handle.read(200).strip()
        if not _taken(handle, owner):
            handle.close()
            raise ValueError(
                f"{folder} is in use by {owner or 'another process'}. Wait for it, or stop it; "
                f"if it is gone for certain, delete {file}"
            )
        if file.exists() and os.path.samestat(os.fstat(handle.fileno()), file.stat()):
            break
        handle.close()  # its owner has just deleted it
    # The lock is ours: say who holds it, and take it away at the end
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {host()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    handle.flush()
    try:
        yield owner
    finally:
        file.unlink(missing_ok=True)
        handle.close()


def _taken(handle: IO[str], owner: str) -> bool:
    """Take the system's lock of the file, if nobody has it."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, or a network file system without locks: ask whether the owner runs
        words = owner.replace(",", "").split()
        return not (len(words) > 3 and words[1].isdecimal()) or (words[3] == host() and not is_running(int(words[1])))
    return True
