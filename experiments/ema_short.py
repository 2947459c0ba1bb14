"""Which average of the parameters to sample from after a short training.

Ho et al. sample from an average with decay .9999 after 800,000 steps, and report that it mattered. After 3,000 steps
the same decay still holds exp(-.3) = 74 % of the random start, and images drawn from it are noise, which surprises
many. We train one network for each of two seeds (`lab.small_trainings`: cosine schedule, constant learning rate,
Fashion-MNIST) and keep several averages at once: none, fixed decays, and two that forget their start. These two are the
decay min(.999, (1+n)/(10+n)), the library's default, which equals that of .9999 as long as n < 9,000; and the
power-function average of Karras et al. with a width of a tenth of the training. We measure the test ε-MSE, and images
drawn by DDIM. The exact column is the share of the initial parameters in the average: dⁿ for a fixed decay, and for the
growing one the product of its decays, n! 9!/(n+9)!; ours runs the library's decays.

What we see: in ε-MSE an average with a short memory is already worth having, 4 to 5 % less than none in both seeds;
with d = .999 a twentieth of the start is left and costs 7 %, and with .9999 the ε-MSE is seven times as large. In
distance the second half of the claim holds and the first does not: d = .9999 is noise and .999 is far behind, but a
short average is nearer than none in one seed only, and a fifth further away in the other, whose last parameters happen
to draw far better images than any average of them (at 1,200 steps, `steps=1200`, the average is ahead in both; we did
not look into why). What does not carry over is how much averaging matters at the end of a long training with a falling
rate; nor do the images themselves, which are outlines under a grid of noise, hundreds of times the floor away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import plot, train
from ddpm.training import averages
from experiments.lab.runner import Result, Row, float64
from experiments.lab.small_trainings import Small, config_of, family
from experiments.lab.training_scores import budget, error, held_out, judge_of, mean_range, scores, shares

PAPER = "Ho et al. 2020, App. B (decay .9999); Karras et al. 2024"
MINUTES = 5
AVERAGES = {
    "params": "none",
    "fixed_0.9": "d = .9",
    "fixed_0.99": "d = .99",
    "fixed_0.999": "d = .999",
    "fixed_0.9999": "d = .9999",
    "ema": "min(.999, (1+n)/(10+n))",
    "power_0.1": "power, width .1",
}


@dataclass(frozen=True)
class Config(Small):
    """The trainings' budget, images drawn from each average, steps of DDIM, test images of ε-MSE."""

    n: int = 500
    draw_steps: int = 20
    n_test: int = 500


QUICK = {"data": "digits", "preset": "digits", "steps": 4, "batch": 8, "seeds": 1, "n": 40, "draw_steps": 2}
QUICK |= {"n_test": 20}


def start_share(name: str, n: int) -> float | None:
    """The share of the initial parameters in the average after n steps, in closed form."""
    if name.startswith("fixed_"):
        return float(name.removeprefix("fixed_")) ** n
    if name == "ema" and n < 8990:
        return math.exp(math.lgamma(n + 1) + math.lgamma(10) - math.lgamma(n + 10))
    return 0.0 if name in ("params", "power_0.1") and n else None


def run(config: Config) -> Result:
    """Measure every average of the plain training."""
    judge, runs = judge_of(config.data), family(config, ["cosine"])["cosine"]
    x, c = held_out(config.data, config.n_test)
    setup = config_of(config, "cosine", 0)
    decays: dict[str, Any] = {**averages.decays(setup), "ema": lambda n: train.ema_decay(n, setup.ema)}
    rows = [Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n))]
    found: dict[str, dict[str, list[float]]] = {}
    for key, name in AVERAGES.items():
        models = [r.model(key) for r in runs]
        drawn = [scores(judge, m, config.n, config.draw_steps) for m in models]
        of = {
            "distance": [s.frechet for s in drawn],
            "accuracy": [s.accuracy for s in drawn],
            "mse": [error(m, x, c) for m in models],
        }
        found[name] = of
        with float64():
            n = jnp.arange(config.steps, dtype=float)
            ours = float(jnp.prod(jax.vmap(decays[key])(n))) if key in decays else 0.0
        rows += [
            Row(
                f"{name}: share of the initial parameters",
                None,
                start_share(key, config.steps),
                ours,
                within=1e-6,
                near=1.0,
            ),
            Row(f"{name}: ε-MSE", None, None, *mean_range(of["mse"])),
            Row(f"{name}: Fréchet distance", None, None, *mean_range(of["distance"])),
            Row(f"{name}: class accuracy", None, None, *mean_range(of["accuracy"])),
        ]
    none, growing, late = (found[AVERAGES[k]]["distance"] for k in ("params", "ema", "fixed_0.9999"))
    rows += [
        Row("order: averaging gives a better distance than none, share of seeds", 1.0, None, shares(growing, none)),
        Row("order: d = .9999 gives a worse distance than none, share of seeds", None, None, shares(none, late)),
    ]
    about = {"found": found, "n": config.n, "n_test": config.n_test, "budget": budget(config)}
    return Result(rows, None, about)


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw a line for each average: ε-MSE and distance."""
    from matplotlib.ticker import LogLocator

    found = numbers["found"]
    names = list(found)[::-1]
    with plot.style():
        figure = plot.new_figure(9.0, 3.4)
        left, right = figure.subplots(1, 2, sharey=True)
        for ax, key in ((left, "mse"), (right, "distance")):
            for i, name in enumerate(names):
                values = found[name][key]
                ax.plot([min(values), max(values)], [i, i], color="#1b4f72", linestyle="-", linewidth=1)
                ax.plot(values, [i] * len(values), "o", color="#1b4f72")
            ax.grid(axis="y", color="#ecf0f1", linestyle="-")
        left.set_yticks(np.arange(len(names)), names)
        left.set(xlabel=f"test ε-MSE ({numbers['n_test']} images)")
        left.set_xscale("log")
        left.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        left.xaxis.set_major_formatter("{x:g}")
        left.minorticks_off()
        right.set_title(f"test images: {rows[0]['ours']:.2g}", fontsize=8)
        right.set(xlabel=f"Fréchet distance, features ({numbers['n']} images)")
        figure.suptitle(f"{numbers['budget']}; a mark for each seed", fontsize=9)
    return figure
