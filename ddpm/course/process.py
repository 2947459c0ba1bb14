"""Control of a worker: start it, read its answers, and end it when it breaks a limit.

A worker (worker.py) runs the learner's functions and sends arrays through a pipe. One that hangs, prints without end or
dies is ended with all that it has started, and `run_worker` reports at which exercise.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ddpm
from ddpm.course import worker
from ddpm.course.answers import Answer

OUTPUT = 2**20  # bytes that a worker may print
START = 120.0  # seconds for a worker to start: JAX is imported
ASLEEP = 10.0  # wall-clock limit as a multiple of the limit of processor time, for busy machines
GRACE = 5.0


@dataclass(frozen=True)
class Limits:
    """The limits for one exercise of one submission."""

    seconds: float = 20.0  # of processor time
    memory: float = 4.0  # GB
    output: int = OUTPUT


class Worker:
    """One process with its pipe of answers and its output; it is ended with all its children."""

    def __init__(self, file: Path, numbers: list[str], seeds: list[int], limits: Limits, cwd: str) -> None:
        read, write = os.pipe()
        job = {"file": str(file.resolve()), "name": file.name, "numbers": numbers, "seeds": seeds, "pipe": write}
        job |= {"seconds": limits.seconds, "memory": limits.memory}
        code = f"import sys; sys.path.insert(0, {str(Path(ddpm.__file__).parent.parent)!r})\n"
        code += f"sys.path += {[p for p in sys.path if p]!r}\n"
        code += "from ddpm.course.worker import main; main()"
        env = {"PATH": os.environ.get("PATH", ""), "HOME": cwd, "TMPDIR": cwd, "MPLCONFIGDIR": cwd, "LANG": "C.UTF-8"}
        env |= {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg", "DDPM_OFFLINE": "1", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", code, json.dumps(job)],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(write,),
            start_new_session=True,
        )
        os.close(write)
        assert self.process.stdout is not None
        self.answers, self.output = read, self.process.stdout.fileno()

    def kill(self) -> None:
        """End the process and its whole session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.answers)
        assert self.process.stdout is not None
        self.process.stdout.close()


def frames(buffer: bytearray) -> list[tuple[dict[str, Any], bytes]]:
    """Remove the complete frames from the front of the buffer and return them."""
    found = []
    while len(buffer) >= 16:
        head, body = struct.unpack("<QQ", buffer[:16])
        if head > 2**24 or body > 2 * worker.LARGEST:
            raise ValueError("a frame that is too large")
        if len(buffer) < 16 + head + body:
            break
        found.append((json.loads(buffer[16 : 16 + head]), bytes(buffer[16 + head : 16 + head + body])))
        del buffer[: 16 + head + body]
    return found


def run_worker(
    file: Path, numbers: list[str], seeds: list[int], limits: Limits
) -> tuple[dict[str, Any], str | None, str]:
    """Run one worker as far as it gets: ({number: frame}, the exercise that ended it or None, why)."""
    results: dict[str, tuple[dict[str, Any], bytes]] = {}
    with tempfile.TemporaryDirectory() as cwd:
        process = Worker(file, numbers, seeds, limits, cwd)
        try:
            current, why = follow(process, results, limits)
        finally:
            process.kill()
    return results, current, why


def follow(process: Worker, results: dict[str, Any], limits: Limits) -> tuple[str | None, str]:
    """Read until the worker ends or breaks a limit; fills `results`."""
    # The two pipes, and the first deadline
    current, printed, buffer = None, b"", bytearray()
    deadline, total = time.monotonic() + START, 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.answers, selectors.EVENT_READ)
        selector.register(process.output, selectors.EVENT_READ)
        while True:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return current or "", f"did not finish in {ASLEEP * limits.seconds + GRACE:g} s on the clock"
            # Output counts towards its limit
            for key, _ in ready:
                data = os.read(key.fd, 2**16)
                if key.fd == process.output:
                    total, printed = total + len(data), (printed + data)[-2000:]
                    if total > limits.output:
                        return current or "", f"printed more than {limits.output / 2**20:g} MB"
                    if not data:
                        selector.unregister(process.output)
                    continue
                # Answers arrive in frames; each extends the deadline
                if not data:
                    return current or "", died(process, printed)
                buffer += data
                for head, body in frames(buffer):
                    if "end" in head:
                        return None, ""
                    if "begin" in head:
                        current = head["begin"]
                    else:
                        results[head.get("answers") or head["failed"]] = (head, body)
                    deadline = time.monotonic() + ASLEEP * limits.seconds + GRACE


def died(process: Worker, printed: bytes) -> str:
    """Describe how a process ended early."""
    code = process.process.wait()
    if code == -signal.SIGXCPU:
        return "did not finish in its time, and could not be interrupted"
    name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    last = printed.decode(errors="replace").strip().splitlines()[-1:]
    return f"ended the process ({name})" + (f": {last[0][:200]}" if last else "")


def unpack(head: dict[str, Any], body: bytes) -> list[list[Answer]]:
    """Read the answers of a frame; arrays only, never pickles."""
    stream = io.BytesIO(body)
    parts = []
    for part in head["parts"]:
        answers = []
        for plain in part:
            arrays = tuple(np.load(stream, allow_pickle=False) for _ in range(int(plain["arrays"])))
            answers.append(Answer(**{**plain, "arrays": arrays}))
        parts.append(answers)
    return parts
