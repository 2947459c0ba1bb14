"""DiTi: which attribute is lost at which time, in bits, and how much of the denoiser's error at a time is due to it.

The claim: noise takes the attributes of an image one after the other; what a denoiser lacks at time t is the attribute
that is lost there, and an encoder learns features stage by stage if each range of times may use only its own. On
`cities` the exact posterior says what is left: I(attribute; x_t) = H(attribute) - E H(attribute | x_t), in bits.

What we see: the fine attributes go first. At t = 250 half of the bits of the tiles are gone, and more than half of what
the image says about its class; at t = 400 an eighth of the tiles is left and the light is whole; half of the light
lasts until t = 600. Told the light, the exact denoiser errs less just where the light is uncertain: from t = 400 on,
.37 of its error at t = 600 and .64 at t = 800, and nothing before t = 300. The class explains at most .05, at t = 200.
For a linear denoiser the stages are the eigenvectors: λ is lost where ᾱ_tλ = 1 - ᾱ_t, and with some of them known the
error left is the sum over the others of λ(1-ᾱ)/v. What does not carry over: photographs have no list of attributes; and
here the class is a detail, a small ornament somewhere, while in photographs it is often the coarsest attribute of all.
The paper trains an encoder for this; none is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot, q_sample
from ddpm.data import to_float
from ddpm.datasets import world
from ddpm.oracles.cell_grid import Known
from ddpm.schedule import Schedule, linear
from experiments.lab.runner import Result, Row

PAPER = "Yue et al. 2024, Exploring diffusion time-steps for unsupervised representation learning (DiTi)"
MINUTES = 1


@dataclass(frozen=True)
class Config:
    """Images, and the times."""

    n: int = 400
    times: tuple[int, ...] = (1, 50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 1000)
    seed: int = 0


QUICK = {"n": 100, "times": (1, 300, 1000)}


def entropy(p: np.ndarray) -> np.ndarray:
    """-Σ p log₂ p over the last axis, in bits"""
    return -np.sum(np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0), -1)


def mean(a: np.ndarray) -> tuple[float, float]:
    """The mean over images and its standard error"""
    return float(a.mean()), float(a.std() / np.sqrt(len(a)))


def linear_error(x0: np.ndarray, schedule: Schedule, t: int, known: int, seed: int) -> tuple[float, float]:
    """Squared error of the linear denoiser that is given the first `known` coefficients: formula, and measured"""
    x = x0.reshape(len(x0), -1).astype(np.float64)
    x -= x.mean(0)
    lam, U = np.linalg.eigh(x.T @ x / len(x))
    keep = slice(0, len(lam) - known)  # ascending: the unknown ones
    lam, y, a = np.maximum(lam[keep], 0), (x @ U)[:, keep], float(schedule.alpha_bar[t])
    v = a * lam + 1 - a
    noise = np.random.default_rng(seed).normal(size=(50, *y.shape))
    error = (np.sqrt(a) * lam / v * (np.sqrt(a) * y + np.sqrt(1 - a) * noise) - y) ** 2
    return float((lam * (1 - a) / v).sum()), float(error.sum(2).mean())


def run(config: Config) -> Result:
    """Measure the bits left of class, tile and light by t, the error that each explains, and the linear stages."""
    schedule, towns = linear(), world.distribution()
    images = world.draw(config.n, config.seed)
    x0 = to_float(images.images)
    S, K = towns.tile.shape[0], towns.num_classes
    # The light of each image is read from the image itself; the tile's entropy is over the classes and the cells
    light = jnp.asarray(np.argmax(towns.answer(schedule, x0, 1).light_posterior, 1))
    tile = entropy(np.exp(np.asarray(towns.log_tile, np.float64)).mean(0)).mean()
    full = {"class": np.log2(K), "tile": float(tile), "light": np.log2(S)}
    known = {"class": Known(label=jnp.asarray(images.labels)), "light": Known(light=light)}
    rows: list[Row] = []
    left: dict[str, list[float]] = {name: [] for name in full}
    explained: dict[str, list[float]] = {name: [] for name in known}
    for t in config.times:
        x_t = q_sample(schedule, x0, t, jax.random.normal(jax.random.key(config.seed + t), x0.shape))
        answer = towns.answer(schedule, x_t, t)
        found = {"class": answer.class_posterior, "tile": answer.tile_posterior, "light": answer.light_posterior}
        for name, p in found.items():
            bits, error = mean(full[name] - entropy(np.asarray(p, np.float64)).reshape(config.n, -1).mean(1))
            exact, within = None, None
            if t == 1:  # the class is known if there is an ornament in one of the eight cells of the floors, else open
                exact = 2 * (1 - (1 - sum(world.RATES)) ** 8) if name == "class" else full[name]
                within = 4 / np.sqrt(config.n) if name == "class" else 0.05
            rows.append(Row(f"t = {t}: bits left of the {name}", None, exact, bits, error, within=within))
            left[name].append(bits / full[name])
        whole = float(jnp.sum((x0 - answer.x0) ** 2))
        for name, c in known.items():  # E‖x0 - x̂0‖² - E‖x0 - x̂0(c)‖² = E‖x̂0(c) - x̂0‖²
            explained[name].append(float(jnp.sum((towns.answer(schedule, x_t, t, c).x0 - answer.x0) ** 2)) / whole)
    for k in (0, 3, 30):
        exact, ours = linear_error(x0, schedule, 500, k, config.seed)
        rows.append(Row(f"linear, t = 500, {k} directions known: error", None, exact, ours, within=0.02))
    return Result(rows, None, {"times": config.times, "left": left, "explained": explained})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the share of the bits left, and the share of the error that an attribute explains."""
    with plot.style():
        figure = plot.new_figure(8.6, 2.9)
        left, right = figure.subplots(1, 2)
        colors = {"class": "#c0392b", "tile": "#7f8c8d", "light": "#1b4f72"}
        for ax, what, label in ((left, "left", "share of the bits left in x_t"),
                                (right, "explained", "share of the error explained")):  # fmt: skip
            for name, y in numbers[what].items():  # at t = 1 there is no error to explain
                ax.plot(numbers["times"][1:], y[1:], "o-", ms=3, color=colors[name], label=name)
            ax.set(xlabel="t", ylabel=label, ylim=(-0.02, 1.02))
            ax.legend(fontsize=8)
    return figure
