"""Where the Gaussian takes over: t* and its rank, by loss on held-out training images and by drawn images.

Wang and Vastola find that at high noise the score of a diffusion model is that of a Gaussian, whose closed form can
replace the first 15 to 30 % of the steps. The shipped model of CIFAR-10 draws so: above t* = 750 its denoiser is that
of a Gaussian for each class, of rank 64 (`guides.gaussian_above`). Both numbers are measured here in two ways, and
neither by the test images.

By loss: Gaussians are fitted to 45,000 training images with their mirror images, and their exact ε-MSE on the other
5,000 is compared with that of the network alone, on 2,000 of them. The network was trained on all 50,000. At this noise
that gives it no lead: on 1,000 test images, a check that chooses nothing, the losses cross at the same t within one.
(Its loss is the exact one of the Gaussian and the mean difference of both on the same noise. They err on the same
images, so the difference has a small error.)

By drawing: DPM-Solver++(2M) with the card's guidance, twelve calls, with a time between any two values of t*. (The
eight trailing times have none between 750 and 800, nor between 650 and 700.) The Gaussians are fitted to all training
images, as the one that ships. The distance is Fréchet's to the training images in the shipped classifier's features;
its difference from the card's setting is taken on the same noise, and has a smaller error than the distance.

What we see: the two ways disagree. By loss the network is ahead of all Gaussians up to t = 925, of rank 64 by 9 % at t
= 750, and above that it is worse by 2 % at most. Rank moves the crossing little: 946 for rank 16, 929 for 64, 925 for
256. With directions that the classes share it is 964, and one Gaussian for all labels is worse than the network
everywhere. But where the network draws alone, the images are further from the training images, by 5.2 ± .7, and with t*
= 900 still by 1.3 ± .6. With rank 64 no t* from 600 to 850 differs by more than one, and none is better than 750 beyond
twice the error (800: -.2 ± .2). Rank 256 is nearer by 1.0 ± .2 at t* = 750, and about as much from 650 to 800; for this
2 % of the distance the directions would take 17 MB instead of 4. Rank 16 is worse at t* = 650 and 700, and nowhere
better beyond twice the error. Class accuracy is .91 to .94 in all cells, with errors of .005 to .009. Why less loss
draws worse is not measured: the loss is that with the class given, and guidance 4 goes beyond what it measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, plot
from ddpm.contracts import Eps
from ddpm.evaluation.statistics import stratified_subset
from ddpm.guide import cfg, clip_x0
from ddpm.guides.rules import gaussian_above
from ddpm.loss import per_image, squared_error
from ddpm.oracles import low_rank
from ddpm.oracles.low_rank import LowRank
from ddpm.samplers import solvers
from ddpm.samplers.names import STEPS
from ddpm.schedule import Schedule
from ddpm.tools import cache
from ddpm.tools.batches import parts
from ddpm.zoo import model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.runner import Result, Row, Unavailable
from experiments.lab.training_scores import judge_of

PAPER = "Wang and Vastola 2024"
MINUTES = 20
NETWORK, HELD_OUT, TEST = "the network", "held-out", "test"


@dataclass(frozen=True)
class Config:
    """The model; images held out; those of each split for the network; ranks, times; then what is drawn, n a cell.

    above: the values of t*, besides none;  also: further ones, at the card's rank only;  walk: the times of a walk;
    twice: the values of t* (T for none) that have a second seed, at the card's rank and above it
    """

    model: str = "cifar10"
    held_out: int = 5000
    measured: int = 2000
    ranks: tuple[int, ...] = (16, 32, 64, 128, 256)
    times: tuple[int, ...] = (500, 550, 600, 650, 700, 750, 800, 850, 900, 950, 1000)
    n: int = 1000
    drawn: tuple[int, ...] = (16, 64, 256)
    above: tuple[int, ...] = (600, 650, 700, 750, 800, 850)
    also: tuple[int, ...] = (900,)
    walk: tuple[int, ...] = (1000, 950, 900, 850, 800, 750, 700, 650, 600, 450, 300, 150, 0)
    twice: tuple[int, ...] = (650, 700, 750, 800, 1000)
    seed: int = 0


QUICK = {"held_out": 100, "measured": 50, "ranks": (2, 4), "times": (500, 750, 900), "n": 40, "drawn": (4,)}
QUICK |= {"above": (750,), "also": (), "walk": (1000, 800, 400, 0), "twice": ()}


class Cell(NamedTuple):
    """t* (T: the network at every t), the Gaussian's rank, and seeds."""

    above: int
    rank: int
    seeds: int


class Errors(NamedTuple):
    """Squared error of each image, its mean over pixels: (times, n) each."""

    network: np.ndarray
    gaussian: np.ndarray  # on the same noise

    def loss(self, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The network's loss and its standard error: the Gaussian's exact loss, and the difference on the same noise.

        Both err on the same images, so the difference has a small part of the spread.   exact: (times,)
        """
        more = self.network - self.gaussian
        return exact + more.mean(1), more.std(1, ddof=1) / np.sqrt(more.shape[1])


@jax.jit
def _errors(eps: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, c: jax.Array, key: jax.Array) -> jax.Array:
    return per_image(squared_error(eps, schedule, x0, t, jax.random.normal(key, x0.shape), c))


def errors(m: model.Model, g: LowRank, x: np.ndarray, c: np.ndarray, times: Sequence[int], batch: int = 250) -> Errors:
    """Errors of the network and of the Gaussian on images x of classes c, at each time on the same noise."""
    both, out = (m.plain.eps, g.eps(m.schedule)), np.empty((2, len(times), len(x)))
    for i, t in enumerate(times):
        key = jax.random.fold_in(jax.random.key(0), t)
        for ids, many in parts(len(x), batch):
            given = jnp.asarray(x[ids]), jnp.full(len(ids), t), jnp.asarray(c[ids]), jax.random.fold_in(key, ids[0])
            for k, eps in enumerate(both):
                out[k, i, ids[:many]] = _errors(eps, m.schedule, *given)[:many]
    return Errors(*out)


def crossing(times: Sequence[int], ratio: Sequence[float]) -> float | None:
    """The time from which on the network's loss is more than the Gaussian's; None if it is not so at the last time.

    ratio: that of the losses at each time; its logarithm is a line between two times.
    """
    ahead = [i for i, r in enumerate(ratio) if r < 1]
    if not ahead:
        return float(times[0])
    if (i := ahead[-1]) == len(times) - 1:
        return None
    low, high = np.log(ratio[i]), np.log(ratio[i + 1])
    return float(times[i] + (times[i + 1] - times[i]) * -low / (high - low))


def with_mirrors(m: model.Model, x: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images as floats, with their mirror images if the model's training mirrors: what its Gaussian is fitted to."""
    one = np.asarray(data.to_float(x))
    return (np.concatenate([one, one[:, :, ::-1]]), np.tile(c, 2)) if m.card["train"].get("flip") else (one, c)


def truncated(g: LowRank, rank: int) -> LowRank:
    """The same Gaussian with its first directions only: the variances of the others are averaged with the rest."""
    left = g.var[:, rank:].sum(1) + (g.mean.shape[1] - g.var.shape[1]) * g.rest
    return LowRank(g.mean, g.basis[..., :rank], g.var[:, :rank], left / (g.mean.shape[1] - rank))


def by_class(m: model.Model, x: np.ndarray, c: np.ndarray, ranks: Sequence[int]) -> dict[int, LowRank]:
    """The Gaussians of the classes by rank, fitted once."""
    g = low_rank.fit(*with_mirrors(m, x, c), max(ranks))
    return {rank: truncated(g, rank) for rank in sorted(set(ranks))}


def by_loss(config: Config, m: model.Model, d: data.Dataset, rank: int) -> tuple[list[Row], dict[str, Any]]:
    """The exact losses of Gaussians fitted to the other training images, and the network's, by t."""
    times, held = list(config.times), stratified_subset(d.y_train, config.held_out, config.seed)
    kept, own = np.setdiff1d(np.arange(len(d.y_train)), held), f"class, rank {rank}"
    x, c = d.x_train[kept], d.y_train[kept]
    fitted = {f"class, rank {r}": g for r, g in by_class(m, x, c, (*config.ranks, rank)).items()}
    fitted |= {f"{k}, rank {rank}": low_rank.fit(*with_mirrors(m, x, c), rank, k) for k in ("pooled", "one")}
    sets = {HELD_OUT: (d.x_train[held], d.y_train[held]), TEST: (d.x_test, d.y_test)}
    rows: list[Row] = []
    found: dict[str, Any] = {"times": times, "kept": len(kept)}
    for of, (images, labels_of) in sets.items():
        x0, c = np.asarray(data.to_float(images)), labels_of
        exact = {name: each.loss_on(m.schedule, x0, c)[times] for name, each in fitted.items()}
        ids = stratified_subset(c, min(config.measured, len(c)), config.seed + 1)
        drawn = errors(m, fitted[own], x0[ids], c[ids], times)
        value, spread = drawn.loss(exact[own])
        mean, deviation = drawn.gaussian.mean(1), drawn.gaussian.std(1, ddof=1) / np.sqrt(len(ids))
        for i, t in enumerate(times):
            what = f"ε-MSE at t = {t}, {of} images"
            within = 6 * deviation[i] / exact[own][i]
            rows.append(Row(f"{what}: Gaussian, {own}", None, exact[own][i], mean[i], deviation[i], within))
            rows.append(Row(f"{what}: {NETWORK}", None, None, value[i], spread[i]))
        ends = {name: crossing(times, value / loss) for name, loss in exact.items()}
        where = f"{NETWORK} is worse from t, {of} images: than the Gaussian"
        rows += [Row(f"{where}, {name}", None, None, t) for name, t in ends.items() if t is not None]
        found[of] = {"n": len(c), "measured": len(ids), "exact": exact, NETWORK: value, "error": spread} | {
            "ends": ends
        }
    return rows, found


def cells(config: Config, T: int, rank: int) -> list[Cell]:
    """Every cell; with the card's rank further values of t*, T among them; some have two seeds."""
    grid = [(a, r) for r in config.drawn for a in config.above] + [(a, rank) for a in (*config.above, *config.also, T)]
    return [Cell(a, r, 1 + (r >= rank and a in config.twice)) for a, r in dict.fromkeys(grid)]


def images_of(m: model.Model, g: LowRank, cell: Cell, config: Config, seed: int) -> np.ndarray:
    """The images of a cell from one seed: DPM-Solver++(2M) with the card's guidance, x̂0 clipped."""
    eps, scale = m.plain.eps, m.guided(None)
    if cell.above < m.schedule.T:
        eps = gaussian_above(eps, g.eps(m.schedule), cell.above)
    step = partial(STEPS["dpm_2m"], clip_x0(cfg(eps, scale), m.schedule), m.schedule)
    name = f"dpm_2m guidance {scale:g}, rank {cell.rank} above {cell.above}, {cache.code(low_rank)}"
    more: dict[str, Any] = {"times": np.array(config.walk), "begin": lambda x, c: solvers.begin(x)}
    return draw(m, name, step, config.n, len(config.walk) - 1, seed, end=solvers.image, **more)[0]


def by_images(
    config: Config, m: model.Model, judge: Judge, fitted: dict[int, LowRank], card: Cell
) -> list[dict[str, Any]]:
    """Distance and accuracy of each cell, the mean over its seeds; and how much further than as the card says."""
    c, found = labels(m, config.n), []
    seeds = range(config.seed, config.seed + 2)
    as_card: dict[int, np.ndarray] = {}
    for cell in cells(config, m.schedule.T, card.rank):
        each = []
        for seed in seeds[: cell.seeds]:
            if seed not in as_card:
                as_card[seed] = judge.features(images_of(m, fitted[card.rank], card, config, seed))
            x = images_of(m, fitted[cell.rank], cell, config, seed)
            f = judge.features(x)
            each.append((*judge.frechet(f, c), *judge.accuracy(x, c), *judge.further(f, as_card[seed], c)))
        mean, error = np.mean(each, 0), np.sqrt(np.square(each).sum(0)) / len(each)
        names = "frechet", "accuracy", "further"
        of: dict[str, Any] = {name: mean[2 * i] for i, name in enumerate(names)}
        of |= {f"{name}_error": error[2 * i + 1] for i, name in enumerate(names)}
        found.append({**cell._asdict(), **of, "each": [e[0] for e in each]})
    return found


def run(config: Config) -> Result:
    """Measure the losses by t, then draw and judge the images of every cell."""
    m = model.load(config.model)
    if m.prior is None or not m.drawing.gaussian_above:
        raise Unavailable(f"{config.model} does not draw with a Gaussian above some t*")
    judge = judge_of(m.card["train"]["data"])
    d, shipped = judge.data, m.prior.gaussian
    card = Cell(m.drawing.gaussian_above, shipped.var.shape[1], 1)
    rows, losses = by_loss(config, m, d, card.rank)
    # as it would ship: fitted to all training images, float16
    fitted = by_class(m, d.x_train, d.y_train, (*config.drawn, card.rank))
    fitted = {r: jax.tree.map(jnp.float32, g.half()) for r, g in fitted.items()}
    ships, again = (float(g.loss(m.schedule)[card.above]) for g in (shipped, fitted[card.rank]))
    rows.append(Row(f"loss at t = {card.above} of the Gaussian that ships", None, ships, again, within=1e-3))
    floor = judge.floor(config.n)
    rows.append(Row(f"Fréchet distance: floor, {min(config.n, len(d.y_test))} test images", None, None, floor))
    found = by_images(config, m, judge, fitted, card)
    for k in found:
        what = f"t* = {k['above']}, rank {k['rank']}" if k["above"] < m.schedule.T else f"{NETWORK} at every t"
        rows.append(Row(f"Fréchet distance: {what}", None, None, k["frechet"], k["frechet_error"]))
        if (k["above"], k["rank"]) != card[:2]:
            rows.append(Row(f"further than the card's setting: {what}", None, None, k["further"], k["further_error"]))
        rows.append(Row(f"class accuracy: {what}", None, None, k["accuracy"], k["accuracy_error"]))
    about = {"above": card.above, "rank": card.rank, "guidance": m.guided(None), "T": m.schedule.T}
    return Result(rows, None, {"losses": losses, "cells": found, "card": about, "floor": floor, "n": config.n})


def in_one_table(numbers: dict[str, Any]) -> str:
    """Two tables: ε-MSE by t in thousandths, and what was drawn by t* and rank."""
    lines, card = [], numbers["card"]
    for of in (HELD_OUT, TEST):
        found, times = numbers["losses"][of], numbers["losses"]["times"]
        on = f"{found['n']:,} {of} images (the network: {found['measured']:,} of them)"
        lines += [f"1,000 x ε-MSE on {on}, and from where on the network is worse than the Gaussian:"]
        lines += ["", f"| | {' | '.join(f't = {t}' for t in times)} | from t |", "|---|" + "---|" * (len(times) + 1)]
        for name, loss in found["exact"].items():
            end = found["ends"][name]
            row = [f"{1000 * v:.3g}" for v in loss] + ["" if end is None else f"{end:.0f}"]
            lines.append(f"| Gaussian, {name} | {' | '.join(row)} |")
        lines += [f"| {NETWORK} | {' | '.join(f'{1000 * v:.3g}' for v in found[NETWORK])} | |", ""]
    of_cell = {(k["above"], k["rank"]): k for k in numbers["cells"]}
    ranks = sorted({rank for _, rank in of_cell})
    lines += [
        f"Fréchet distance ± error (class accuracy), n = {numbers['n']:,}, ² the mean of two seeds; in brackets "
        f"what it is more than at t* = {card['above']}, rank {card['rank']}, on the same noise:"
    ]
    lines += ["", f"| Gaussian above | {' | '.join(f'rank {r}' for r in ranks)} |", "|---|" + "---|" * len(ranks)]
    for above in sorted({above for above, _ in of_cell}):
        row = [_entry(of_cell[above, r]) if (above, r) in of_cell else "" for r in ranks]
        lines.append(f"| {'nowhere' if above == card['T'] else f't = {above}'} | {' | '.join(row)} |")
    return "\n".join(lines)


def _entry(k: dict[str, Any]) -> str:
    more = f", [{k['further']:+.1f} ± {k['further_error']:.1f}]" if k["further_error"] else ""
    return f"{k['frechet']:.3g} ± {k['frechet_error']:.2g}{'²' if k['seeds'] > 1 else ''} ({k['accuracy']:.3f}){more}"


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw the network's loss over each Gaussian's by t, then what was drawn by t*: distance, and accuracy."""
    card, of = numbers["card"], numbers["losses"][HELD_OUT]
    times, shades = numbers["losses"]["times"], ("#aed6f1", "#5dade2", "#1b4f72", "#6c3483", "#c0392b")
    colours = {f"class, rank {r}": c for r, c in zip(sorted(_ranks(of)), shades, strict=False)}
    with plot.style():
        figure = plot.new_figure(11.0, 3.4)
        left, middle, right = figure.subplots(1, 3)
        for name, loss in of["exact"].items():
            dashes = "-" if name in colours else ":" if name.startswith("one") else "--"
            style = {"color": colours.get(name, "#7f8c8d"), "linestyle": dashes, "marker": "."}
            left.plot(times, np.array(of[NETWORK]) / np.array(loss), label=name, **style)
        left.axhline(1, color="black", linewidth=0.8)
        left.set(xlabel="t", ylabel="ε-MSE of the network / of the Gaussian")
        left.set_title(f"{of['n']:,} held-out training images", fontsize=9)
        left.legend(fontsize=7)
        cells = numbers["cells"]
        never = next(k for k in cells if k["above"] == card["T"])
        for axes, key in ((middle, "further"), (right, "accuracy")):
            for rank in sorted({k["rank"] for k in cells}):
                own = sorted((k for k in cells if k["rank"] == rank and k is not never), key=lambda k: k["above"])
                x, y, e = ([k[name] for k in own] for name in ("above", key, f"{key}_error"))
                style = {"color": colours.get(f"class, rank {rank}", "#7f8c8d"), "linestyle": "-", "marker": "o"}
                axes.errorbar(x, y, e, markersize=4, capsize=2, label=f"rank {rank}", **style)
            axes.axhline(never[key], color="black", linestyle="--", linewidth=0.8, label="the network at every t")
            axes.axvline(card["above"], color="#d5d8dc", zorder=0)
            axes.set_xlabel("t*: above it the Gaussian draws")
        middle.set_ylabel("Fréchet distance, less the card's")
        middle.set_title(f"{numbers['n']:,} images, of one seed or two", fontsize=9)
        right.set_ylabel("class accuracy")
        right.set_title(f"grey: t* of the card, {card['above']}; guidance {card['guidance']:g}", fontsize=9)
        middle.legend(fontsize=7)
    return figure


def _ranks(of: dict[str, Any]) -> list[int]:
    return [int(name.split()[-1]) for name in of["exact"] if name.startswith("class")]
