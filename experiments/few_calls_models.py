"""The best lists of times on two models: 1 to 50 network calls, 2,000 images, two seeds.

`few_calls` compares all samplers and lists of times on 500 garments. Here are the three that are worth a choice, DDIM
with searched times and with trailing ones, and DPM-Solver++(2M), on more images and on a second model, CIFAR-10. What
is drawn and how it is judged is said there.

What we see: TODO
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import few_calls
from experiments.few_calls import CALLS, MAIN, Cell, in_one_table, redraw
from experiments.lab.runner import Result

PAPER = few_calls.PAPER
MINUTES = 130
UNCHECKED = few_calls.UNCHECKED


@dataclass(frozen=True)
class Config:
    """The models; images a seed; seeds; and the most network calls."""

    models: str = "fashion_mnist cifar10"
    n: int = 2000
    seeds: int = 2
    most: int = 20
    seed: int = 0


QUICK = {"models": "fashion_mnist", "n": 40, "seeds": 1, "most": 2}


def cells(config: Config, first: bool = True) -> list[Cell]:
    """Every cell of a model; the first and the others have the same."""
    return [Cell(method, N, config.seeds) for method in MAIN for N in CALLS if config.most >= N]


def run(config: Config) -> Result:
    """Measure every cell of every model."""
    return few_calls.run(config, cells)


__all__ = ["Config", "cells", "in_one_table", "redraw", "run"]
