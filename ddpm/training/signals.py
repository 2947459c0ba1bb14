"""Finish the current step on SIGINT or SIGTERM, so the run can be checkpointed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(KeyboardInterrupt):
    """The loop stopped on the signal `number`, after saving its state."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = int(number)


@contextmanager
def received(*signals: int) -> Iterator[list[int]]:
    """Collect the signals received since the block began, instead of interrupting it.

    SIGINT comes from Ctrl-C, SIGTERM from schedulers and containers. The first signal prints a line on stderr, a second
    one interrupts at once. Signals that the process ignores stay ignored. Outside the main thread Python allows no
    handlers, so nothing changes.
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
