"""Large images from patches: drawn apart they do not fit, drawn given one shared feature they do.

The claim: a model of patches makes large images if every patch is told a feature that was found without labels, and
neighbours are told the same. A street here is a row of drawn towns in one light; given the light its towns are
independent, so that the distribution of a street is known: p(street) = Σ_s p(s) Π_i p(town_i | s). Drawn apart, all
lights of P towns agree with probability 3^(1-P). K-means on the mean greys of the rows finds three clusters without
labels, and they are the lights; so a town is told its cluster by giving the exact denoiser that light. Given the
cluster of one town all others fit. Whether a street has a seam is tested by log p(street) - Σ_i log p(town_i): it is
(P-1) log 3 nats for a street in one light, and very low for one with a seam. What does not carry over: patches of
photographs share more than one feature, and continue each other's lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.vq import kmeans2
from scipy.special import logsumexp

from ddpm import plot
from ddpm.data import to_float
from ddpm.datasets import world
from ddpm.guides import given
from ddpm.oracles import Known
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Large images from a model of patches with self-supervised features as condition"
MINUTES = 0.5
UNCHECKED = "The exact column of a street with seams is that of one without; that the test shows them is the finding."
LIGHTS = 3


@dataclass(frozen=True)
class Config:
    """Streets, towns in each, DDIM steps, images of the clustering, and the time of the test."""

    n: int = 40
    towns: tuple[int, ...] = (2, 4)
    steps: int = 30
    clustered: int = 300
    t: int = 20
    seed: int = 0


QUICK = {"n": 8, "towns": (2,), "steps": 15, "clustered": 100}


def features(x: np.ndarray) -> np.ndarray:
    """The mean grey of each row of pixels, (B, 28)"""
    return x[..., 0].mean(2)


def run(config: Config) -> Result:
    """Cluster, draw streets in both ways, and test them for seams."""
    schedule, towns, rows = linear(), world.distribution(), list[Row]()
    eps, times = towns.eps(schedule), make_times(schedule.T, config.steps)
    data = to_float(world.draw(config.clustered, config.seed).images)
    lights = lambda x: np.asarray(towns.answer(schedule, jnp.asarray(x), config.t).light_posterior).argmax(1)  # noqa: E731
    true = lights(data)
    centre, cluster = min((kmeans2(features(data), LIGHTS, minit="++", seed=s) for s in range(10)),
                          key=lambda r: ((features(data) - r[0][r[1]]) ** 2).sum())  # fmt: skip
    name_of = np.array([np.bincount(true[cluster == k], minlength=LIGHTS).argmax() for k in range(LIGHTS)])
    pure = float((name_of[cluster] == true).mean())
    rows.append(Row("images whose cluster is their light", None, 1.0, pure, within=1e-9))
    shown, scores = {}, {}
    for P in config.towns:
        x_T = jax.random.normal(jax.random.key(config.seed + P), (config.n * P, world.SIZE, world.SIZE, 1))
        apart = np.asarray(walk(ddim_step(eps, schedule), jax.random.key(0), x_T, times))
        # The first town of each street is drawn freely; the others are told its cluster
        first = apart.reshape(config.n, P, *apart.shape[1:])[:, 0]
        near = ((features(first)[:, None] - centre) ** 2).sum(2).argmin(1)
        told = given(eps, Known(light=jnp.asarray(np.repeat(name_of[near], P))))
        joined = np.array(walk(ddim_step(told, schedule), jax.random.key(0), x_T, times))
        joined = joined.reshape(config.n, P, *joined.shape[1:])
        joined[:, 0] = first
        for name, x in (("apart", apart), ("given the cluster", joined.reshape(apart.shape))):
            agree = float((np.ptp(lights(x).reshape(config.n, P), axis=1) == 0).mean())
            exact = float(LIGHTS) ** (1 - P) if name == "apart" else 1.0
            se = float(np.sqrt(exact * (1 - exact) / config.n))
            what, close = f"{P} towns, {name}: all in one light", 4.5 * se + 0.02
            rows.append(Row(what, None, exact, agree, se, within=close, near=1.0))
            known = [Known(light=jnp.full(len(x), s)) for s in range(LIGHTS)]
            log = np.stack([np.asarray(towns.log_prob(schedule, jnp.asarray(x), config.t, c), float) for c in known])
            street = logsumexp(log.reshape(LIGHTS, config.n, P).sum(2), axis=0) - np.log(LIGHTS)
            seam = street - (logsumexp(log, axis=0) - np.log(LIGHTS)).reshape(config.n, P).sum(1)
            within = 1e-3 if name != "apart" else None
            what, fits = f"{P} towns, {name}: log p(street) - Σ log p(town), median", float((P - 1) * np.log(LIGHTS))
            rows.append(Row(what, None, fits, float(np.median(seam)), within=within))
            scores[f"{P} towns, {name}"] = seam
            street_image = x.reshape(config.n, P, 28, 28).transpose(0, 2, 1, 3).reshape(config.n, 28, 28 * P)
            shown[name] = street_image[:4]
    return Result(rows, None, {"shown": shown, "scores": scores})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw streets of both kinds, and the test of each street."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        left, right = figure.subfigures(1, 2, width_ratios=(1.5, 1))  # type: ignore[misc]
        axes = left.subplots(4, 2)
        for column, (name, streets) in enumerate(numbers["shown"].items()):
            for ax, street in zip(axes[:, column], streets, strict=True):
                ax.imshow(np.array(street), cmap="gray", vmin=-1, vmax=1)
                ax.axis("off")
            axes[0, column].set_title(name, fontsize=9)
        ax = right.subplots()
        for i, seam in enumerate(numbers["scores"].values()):
            ax.plot(seam, np.full(len(seam), i) + np.linspace(-0.2, 0.2, len(seam)), ".", ms=4)
        ax.set_yticks(range(len(numbers["scores"])), list(numbers["scores"]), fontsize=8)
        ax.set(xscale="symlog", xlabel="log p(street) - Σ log p(town)", xticks=(-1e4, -1e2, 0, 1e2), xlim=(-1e5, 1e3))
        ax.axvline(0, color="0.7", lw=0.8, ls="-")
        ax.invert_yaxis()
    return figure
