"""The laptop challenge, Gaussian track: draw with 1, 2, 4 and 8 calls of an exact denoiser.

An entry is a file with a function `sample(eps, noise, calls)`: `eps(x, alpha_bar)` is ε* of N(μ, diag λ), with the axes
of the 28 x 28 garments, and may be called `calls` times on the whole batch; it returns what it draws from the noise.
The score is W₂² to the data, direction by direction, on quantiles of the noise: no sampling error. For DDIM steps it is
`ddpm.samplers.best_times.w2_of_times` exactly, and 0 is the optimum. The entry runs in the course's sandbox: of its
process the grader takes arrays, and the data's quantiles are never in it.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from ddpm.course import lesson, rules
from ddpm.course.process import Limits, run_worker, unpack
from ddpm.course.worker import Job, Question

CALLS = (1, 2, 4, 8)
POINTS = 101
SECONDS = 20.0  # of processor time, for all calls together
MODULES = {"numpy", "math", "itertools", "functools", "__future__"}
BOARD = Path("challenge.json")


def quantiles(rows: int = POINTS) -> np.ndarray:
    """Return evenly likely points of N(0, 1), scaled to variance 1: (rows,)"""
    from scipy.special import ndtri

    z = ndtri((np.arange(rows) + 0.5) / rows)
    return z / z.std()


def run_entry(sample: Callable[..., Any], noise: np.ndarray, var: np.ndarray, mean: np.ndarray, calls: int) -> Any:
    """Run an entry with a denoiser that counts; more calls, or another batch, are refused."""
    left = calls

    def eps(x: Any, alpha_bar: float) -> np.ndarray:
        nonlocal left
        x, alpha_bar = np.asarray(x, dtype=np.float64), float(alpha_bar)
        if left == 0:
            raise ValueError(f"eps is called more than {calls} times")
        if x.shape != noise.shape or not 0 < alpha_bar < 1:
            raise ValueError(f"eps got x of shape {x.shape} at ᾱ = {alpha_bar:g}; give {noise.shape} and 0 < ᾱ < 1")
        left -= 1
        return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * mean) / (alpha_bar * var + 1 - alpha_bar)

    return sample(eps, noise.copy(), calls)


def track() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read λ, μ and the number of the garments' axes from the card of the shipped weights."""
    card = json.loads((Path(__file__).parents[1] / "weights" / "fashion_mnist.json").read_text(encoding="utf-8"))
    return tuple(np.asarray(card["axes"][k], np.float64) for k in ("var", "mean", "number"))  # type: ignore[return-value]


def score(drawn: np.ndarray, var: np.ndarray, mean: np.ndarray, number: np.ndarray) -> float:
    """W₂² to N(μ, diag λ), the sum over all axes of (sorted samples - quantiles)².   drawn: (POINTS, k)"""
    data = mean + np.sqrt(var) * quantiles(len(drawn))[:, None]
    return float((((np.sort(drawn, axis=0) - data) ** 2).mean(0) * number).sum())


def job(text: str, name: str, seed: int) -> Job:
    """Make the job of an entry, or raise a ValueError with what it may not contain."""
    try:
        tree = ast.parse(text, name)
    except SyntaxError as e:
        raise ValueError(f"{name} is not valid Python, line {e.lineno}") from None
    nodes = [(node, name) for node in tree.body]
    if not any(isinstance(node, ast.FunctionDef) and node.name == "sample" for node in tree.body):
        raise ValueError(f"{name} has no function `sample(eps, noise, calls)`")
    others = sorted(m for m in rules.modules(nodes) if m.partition(".")[0] not in MODULES)
    if others:
        allowed = ", ".join(sorted(MODULES - {"__future__"}))
        raise ValueError(f"{name} imports {others[0]}; an entry may import {allowed}: no clock, no files, no library")
    if reason := rules.forbidden(nodes, name, []):
        raise ValueError(f"{name} is not run: {reason.replace('no exercise', 'no entry')}")
    # The seed shuffles the rows of each axis, so that a row's place tells nothing
    var, mean, _ = track()
    rng = np.random.default_rng(seed)
    noise = np.stack([rng.permutation(quantiles()) for _ in var], axis=1)
    cases = [(noise, var, mean, calls) for calls in CALLS]
    return Job("entry", ["sample"], nodes, name, [Question(("sample",), run_entry, cases, False)])


def judged(file: Path, seed: int = 0, seconds: float = SECONDS) -> list[float]:
    """Score an entry at 1, 2, 4 and 8 calls; a ValueError tells why it has no score.

    seconds: limit of processor time, measured in the entry's process
    """
    # The entry's answers, from a process of its own
    if not file.is_file():
        raise ValueError(f"file: {file} is not there; give the file of an entry, with a function `sample`")
    results, _, why = run_worker([job(lesson.decoded(file), file.name, seed)], Limits(seconds))
    if "entry" not in results:
        raise ValueError(f"{file.name} {why or 'sent no answer'}")
    head, body = results["entry"]
    if "failed" in head:
        late = f"it needs more than {seconds:g} seconds of processor time"
        why = late if head["kind"] == "time" else head["sentence"].replace("exercise", "entry")
        raise ValueError(f"{file.name}: {why}")
    # Each set of samples: complete and finite, then its distance
    found = []
    for calls, answer in zip(CALLS, unpack(head, body)[0], strict=True):
        shape = (POINTS, len(track()[0]))
        if answer.error:
            raise ValueError(f"{file.name}, {calls} calls: {answer.error}: {answer.message}")
        if len(answer.arrays) != 1 or answer.arrays[0].shape != shape or not np.all(np.isfinite(answer.arrays[0])):
            raise ValueError(f"{file.name}, {calls} calls: sample has to return finite numbers of shape {shape}")
        found.append(score(answer.arrays[0], *track()))
    return found


# --- the commands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Score an entry, and keep nothing."""

    file: tyro.conf.Positional[Path]  # a Python file with a function sample(eps, noise, calls)
    seed: int = 0  # of the order of the noise's rows


@dataclass(frozen=True)
class Submit:
    """Score an entry and add its row to the board, with commit and seed."""

    file: tyro.conf.Positional[Path]  # a Python file with a function sample(eps, noise, calls)
    seed: int = 0  # of the order of the noise's rows
    board: Path = BOARD  # the file of the board


@dataclass(frozen=True)
class Board:
    """Print the board, best at four calls first."""

    board: Path = BOARD  # the file of the board


def read(board: Path) -> list[dict[str, Any]]:
    """Read the rows of a board; none if there is no file."""
    if not board.exists():
        return []
    try:
        rows = json.loads(board.read_text(encoding="utf-8"))["gaussian"]
        return [row for row in rows if line(row["entry"], row["w2"])]
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"board: {board} is not a board ({e}); give another file") from None


def line(name: str, scores: list[float]) -> str:
    """Format one row."""
    return f"{name:24.24}" + "".join(f"{s:10.3f}" for s in scores)


def main(args: list[str]) -> int:
    """Run `ddpm challenge …`; exit status 2 for one line of error."""
    from ddpm.tools.files import write_atomic
    from ddpm.tools.origin import commit
    from ddpm.tools.terminal import exit_status

    # Parsing
    command = tyro.cli(
        Run | Submit | Board,
        prog="ddpm challenge",
        description="The laptop challenge, Gaussian track. An entry is a file with sample(eps, noise, calls), which "
        "draws from a Gaussian with the axes of the garments in 1, 2, 4 and 8 calls of its denoiser eps(x, alpha_bar). "
        "The score is W2^2 to the data, 0 is the optimum. More: docs/challenge.md.",
        args=args or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    # The score, then the board: nothing is written unless the entry has a score
    try:
        if os.name != "posix":
            raise ValueError("challenge needs the process limits of Linux or macOS; use it there, or in a container")
        rows = read(command.board) if not isinstance(command, Run) else []
        if not isinstance(command, Board):
            scores = judged(command.file, command.seed)
            row: dict[str, Any] = {"entry": command.file.stem, "calls": CALLS, "w2": scores, "seed": command.seed}
            row["commit"] = commit()
            rows = [r for r in rows if r["entry"] != row["entry"]] + [row]
        if isinstance(command, Submit):
            text = json.dumps({"gaussian": rows}, indent=1, ensure_ascii=False) + "\n"
            write_atomic(command.board, text.encode())
        print(f"{'W2^2 by calls':24}" + "".join(f"{n:10}" for n in CALLS))
        for row in sorted(rows, key=lambda row: row["w2"][2]):
            print(line(row["entry"], row["w2"]))
        return 0
    except Exception as e:
        return exit_status(e)
