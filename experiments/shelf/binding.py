"""VSC: words that are added up lose which attribute belongs to which thing; pairs keep it.

The claim: a text encoder that adds up its words cannot tell "a red cube and a blue ball" from "a blue cube and a red
ball"; conditions for each pair of thing and attribute, composed, can. Here k things stand at k places and each has one
of k attributes, the values of the coordinates of x0; a binding is a permutation. The words of all bindings are the
same, so that the distribution given the words is the mixture over all k! of them, and the exact denoiser draws the
requested one with probability 1/k!. Told one pair more, it is 1/(k-j)! after j pairs. What we see: no network is needed
to lose the binding, and none brings it back. The sum of the denoisers of all pairs, ε_w + Σ (ε_pair - ε_w), which the
paper's method resembles, draws the right binding; but it counts what the pairs have in common twice, and so the values
are off: they spread less than they should, the more so the more pairs. What does not carry over: real encoders are no
sums, and keep part of the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial

import jax
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.guides import compose
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Dat et al. 2025, VSC: Visual Search Compositional Text-to-Image Diffusion Model"
MINUTES = 0.3
SIGMA = 0.1


@dataclass(frozen=True)
class Config:
    """Samples, DDIM steps, and numbers of things."""

    n: int = 2000
    steps: int = 100
    things: tuple[int, ...] = (2, 3, 4)
    seed: int = 0


QUICK = {"n": 300, "steps": 30, "things": (2, 3)}


def run(config: Config) -> Result:
    """Measure the share of samples with the requested binding, by the number of pairs that are given."""
    schedule, rows, curves = linear(), list[Row](), dict[str, list[float]]()
    key_x, key = jax.random.split(jax.random.key(config.seed))
    for k in config.things:
        values = np.linspace(-1, 1, k)
        bindings = np.array(list(permutations(range(k))))  # the first one, the identity, is requested
        x_T, times = jax.random.normal(key_x, (config.n, k)), make_times(schedule.T, config.steps)

        def told(
            pairs: list[int], bindings: np.ndarray = bindings, values: np.ndarray = values
        ) -> jax.tree_util.Partial:
            fit = (bindings[:, pairs] == np.array(pairs, int)).all(1)  # the bindings that have these pairs
            return oracle.mixture(values[bindings[fit]], SIGMA**2).eps(schedule)

        ways = {f"words and {j} pairs": told(list(range(j))) for j in range(k)}
        ways["sum of the pairs' denoisers"] = compose(told([]), [told([i]) for i in range(k)], [1.0] * k)
        for name, eps in ways.items():
            x = np.asarray(walk(ddim_step(eps, schedule), key, x_T, times))
            found = np.abs(x[:, :, None] - values).argmin(2)
            right, j = (found == np.arange(k)).all(1).mean(), int(name.split()[2]) if name[0] == "w" else None
            exact = None if j is None else 1 / factorial(k - j)
            se = float(np.sqrt(max(right * (1 - right), 1 / config.n) / config.n))
            close = None if exact is None else 4.5 * se / exact + 0.01
            rows.append(Row(f"k = {k}, {name}: requested binding", None, exact, float(right), se, within=close))
            curves.setdefault(name, []).append(float(right))
        spread = float((x - values)[(found == np.arange(k)).all(1)].std())
        rows.append(Row(f"k = {k}, {name}: standard deviation, exact {SIGMA}", ours=spread))
    return Result(rows, None, {"things": config.things, "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the share of the requested binding by the number of things."""
    with plot.style():
        figure = plot.new_figure(6.4, 2.9)
        ax = figure.subplots()
        k = numbers["things"]
        for name in ("words and 0 pairs", "words and 1 pairs", "sum of the pairs' denoisers"):
            ax.plot(
                k,
                numbers["curves"][name],
                "o",
                ms=5,
                label=name.replace("and 0 pairs", "alone").replace("1 pairs", "one pair"),
            )
        fine = np.array(k)
        for less, label in ((0, "1/k!"), (1, "1/(k-1)!")):
            ax.plot(fine, [1 / factorial(i - less) for i in k], color="0.6", lw=1, label=label)
        ax.set(xlabel="things k", ylabel="share with the requested binding", xticks=k, ylim=(0, 1.05))
        ax.legend(fontsize=7)
    return figure
