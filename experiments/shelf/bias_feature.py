"""DiffLens: the feature that carries a bias is found in a sparse dictionary, and moved until the model is fair.

The claim: a dictionary of sparse features of the middle of a network has one for the biased attribute, and to move it
changes that attribute alone. Here inner features are sums of three of 32 directions in 96 dimensions, and one of them
holds the log-odds of two groups that are .9 and .1 of the data. A dictionary that keeps the three largest codes (TopK)
and is refitted by residuals looks for the directions in samples alone. To move the features by b along the right one
shifts the log-odds by b at every t, which is again an exact denoiser, that of the prior σ(log 9 + b): the share that is
drawn is known, and fair at b = -log 9. What we see: half of all directions are found, the group's among them, and moved
along it the shares are nearly those of the true one. The difference of the groups' means, which needs no dictionary but
labels, moves the log-odds as well, but with them another attribute that goes with the groups, half as far; the
dictionary's direction, .08. What does not carry over: nobody knows the directions of a network, nor that they are
directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit
from scipy.stats import norm

from ddpm import oracle, plot
from ddpm.contracts import Partial
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Shi et al. 2025, Dissecting and Mitigating Diffusion Bias via Mechanistic Interpretability (DiffLens)"
MINUTES = 0.3
UNCHECKED = "The exact column is that of the true direction; how near the found ones come is what is measured."
ATOMS, DIM, ACTIVE, SHARE, VAR = 32, 96, 3, 0.9, 0.05


@dataclass(frozen=True)
class Config:
    """Samples of features, sweeps of the dictionary, images, DDIM steps, and shifts."""

    features: int = 4000
    sweeps: int = 40
    n: int = 3000
    steps: int = 100
    shifts: tuple[float, ...] = (0.0, -1.0, -2.1972, -4.0)
    seed: int = 0


QUICK = {"features": 1500, "sweeps": 15, "n": 400, "steps": 30, "shifts": (0.0, -2.1972)}


def codes(D: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The atoms (rows of D) with the three largest products, (N, 3), and their least-squares coefficients"""
    chosen = np.argsort(-np.abs(f @ D.T), axis=1)[:, :ACTIVE]
    A = D[chosen]  # (N, 3, d)
    gram = np.einsum("nad,nbd->nab", A, A) + 1e-9 * np.eye(ACTIVE)
    return chosen, np.linalg.solve(gram, np.einsum("nad,nd->na", A, f)[..., None])[..., 0]


def dictionary(f: np.ndarray, sweeps: int, rng: np.random.Generator) -> np.ndarray:
    """Atoms from samples: each becomes the mean of what the others leave of it, signed; unused ones start again."""
    D = f[rng.choice(len(f), ATOMS, replace=False)]
    D = D / np.linalg.norm(D, axis=1, keepdims=True)
    for _ in range(sweeps):
        chosen, z = codes(D, f)
        rest = f - np.einsum("na,nad->nd", z, D[chosen])
        new = np.zeros_like(D)
        for a in range(ACTIVE):
            own = rest + z[:, a : a + 1] * D[chosen[:, a]]  # what the other two leave
            np.add.at(new, chosen[:, a], np.sign(z[:, a : a + 1]) * own)
        size = np.linalg.norm(new, axis=1, keepdims=True)
        poor = (size[:, 0] < 1e-9) | (np.bincount(chosen.ravel(), minlength=ATOMS) < 0.2 * chosen.size / ATOMS)
        worst = rest[np.argsort(-(rest**2).sum(1))[: poor.sum()]]
        new[poor], size = worst, np.where(poor[:, None], np.linalg.norm(worst, axis=1).max() if poor.any() else 1, size)
        D = new / np.linalg.norm(new, axis=1, keepdims=True)
    return D


def moved(x_t: jax.Array, t: Any, c: Any, data: oracle.Mixture, schedule: Any, b: jax.Array) -> jax.Array:
    """The denoiser of `data` whose log-odds of the first group are shifted by b."""
    p = data.posterior(schedule, x_t, t)
    p = jax.nn.sigmoid(jnp.log(p[:, :1]) - jnp.log(p[:, 1:]) + b)
    first, second = (data.eps(schedule)(x_t, t, jnp.full(len(x_t), k)) for k in (0, 1))
    return p * first + (1 - p) * second


def run(config: Config) -> Result:
    """Find the dictionary, then draw with the log-odds moved along the true and the found directions."""
    rng, rows, curves = np.random.default_rng(config.seed), list[Row](), dict[str, list[float]]()
    true = rng.normal(size=(ATOMS, DIM))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    group = np.where(rng.random(config.features) < SHARE, 1.0, -1.0)
    z = np.zeros((config.features, ATOMS))
    for i in range(config.features):  # two others: one at random, and for the second group mostly number 1
        other = (
            np.array([1, 2 + rng.integers(ATOMS - 2)]) if group[i] < 0 else 1 + rng.choice(ATOMS - 1, 2, replace=False)
        )
        z[i, other] = rng.choice([-1, 1], 2) * rng.uniform(1, 3, 2)
    z[:, 1] = np.abs(z[:, 1])
    z[:, 0] = group * rng.uniform(1, 3, config.features)
    f = z @ true
    D = dictionary(f, config.sweeps, rng)
    likeness = np.abs(true @ D.T).max(1)
    rows.append(Row("directions that were found, |cos| > .95", None, 1.0, float((likeness > 0.95).mean())))
    chosen, coefficient = codes(D, f)
    codes_of = np.zeros((config.features, ATOMS))
    np.put_along_axis(codes_of, chosen, coefficient, 1)
    tells = (codes_of * group[:, None]).sum(0) / np.sqrt((codes_of**2).sum(0) + 1e-9)  # which one goes with the group
    best = int(np.argmax(np.abs(tells)))
    means = f[group > 0].mean(0) - f[group < 0].mean(0)
    dual = np.linalg.pinv(true)  # (96, 32): features -> the coefficients of all directions
    directions = {"true direction": true[0], "found in the dictionary": D[best] * np.sign(tells[best])}
    directions["difference of means"] = means / (means @ dual[:, 0])
    for name, d in directions.items():
        moves = d @ dual
        within = 1e-9 if name == "true direction" else None
        for what, exact, k in (("log-odds", 1.0, 0), ("attribute that goes with the groups", 0.0, 1)):
            rows.append(Row(f"{name}: moves the {what} by", None, exact, float(moves[k]), within=within, near=1))
    schedule, data = linear(), oracle.mixture([[1.0], [-1.0]], VAR, [SHARE, 1 - SHARE])
    x_T, times = jax.random.normal(jax.random.key(config.seed), (config.n, 1)), make_times(schedule.T, config.steps)
    for name, d in directions.items():
        for b in config.shifts:
            eps = Partial(moved, data=data, schedule=schedule, b=jnp.float32(b * (d @ dual[:, 0])))
            share = float(np.mean(np.asarray(walk(ddim_step(eps, schedule), jax.random.key(0), x_T, times)) > 0))
            p = float(expit(np.log(SHARE / (1 - SHARE)) + b))
            exact = p + (1 - 2 * p) * float(norm.cdf(-1 / VAR**0.5))  # and the tails across 0
            se = float(np.sqrt(exact * (1 - exact) / config.n))
            within = 4.5 * se + 2 / config.steps if name == "true direction" else None
            what = f"{name}, moved by {b:.3g}: share of the first group"
            rows.append(Row(what, None, exact, share, se, within=within, near=1))
            curves.setdefault(name, []).append(share)
    return Result(rows, None, {"shifts": config.shifts, "curves": curves, "likeness": np.sort(likeness)})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the share by the shift, and how well each direction was found."""
    with plot.style():
        figure = plot.new_figure(8.6, 2.8)
        left, right = figure.subplots(1, 2)
        b = np.linspace(min(numbers["shifts"]), 0, 60)
        left.plot(b, expit(np.log(SHARE / (1 - SHARE)) + b), color="0.7", lw=4, ls="-", label="exact")
        for name, y in numbers["curves"].items():
            left.plot(numbers["shifts"], y, "o", ms=4, label=name)
        left.set(xlabel="shift b along the direction", ylabel="share of the first group", ylim=(0, 1))
        left.legend(fontsize=7)
        right.bar(range(len(numbers["likeness"])), numbers["likeness"], color="#1b4f72")
        right.set(xlabel="direction, sorted", ylabel="|cos| with the nearest atom", ylim=(0, 1.02))
    return figure
