"""The average of the parameters remembers its start: why short runs sample badly with a decay of .9999.

Ho et al. average the parameters with decay .9999 over 800,000 steps. The share of the initial parameters in the average
is dⁿ: after 10,000 steps, 37 %. A lesson that trains for minutes would then sample from an average of which a third is
noise. With the decay min(d, (1+n)/(10+n)) the share is a product that falls like n⁻⁹ at first, and nothing is left
after a few hundred steps. The exact column is the product in NumPy; ours runs the library's `ema_decay` over the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import plot
from ddpm.train import ema_decay
from experiments.lab.runner import Result, Row, float64

PAPER = "Ho et al. 2020, App. B (decay .9999)"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """The decay after the warm-up."""

    decay: float = 0.9999


QUICK: dict = {}
STEPS = (100, 1000, 5000, 10_000, 20_000, 50_000)


def run(config: Config) -> Result:
    """Compute the share of the initial parameters in the average, with and without warm-up."""
    n = np.arange(1, max(STEPS) + 1)
    plain = config.decay**n
    with float64():
        # the average of a parameter that is 1 at the start and 0 afterwards is the share of the initial parameters
        decays = jax.vmap(lambda k: ema_decay(k, config.decay))(jnp.asarray(n))
        ours = np.asarray(jax.lax.associative_scan(jnp.multiply, decays))
    exact = np.exp(np.cumsum(np.log(np.minimum(config.decay, (1 + n) / (10 + n)))))
    rows = [Row(f"fixed decay, {k:,} steps", None, float(plain[k - 1]), None) for k in STEPS]
    rows += [
        Row(f"min(d, (1+n)/(10+n)), {k:,} steps", None, float(exact[k - 1]), float(ours[k - 1]), within=1e-6)
        for k in STEPS[:2]
    ]
    with plot.style():
        figure = plot.new_figure(4.8, 3.2)
        axes = figure.add_subplot()
        axes.plot(n, plain, label=f"decay {config.decay:g}")
        axes.plot(n, ours, label="min(d, (1+n)/(10+n))")
        axes.set(xlabel="steps", ylabel="share of the initial parameters", xscale="log", yscale="log", ylim=(1e-8, 2))
        axes.legend()
    return Result(rows, figure, {"decay": config.decay})
