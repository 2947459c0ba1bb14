"""The lists of times on two models: 1 to 50 network calls, 2,000 images, two seeds.

`few_calls` compares all samplers and lists of times on 500 garments. Here are DDIM with every list of times and
DPM-Solver++(2M), on more images and on a second model, CIFAR-10. The docstring of `few_calls` describes what is drawn
and how it is judged.

What we see: with one and two calls the searched times are ahead on both models, on garments by a factor of ten at two
calls, 31 for 302, and at four as well, 9.0 for 36.7 and 29.0. On CIFAR-10 this ends earlier: from four calls on
trailing times are ahead there, 94 for 103 at four and 55 for 67 at eight, and DPM-Solver++(2M) more so, 77 and 50. The
search knows the Gaussian of the images, and neither the guidance, 4 there and 2 on garments, nor the Gaussian that
draws above t = 750 there. So on CIFAR-10 eight calls of DPM-Solver++(2M) do what twenty of DDIM do, 50.4 ± 1.1 and
50.5 ± 1.1. Fifty calls are worse there with every list, 53.8 ± 1.3 with trailing times. Garments gain up to twenty
calls, 3.7 ± .3 with DPM-Solver++(2M), and fifty are within the errors of that.

The other lists: `linspace` is behind at four calls, 85 for 36.7 on garments and 144 for 94 on CIFAR-10, and from eight
on nearly within the errors of trailing times. `leading` begins at 501 of 1,000 with two calls and at 951 with twenty;
only from these on is it as good on garments, 3.7 ± .3. `quad` begins at 801 however many calls it has. A garment at
that time is not noise yet, and what is drawn from noise stays above 250; on CIFAR-10 this costs less, 102 for 50.5 at
twenty calls. `karras` is poor at two calls, 814 on garments, ahead of trailing times at four there, 25.9 for 36.7, and
behind them from ten on, with fifty calls 5.5 for 3.9 and 58.8 for 53.8. (`stride` is not measured: where the calls
divide T, as here, it is the list of `leading`.)
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import few_calls
from experiments.few_calls import CALLS, FROM_T, LISTS, MAIN, Cell, in_one_table, redraw
from experiments.lab.runner import Result

PAPER = few_calls.PAPER
MINUTES = 220
UNCHECKED = few_calls.UNCHECKED


@dataclass(frozen=True)
class Config:
    """The models; images a seed; seeds; and the most network calls, of the three and of the other lists of times."""

    models: str = "fashion_mnist cifar10"
    n: int = 2000
    seeds: int = 2
    most: int = 50
    lists: int = 50
    seed: int = 0


QUICK = {"models": "fashion_mnist", "n": 40, "seeds": 1, "most": 2, "lists": 2}


def cells(config: Config) -> list[Cell]:
    """Every cell of a model; a list of one step that begins in the data is left out."""
    most = {method: config.most if method in MAIN else config.lists for method in LISTS if method != FROM_T}
    wanted = [Cell(method, N, config.seeds) for method in most for N in CALLS if most[method] >= N]
    return [cell for cell in wanted if cell.calls > 1 or not cell.method.endswith(("leading", "linspace", "quad"))]


def run(config: Config) -> Result:
    """Measure every cell of every model."""
    return few_calls.run(config, lambda config, first: cells(config))


__all__ = ["Config", "cells", "in_one_table", "redraw", "run"]
