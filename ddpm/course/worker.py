"""The process that runs one submission under limits and returns only the answers.

It is started by `grade` with a pipe for the answers. It makes no verdict: it sends arrays, which the grader compares.
Rules: imports from a list, no attributes with two underscores, no files written, no processes, no network.
They protect the other submissions from accidents and curiosity; against deliberate attacks, grade in a container.
"""

from __future__ import annotations

import ast
import io
import json
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ddpm.course import checks, limits, load
from ddpm.course import lesson as lessons
from ddpm.course.answers import Answer, collect
from ddpm.course.part import Part

ALLOWED = {
    *("numpy", "jax", "math", "cmath", "itertools", "functools", "collections", "dataclasses", "typing", "operator"),
    *("scipy", "flax", "optax", "ddpm", "einops", "random", "statistics", "fractions", "string", "time", "__future__"),
}
REFUSED = ("ddpm.course", "ddpm.cli", "ddpm.testing", "jax.experimental.host_callback")
REFUSED_NAMES = {
    *("__import__", "eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "breakpoint"),
    *("__builtins__", "__loader__", "__spec__"),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = (
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "os.kill"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate"),
    *("subprocess.", "socket.", "shutil.", "ctypes.", "signal.", "webbrowser.", "urllib.", "ftplib.", "smtplib."),
)
LARGEST = 32 * 2**20  # limit for the answers of one exercise, bytes


class Forbidden(BaseException):
    """Raised for actions that no exercise needs; not an Exception, so that it is not caught by accident."""


class Guard:
    """An audit hook, which Python cannot remove again; it refuses only while a learner's code runs."""

    def __init__(self) -> None:
        self.active, self.caught = False, ""
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple) -> None:
        """Refuse forbidden events; Python calls this before each event."""
        if not self.active:
            return
        if event == "open":
            writing = any(c in str(args[1] or "") for c in "wax+") or bool((args[2] or 0) & WRITES)
            if not writing or str(args[0]) == os.devnull:
                return
        elif not event.startswith(EVENTS):
            return
        self.caught = f"it tried something that no exercise needs: {event}"
        raise Forbidden(self.caught)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Refuse forbidden events inside the `with` block."""
        self.active = True
        try:
            yield
        finally:
            self.active = False


def forbidden(nodes: list[tuple[ast.stmt, str]], own: str, needed: set[str]) -> str:
    """Find what the text may not contain, or ''.   needed: modules that the lesson's own solution imports"""
    for node in (n for statement, file in nodes if file == own for n in ast.walk(statement)):
        line = getattr(node, "lineno", 0)
        for module in imported(node):
            root = module.partition(".")[0]
            if (root not in ALLOWED and root not in needed) or module.startswith(REFUSED):
                return f"it imports {module} (line {line}), which no exercise needs"
        if isinstance(node, ast.Name) and node.id in REFUSED_NAMES:
            return f"it uses {node.id} (line {line}), which no exercise needs"
        if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            return f"it uses {node.attr} (line {line}), which no exercise needs"
    return ""


def imported(node: ast.AST) -> list[str]:
    """List the full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [a.name for a in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names]
    return []


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


def answers(text: str, number: str, name: str, seeds: list[int], guard: Guard) -> list[list[Answer]]:
    """Collect the answers of each part that calls functions; ValueError if the text cannot be loaded."""
    nodes = load.closure(text, number, name)
    shipped = load.closure(lessons.text_of(lessons.task(number).lesson), number, "the lesson")
    needed = {m.partition(".")[0] for node, _ in shipped for n in ast.walk(node) for m in imported(n)}
    if reason := forbidden(nodes, name, needed):
        raise Forbidden(reason)
    for node, _ in nodes:  # modules are imported without the guard: some write caches
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            exec(compile(ast.Module([node], []), name, "exec"), {"__name__": "lesson"})
    out = []
    with guard.on():
        functions = load.define(nodes, number, name)
        for place, part in enumerate(checks.find(number).parts):
            if isinstance(part, Part):
                out.append(collect(part, [functions[f] for f in part.names], seeds, place))
    if guard.caught:
        raise Forbidden(guard.caught)
    return out


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


def one(pipe: BinaryIO, text: str, number: str, job: dict[str, Any], guard: Guard) -> None:
    """Announce an exercise, run it, and send the answers or the error."""
    send(pipe, {"begin": number})
    try:
        limits.end_after(job["seconds"] + 2)
        with limits.seconds(job["seconds"], processor=True):
            head, arrays = frame(number, answers(text, number, job["name"], job["seeds"], guard))
        send(pipe, head, arrays)
    except limits.TooLong:
        send(pipe, {"failed": number, "kind": "time", "sentence": "too long"})
    except Forbidden as e:
        send(pipe, {"failed": number, "kind": "forbidden", "sentence": f"Not run: {e}."})
    except ValueError as e:
        send(pipe, {"failed": number, "kind": "load", "sentence": str(e)[:500]})
    except BaseException as e:
        send(pipe, {"failed": number, "kind": "load", "sentence": f"cannot be loaded: {type(e).__name__}: {e}"[:500]})
    finally:
        guard.active, guard.caught = False, ""


def main() -> None:
    """Read the job from the arguments and run its exercises in turn."""
    job = json.loads(sys.argv[1])
    text = lessons.read(Path(job["file"]))
    set_limits(job["memory"])
    if any(part.traceable for n in job["numbers"] for part in checks.find(n).parts if isinstance(part, Part)):
        import jax.numpy as jnp

        jnp.zeros(1).block_until_ready()  # creates caches and threads before the guard
    guard = Guard()
    with os.fdopen(job["pipe"], "wb") as pipe:
        for number in job["numbers"]:
            one(pipe, text, number, job, guard)
        send(pipe, {"end": True})
    os._exit(0)  # without cleaning up after the learner's code
