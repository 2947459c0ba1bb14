"""SVDD: choosing among M candidates at each step samples the rewarded distribution, if the value is the right one.

The claim: draw M candidates of x_s, keep one in proportion to e^V, and the sampler draws from p(x0) e^r(x0)/Z, with a
reward that needs no gradient. It is true where V_s = log E[e^r | x_s]. The data are two Gaussians at ±1 and the reward
is 3 for x > 1.2, a step that no gradient sees. The candidates come from the exact p(x_s | x_t), so that the steps
themselves have no error. With the exact value the distance to the target falls with M to that of exact samples. With
the usual stand-in, the reward of the predicted mean, it stops falling and stays away for ever: the mean of x0 is rarely
above 1.2 before the last steps, so the choice is made too late. What does not carry over: here a value costs nothing; a
network's value is learned, or bought with more calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.guides import plug_in
from ddpm.oracles.rewards import value_above
from ddpm.sample import walk
from ddpm.samplers import choose, exact_step
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Li et al. 2024, Derivative-Free Guidance (SVDD)"
MINUTES = 0.5
UNCHECKED = (
    "The exact column is the target; that the stand-in's samples miss it, and few candidates too, is the finding."
)
LEVEL, REWARD, SIGMA = 1.2, 3.0, 0.5


@dataclass(frozen=True)
class Config:
    """Samples, steps, and numbers of candidates."""

    n: int = 8_000
    steps: int = 50
    many: tuple[int, ...] = (1, 2, 4, 16, 64)
    seed: int = 0


QUICK = {"n": 1000, "steps": 25, "many": (1, 8)}


def target() -> tuple[float, np.ndarray, np.ndarray]:
    """P(x > 1.2), the edges of 70 bins and the probability of each, in closed form"""
    edges = np.linspace(-3, 3, 71)
    weight = lambda below: 0.5 * (norm.cdf(below, 1, SIGMA) + norm.cdf(below, -1, SIGMA))  # noqa: E731
    total = lambda below: weight(below) + np.expm1(REWARD) * np.maximum(weight(below) - weight(LEVEL), 0)  # noqa: E731
    Z = total(np.inf)
    return float((Z - weight(LEVEL)) / Z), edges, np.diff(total(edges)) / Z


def run(config: Config) -> Result:
    """Measure the total variation and P(x > 1.2) by M, with the exact value and with the stand-in."""
    schedule = linear()
    data = oracle.mixture([[1.0], [-1.0]], SIGMA**2)
    eps, times = data.eps(schedule), make_times(schedule.T, config.steps)
    step = exact_step(data, schedule)
    reward = lambda x: REWARD * (x[:, 0] > LEVEL)  # noqa: E731
    values = {
        "exact value": value_above(data=data, schedule=schedule, b=jnp.ones(1), level=LEVEL, reward=REWARD),
        "reward of the mean": plug_in(reward=reward, eps=eps, schedule=schedule),
    }
    p_above, edges, p = target()
    key_x, key = jax.random.split(jax.random.key(config.seed))
    x_T = jax.random.normal(key_x, (config.n, 1))
    rows: list[Row] = []
    curves: dict[str, list[float]] = {name: [] for name in values}
    shapes: dict[str, np.ndarray] = {}
    for name, value in values.items():
        for many in config.many:
            x = np.asarray(walk(choose(step, value, many), key, x_T, times)).ravel()
            share = np.histogram(x, edges)[0] / len(x)
            tv, above = 0.5 * np.abs(share - p).sum(), float(np.mean(x > LEVEL))
            se = np.sqrt(above * (1 - above) / len(x))
            rows.append(Row(f"{name}, M = {many}: P(x > 1.2)", None, p_above, above, se))
            rows.append(Row(f"{name}, M = {many}: total variation", None, None, tv))
            curves[name].append(tv)
            shapes[name] = share
    # The largest M with the exact value is held to the target: four standard errors, and a bias of order 1/M
    best = 2 * (len(config.many) - 1)
    rows[best] = Row(**{**vars(rows[best]), "within": 1.5 / max(config.many) + 4 * (rows[best].spread or 0) / p_above})
    expected = 0.5 * np.sqrt(2 / np.pi * p * (1 - p) / config.n).sum()  # of n exact samples: E|N(0, p(1-p)/n)|
    rows.append(Row(f"total variation of {config.n:,} exact samples", None, expected))
    middle = (edges[1:] + edges[:-1]) / 2
    return Result(rows, None, {"many": config.many, "tv": curves, "x": middle, "target": p, "share": shapes})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the distance by M, and the samples at the largest M."""
    with plot.style():
        figure = plot.new_figure(8.6, 3.1)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
        for name, tv in numbers["tv"].items():
            left.plot(numbers["many"], tv, "o-", label=name)
        left.axhline(rows[-1]["exact"], color="0.6", lw=1, ls=":", label="exact samples")
        left.set(xscale="log", xlabel="candidates M", ylabel="total variation", ylim=(0, None), xticks=numbers["many"])
        left.set_xticklabels(map(str, numbers["many"]))
        left.minorticks_off()
        left.legend(fontsize=7)
        right.fill_between(numbers["x"], numbers["target"], step="mid", color="0.85", label=r"target $p\,e^r/Z$")
        for name, share in numbers["share"].items():
            right.step(numbers["x"], share, where="mid", lw=1.2, label=name)
        right.set(xlabel="x", ylabel="share of a bin", title=f"M = {numbers['many'][-1]}")
        right.legend(fontsize=7)
    return figure
