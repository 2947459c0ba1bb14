"""Speech to face: a condition learned by contrast holds the mutual information, and at most log N of it.

The claim: embeddings of voice and face, trained so that true pairs are told from N - 1 false ones, are a good condition
of a diffusion model of faces. For Gaussian pairs with canonical correlations ρ_i everything is known: the information
is I = -½ Σ log(1 - ρ_i²), the best critic is log p(y | x)/p(y), and its InfoNCE, E log e^f(x,y)/(mean_j e^f(x,y_j)), is
at most log N and at most I. What we see: with two candidates less than a third of I can be seen, and the bound reaches
I only where log N is well above it. What is left of the face given the voice is N(ρ x, 1 - ρ²), coordinate by
coordinate, and the exact denoiser given the voice draws just that. A fixed mean that is subtracted from all conditions,
as the paper does, leaves the best denoiser as it is: it is a one-to-one map of the condition. What does not carry over:
networks' critics fall short of the best one.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Speech to face generation with a contrastive condition (latent diffusion)"
MINUTES = 0.2
UNCHECKED = "InfoNCE is a lower bound of the exact information; how far below is what is measured."
RHO = np.array([0.9, 0.8, 0.5, 0.0])


@dataclass(frozen=True)
class Config:
    """Candidates N, draws, and DDIM steps."""

    many: tuple[int, ...] = (2, 8, 64, 512)
    draws: int = 4000
    steps: int = 500
    seed: int = 0


QUICK = {"many": (2, 64), "draws": 500, "steps": 100}


def critic(x: np.ndarray, y: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """log p(y | x)/p(y), summed over the coordinates"""
    return (-0.5 * np.log(1 - rho**2) - 0.5 * (y - rho * x) ** 2 / (1 - rho**2) + 0.5 * y**2).sum(-1)


def run(config: Config) -> Result:
    """InfoNCE of the best critic by N, the mean of the critic, and what is drawn given one voice."""
    rng, rows, curves = np.random.default_rng(config.seed), list[Row](), dict[str, list[float]]()
    info = -0.5 * float(np.log(1 - RHO**2).sum())
    x = rng.normal(size=(config.draws, len(RHO)))
    y = RHO * x + np.sqrt(1 - RHO**2) * rng.normal(size=x.shape)
    f = critic(x, y, RHO)
    se = float(f.std() / config.draws**0.5)
    rows.append(Row("mean of the best critic, nats", None, info, float(f.mean()), se, within=4.5 * se / info))
    for n in config.many:
        value = []
        for i in range(config.draws):
            others = critic(x[i], rng.normal(size=(n - 1, len(RHO))), RHO)
            value.append(f[i] - np.logaddexp.reduce(np.append(others, f[i])) + np.log(n))
        mean, se = float(np.mean(value)), float(np.std(value) / config.draws**0.5)
        within = 0.1 if n >= 512 else None
        rows.append(Row(f"InfoNCE with N = {n}", None, info, mean, se, within=within))
        rows.append(Row(f"log N - InfoNCE with N = {n}, above 0", None, 1.0, float(mean <= np.log(n)), within=0.0))
        curves.setdefault("InfoNCE", []).append(mean)
    with float64():  # the face given one voice: the conditional Gaussian, with or without a mean in the condition
        schedule, voice = linear(), np.array([1.0, -1.0, 2.0, 0.5])
        x_T = jax.random.normal(jax.random.key(config.seed), (2000, len(RHO)), float)
        step = ddim_step(oracle.gaussian(RHO * voice, np.diag(1 - RHO**2)).eps(schedule), schedule)
        face = np.asarray(walk(step, jax.random.key(0), x_T, make_times(1000, config.steps)))
        for i, rho in enumerate(RHO):
            close = 0.08 + 10 / config.steps
            rows.append(
                Row(
                    f"face given the voice, ρ = {rho:g}: mean",
                    None,
                    rho * voice[i],
                    float(face[:, i].mean()),
                    within=close,
                    near=1,
                )
            )
            rows.append(
                Row(
                    f"face given the voice, ρ = {rho:g}: spread",
                    None,
                    (1 - rho**2) ** 0.5,
                    float(face[:, i].std()),
                    within=close,
                    near=1,
                )
            )
        # The best linear denoiser with the condition c, and with c - mean: the same errors
        errors, t = [], 400
        a, s = float(jnp.sqrt(schedule.alpha_bar[t])), float(schedule.std[t])
        noise, shift = rng.normal(size=y.shape), 3.0
        for c in (x + shift, x):
            inputs = np.concatenate([a * y + s * noise, c, np.ones((len(x), 1))], 1)
            errors.append(noise - inputs @ np.linalg.lstsq(inputs, noise, rcond=None)[0])
        gap = float(np.abs(errors[0] - errors[1]).max())
        rows.append(Row("a mean subtracted from the condition: change of ε̂", None, 0.0, gap, within=1e-9, near=1))
    return Result(rows, None, {"many": config.many, "curves": curves, "info": info})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw InfoNCE by N with both of its bounds."""
    with plot.style():
        figure = plot.new_figure(5.6, 2.9)
        ax = figure.subplots()
        ax.plot(numbers["many"], numbers["curves"]["InfoNCE"], "o-", label="InfoNCE of the best critic")
        ax.axhline(numbers["info"], color="0.5", lw=1, ls="-", label="information I")
        ax.plot(numbers["many"], np.log(numbers["many"]), color="0.5", lw=1, ls="--", label="log N")
        ax.set(xscale="log", xlabel="candidates N", ylabel="nats", ylim=(0, 3))
        ax.legend(fontsize=8)
    return figure
