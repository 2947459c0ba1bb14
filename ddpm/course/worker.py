"""The process that runs one submission under limits and returns only the answers.

`grade` starts it with jobs on its standard input and a pipe for the answers. A job holds the learner's statements, the
questions and their inputs, but no truth: neither the checks nor the lessons are read here, and the grader compares.
While the learner's code runs, a hook refuses to write files, to read the files of others, processes, threads and the
network. It has no switch: it is set once, after everything is imported, and stays.
This protects the other submissions from accidents and curiosity; `--isolate` or a container holds against attacks.
"""

from __future__ import annotations

import _thread
import ast
import io
import json
import os
import pickle
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ddpm.course import limits
from ddpm.course.answers import Answer, gather
from ddpm.course.rules import Forbidden, Nodes

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = (
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "os.kill"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate"),
    *("subprocess.", "socket.", "shutil.", "ctypes.", "signal.", "webbrowser.", "urllib.", "ftplib.", "smtplib."),
    *("_thread.start_new_thread", "sys._current_frames", "sys.settrace", "sys.setprofile", "gc.get_objects"),
)
LARGEST = 32 * 2**20  # limit for the answers of one exercise, bytes


@dataclass(frozen=True)
class Question:
    """A question about the learner's functions, without its answer."""

    names: tuple[str, ...]
    run: Callable[..., Any]
    cases: list[tuple]
    traceable: bool


@dataclass(frozen=True)
class Job:
    """One exercise: the statements that define the functions, and the questions."""

    number: str
    functions: list[str]
    nodes: Nodes
    name: str  # of the learner's file
    questions: list[Question]


@dataclass(frozen=True)
class Work:
    """The exercises of one process, their limits, and the folders that it may read or must not."""

    jobs: list[Job]
    seconds: float
    memory: float
    readable: tuple[str, ...]
    hidden: tuple[str, ...]


def refuse(readable: tuple[str, ...], hidden: tuple[str, ...]) -> list[str]:
    """Set the hook, which Python cannot remove again.   ->  a list to which it adds what it has refused"""
    caught: list[str] = []
    writes, events, real, null = WRITES, EVENTS, os.path.realpath, os.devnull
    folders = [(real(f), True) for f in readable] + [(real(f), False) for f in hidden]

    def allowed(path: Any) -> bool:  # the innermost of the folders around it decides
        path = real(os.fsdecode(path))
        around = [(len(f), may) for f, may in folders if path == f or path.startswith(f + os.sep)]
        return max(around, default=(0, False))[1]

    def hook(event: str, args: tuple) -> None:
        what = event
        if event == "open":
            writing = any(c in str(args[1] or "") for c in "wax+") or bool((args[2] or 0) & writes)
            if args[0] == null or (not writing and (isinstance(args[0], int) or allowed(args[0]))):
                return
            what = "open, to write" if writing else "open, to read outside of Python's folders"
        elif event in ("os.listdir", "os.scandir"):
            if allowed(args[0] or "."):
                return
        elif not event.startswith(events):
            return
        caught.append(f"it tried something that no exercise needs: {what}")
        raise Forbidden(caught[-1])

    def no_thread(*args: Any, **options: Any) -> None:
        hook("_thread.start_new_thread", ())

    sys.dont_write_bytecode = True
    sys.addaudithook(hook)
    for module in (_thread, threading):  # Python 3.11 starts threads without an event
        for name in ("start_new_thread", "_start_new_thread", "start_new"):
            if hasattr(module, name):
                setattr(module, name, no_thread)
    return caught


def set_limits(memory: float) -> None:
    """Limit the memory (GB) and the size of files; allow no core dumps."""
    import resource

    for which, value in (
        (resource.RLIMIT_AS, int(memory * 2**30)),
        (resource.RLIMIT_FSIZE, 2**24),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def define(job: Job) -> dict[str, Any]:
    """Execute the statements of a job and return its functions."""
    namespace: dict[str, Any] = {"__name__": "lesson"}
    for node, file in job.nodes:
        exec(compile(ast.Module([node], []), file, "exec"), namespace)
    return {f: namespace[f] for f in job.functions}


def answers(job: Job) -> list[list[Answer]]:
    """Collect the answers to the questions of one exercise."""
    functions = define(job)
    return [gather(q.run, [functions[f] for f in q.names], q.cases, q.traceable) for q in job.questions]


def send(pipe: BinaryIO, head: dict[str, Any], arrays: list[np.ndarray] = []) -> None:  # noqa: B006 (read only)
    """Send one frame: the lengths, a JSON head, and the arrays as .npy without pickle."""
    body = io.BytesIO()
    for a in arrays:
        np.save(body, a, allow_pickle=False)
    text = json.dumps(head).encode()
    pipe.write(struct.pack("<QQ", len(text), body.tell()) + text + body.getvalue())
    pipe.flush()


def frame(number: str, parts: list[list[Answer]]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Convert the answers to a head and a list of arrays."""
    arrays = [a for part in parts for answer in part for a in answer.arrays]
    if sum(a.nbytes for a in arrays) > LARGEST:
        raise Forbidden(f"its answers take more than {LARGEST >> 20} MB")
    plain = [
        [{**vars(answer), "arrays": len(answer.arrays), "message": answer.message[:500]} for answer in part]
        for part in parts
    ]
    return {"answers": number, "parts": plain}, arrays


def one(pipe: BinaryIO, job: Job, seconds: float, caught: list[str]) -> None:
    """Announce an exercise, run it, and send the answers or the error."""
    number = job.number
    send(pipe, {"begin": number})
    try:
        limits.end_after(seconds + 2)
        with limits.seconds(seconds, processor=True):
            head, arrays = frame(number, answers(job))
        if caught:  # also if the learner's code went on afterwards
            raise Forbidden(caught[0])
        send(pipe, head, arrays)
    except limits.TooLong:
        send(pipe, {"failed": number, "kind": "time", "sentence": "too long"})
    except Forbidden as e:
        send(pipe, {"failed": number, "kind": "forbidden", "sentence": f"Not run: {e}."})
    except BaseException as e:
        send(pipe, {"failed": number, "kind": "load", "sentence": f"cannot be loaded: {type(e).__name__}: {e}"[:500]})
    finally:
        caught.clear()


def main(pipe: int) -> None:
    """Read the work from standard input and run its exercises in turn."""
    work: Work = pickle.load(sys.stdin.buffer)
    set_limits(work.memory)
    # Everything is imported before the hook is set; an import that fails is reported with its exercise
    for node in (node for job in work.jobs for node, _ in job.nodes if isinstance(node, (ast.Import, ast.ImportFrom))):
        try:
            exec(compile(ast.Module([node], []), "lesson", "exec"), {"__name__": "lesson"})
        except Exception:
            continue
    if "jax" in sys.modules or any(question.traceable for job in work.jobs for question in job.questions):
        import jax.numpy as jnp

        jnp.zeros(1).block_until_ready()  # creates caches and threads
    with os.fdopen(pipe, "wb") as answers_:
        caught = refuse(work.readable, work.hidden)
        for job in work.jobs:
            one(answers_, job, work.seconds, caught)
        send(answers_, {"end": True})
    os._exit(0)  # without cleaning up after the learner's code
