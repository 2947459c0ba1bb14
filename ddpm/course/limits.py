"""Limits on the time of a learner's function."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooLong(BaseException):
    """Raised when the time is over; not an Exception, so that `except Exception` does not catch it."""


@contextmanager
def seconds(limit: float, processor: bool = False) -> Iterator[None]:
    """Raise `TooLong` in this thread after `limit` seconds.

    There is no limit where alarms do not exist (Windows, threads).
    processor: count processor time of this process, so that a busy machine makes no check fail; else wall-clock time
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise TooLong

    clock, bell = (signal.ITIMER_PROF, signal.SIGPROF) if processor else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(bell, ring)
    signal.setitimer(clock, limit, limit)  # repeatedly, in case one is caught
    try:
        yield
    finally:
        signal.setitimer(clock, 0)
        signal.signal(bell, before)


def end_after(limit: float) -> None:
    """End this process after `limit` more seconds of processor time, by SIGXCPU.

    This also ends code that does not react to an alarm.
    """
    import resource

    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(used + limit)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
