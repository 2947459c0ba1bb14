"""ConsistencyDet: a box that is denoised in one step, given the image, is a draw from where the thing may be.

The claim: an object is found by denoising its box, and a model that jumps from any noise to the end of the flow needs
one step for it. Here the thing is an ornament at one of 32 places of a city, seen through noise, and the posterior of
its place is exact: the box is one of 32 points, with weights that the image gives. So are the denoiser of the box and
the end of its flow known.

What we see: the exact flow ends at a draw from the posterior, and finds the ornament as often as such a draw should,
Σ p². One DDIM step from the same noise ends at the mean of the boxes instead, where there is often no place at all: the
jump has to be learned. A vote of 32 draws comes near the Bayes ceiling, max p, which the likeliest place reaches
without any noise: for one box of a known size a classifier of places is as good. What does not carry over: many things
at once, of many sizes and kinds, for which such a classifier would have too many classes, and boxes are drawn together.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import plot, q_sample
from ddpm.contracts import Partial
from ddpm.data import to_float
from ddpm.datasets import world
from ddpm.forward import eps_from_x0
from ddpm.oracles.cell_grid import Known
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Jiang et al. 2024, ConsistencyDet"
MINUTES = 0.5
RATE = (0.1, 0.0)  # of the one ornament, a ring
FLOORS = range(4, 12)  # the cells where it may stand


@dataclass(frozen=True)
class Config:
    """Images drawn (those with one ring stay), times of the noise that they are seen through, steps, votes."""

    n: int = 800
    times: tuple[int, ...] = (100, 200, 250, 300, 400)
    steps: int = 250
    votes: int = 32
    seed: int = 0


QUICK = {"n": 160, "times": (250,), "steps": 100, "votes": 32}


def scenes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images with one ring, which of the 32 places it has, the places' boxes in [-1, 1], and the tile of each place"""
    drawn, v = world.draw(n, seed, rate=RATE, label=0), world.tiles()
    ring = world.planted(0)[0]
    mine = drawn.boxes[drawn.boxes[:, 1] == ring]
    image, count = np.unique(mine[:, 0], return_counts=True)
    mine = mine[np.isin(mine[:, 0], image[count == 1])]
    tile = np.flatnonzero(v.motif == ring)
    corner = np.array([[7 * (j // 4), 7 * (j % 4)] + v.corner[k] for j in FLOORS for k in tile])
    place = (corner[None] == mine[:, None, 2:]).all(2).argmax(1)
    return to_float(drawn.images[mine[:, 0]]), place, corner / 11 - 1, np.tile(tile, len(FLOORS))


def log_posterior(x_t: jax.Array, t: int, schedule: Schedule, tile: np.ndarray) -> np.ndarray:
    """log p(place | x_t) from the exact distribution of cities: (n, 32)"""
    towns, motif = world.distribution(RATE), world.tiles().motif
    plain = np.array([m < 0 or world.MOTIFS[m].city < 0 for m in motif])
    found = []
    for place, v in enumerate(tile):
        allowed = np.tile(plain, (len(x_t), 16, 1))
        allowed[:, FLOORS[place // 4]] = np.arange(len(motif)) == v
        found.append(np.asarray(towns.log_prob(schedule, x_t, t, Known(tiles=allowed))))
    log_p = np.array(found, np.float64).T
    return log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)


def denoise(x_t: jax.Array, t: jax.Array, c: jax.Array, *, boxes: jax.Array, schedule: Schedule) -> jax.Array:
    """ε* of a box that is one of `boxes` (32, 2), with probabilities e^c (B, 32)"""
    a = schedule.alpha_bar[t][:, None]
    fit = -((x_t[:, None] - jnp.sqrt(a)[..., None] * boxes[None]) ** 2).sum(2) / (2 * (1 - a))
    return eps_from_x0(schedule, x_t, t, jax.nn.softmax(c + fit, axis=1) @ boxes)


def run(config: Config) -> Result:
    """Find the ring through each noise by the flow, by one step, by votes and by the likeliest place."""
    schedule, key = linear(), jax.random.key(config.seed)
    x0, place, boxes, tile = scenes(config.n, config.seed)
    n, rows, curves = (
        len(x0),
        [Row("COCO, AP, ResNet-50", 46.9), Row("COCO, AP, Swin-B", 53.0)],
        dict[str, list[tuple]](),
    )
    step_of = Partial(denoise, boxes=jnp.asarray(boxes), schedule=schedule)

    def nearest(x: np.ndarray) -> np.ndarray:
        return ((x[:, None] - boxes) ** 2).sum(2).argmin(1)

    for t in config.times:
        x_t = q_sample(schedule, x0, t, jax.random.normal(jax.random.fold_in(key, t), x0.shape))
        log_p = log_posterior(x_t, t, schedule, tile)
        p, many = np.exp(log_p), np.repeat(log_p, config.votes, 0)
        noise = jax.random.normal(jax.random.fold_in(key, 5000 + t), (len(many), 2))
        step = ddim_step(step_of, schedule, jnp.asarray(many))
        ends = {k: np.asarray(walk(step, key, noise, make_times(1000, k))) for k in (config.steps, 1)}
        found = nearest(ends[config.steps]).reshape(n, -1)
        off = np.abs(ends[1] - boxes[nearest(ends[1])]).max(1) * 11 > 1  # a pixel from every place
        votes = np.array([np.bincount(v, minlength=32).argmax() for v in found])
        exact, ceiling = (p**2).sum(1).mean(), p.max(1).mean()
        ours = {
            "the end of the flow": (exact, (found == place[:, None]).mean()),
            f"a vote of {config.votes}": (None, (votes == place).mean()),
            "the likeliest place": (ceiling, (log_p.argmax(1) == place).mean()),
            "one DDIM step": (None, (nearest(ends[1]).reshape(n, -1) == place[:, None]).mean()),
        }
        for name, (true, share) in ours.items():
            close = None if true is None else float(4.5 * np.sqrt(true * (1 - true) / n) + 2 / config.steps)
            rows.append(Row(f"t = {t}, {name}: right", None, true, float(share), None, close, 1.0))
            curves.setdefault(name, []).append((t, float(share)))
        of_draws = np.take_along_axis(p, found, 1)  # p of the place where each draw ended: Σ p² in the mean
        close = float(4.5 * of_draws.std() / np.sqrt(found.size) + 2 / config.steps)
        name = f"t = {t}, the end of the flow: probability of its place"
        rows.append(Row(name, None, exact, float(of_draws.mean()), None, close, 1.0))
        rows.append(Row(f"t = {t}, one DDIM step: further than a pixel from any place", ours=float(off.mean())))
    return Result(rows, None, {"curves": curves, "n": n})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the share of rings found, by the noise of the image."""
    with plot.style():
        figure = plot.new_figure(5.8, 3.1)
        ax = figure.subplots()
        for name, found in numbers["curves"].items():
            ax.plot(*np.array(found).T, "o-", label=name)
        ax.set(xlabel="t of the image", ylabel="share of rings found", ylim=(0, 1.02))
        ax.legend(fontsize=8)
    return figure
