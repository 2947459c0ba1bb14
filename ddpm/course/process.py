"""Control of a worker: start it, read its answers, and end it when it breaks a limit.

A worker (worker.py) runs the learner's functions and sends arrays through a pipe. One that hangs, prints without end or
dies is ended with all that it has started, and `run_worker` reports at which exercise.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import shutil
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
from ddpm.course import lesson as lessons
from ddpm.course import parcel, worker
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
    total: float = 900.0  # seconds on the clock, for the whole submission
    hidden: tuple[str, ...] = ()  # folders that no submission may read: those of the others
    isolate: bool = False  # with bubblewrap


PACKAGE = Path(ddpm.__file__).parent
TRUTHS = (str(PACKAGE / "course" / "checks"), str(lessons.FOLDER))


def readable(cwd: str) -> tuple[str, ...]:
    """List the folders that a worker may read: those of Python, the package and the system's libraries."""
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    system = [
        p for p in ("/usr", "/lib", "/lib64", "/etc", "/sys", "/dev/urandom", "/proc/cpuinfo") if Path(p).exists()
    ]
    return (sys.prefix, sys.base_prefix, str(PACKAGE), *packages, *system, cwd)


def isolated(cwd: str, hidden: tuple[str, ...]) -> list[str]:
    """Begin a command with bubblewrap: no network, no processes but its own, of the files only the readable ones."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise ValueError("isolate: `bwrap` is not found; install bubblewrap, or run `grade` in a container without it")
    command = [bwrap, "--unshare-all", "--die-with-parent", "--proc", "/proc", "--dev", "/dev"]
    mounts = [(folder, ["--ro-bind", folder, folder]) for folder in readable(cwd)[:-1]]
    mounts += [(folder, ["--tmpfs", folder]) for folder in (*TRUTHS, *hidden)]
    for folder, mount in sorted(mounts, key=lambda m: len(m[0])):  # the innermost of the folders around it decides
        if Path(folder).exists() and not folder.startswith(("/proc/", "/dev/")):
            command += mount
    return [*command, "--bind", cwd, cwd, "--chdir", cwd]


class Worker:
    """One process with its pipe of answers and its output; it is ended with all its children."""

    def __init__(self, jobs: list[worker.Job], limits: Limits, cwd: str) -> None:
        read, write = os.pipe()
        hidden = (*TRUTHS, *limits.hidden)
        work = worker.Work(jobs, limits.seconds, limits.memory, readable(cwd), hidden)
        code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        code += f"sys.path += {[p for p in sys.path if p]!r}\n"
        code += f"from ddpm.course.worker import main; main({write})"
        env = {"PATH": os.environ.get("PATH", ""), "HOME": cwd, "TMPDIR": cwd, "MPLCONFIGDIR": cwd, "LANG": "C.UTF-8"}
        env |= {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg", "DDPM_OFFLINE": "1", "PYTHONHASHSEED": "0"}
        with tempfile.TemporaryFile() as stdin:
            stdin.write(parcel.pack(work))
            stdin.seek(0)
            self.process = subprocess.Popen(
                [
                    *(isolated(cwd, limits.hidden) if limits.isolate else []),
                    sys.executable,
                    "-I",
                    "-X",
                    "utf8",
                    "-c",
                    code,
                ],
                cwd=cwd,
                env=env,
                stdin=stdin,
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
    jobs: list[worker.Job], limits: Limits, until: float = float("inf")
) -> tuple[dict[str, Any], str | None, str]:
    """Run one worker as far as it gets: ({number: frame}, the exercise that ended it or None, why).

    until: the end of the submission's time, on the clock of time.monotonic
    """
    results: dict[str, tuple[dict[str, Any], bytes]] = {}
    with tempfile.TemporaryDirectory() as cwd:
        process = Worker(jobs, limits, cwd)
        try:
            current, why = follow(process, results, limits, until)
        finally:
            process.kill()
    return results, current, why


def follow(process: Worker, results: dict[str, Any], limits: Limits, until: float) -> tuple[str | None, str]:
    """Read until the worker ends or breaks a limit; fills `results`."""
    # The two pipes, and the first deadline
    current, printed, buffer = None, b"", bytearray()
    deadline, total = time.monotonic() + START, 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.answers, selectors.EVENT_READ)
        selector.register(process.output, selectors.EVENT_READ)
        while True:
            ready = selector.select(max(0.0, min(deadline, until) - time.monotonic()))
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
