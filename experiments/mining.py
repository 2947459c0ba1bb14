"""Diff-mining where the answer is known: are the planted motifs found, and what would the best denoiser find?

Siglidis et al. show what their patches look like; on photographs nobody knows what should have been found. In the drawn
cities each city has two ornaments of its own, at known positions, among objects that all cities share, and the
distribution of the drawings is known: the exact column is the algorithm with the exact denoiser, the one with the least
possible error. Ours is the same algorithm with the shipped network. The images are ones that neither denoiser was made
from, and the draws are shared; there are 100 of them, with t in [.1T, .7T). Patches have 6 × 6 pixels, five an image
that do not touch, as many in all as there are images; k-means groups them into clusters, which are ranked by median
typicality. The clusters are made from features of the U-Net; in the exact column, from the posterior over the tiles of
each cell, at the same time. Then one thing is changed at a time: draws, noise levels, patch size, and how often the
ornaments occur in the images that are mined. A patch is a hit if at least half of it lies in the box of a planted
motif. The random control is the same rule at positions in random order.

What the exact column shows: the algorithm loses nothing. All that the name of a city is worth is log 4 nats an image,
and T puts them where the ornaments are. They are found between about .2 T and .4 T: with less noise the tile is
recognised without the name, and with more it is not recognised with it. Too few draws harm the pixels first and the
positions later: in a flat part of the map the noise of a draw is as large as the effect of the class there, and rare
draws in which a tile is mistaken count for much. More ornaments in an image share the same nats, so the map gets weaker
as the rate grows.

What ours shows: the maps of a small network are nearly those of the exact denoiser. Its clusters are not: every
ornament has a cluster, but not all of these are pure, whereas those of the exact posterior are. The features are those
of its first block on the way up; the layer was chosen on the images of `mining_baselines`, and other layers are less
pure. Above .5 T, where the class still matters a little, the network's maps lose the positions sooner than the exact
ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, plot, weights
from ddpm.contracts import Eps
from ddpm.datasets import world
from ddpm.features.activations import default_time
from ddpm.forward import q_sample
from ddpm.mining import maps, nulls, patterns
from ddpm.mining.localisation import motif_auc, patch_motif, precision_at_k, purity, ranks, recalls
from ddpm.mining.patches import pooled, random_patches, select, top
from ddpm.schedule import Schedule, make_schedule
from ddpm.typicality import Draws
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, Unavailable

PAPER = "Siglidis et al. 2024, Sec. 3 and 4 (the algorithm)"
MINUTES = 8.0
UNCHECKED = (
    "The exact column is the algorithm with the exact denoiser; the shipped network is compared with it, not "
    "held to it."
)
CITIES = range(len(world.CLASSES))
WINDOWS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 1.0))
POOLS = (1, 3, 5, 7)  # pixels a side over which a map is averaged


@dataclass(frozen=True)
class Config:
    """Sizes (for each city where the comment says so), and smaller versions of the paper's parameters."""

    model: str = "cities"  # shipped weights; empty: the exact column alone
    images: int = 40  # of each city
    draws: int = 100
    patch: int = 6
    clusters: int = 4
    more_images: int = 20  # of each city, for the sweeps over t and over rates
    window_draws: int = 20  # in each window of t
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2)  # of each of the two ornaments, in each cell of the floors
    seed: int = 1000  # of the images; the training has seeds 1 and 2
    folder: str = "out/experiments/mining/maps"  # where the maps are kept, so that it can be stopped


QUICK = {
    "model": "", "images": 6, "draws": 4, "clusters": 2, "more_images": 4, "window_draws": 4, "rates": (0.1,),
    "folder": "",
}  # fmt: skip


class Denoiser(NamedTuple):
    """A denoiser under test: its ε̂, its schedule and its features."""

    eps: Eps
    schedule: Schedule
    features: patterns.Features


# --- the exact one ----------------------------------------------------------------------------------------------------


def exact(schedule: Schedule) -> Denoiser:
    """The denoiser of the distribution, and as its features the posterior over the motif in each cell."""
    cities = world.distribution()
    kinds = np.unique(world.tiles().motif)
    one_hot = (world.tiles().motif[:, None] == kinds).astype(np.float32)

    def features(x0: np.ndarray, c: np.ndarray) -> np.ndarray:
        """p(motif in the cell | x_t, c), the mean of 8 draws at t = .16 T: (B, 4, 4, kinds)"""
        t, total = default_time(schedule.T), jnp.zeros(())
        for key in jax.random.split(jax.random.key(2), 8):
            noise = jnp.broadcast_to(jax.random.normal(key, x0.shape[1:]), x0.shape)
            x_t = q_sample(schedule, jnp.asarray(x0), t, noise)
            total = total + cities.answer(schedule, x_t, t, c).tile_posterior / 8
        return (np.asarray(total) @ one_hot).reshape(len(x0), world.CELLS, world.CELLS, len(kinds))

    return Denoiser(cities.eps(schedule), schedule, features)


def denoisers(config: Config) -> dict[str, Denoiser]:
    """The denoisers by the name of their column."""
    if not config.model:
        return {"exact": exact(make_schedule("linear"))}
    if config.model not in weights.cards("denoiser") and not Path(config.model).exists():
        raise Unavailable(f"the weights {config.model!r} are not here; train them with `ddpm train --data cities`")
    m = model.load(config.model)
    return {"exact": exact(m.schedule), "ours": Denoiser(m.eps, m.schedule, patterns.dift_features(m))}


# --- compared with the truth ------------------------------------------------------------------------------------------


def is_planted(motif: np.ndarray) -> np.ndarray:
    """True where the number of a motif belongs to a planted one."""
    return np.array([*(m.city >= 0 for m in world.MOTIFS), False])[motif]


def subset(w: world.World, which: np.ndarray) -> world.World:
    """Some of the images, with their boxes renumbered."""
    ids = np.flatnonzero(which)
    new = np.full(len(w.labels), -1)
    new[ids] = np.arange(len(ids))
    boxes = w.boxes[new[w.boxes[:, 0]] >= 0].copy()
    boxes[:, 0] = new[boxes[:, 0]]
    return world.World(w.images[ids], w.labels[ids], w.motif[ids], boxes)


def auc(w: world.World, T: np.ndarray, pool: int) -> float:
    """Mean over the cities of the AUC of their maps; a city whose few images hold no planted motif is left out."""
    of_city = [w.labels == c for c in CITIES]
    return float(np.mean([motif_auc(T[i], w.mask[i], pool) for i in of_city if w.mask[i].any()]))


def places(w: world.World, T: np.ndarray, k: int) -> dict[str, float]:
    """Share of hits among as many patches as there are planted motifs, and at random; mean over the cities."""
    out = []
    for c in CITIES:
        part = subset(w, w.labels == c)
        if n := int(is_planted(part.boxes[:, 1]).sum()):
            S = pooled(T[w.labels == c], k)
            found = (top(select(S, k), n), random_patches(S, k))
            out.append([is_planted(patch_motif(p.where, part.motif, k)).mean() for p in found])
    return dict(zip(("precision", "random"), np.mean(out, 0).tolist(), strict=True))


def at(w: world.World, T: np.ndarray, k: int) -> dict[str, float]:
    """AUC of the map by the side over which it is averaged, and precision."""
    return {f"auc_{p}": auc(w, T, p) for p in POOLS} | places(w, T, k)


def mine_city(config: Config, d: Denoiser, w: world.World, c: int, T: maps.Maps, others: maps.Maps) -> dict[str, Any]:
    """Run the whole algorithm on one city, and compare what it finds with the truth."""
    city, k = subset(w, w.labels == c), config.patch
    x, here = data.to_float(city.images), maps.Maps(T.groups[w.labels == c], T.stderr[w.labels == c], T.draws)
    found = patterns.mine(
        here, x, c, d.features, patterns.Sizes(k, top=len(x), clusters=config.clusters), others=others
    )
    motif = patch_motif(found.patches.where, city.motif, k)
    hit, planted = is_planted(motif), world.planted(c)
    recall = recalls(select(pooled(here.map, k), k).where, city.boxes, k, world.BOX, planted)
    order, q = [cluster.rank for cluster in found.clusters], nulls.false_discovery(found.p_label)
    has = np.isin(np.arange(len(x)), city.boxes[is_planted(city.boxes[:, 1]), 0])
    return {
        "city": world.CLASSES[c],
        "planted": int(is_planted(city.boxes[:, 1]).sum()),
        "precision_at": precision_at_k(hit, (10, 20, 40)),
        "precision_random": float(is_planted(patch_motif(found.control.where, city.motif, k)).mean()),
        "purity": purity(found.cluster, motif),
        "found": [f._asdict() | {"name": world.MOTIFS[f.motif].name}
                  for f in ranks(found.cluster, motif, order, planted, least=3, recall=recall)],
        "clusters": [
            {"rank": j.rank, "median": j.median, "patches": len(j.members), "planted": float(hit[j.members].mean())}
            for j in found.clusters
        ],
        "q_label_below_.05": {"hits": _share(q[hit] <= 0.05), "others": _share(q[~hit] <= 0.05)},
        "p_draws_below_.05": {
            "hits": _share(found.p_draws[hit] <= 0.05), "others": _share(found.p_draws[~hit] <= 0.05)
        },
        "T_above_0": {"with an ornament": _share(here.value[has] > 0), "without": _share(here.value[~has] > 0)},
        "T_x1000": {
            name: 1000 * float(here.map[which].mean()) for name, which in (("planted", city.mask), ("rest", ~city.mask))
        },
    }  # fmt: skip


def _share(a: np.ndarray) -> float | None:
    return float(a.mean()) if len(a) else None


def measured(
    config: Config, d: Denoiser, folder: Path, report: Callable[[str], Any]
) -> tuple[dict[str, Any], np.ndarray]:
    """Measure all numbers of one column, and the maps of the main set of images."""

    def measure(name: str, w: world.World, c: Any, draws: int, **how: Any) -> maps.Maps:
        x, request = data.to_float(w.images), maps.Request(Draws(draws, **how))
        return maps.measure(folder / name, d.eps, d.schedule, x, c, request, report=report)

    w, small = world.draw(4 * config.images, config.seed), world.draw(4 * config.more_images, config.seed + 1)
    T = measure("main", w, w.labels, config.draws)
    cities = []
    for c in CITIES:
        others = subset(w, w.labels != c)
        rest = subset(others, np.arange(len(others.labels)) < config.images)
        cities.append(mine_city(config, d, w, c, T, measure(f"others_{c}", rest, c, config.draws)))
    G, k = T.groups.shape[1], config.patch
    by_draws = {g * config.draws // G: at(w, T.groups[:, :g].mean(1), k) for g in range(1, G + 1) if G % g == 0}
    by_t = {}
    for a, b in WINDOWS:
        t = measure(f"t_{a:g}", small, small.labels, config.window_draws, t_range=(a, b)).map
        by_t[f"{a:g}-{b:g}"] = at(small, t, k) | {"T_planted_x1000": 1000 * float(t[small.mask].mean())}
    by_rate = {}
    for rate in config.rates:
        rare = world.draw(4 * config.more_images, config.seed + 2, rate=rate)
        t = measure(f"rate_{rate:g}", rare, rare.labels, max(4, config.draws // 2)).map
        by_rate[rate] = {"planted": int(is_planted(rare.boxes[:, 1]).sum())} | at(rare, t, k)
    return {
        "cities": cities, "auc": {p: auc(w, T.map, p) for p in POOLS}, "T_x1000": 1000 * float(T.value.mean()),
        "by_draws": by_draws, "by_t": by_t, "by_patch": {k: places(w, T.map, k) for k in (3, 4, 5, 6, 7, 8)},
        "by_rate": by_rate,
    }, T.map  # fmt: skip


def summary(n: dict[str, Any]) -> dict[str, float | None]:
    """The rows of the table for one column."""
    found = [f for city in n["cities"] for f in city["found"]]
    ks = set.intersection(*(set(city["precision_at"]) for city in n["cities"]))
    return {
        **{f"map AUC{', pixels' if p == 1 else f', averaged over {p} × {p}'}": n["auc"][p] for p in POOLS},
        **{f"precision of the first {k} patches": _mean(c["precision_at"][k] for c in n["cities"]) for k in sorted(ks)},
        "precision at random positions": _mean(c["precision_random"] for c in n["cities"]),
        "planted motifs that have a cluster, of 8": float(sum(f["rank"] is not None for f in found)),
        "largest rank of such a cluster": float(max([f["rank"] for f in found if f["rank"]], default=0)),
        "purity of such a cluster, mean": _mean(f["purity"] for f in found),
        "purity of such a cluster, least": min(f["purity"] for f in found),
        "share of planted motifs covered by a patch": _mean(f["recall"] for f in found),
        "T × 1000, mean of all images": n["T_x1000"],
    }


def _mean(values: Any) -> float:
    return float(np.nanmean(list(values)))


def run(config: Config) -> Result:
    """Measure both columns."""
    folder, report = Path(config.folder or tempfile.mkdtemp()), print if config.folder else (lambda _: None)
    columns, T = {}, {}
    for name, d in denoisers(config).items():
        columns[name], T[name] = measured(config, d, folder / name, report)
    summaries = {name: summary(n) for name, n in columns.items()}
    rows = [
        Row(what, None, exact_is, summaries.get("ours", {}).get(what)) for what, exact_is in summaries["exact"].items()
    ]
    numbers = {"n": f"{config.images} images of each city; sweeps: {config.more_images}", **columns}
    if config.model:
        m = model.load(config.model)
        numbers["model"] = {"name": m.name, "sha256": m.card.get("sha256")}
    return Result(rows, picture(world.draw(4 * config.images, config.seed), T, columns), numbers)


STYLES = {"exact": {"ls": "--", "color": "0.45"}, "ours": {"ls": "-", "color": "C0"}}


def picture(w: world.World, T: dict[str, np.ndarray], columns: dict[str, Any]) -> Any:
    """Draw images and their maps above; below, AUC and precision against what they depend on."""
    with plot.style():
        figure = plot.new_figure(10, 4.4 if len(T) == 2 else 3.9)
        halves: Any = figure.subfigures(2, 1, height_ratios=[1.25 if len(T) == 2 else 0.9, 1])
        above, below = halves
        maps_of(above, w, T)
        axes = below.subplots(1, 4)
        middles = [(a + b) / 2 for a, b in WINDOWS]
        for name, n in columns.items():
            style: dict[str, Any] = STYLES[name]
            for ax, field, xs in ((axes[0], "by_draws", None), (axes[1], "by_t", middles), (axes[3], "by_rate", None)):
                lines = n[field]
                xs = list(lines) if xs is None else xs
                ax.plot(xs, [r["auc_1"] for r in lines.values()], **style, marker=".", label=f"{name}: AUC, pixels")
                ax.plot(xs, [r["precision"] for r in lines.values()], **style | {"color": "C1"}, marker="x", ms=4,
                        label=f"{name}: precision")  # fmt: skip
            sides = list(n["by_patch"])
            axes[2].plot(sides, [r["precision"] for r in n["by_patch"].values()], **style | {"color": "C1"}, marker="x",
                         ms=4, label=f"{name}: precision")  # fmt: skip
        at_random = [r["random"] for r in columns["exact"]["by_patch"].values()]
        axes[2].plot(list(columns["exact"]["by_patch"]), at_random, color="0.7", label="at random places")
        for ax, what in zip(axes, ("draws", "t/T", "side of a patch, pixels", "rate of each ornament"), strict=True):
            ax.set_xlabel(what)
        for ax in axes:
            ax.set_ylim(0, 1.02)
            ax.legend(fontsize=5.5, loc="lower right" if ax is not axes[1] else "best")
    return figure


def maps_of(figure: Any, w: world.World, T: dict[str, np.ndarray]) -> None:
    """Draw three images of each city and each column's map: red where the class helps, blue where it misleads."""
    x = data.to_float(w.images)
    for c, ax in enumerate(figure.subplots(1, len(CITIES))):
        boxes = w.boxes[is_planted(w.boxes[:, 1])]
        ids = [i for i in np.unique(boxes[:, 0]) if w.labels[i] == c][:3]
        rows = [np.broadcast_to(x[ids], (len(ids), *x.shape[1:3], 3))]
        rows += [plot.overlay(x[ids], t[ids], float(np.quantile(np.abs(t), 0.995)) / 1.5) for t in T.values()]
        ax.imshow(plot.grid(np.concatenate(rows), len(ids)), interpolation="nearest")
        ax.set_title(world.CLASSES[c], fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if c == 0:
            side = world.SIZE + 2
            ax.set_yticks([side * (i + 0.5) for i in range(len(rows))], ["images", *T], fontsize=8)
            ax.tick_params(length=0)
