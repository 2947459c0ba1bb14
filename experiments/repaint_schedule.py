"""RePaint, Figure 9: the walk that goes down and up again, and how many network calls it costs.

Lugmayr et al. walk 250 respaced times with jumps of length 10, each resampled 10 times. Their figure shows the list of
times; their released code makes 2,410 network calls for it and 4,570 transitions in all. The exact column counts by
arithmetic: there are ⌈n/j⌉ - 1 times to jump from (the last jump would start above the chain), and each adds r - 1
times j steps up and j down. Ours is the length of the library's list. The number of calls is the price: 2,410 calls for
an image are nearly ten times the 250 of plain replacement, which is the case r = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpm import plot
from ddpm.editing.inpaint import repaint_times
from experiments.lab.runner import Result, Row

PAPER = "Lugmayr et al. 2022, Fig. 9 and released code"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """The walk that is drawn."""

    n: int = 250
    jump: int = 10
    resample: int = 10


QUICK: dict = {}


def calls_by_arithmetic(n: int, jump: int, resample: int) -> tuple[int, int]:
    """Steps down (network calls) and steps up."""
    places = len(range(0, n - jump, jump))
    up = places * (resample - 1) * jump
    return n + up, up


def run(config: Config) -> Result:
    """Count the steps of five published settings, and draw one."""
    rows = []
    for n, j, r, paper in (
        (250, 10, 10, 2410.0),
        (250, 10, 5, None),
        (100, 10, 10, None),
        (50, 5, 5, None),
        (250, 1, 4, None),
    ):
        path = np.diff(repaint_times(np.arange(n, -1, -1), j, r))
        down, up = calls_by_arithmetic(n, j, r)
        rows.append(
            Row(f"network calls, n = {n}, j = {j}, r = {r}", paper, float(down), float((path < 0).sum()), within=0)
        )
        if (n, r) == (250, 10):
            rows.append(Row("transitions in all", 4570.0, float(down + up), float(len(path)), within=0))
    times = repaint_times(np.arange(config.n, -1, -1), config.jump, config.resample)
    with plot.style():
        figure = plot.new_figure(7.2, 3.0)
        axes = figure.add_subplot()
        axes.plot(np.arange(len(times)), times, linewidth=0.8)
        axes.set(xlabel="transition", ylabel="time", xlim=(0, len(times)), ylim=(0, config.n))
        axes.set_title(f"n = {config.n}, j = {config.jump}, r = {config.resample}", fontsize=9, loc="left")
    return Result(rows, figure)
