"""From a folder to a film: the four commands of the page on your own pictures, with their minutes and their losses.

The page writes 3,000 drawn pictures of three sizes, each class in a folder of its own. This does what it tells: `info`,
`train` with ten minutes, `sample` with a film and `evaluate`, each as a command in a new process, with an empty cache.
The loss on the pictures that were kept for testing stands in the column of the network; in the exact column is that of
the best linear denoiser of the training pictures, on the same test pictures, in closed form for each noise level.

What we see: the four commands take twelve minutes on one core, and `train` nine and a half of the ten that it was
given. The network has less than half of the linear denoiser's loss where the class is given, and six sevenths of it
where it is not: 2,688 pictures of 3,072 numbers are too few for a Gaussian of each class, whose loss on fresh pictures
is high. What does not carry over: discs on gradients are simple pictures; photographs take longer.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ddpm import plot
from experiments.lab import page_code
from experiments.lab.runner import Result, Row

PAPER = "no paper: docs/own_pictures.md"
MINUTES = 12
UNCHECKED = "The exact column is the best linear denoiser's loss, which the network is meant to beat, not to reach."


@dataclass(frozen=True)
class Config:
    """How many pictures; what takes the place of `--preset auto --minutes 10`, of `--n 500` and of `--size 32`."""

    pictures: int = 3000
    training: str = "--preset auto --minutes 10"
    n: int = 500
    size: int = 32


QUICK = {
    "pictures": 60,
    "training": "--steps 4 --batch 16 --channels 8 --multipliers 1 --blocks 1 --patch 2 --gaussian-rank 8",
    "n": 12,
    "size": 8,
}


def timed(line: str, place: Path) -> tuple[str, float]:
    """Run a command of the page in `place`: what it printed, and minutes."""
    env = os.environ | {"DDPM_CACHE_DIR": str(place / "cache")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ddpm.cli", *shlex.split(line)[1:]], cwd=place, env=env, text=True, capture_output=True
    )
    if done.returncode:
        raise RuntimeError(f"{line}: {done.stderr[-2000:]}")
    return done.stdout, (time.perf_counter() - start) / 60


def lines(config: Config) -> dict[str, str]:
    """The commands of the page by their first word, with the training and the number of this configuration."""
    found = {line.split()[1]: line for line in page_code.commands()[:4]}
    assert list(found) == ["info", "train", "sample", "evaluate"], f"the page has other commands: {list(found)}"
    found["train"] = found["train"].replace(Config.training, f"{config.training} --name shapes-auto")
    found["evaluate"] = re.sub(r"--n \d+", f"--n {config.n}", found["evaluate"])
    return {name: line.replace("--size 32", f"--size {config.size}") for name, line in found.items()}


def run(config: Config) -> Result:
    """Follow the page, and time each command."""
    rows, minutes = [], {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "cache").mkdir()
        page_code.drawing()["write"](place / "shapes", config.pictures)
        for name, line in lines(config).items():
            print(line, flush=True)
            said, minutes[name] = timed(line, place)
            print(said, flush=True)
        measures = json.loads((place / "out" / "evaluate.json").read_text())["measures"]
        film = (place / "out" / "shapes.webp").stat().st_size / 1e6
        options = json.loads((place / "runs" / "shapes-auto" / "config.json").read_text())
    for name in ("eps_mse", "eps_mse_null"):
        m = measures[name]
        rows.append(Row(f"{m['name']}, test pictures", None, m["reference"], m["value"], m["standard_error"]))
    rows += [Row(f"minutes: ddpm {name}", None, None, value) for name, value in minutes.items()]
    rows.append(Row("minutes: all four", None, None, sum(minutes.values())))
    rows.append(Row("film, MB", None, None, film))
    by_t = {name: measures[name]["detail"]["by_t"] for name in ("eps_mse", "eps_mse_null")}
    return Result(rows, None, {"by_t": by_t, "run": options})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Figure:
    """Draw the loss by t of the network and of the linear denoiser, and the minutes of each command."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.8)
        left, right = figure.subplots(1, 2)
        parts = numbers["by_t"]["eps_mse"]
        t = [sum(part["t"]) / 2 for part in parts]
        left.plot(t, [part["baseline"] for part in parts], "o-", color="0.5", label="best linear denoiser")
        left.plot(t, [part["value"] for part in parts], "o-", label="network")
        left.set(xlabel="t", ylabel="ε-MSE, test pictures", yscale="log")
        left.legend()
        spent = {row["what"].split("ddpm ")[1]: row["ours"] for row in rows if "minutes: ddpm" in row["what"]}
        right.barh(list(spent)[::-1], list(spent.values())[::-1], height=0.5)
        right.set(xlabel="minutes")
    return figure
