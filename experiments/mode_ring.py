"""Eight modes on a ring: what a GAN finds of them, and what its loss has to do with it.

GANs are tested on a ring of Gaussians since Metz et al. 2017: how many of the modes does the generator hit, and which
share of its points lies near one? The exact column is the data's own: all eight, and 1 - exp(-9/2) of the points within
three standard deviations. Ours trains the same two small networks with the non-saturating loss and with that of the
theory, log(1 - D), with and without R1, and with four points given to the discriminator at a time (packing). Each row
is the mean over the seeds, with half of their range. No way loses a mode here: with alternating steps of Adam without
momentum, and fresh points of the ring in each batch, all hit all eight with every seed. They differ in the points
between the modes, and none comes near the data: about two thirds are near a mode with the usual loss, with R1 or
without it, and half with the loss of the theory, which R1 helps. Packing makes it worse at this number of steps.
Diffusion with the exact denoiser and 20 calls of DDIM leaves points between the modes as well, though fewer. What does
not carry over: to hit eight modes says little about images, whose modes nobody can count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.generators import ring
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Metz et al. 2017, Fig. 2; Mescheder et al. 2018; Lin et al. 2018 (PacGAN)"
MINUTES = 2.0
UNCHECKED = (
    "The exact column is what the data themselves score; how far a trained generator stays below is the finding."
)
WAYS: dict[str, dict[str, Any]] = {
    "non-saturating": {"gamma": 0.0},
    "non-saturating, R1": {"gamma": 0.1},
    "non-saturating, R1, packed": {"gamma": 0.1, "packed": 4},
    "saturating": {"gamma": 0.0, "kind": "saturating"},
    "saturating, R1": {"gamma": 0.1, "kind": "saturating"},
}
DIFFUSION = "diffusion, exact denoiser, 20 calls"


@dataclass(frozen=True)
class Config:
    """Steps of each training, seeds, and points that are drawn."""

    steps: int = 4000
    seeds: int = 3
    n: int = 4000
    seed: int = 0


QUICK = {"steps": 100, "seeds": 2}


def by_diffusion(n: int, seed: int) -> np.ndarray:
    """n points of DDIM with the exact denoiser of the ring."""
    cov = np.broadcast_to(ring.STD**2 * np.eye(2), (ring.MODES, 2, 2))
    exact = oracle.mixture(ring.centres(), cov)
    chain = linear()
    key, key_x = jax.random.split(jax.random.key(seed))
    step = ddim_step(exact.eps(chain), chain)
    return np.asarray(walk(step, key, jax.random.normal(key_x, (n, 2)), make_times(chain.T, 20)))


def run(config: Config) -> Result:
    """Train each way with each seed, and count."""
    points: dict[str, list] = {}
    for name, how in WAYS.items():
        for seed in range(config.seed, config.seed + config.seeds):
            gen = ring.fit(ring.Recipe(config.steps, **how), seed)
            points.setdefault(name, []).append(np.asarray(ring.made(gen, jax.random.key(seed), config.n)))
        print(f"{name}: {[ring.covered(p).hit for p in points[name]]} modes", flush=True)
    points[DIFFUSION] = [by_diffusion(config.n, seed) for seed in range(config.seeds)]
    points["data"] = [np.asarray(ring.draw(jax.random.key(seed), config.n)) for seed in range(config.seeds)]
    rows, shares = [], {}
    for name, sets in points.items():
        found = [ring.covered(p) for p in sets]
        hit, near = [float(f.hit) for f in found], [f.near for f in found]
        within = 0.01 if name == "data" else None  # the count itself, on points whose share is known
        for what, exact, a in (
            (f"{name}: modes hit", ring.MODES, hit),
            (f"{name}: share within 3σ", ring.WITHIN, near),
        ):
            rows.append(Row(what, None, float(exact), float(np.mean(a)), float(np.ptp(a) / 2) or None, within))
        shares[name] = [f.share for f in found]
    shown = {name: sets[0][:400] for name, sets in points.items()}
    return Result(rows, None, {"points": shown, "shares": shares, "n": config.n})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the points of the first seed, one panel for each way."""
    ours = {r["what"]: r["ours"] for r in rows}
    points = numbers["points"]
    with plot.style():
        figure = plot.new_figure(1.75 * len(points), 2.35)
        for ax, (name, p) in zip(figure.subplots(1, len(points)), points.items(), strict=True):
            ax.plot(*np.array(p).T, ".", ms=1.8, color="C0", alpha=0.6)
            ax.plot(*ring.centres().T, "x", ms=4, color="C3", mew=0.8)
            hit, near = ours[f"{name}: modes hit"], ours[f"{name}: share within 3σ"]
            ax.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal", xticks=[], yticks=[])
            ax.set_title(name.replace(", ", ",\n", 1), fontsize=7.5)
            ax.set_xlabel(f"{hit:.3g} modes, {near:.0%} near", fontsize=7.5)
    return figure
