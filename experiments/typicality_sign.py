"""How often the label of an image helps to denoise it: the sign of typicality, on a range of t matched by its noise.

Siglidis et al. measure typicality for t in [.1T, .7T) of Stable Diffusion's schedule. The shipped network was trained
on the cosine schedule, where the same noise comes later: the linear schedule's signal-to-noise ratios at .1T and .7T
are those of the cosine schedule at .20T and .95T. In (.1T, .7T] of the cosine schedule the label matters less:
experiments/results/diffusion_classifier has the share there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np

from ddpm import data, plot, typicality
from ddpm.datasets import sources
from ddpm.evaluation import statistics
from ddpm.oracles import gaussian
from ddpm.schedule import cosine
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Siglidis et al. 2024, Sec. 3"
MINUTES = 4


@dataclass(frozen=True)
class Config:
    """The network ("" for a Gaussian of each class), the first n test images, the range of t and the draws."""

    data: str = "fashion_mnist"
    model: str = "fashion_mnist"
    n: int = 1000
    low: float = 0.2
    high: float = 0.95
    draws: int = 24
    seed: int = 0


QUICK = {"data": "digits", "model": "", "n": 30, "draws": 10}


def run(config: Config) -> Result:
    """Measure the share of positive T by class, and draw the histogram."""
    try:
        d = sources.load(config.data)
    except (ValueError, FileNotFoundError, OSError) as error:
        raise Unavailable(str(error)) from None
    x, y = data.to_float(d.x_test[: config.n]), d.y_test[: config.n]
    if config.model:
        net = model.load(config.model)
        eps, schedule = net.eps, net.schedule
    else:
        schedule = cosine(1000)
        eps = gaussian.fit(data.to_float(d.x_train), d.y_train).eps(schedule)
    draws = typicality.Draws(config.draws, (config.low, config.high))
    T = typicality.measure(eps, schedule, x, y, jax.random.key(config.seed), draws)
    p = float((T.value > 0).mean())
    spread = math.sqrt(p * (1 - p) / len(x))
    rows = [
        Row(f"share with T(x|true class) > 0, t in ({config.low:g}T, {config.high:g}T]", None, None, p, spread),
        Row("share with T > 0 beyond 1.96 standard errors", None, None, (T.value > 1.96 * T.stderr).mean()),
        Row("share with T < 0 beyond 1.96 standard errors", None, None, (T.value < -1.96 * T.stderr).mean()),
        Row("mean T x 1000", None, None, 1000 * T.value.mean(), 1000 * T.value.std(ddof=1) / math.sqrt(len(x))),
    ]
    numbers = {
        "n": len(x),
        "split": f"the first {len(x)} test images of {config.data}",
        "interval": statistics.wilson(p, len(x)),
        "median_stderr": np.median(T.stderr),
        "by_class": {d.class_names[k]: (T.value[y == k] > 0).mean() for k in np.unique(y)},
    }
    with plot.style():
        figure = plot.new_figure(6.0, 3.0)
        axes = figure.subplots()
        axes.hist(1000 * T.value, bins=60, color="#8fa9bd")
        axes.axvline(0, color="k", linewidth=1)
        axes.set(xlabel="T(x|true class) x 1000", ylabel="test images")
    return Result(rows, figure, numbers)
