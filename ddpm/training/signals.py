"""A long loop that is told to stop finishes the step it is at, so that what it has can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(KeyboardInterrupt):
    """Stopped in order: all is saved. `number` is the signal that asked for it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = int(number)


@contextmanager
def asked(*signals: int) -> Iterator[list[int]]:
    """Those of the signals (SIGINT for Ctrl-C, SIGTERM from schedulers and containers) that came since the block began.

    The first is answered with a line on stderr, a second one interrupts at once. A signal that this process ignores it
    goes on ignoring; outside the main thread Python allows no handlers, and nothing changes.
    """
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        os.write(2, b"\nstopping after this step; a second time: at once, without saving\n")  # print may be busy

    kinds = signals if threading.current_thread() is threading.main_thread() else ()
    before = {s: h for s in kinds if (h := signal.getsignal(s)) not in (signal.SIG_IGN, None)}
    for s in before:
        signal.signal(s, note)
    try:
        yield came
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
