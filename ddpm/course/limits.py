"""A limit on the time that a learner's function may take."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooLong(BaseException):
    """The time is over; not an Exception, so that `except Exception` in a loop does not swallow it."""


@contextmanager
def seconds(limit: float, processor: bool = False) -> Iterator[None]:
    """Raise `TooLong` in this thread after `limit` seconds. Without an alarm clock (Windows, threads): no limit.

    processor: of this process's own processor time, so that a busy machine fails nobody; else on the clock
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise TooLong

    clock, bell = (signal.ITIMER_PROF, signal.SIGPROF) if processor else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(bell, ring)
    signal.setitimer(clock, limit, limit)  # again and again, in case one is swallowed
    try:
        yield
    finally:
        signal.setitimer(clock, 0)
        signal.signal(bell, before)


def end_after(limit: float) -> None:
    """End this process after `limit` more seconds of processor time, also in code that hears no alarm (SIGXCPU)."""
    import resource

    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(used + limit)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
