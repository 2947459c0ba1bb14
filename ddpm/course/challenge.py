"""The laptop challenge: the commands, and the Gaussian track: 1, 2, 4 and 8 calls of an exact denoiser.

An entry of this track is a file with a function `sample(eps, noise, calls)`: `eps(x, alpha_bar)` is ε* of
N(μ, diag λ), with the axes of the 28 x 28 garments, and may be called `calls` times on the whole batch; it returns what
it draws from the noise.
The score is W₂² to the data, direction by direction, on quantiles of the noise: no sampling error. For DDIM steps it is
`ddpm.samplers.best_times.w2_of_times` exactly, and 0 is the optimum. The entry runs in the course's sandbox: of its
process the grader takes arrays, and the data's quantiles are never in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from ddpm.course import entries
from ddpm.course.image_track import CALLS, MINUTES, Rules
from ddpm.course.image_track import judged as judged_on_images
from ddpm.course.process import Limits
from ddpm.course.worker import Job, Question

POINTS = 101
SECONDS = 20.0  # of processor time, for all calls together
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
    words = ", ".join(m for m in entries.PURE if m != "__future__") + ", and no library"
    nodes = entries.checked(
        text, name, {"sample": "eps, noise, calls"}, lambda m: m.partition(".")[0] in entries.PURE, words
    )
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
    found = entries.answers(job(entries.text_of(file), file.name, seed), Limits(seconds), file.name)
    # Each set of samples: complete and finite, then its distance
    scores = []
    for calls, answer in zip(CALLS, found, strict=True):
        shape = (POINTS, len(track()[0]))
        if answer.error:
            raise ValueError(f"{file.name}, {calls} calls: {answer.error}: {answer.message}")
        if len(answer.arrays) != 1 or answer.arrays[0].shape != shape or not np.all(np.isfinite(answer.arrays[0])):
            raise ValueError(f"{file.name}, {calls} calls: sample has to return finite numbers of shape {shape}")
        scores.append(score(answer.arrays[0], *track()))
    return scores


# --- the commands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Score an entry, and keep nothing. A file with `train`, `network` and `sample` is one of the image track."""

    file: tyro.conf.Positional[Path]  # a Python file with sample(eps, noise, calls), or with train, network and sample
    seed: int = 0  # of the order of the noise's rows; on images, of training and noise
    minutes: float = MINUTES  # images: processor time of the training, all threads together; the challenge has 10
    n: int = 1000  # images: drawn for each number of calls


@dataclass(frozen=True)
class Submit(Run):
    """Score an entry and add its row to the board, with commit and seed."""

    board: Path = BOARD  # the file of the board


@dataclass(frozen=True)
class Board:
    """Print the boards: the Gaussian track, best at four calls first; the image track, by budget, best score first."""

    board: Path = BOARD  # the file of the board


Rows = dict[str, list[dict[str, Any]]]


def read(board: Path) -> Rows:
    """Read the rows of both tracks; none if there is no file."""
    if not board.exists():
        return {"gaussian": [], "images": []}
    try:
        found = json.loads(board.read_text(encoding="utf-8"))
        rows = {"gaussian": found["gaussian"], "images": found.get("images", [])}
        if printed(rows):
            return rows
        raise ValueError("it has no rows")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"board: {board} is not a board ({type(e).__name__}: {e}); give another file") from None


def printed(rows: Rows) -> list[str]:
    """Format both boards, each best first."""
    lines = []
    if rows["gaussian"]:
        lines.append(f"{'W2^2 by calls':24}" + "".join(f"{n:>10}" for n in CALLS))
    for row in sorted(rows["gaussian"], key=lambda row: row["w2"][2]):
        lines.append(f"{row['entry']:24.24}" + "".join(f"{s:10.3f}" for s in row["w2"]))
    if rows["images"]:
        lines.append(
            f"{'Fréchet distance by calls':30}" + "".join(f"{n:>22}" for n in CALLS) + "   floor  minutes  score"
        )
    # Only rows of equal budgets compare, and the floor falls with n: the longest trainings and most images come first
    for row in sorted(rows["images"], key=lambda row: (-row["minutes"], -row["n"], row["score"])):
        cells = zip(row["frechet"], row["error"], row["accuracy"], strict=True)
        shown = "".join(f"{f:9.1f} ±{e:5.1f} ({p:.2f})" for f, e, p in cells)
        lines.append(f"{row['entry']:30.30}{shown}{row['floor']:8.1f}{row['minutes']:9g}{row['score']:7.2f}")
    return lines


def scored(command: Run) -> tuple[str, dict[str, Any]]:
    """Score an entry on its track: the track, and the row with commit and seed."""
    from ddpm.tools.origin import commit

    about = {"entry": command.file.stem, "calls": CALLS}
    text = entries.text_of(command.file)
    if "train" in entries.defined(text, command.file.name):
        track_, found = "images", judged_on_images(command.file, Rules(command.seed, command.minutes, command.n))
    else:
        track_, found = "gaussian", {"w2": judged(command.file, command.seed)}
    return track_, about | found | {"seed": command.seed, "commit": commit()}


def main(args: list[str]) -> int:
    """Run `ddpm challenge …`; exit status 2 for one line of error."""
    from ddpm.tools.files import write_atomic
    from ddpm.tools.terminal import exit_status

    # Parsing
    command = tyro.cli(
        Run | Submit | Board,
        prog="ddpm challenge",
        description="The challenge of few calls. Gaussian track: sample(eps, noise, calls) draws from a Gaussian with "
        "the axes of the garments in 1, 2, 4 and 8 calls of its denoiser; the score is W2^2 to the data, 0 is the "
        "optimum. Image track: train, network and sample train on Fashion-MNIST within ten minutes of processor time, "
        "and draw; the score is the Frechet distance in relation to its floor. More: docs/challenge.md.",
        args=args or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    # The score, then the board: nothing is written unless the entry has a score
    try:
        if os.name != "posix":
            raise ValueError("challenge needs the process limits of Linux or macOS; use it there, or in a container")
        rows: Rows = {"gaussian": [], "images": []}
        if isinstance(command, Submit | Board):
            rows = read(command.board)
        if isinstance(command, Run):
            name, row = scored(command)
            rows[name] = [r for r in rows[name] if r["entry"] != row["entry"]] + [row]
        if isinstance(command, Submit):
            text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
            write_atomic(command.board, text.encode())
        print("\n".join(printed(rows)) or "The board has no rows yet.")
        return 0
    except Exception as e:
        return exit_status(e)
