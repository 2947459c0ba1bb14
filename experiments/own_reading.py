"""Reading your own pictures: images a second compared with ImageFolder, memory, and the size of films.

JPEGs of 64² are read, as a training does first, by `load_data` and by torchvision's ImageFolder behind torch's
DataLoader with the same size, in turn on the same core; each in a process of its own, the better of two runs. The
pictures are those of `docs/own_pictures.md`, at one size. An ImageFolder decodes again in each epoch; `load_data` keeps
the pixels in the cache, and the next time it reads these after a check of all files. Memory is the most that the
process held above what it held before. The films are those of `ddpm sample --film`, with its default of 50 steps.

What we see: the first reading runs at .72 of the rate of one epoch of ImageFolder: it also takes two digests of each
image, and writes the cache. From the cache it is 7.2 times as fast as ImageFolder, so with the second epoch or command
it is ahead. It held 1.19 times the size of the pixels at most. A film of ten garments takes .8 MB as .webp, 1.8 MB as
.gif and .2 MB as a strip; the .npz of all numbers takes 5.4 MB. The core was shared with other work, and ImageFolder's
extra process had no core of its own: read the rates as ratios, of one core alone. torchvision 0.29 was used for its
Python code only, with a torch that lacks its compiled operators.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import plot
from ddpm.datasets import sources
from experiments.lab import page_code
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "no paper: how a folder of photographs is read"
MINUTES = 8
KINDS = (".webp", ".gif", ".png", ".npz")  # of films


@dataclass(frozen=True)
class Config:
    """Files to read, of which side; the model whose film is written in each kind, and its steps.

    peer: whether torchvision is compared
    """

    files: int = 50_000
    side: int = 64
    films: str = "fashion_mnist"
    steps: int = 50
    peer: bool = True


QUICK = {"films": "cities", "files": 64, "side": 16, "steps": 2, "peer": False}


# --- what is done in a process of its own -----------------------------------------------------------------------------


def alone(function: Callable[..., Any], *args: Any) -> Any:
    """The result of function(*args), computed in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def read_ours(folder: str, cache: str) -> tuple[int, float, float]:
    """Read a folder by `load_data`: images, seconds, and the bytes held above what was held before."""
    os.environ["DDPM_CACHE_DIR"] = cache
    held, start = _held(), time.perf_counter()
    data = sources.load(folder)
    total = int(data.x_train.sum(dtype=np.int64)) + int(data.x_test.sum(dtype=np.int64))  # every pixel was in memory
    seconds = time.perf_counter() - start
    assert total > 0
    return (
        len(data.x_train) + len(data.x_test),
        seconds,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held,
    )


def read_theirs(folder: str, side: int, workers: int) -> tuple[int, float]:
    """Read a folder once by torchvision's ImageFolder and torch's DataLoader: images, seconds."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    same = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side), transforms.PILToTensor()])
    n, start = 0, time.perf_counter()
    for x, _ in DataLoader(ImageFolder(folder, transform=same), batch_size=256, num_workers=workers):
        n += len(x)
    return n, time.perf_counter() - start


def _held() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- both parts --------------------------------------------------------------------------------------------------


def films(config: Config, folder: Path) -> list[Row]:
    """Write the film of a shipped model in each kind."""
    names = [f"film{kind}" for kind in KINDS]
    line = f"sample --model {config.films} --steps {config.steps} --film {' '.join(names)}"
    subprocess.run([sys.executable, "-m", "ddpm.cli", *line.split()], cwd=folder, check=True)
    size = {kind: (folder / name).stat().st_size / 1000 for kind, name in zip(KINDS, names, strict=True)}
    what = f"film of ten images of {config.films}, {config.steps + 1} frames"
    return [Row(f"{what}, kB: {kind}", None, None, kB) for kind, kB in size.items()]


def reading(config: Config, folder: Path) -> list[Row]:
    """Read JPEGs by both, in turn."""
    scope = page_code.drawing()
    rng, kinds = np.random.default_rng(0), scope["KINDS"]
    for i in range(config.files):
        file = folder / "jpegs" / kinds[i % len(kinds)] / f"{i:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        scope["draw"](rng, kinds[i % len(kinds)], config.side).save(file, quality=90)
    found: dict[str, list[float]] = {}
    most = 0.0
    for turn in range(2):
        for what in ("load_data, the first time", "load_data, from its cache"):
            n, seconds, held = alone(read_ours, str(folder / "jpegs"), str(folder / f"cache{turn}"))
            assert n == config.files
            found.setdefault(what, []).append(n / seconds)
            most = max(most, held / (n * config.side**2 * 3))
        for workers in sorted({0, _cores()}) if config.peer else ():
            n, seconds = alone(read_theirs, str(folder / "jpegs"), config.side, workers)
            found.setdefault(f"ImageFolder, {workers} workers", []).append(n / seconds)
    what = f"{config.files:,} JPEGs of {config.side}²"
    rows = [Row(f"{what}, images a second: {who}", None, None, max(rates)) for who, rates in found.items()]
    return [*rows, Row(f"{what}: most memory, over the size of the pixels", None, None, most)]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def run(config: Config) -> Result:
    """Measure the reading and the films."""
    if config.peer:
        try:
            import torchvision  # noqa: F401
        except ImportError as error:
            raise Unavailable(f"ImageFolder needs torch and torchvision ({error}); or give peer=False") from None
    packages = ("pillow", *(("torch", "torchvision") if config.peer else ()))
    with tempfile.TemporaryDirectory() as place:
        rows = [*reading(config, Path(place)), *films(config, Path(place))]
    return Result(rows, None, {"versions": {name: version(name) for name in packages}})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw images a second, and the sizes of films."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.6)
        left, right = figure.subplots(1, 2)
        for ax, what in ((left, ", images a second"), (right, ", kB")):
            found = {row["what"].rpartition(": ")[2]: row["ours"] for row in rows if what in row["what"]}
            ax.barh(list(found)[::-1], list(found.values())[::-1], height=0.5)
        left.set(xlabel="JPEGs a second")
        right.set(xlabel="kB of a film of ten images")
    return figure
