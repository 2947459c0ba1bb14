"""CIFAR-10 with the small shipped model: DDIM's Table 2 on its own data, and the sign of typicality.

Song et al. encode CIFAR-10 test images with S steps of the deterministic sampler, decode them, and report the error per
number on [0, 1]. We use the same data, with a network of a laptop's size that is given the labels. The exact column is
the round trip of a Gaussian with the training images' covariance and the perfect denoiser, under this model's schedule
and times. The sign of typicality says how often the label of a test image helps to denoise it, T(x|c) > 0; its range of
t is matched by noise as in `typicality_sign`, with fewer draws, so the sign of a single image is less certain than the
share.

What we see: the error is below the paper's at few steps, .005 for .014 at S = 10, and close to the Gaussian's own from
S = 50 on: the shipped network continues a Gaussian for each class, and above t = 750 the Gaussian is all there is, so
that the start of a list, where an error of ε̂ is divided by a small √ᾱ, costs nothing. (An earlier network, which
predicted ε, stayed at .0013 to .0018 from 100 steps on unless its lists were cut at .98 T.) The price is in the sign of
typicality: the label helps for 67 % of the images, where it was 85 % for that earlier network, and 93 % for garments.
A Gaussian fitted to the 5,000 images of a class, in 3,072 dimensions, denoises test images worse than the one fitted to
all images (the model's card has both losses), and the network does not make up for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, plot, typicality
from ddpm.datasets import sources
from ddpm.editing.inversion import decode, encode
from ddpm.evaluation import statistics
from ddpm.schedule import make_times
from ddpm.zoo import model
from experiments.ddim_table2 import TABLE
from experiments.lab.linear_denoisers import variances
from experiments.lab.runner import Result, Row, Unavailable
from experiments.reconstruction import gaussian_round_trip

PAPER = "Song, Meng, Ermon 2021, Table 2 (CIFAR-10); Siglidis et al. 2024, Sec. 3"
MINUTES = 5
UNCHECKED = (
    "The exact column is the round trip with the exact denoiser of a Gaussian; a network has errors of its "
    "own, which is what is compared."
)


@dataclass(frozen=True)
class Config:
    """The model, and the settings of both parts.

    Round trip: test images, largest S, share of T at which a list is cut. Typicality: images, draws, range of t.
    """

    model: str = "cifar10"
    n: int = 20
    most: int = 1000
    cut: float = 0.98
    images: int = 200
    draws: int = 12
    low: float = 0.2
    high: float = 0.95
    seed: int = 0


FROM = "cut at"
QUICK = {"n": 2, "most": 10, "images": 4, "draws": 2}


def run(config: Config) -> Result:
    """Measure the table of round trips and the share of positive typicality."""
    try:
        m = model.load(config.model)
        d = sources.load("cifar10")
    except (ValueError, FileNotFoundError, ConnectionError) as error:
        raise Unavailable(str(error)) from None
    lam, alpha_bar = variances(data.to_float(d.x_train[:10_000])), np.asarray(m.schedule.alpha_bar, np.float64)
    x0, c = jnp.asarray(data.to_float(d.x_test[: config.n])), jnp.asarray(d.y_test[: config.n])
    rows = []
    lists = {S: np.asarray(make_times(m.schedule.T, S)[1:]) for S in TABLE if config.most >= S}  # as `reconstruction`
    top = config.cut * m.schedule.T
    trips = {f"S = {S}": (S, times) for S, times in lists.items()} | {
        f"S = {S}, {FROM} {config.cut:g} T": (S, times[times <= top]) for S, times in lists.items() if times[0] > top
    }
    for which, (S, times) in trips.items():
        back = decode(m.eps, m.schedule, encode(m.eps, m.schedule, x0, times, c), times, c)
        mse = np.asarray(((back - x0) ** 2).mean((1, 2, 3))) / 4
        exact, spread = gaussian_round_trip(alpha_bar, lam, times), float(mse.std(ddof=1) / np.sqrt(config.n))
        rows.append(Row(f"mean squared error on [0, 1], {which}", TABLE[S], exact, float(mse.mean()), spread))
    x, y = data.to_float(d.x_test[: config.images]), d.y_test[: config.images]
    draws = typicality.Draws(config.draws, (config.low, config.high))
    T = typicality.measure(m.eps, m.schedule, x, y, jax.random.key(config.seed), draws)
    p, n = float((T.value > 0).mean()), len(x)
    what = f"share with T(x|true class) > 0, t in ({config.low:g}T, {config.high:g}T]"
    mean, error_of_mean = 1000 * T.value.mean(), 1000 * T.value.std(ddof=1) / np.sqrt(n)
    rows.append(Row(what, None, None, p, float(np.sqrt(p * (1 - p) / n))))
    rows.append(Row("mean T x 1000", None, None, float(mean), float(error_of_mean)))
    about = {
        "n": config.n,
        "images": n,
        "split": f"the first {config.n} and the first {n} test images of cifar10; covariance of 10,000 training images",
        "seed": config.seed,
        "draws": config.draws,
        "interval": statistics.wilson(p, n),
        "T": T.value,
        "median_stderr": np.median(T.stderr),
    }
    return Result(rows, None, about)


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw the error by S and the histogram of T."""
    trips = [(int(r["what"].split("S = ")[1].split(",")[0]), r) for r in rows if "S = " in r["what"]]
    whole, cut = ([(S, r) for S, r in trips if (FROM in r["what"]) is of] for of in (False, True))
    cut = [a for a in whole if a[0] < min((S for S, _ in cut), default=0)] + cut  # shorter lists begin below the cut
    with plot.style():
        figure = plot.new_figure(8.4, 3.2)
        left, right = figure.subplots(1, 2)
        left.plot(list(TABLE), list(TABLE.values()), marker="s", label="paper: CIFAR-10")
        left.plot([S for S, _ in whole], [r["exact"] for _, r in whole], marker="^", label="exact: Gaussian")
        where = f"ours, list {FROM} {cut[-1][1]['what'].split(FROM)[1].strip()}" if cut else ""
        for label, marker, of in (("ours, small", "o", whole), *([(where, "v", cut)] if cut else [])):
            bars = [1.96 * r["spread"] for _, r in of]
            left.errorbar([S for S, _ in of], [r["ours"] for _, r in of], bars, marker=marker, capsize=2, label=label)
        left.set(xlabel="steps S", ylabel="round trip: MSE on [0, 1]", xscale="log", yscale="log")
        left.legend(fontsize=7)
        low, high = numbers["interval"]
        right.hist(1000 * np.array(numbers["T"]), bins=30, color="#8fa9bd")
        right.axvline(0, color="k", linewidth=1)
        right.set(
            xlabel="T(x|true class) x 1000",
            ylabel="test images",
            title=f"share above 0: {low:.2f} to {high:.2f} (95 %)",
        )
        right.yaxis.get_major_locator().set_params(integer=True)
    return figure
