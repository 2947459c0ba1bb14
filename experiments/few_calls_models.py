"""The best lists of times on two models: 1 to 20 network calls, 2,000 images, two seeds.

`few_calls` compares all samplers and lists of times on 500 garments. Here are the three that are worth a choice, DDIM
with searched times and with trailing ones, and DPM-Solver++(2M), on more images and on a second model, CIFAR-10. The
docstring of `few_calls` describes what is drawn and how it is judged.

What we see: with one and two calls the searched times are ahead on both models, on garments by a factor of ten at two
calls, 31 for 302, and at four as well, 9.0 for 36.7 and 29.0. On CIFAR-10 this ends earlier: from four calls on
trailing times are ahead there, 94 for 103 at four and 55 for 67 at eight, and DPM-Solver++(2M) more so, 77 and 50. The
search knows the Gaussian of the images, and neither the guidance, 4 there and 2 on garments, nor the Gaussian that
draws above t = 750 there. So on CIFAR-10 eight calls of DPM-Solver++(2M) do what twenty of DDIM do, 50.4 ± 1.1 and 50.5
± 1.1, and more calls bring nothing: the rest is the network's. Garments gain up to twenty calls, 3.7 ± .3 with DPM-
Solver++(2M).
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import few_calls
from experiments.few_calls import CALLS, MAIN, Cell, in_one_table, redraw
from experiments.lab.runner import Result

PAPER = few_calls.PAPER
MINUTES = 60
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


def cells(config: Config) -> list[Cell]:
    """Every cell of a model."""
    return [Cell(method, N, config.seeds) for method in MAIN for N in CALLS if config.most >= N]


def run(config: Config) -> Result:
    """Measure every cell of every model."""
    return few_calls.run(config, lambda config, first: cells(config))


__all__ = ["Config", "cells", "in_one_table", "redraw", "run"]
