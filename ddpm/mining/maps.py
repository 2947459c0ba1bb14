"""Typicality maps of many images, kept on disk in chunks, so that an interrupted measurement resumes.

    folder/config.json         what is measured; a run with another configuration is refused
    folder/chunk_00000.npz     groups (b, G, H, W) float32, stderr (b,): written completely or not at all

The draws are measured in G groups of equal size, each with its own key. All images see the same pairs (t, ε), as in the
released code. The mean over the groups is T. The separate groups show the noise of the draws at every place, tell
how well fewer draws would do, and serve the sign-flip null of `ddpm.mining.patterns`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpm import typicality
from ddpm.contracts import Eps
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.batches import progress
from ddpm.tools.conditions import rows
from ddpm.tools.files import read_json, write_atomic
from ddpm.tools.partials import check_labels
from ddpm.typicality import Draws, time_window


class Maps(NamedTuple):
    """T of each image at each place, by groups of draws."""

    groups: np.ndarray  # (n, G, H, W) float32: each the mean over draws/G pairs (t, ε)
    stderr: np.ndarray  # (n,) standard error of T(x|c), the mean over pixels and draws
    draws: int  # pairs (t, ε) in total

    @property
    def map(self) -> np.ndarray:
        """T at each pixel, the mean over the groups: (n, H, W)"""
        return self.groups.mean(1)

    @property
    def value(self) -> np.ndarray:
        """T(x|c) of each image: (n,)"""
        return self.groups.mean((1, 2, 3))


def group_count(draws: int, most: int = 10) -> int:
    """Find the largest G <= `most` that divides `draws` into groups of at least two."""
    fits = [g for g in range(2, most + 1) if draws % g == 0 and draws // g >= 2]
    if not fits:
        raise ValueError(
            f"draws is {draws}; give an even number >= 4 (or one divided by 3, 5 or 7): they come in groups"
        )
    return max(fits)


def digest(*trees: Any) -> str:
    """Compute the SHA-256 of the arrays of pytrees: parameters, images; of a schedule β and ᾱ, which define it."""
    total = hashlib.sha256()

    def is_schedule(a: Any) -> bool:
        return isinstance(a, Schedule)

    trees = jax.tree.map(lambda a: (a.beta, a.alpha_bar) if is_schedule(a) else a, trees, is_leaf=is_schedule)
    for leaf in jax.tree.leaves(trees):
        a = np.asarray(leaf)
        total.update(f"{a.dtype}{a.shape}".encode() + np.ascontiguousarray(a).tobytes())
    return total.hexdigest()


@dataclass(frozen=True)
class Request:
    """How the maps are measured."""

    draws: Draws = Draws()
    seed: int = 0  # of the draws
    chunk: int = 64  # images in one file, measured together

    def __post_init__(self) -> None:
        group_count(self.draws.n)
        check.seed(self.seed)
        check.whole("chunk", self.chunk, 1)
        if self.draws.weight is not None or not self.draws.paired:
            raise ValueError("draws have a weight or are not paired; maps are of paired draws with equal weights")


def measure(
    folder: str | Path,
    eps: Eps,
    schedule: Schedule,
    x0: Any,
    c: Any,
    how: Request = Request(),
    null: Any = None,
    report: Callable[[str], Any] = print,
) -> Maps:
    """Measure T(x|c) of all images; the same call resumes an interrupted measurement.

    x0: (n, H, W, C) in [-1, 1];  c: (n,) labels, one for all, or a `Condition`;  null: as in `typicality`, what to
    compare with.
    It prints the cost in advance: forward calls at once, and minutes after the first compiled group of draws.
    """
    # Validation, and the configuration that identifies this measurement
    x0, folder = np.asarray(check.images(x0)), Path(folder)
    n, G = check.whole("images", len(x0), 1), group_count(how.draws.n)
    c = check_labels(eps, c, (n,), one=True)
    null = None if null is None else check_labels(eps, null, (n,), "null", one=True)
    time_window(schedule.T, how.draws.t_range)
    chunk = min(how.chunk, n)
    config = {
        "images": n, "draws": how.draws.n, "t_range": list(how.draws.t_range), "seed": how.seed, "chunk": chunk,
        "data_sha256": digest(x0, c, [] if null is None else null), "eps_sha256": digest(eps, schedule),
    }  # fmt: skip
    _check_same(folder, config)
    # Chunks on disk, and those still missing
    files = [folder / f"chunk_{i:05d}.npz" for i in range(math.ceil(n / chunk))]
    sizes = [min(chunk, n - i * chunk) for i in range(len(files))]
    parts = [_read(f, (b, G, *x0.shape[1:3])) for f, b in zip(files, sizes, strict=True)]
    todo = [i for i, part in enumerate(parts) if part is None]
    left = sum(sizes[i] for i in todo)
    _announce(folder, n, left, how.draws.n, report)
    # One chunk of images at a time
    with progress(total=n * G, initial=(n - left) * G, desc="maps", unit="image·group") as bar:
        for i in todo:
            ids = np.minimum(np.arange(i * chunk, (i + 1) * chunk), n - 1)  # padded to one size, to compile once
            labels = rows((c, null), ids)
            found: list[tuple[np.ndarray, np.ndarray]] = []
            for T, took in _groups(eps, schedule, x0[ids], labels, how):
                found.append((T.map[: sizes[i]], T.stderr[: sizes[i]]))
                if i == todo[0] and len(found) == 2:  # the first group included the compilation
                    bar.clear()
                    report(_cost(took, chunk, how.draws.n // G, len(todo) * G - 2))
                bar.update(sizes[i])
            parts[i] = (np.stack([m for m, _ in found], 1), np.sqrt(sum(s**2 for _, s in found)) / G)
            _write(files[i], parts[i])  # type: ignore[arg-type]
    # The chunks as one result
    groups, stderr = zip(*parts, strict=True)
    return Maps(np.concatenate(groups), np.concatenate(stderr), how.draws.n)


def _groups(
    eps: Eps, schedule: Schedule, x0: np.ndarray, labels: tuple[np.ndarray, Any], how: Request
) -> Iterator[tuple[typicality.Typicality, float]]:
    """Measure T with one group of draws after the other, each with its own key; also the seconds that it took."""
    G = group_count(how.draws.n)
    for g in range(G):
        start, key = time.perf_counter(), jax.random.fold_in(jax.random.key(how.seed), g)
        draws = Draws(how.draws.n // G, how.draws.t_range)
        T = typicality.measure(eps, schedule, x0, labels[0], key, draws, null=labels[1], batch=len(x0))
        yield T, time.perf_counter() - start


def _announce(folder: Path, n: int, left: int, draws: int, report: Callable[[str], Any]) -> None:
    if left < n:
        report(f"{folder}: {n - left} of {n} images are measured already")
    if left:
        report(f"typicality: {left:,} images x {draws} draws x 2 conditions = {2 * left * draws:,} images forward")


def _cost(seconds: float, images: int, draws: int, groups: int) -> str:
    rate = images * draws / seconds
    return f"{rate:,.0f} images x draws a second on one warm group: about {groups * seconds / 60:,.1f} min left"


def _check_same(folder: Path, config: dict) -> None:
    """Write the configuration, or refuse to resume with a different one and name the difference."""
    file = folder / "config.json"
    if file.exists():
        old = read_json(file)
        wrong = [f"{k} was {old.get(k)!r}, now {v!r}" for k, v in config.items() if old.get(k) != v]
        if wrong:
            raise ValueError(
                f"{folder} holds another measurement: {'; '.join(wrong)}. "
                f"Use the old values to resume it, or another folder to start a new one"
            )
    else:
        write_atomic(file, (json.dumps(config, indent=1) + "\n").encode())


def _write(file: Path, part: tuple[np.ndarray, np.ndarray]) -> None:
    out = io.BytesIO()
    np.savez(out, groups=part[0].astype(np.float32), stderr=part[1].astype(np.float32))
    write_atomic(file, out.getvalue())


def _read(file: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Read a chunk; None if it is missing, damaged or of another shape."""
    try:
        with np.load(file, allow_pickle=False) as z:
            groups, stderr = z["groups"], z["stderr"]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    return (groups, stderr) if groups.shape == shape and stderr.shape == shape[:1] else None
