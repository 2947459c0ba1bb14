"""Black–Scholes blending: a choice of one prompt a step becomes an average, and the option's price decides nothing.

The claim: two prompts blend better if each step takes the one with the lower price of an option on its likeness to the
picture. On two Gaussian prompts of one variance every rule is exact. The mean of the two denoisers leads to the
Gaussian half way; taking turns leads there too, as the steps get fine, with an error of first order; a switch at half
the times leads nearly to the second prompt, since the high noise decides the mean. A rule that chooses is a way of
taking turns: in the limit only the share of each prompt at each t counts. And the Black-Scholes price of a call rises
with the likeness, so, with one strike and one volatility, the lower price is the lower likeness: the rule is to take
the prompt that the picture is less like. Samples then end half way too, but with a twentieth of the variance, since
each choice pulls them to the middle. With exp(-d²/2) where Φ(d) belongs, as in the released code, call and put no
longer differ by S - K. What does not carry over: the prompts of an image model have no common covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.contracts import Partial
from ddpm.forward import x0_from_eps
from ddpm.guides import compose, given
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Kothandaraman et al. 2024, Prompt Mixing in Diffusion Models using the Black Scholes Algorithm"
MINUTES = 0.2
UNCHECKED = "The exact column is the Gaussian half way: taking turns needs fine steps, a choice keeps no variance."
MU, VAR, STRIKE, VOLATILITY = (1.0, -0.5), 0.25, 0.5, 0.4


@dataclass(frozen=True)
class Config:
    """Steps, and nodes of the quadrature over x_T."""

    steps: tuple[int, ...] = (10, 50, 1000)
    nodes: int = 80


QUICK = {"steps": (10, 200), "nodes": 40}


def turns(x_t: jax.Array, t: Any, c: Any, eps: Any, second: jax.Array) -> jax.Array:
    """The denoiser of prompt 0 or 1, by a table over t."""
    return eps(x_t, t, second[t])


def less_alike(x_t: jax.Array, t: Any, c: Any, eps: Any, schedule: Schedule) -> jax.Array:
    """The denoiser of the prompt whose likeness exp(-½(x̂0 - μ)²) with the picture, and call price, is lower."""
    both = [eps(x_t, t, jnp.full(len(x_t), k)) for k in (0, 1)]
    x0 = x0_from_eps(schedule, x_t, t, sum(both) / 2)
    likeness = [jnp.exp(-0.5 * (x0 - mu) ** 2) for mu in MU]
    return jnp.where(likeness[0] < likeness[1], both[0], both[1])


def call(S: np.ndarray, tau: float, phi: Any = norm.cdf) -> tuple[np.ndarray, np.ndarray]:
    """Prices of a call and a put on S with strike K, no interest:  S Φ(d₁) - K Φ(d₂)  and  K Φ(-d₂) - S Φ(-d₁)"""
    d1 = (np.log(S / STRIKE) + 0.5 * VOLATILITY**2 * tau) / (VOLATILITY * np.sqrt(tau))
    d2 = d1 - VOLATILITY * np.sqrt(tau)
    return S * phi(d1) - STRIKE * phi(d2), STRIKE * phi(-d2) - S * phi(-d1)


def run(config: Config) -> Result:
    """Measure mean and variance of each rule, and the prices of options."""
    half, rows = sum(MU) / 2, list[Row]()
    ends: dict[str, list[float]] = {}
    with float64():
        schedule, m = linear(), oracle.mixture([[MU[0]], [MU[1]]], VAR)
        eps = m.eps(schedule)
        z, weight = np.polynomial.hermite_e.hermegauss(config.nodes)
        weight = weight / weight.sum()
        for S in config.steps:
            times = make_times(1000, S)
            even = np.zeros(1001, int)
            even[times[1:-1:2]] = 1
            table = lambda second: Partial(turns, eps=eps, second=jnp.asarray(second))  # noqa: E731
            rules = {
                "average": compose(given(eps, 0), [given(eps, 1)], [0.5]),
                "taking turns": table(even),
                "switch at half": table((np.arange(1001) <= 500).astype(int)),
                "less alike": Partial(less_alike, eps=eps, schedule=schedule),
            }
            for name, rule in rules.items():
                x = walk(ddim_step(rule, schedule), jax.random.key(0), jnp.asarray(z)[:, None], times)
                x = np.asarray(x).ravel()
                mean = float(weight @ x)
                close = 4 / S if name in ("average", "taking turns") and S >= 200 else None
                var = float(weight @ (x - mean) ** 2)
                rows.append(Row(f"{name}, {S} steps: mean", None, half, mean, within=close, near=1.0))
                rows.append(Row(f"{name}, {S} steps: variance", None, VAR, var, within=close and 2 * close, near=1.0))
                ends.setdefault(name, []).append(mean)
    # The price rises with S; and put-call parity, C - P = S - K
    alike = np.linspace(0.05, 1, 400)
    rising = min(float(np.diff(call(alike, tau)[0]).min()) for tau in (0.01, 0.3, 1.0))
    rows.append(Row("least rise of the price of a call over S, negative: 1", None, 0, float(rising < 0), within=0))
    wrong = {"Φ(d)": norm.cdf, "exp(-d²/2)": lambda d: np.exp(-0.5 * d * d)}
    for name, phi in wrong.items():
        C, P = call(alike, 0.5, phi)
        gap = float(np.abs(C - P - (alike - STRIKE)).max())
        rows.append(
            Row(f"{name}: largest |C - P - (S - K)|", None, 0, gap, within=1e-12 if "Φ" in name else None, near=1)
        )
    return Result(rows, None, {"steps": config.steps, "means": ends})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the mean that each rule ends at, by the number of steps."""
    with plot.style():
        figure = plot.new_figure(8.8, 3.0)
        left, right = figure.subplots(1, 2, sharey=True)
        last = numbers["steps"][-1]
        for i, (name, means) in enumerate(numbers["means"].items()):
            left.plot(numbers["steps"], means, "o-", label=name)
            var = next(r["ours"] for r in rows if r["what"] == f"{name}, {last} steps: variance")
            right.errorbar([i], means[-1:], [var**0.5], fmt="o", capsize=4)
        for ax in (left, right):
            for mu, words in ((MU[0], "first prompt"), (sum(MU) / 2, "half way"), (MU[1], "second prompt")):
                ax.axhline(mu, color="0.6", lw=1, ls=":")
                if ax is left:
                    ax.annotate(words, (last, mu), fontsize=7, ha="right", va="bottom", color="0.4")
        left.set(xscale="log", xlabel="DDIM steps", ylabel="mean of the samples", ylim=(-1.0, 1.25))
        left.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, 0.86))
        right.set(xticks=range(i + 1), title=f"mean and standard deviation, {last:,} steps", xlim=(-0.6, i + 0.6))
        right.set_xticklabels(numbers["means"], fontsize=8)
    return figure
