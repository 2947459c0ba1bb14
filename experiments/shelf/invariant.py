"""InvDiff: equal errors in all groups make a biased model fair, if the groups are equally hard.

The claim: add λ times the variance of the loss over the groups of the data to its mean, and a model of biased data
draws all groups alike, without being told of them. Two groups on a line, at ±1, the second with a tenth of the data.
The models are the denoisers of the mixture with a prior π_t of the first group that may differ by t; at each t the one
with the least mean + λ variance is taken, by quadrature. What we see: λ = 0 gives the data back, .9. With equal widths
of both groups a large λ gives π_t = ½ at nearly all t, by symmetry, and the fair distribution. If the second group is
three times as wide it is harder to denoise at any prior; equal errors are no sign of fairness any more, and the claim
fails: the second group is drawn too often. To find the groups by their loss works: of the tenth of the images that the
biased model denoises worst, nine in ten are from the second group. What does not carry over: a network is not tied to
the mixtures of two Gaussians, and can lose accuracy in one group to please the variance.
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
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "InvDiff: Invariant Guidance for Bias Mitigation in Diffusion Models (2024)"
MINUTES = 0.3
UNCHECKED = "The exact column is the fair share; that groups of other widths miss it is the finding."
SHARE, VAR = 0.9, 0.1  # of the first group, and the variance of both


@dataclass(frozen=True)
class Config:
    """Samples, DDIM steps, weights λ of the variance, and times the second group is as wide."""

    n: int = 4000
    steps: int = 100
    weights: tuple[float, ...] = (0.0, 10.0, 1e4)
    wide: tuple[float, ...] = (1.0, 3.0)
    seed: int = 0


QUICK = {"n": 500, "steps": 25, "weights": (0.0, 1e4)}


def errors(a: float, var: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Squared error of ε̂ in each group, by quadrature, for each prior of the first: (2, priors)"""
    z, step = np.linspace(-8, 8, 801, retstep=True)
    v, mu, found = a * var + 1 - a, np.array([1.0, -1.0]), []
    for g in (0, 1):
        x = np.sqrt(a) * mu[g] + np.sqrt(v[g]) * z
        log = [norm.logpdf(x, np.sqrt(a) * mu[k], np.sqrt(v[k])) for k in (0, 1)]
        p = 1 / (1 + (1 - prior[:, None]) / prior[:, None] * np.exp(np.clip(log[1] - log[0], -600, 600)))
        mean = [mu[k] + np.sqrt(a) * var[k] / v[k] * (x - np.sqrt(a) * mu[k]) for k in (0, 1)]  # E[x0 | x_t, k]
        gap = p * mean[0] + (1 - p) * mean[1] - mean[g]
        found.append(a / (1 - a) * ((gap**2) @ norm.pdf(z) * step + var[g] * (1 - a) / v[g]))
    return np.array(found)


def shifted(x_t: jax.Array, t: Any, c: Any, both: oracle.Mixture, schedule: Any, logit: jax.Array) -> jax.Array:
    """The denoiser of the mixture whose first group has, at t, the prior σ(logit_t); `both` has ½."""
    p = both.posterior(schedule, x_t, t)
    p = jax.nn.sigmoid(jnp.log(p[:, :1]) - jnp.log(p[:, 1:]) + logit[t][:, None])
    first, second = (both.eps(schedule)(x_t, t, jnp.full(len(x_t), k)) for k in (0, 1))
    return p * first + (1 - p) * second


def run(config: Config) -> Result:
    """Find the prior at each t for each λ, and draw with it."""
    schedule, rows, curves = linear(), list[Row](), {}
    times, logits = make_times(schedule.T, config.steps), np.linspace(-6, 6, 241)
    key_x, key_0, key_e = jax.random.split(jax.random.key(config.seed), 3)
    x_T, prior = jax.random.normal(key_x, (config.n, 1)), 1 / (1 + np.exp(-logits))
    for wide in config.wide:
        var = VAR * np.array([1.0, wide**2])
        both = oracle.mixture([[1.0], [-1.0]], var)
        for weight in config.weights:
            best = np.zeros(schedule.T + 1)
            for t in times[:-1]:
                first, second = errors(float(schedule.alpha_bar[t]), var, prior)
                spread = SHARE * (1 - SHARE) * (first - second) ** 2
                best[t] = logits[np.argmin(SHARE * first + (1 - SHARE) * second + weight * spread)]
            eps = Partial(shifted, both=both, schedule=schedule, logit=jnp.asarray(best, jnp.float32))
            x = np.asarray(walk(ddim_step(eps, schedule), jax.random.key(0), x_T, times)).ravel()
            share, name = float(np.mean(x > 0)), f"second group {wide:g} times as wide, λ = {weight:g}"
            cut = [float(norm.cdf(1 / np.sqrt(v))) for v in var]  # part of a group on its own side of 0
            target = SHARE if weight == 0 else 0.5
            exact = target * cut[0] + (1 - target) * (1 - cut[1])
            checked = weight == 0 or (wide == 1 and weight == max(config.weights))
            close = 4.5 * np.sqrt(0.25 / config.n) + 2 / config.steps if checked else None
            rows.append(Row(f"{name}: share of x > 0", None, exact, share, 0.5 / config.n**0.5, within=close, near=1.0))
            curves[name] = (1 / (1 + np.exp(-best[times[:-1]]))).tolist()
    # The groups by their loss: the tenth of the data that the biased model denoises worst
    biased = oracle.mixture([[1.0], [-1.0]], VAR, [SHARE, 1 - SHARE])
    x0, group = biased.sample(key_0, config.n)
    loss = np.zeros(config.n)
    for i, t in enumerate(times[5:-5]):
        noise = jax.random.normal(jax.random.fold_in(key_e, i), x0.shape)
        x_t = jnp.sqrt(schedule.alpha_bar[t]) * x0 + schedule.std[t] * noise
        loss = loss + np.asarray((biased.eps(schedule)(x_t, int(t)) - noise) ** 2)[:, 0]
    worst = np.argsort(loss)[-config.n // 10 :]
    rows.append(Row("worst denoised tenth: share from the second group", ours=float(np.asarray(group)[worst].mean())))
    return Result(rows, None, {"times": times[:-1], "curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the chosen prior by t, and the share that is drawn."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        left, right = figure.subplots(1, 2)
        for i, (name, y) in enumerate(numbers["curves"].items()):
            left.plot(numbers["times"], y, label=name)
            right.plot(rows[i]["ours"], i, "o", ms=6)
        left.set(xlabel="t", ylabel="prior of the first group", ylim=(-0.02, 1.02))
        right.axvline(0.5, color="0.6", lw=1, ls=":")
        right.set_yticks(range(len(numbers["curves"])), list(numbers["curves"]), fontsize=7)
        right.set(xlabel="share of x > 0 that is drawn", xlim=(0, 1))
        right.invert_yaxis()
    return figure
