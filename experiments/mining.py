"""Diff-mining where the answer is known: are the planted motifs found, and with how much work?

Siglidis et al. show what their patches look like; on photographs nobody knows what should have been found. In the
drawn cities it is known: each has a sign and a crest of its own, at known places, among objects that all cities share.
The shipped model `cities` is measured on new images, with the algorithm of the paper: 100 draws, t in [.1T, .7T),
patches of 6 × 6 pixels, five an image that do not touch, as many in all as there are images, features of the U-Net,
k-means, clusters by median typicality. Then one thing is changed at a time: draws, noise levels, patch size, and how
often the motifs stand in the images that are mined. A patch is a hit if at least half of it lies in the box of a
planted motif. The random control is the same rule at positions in random order. AUC: of the map, averaged over 5 × 5
pixels, against the boxes, pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import data, maps, mine, model, plot, weights, world
from ddpm.localisation import motif_auc, patch_motif, precision_at_k, purity, ranks, recalls
from ddpm.patches import pooled, random_patches, select, top
from experiments.runner import Result, Row, Unavailable

PAPER = "Siglidis et al. 2024, Sec. 3 and 4 (the algorithm)"
MINUTES = 12.0
CITIES = range(len(world.CLASSES))


@dataclass(frozen=True)
class Config:
    """Sizes, for each city where it says so, and the paper's parameters in small."""

    model: str = "cities"
    images: int = 40  # of each city
    draws: int = 100
    patch: int = 6
    clusters: int = 5
    more_images: int = 20  # of each city, for the sweeps
    more_draws: int = 200  # the most of the sweep over draws
    window_draws: int = 20  # in each window of t
    seed: int = 1000  # of the images; the training has seeds 1 and 2
    folder: str = "out/experiments/mining/maps"  # where the maps are kept, so that it can be stopped


QUICK = {
    "images": 4, "draws": 4, "clusters": 2, "more_images": 2, "more_draws": 8, "window_draws": 4, "folder": "",
}  # fmt: skip
WINDOWS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 1.0))


def is_planted(motif: np.ndarray) -> np.ndarray:
    """Which numbers of motifs belong to a planted one."""
    return np.array([*(m.city >= 0 for m in world.MOTIFS), False])[motif]


def by_city(w: world.World, T: np.ndarray, pool: int = 5) -> float:
    """Mean over the cities of the AUC of their maps; a city whose few images hold no planted motif is left out."""
    own = [w.labels == c for c in CITIES]
    return float(np.mean([motif_auc(T[i], w.mask[i], pool) for i in own if w.mask[i].any()]))


def hits(w: world.World, S: np.ndarray, k: int, most: int, control: bool = False) -> np.ndarray:
    """Whether the patches of one set of images are planted motifs, best first."""
    found = random_patches(S, k) if control else top(select(S, k), most)
    return is_planted(patch_motif(found.where, w.motif, k))


def at_places(w: world.World, T: np.ndarray, k: int) -> dict[str, float]:
    """Mean over the cities: AUC, and the precision of as many patches as there are planted motifs."""
    out = []
    for c in CITIES:
        part = subset(w, w.labels == c)
        n = int(np.sum(is_planted(part.boxes[:, 1])))
        if not n:
            continue
        S = pooled(T[w.labels == c], k)
        out.append((hits(part, S, k, n).mean(), hits(part, S, k, n, control=True).mean()))
    precision, chance = np.mean(out, 0)
    return {"precision": float(precision), "random": float(chance)}


def subset(w: world.World, which: np.ndarray) -> world.World:
    """Some of the images, with their boxes renumbered."""
    ids = np.flatnonzero(which)
    new = np.full(len(w.labels), -1)
    new[ids] = np.arange(len(ids))
    boxes = w.boxes[new[w.boxes[:, 0]] >= 0].copy()
    boxes[:, 0] = new[boxes[:, 0]]
    return world.World(w.images[ids], w.labels[ids], w.motif[ids], boxes)


def mine_city(
    config: Config, m: model.Model, w: world.World, c: int, T: maps.Maps, others: maps.Maps
) -> dict[str, Any]:
    """The whole algorithm on one city, put to the truth."""
    own, x, k = subset(w, w.labels == c), data.to_float(w.images[w.labels == c]), config.patch
    here = maps.Maps(T.groups[w.labels == c], T.stderr[w.labels == c], T.draws)
    found = mine.mine(
        here, x, c, mine.dift_features(m), others=others, k=k, most=len(x), clusters=config.clusters
    )  # fmt: skip
    motif = patch_motif(found.patches.where, own.motif, k)
    hit = is_planted(motif)
    every = select(pooled(here.map, k), k)
    planted = world.planted(c)
    order = [cluster.rank for cluster in found.clusters]
    recall = recalls(every.where, own.boxes, k, world.BOX, planted)
    q = mine.false_discovery(found.p_label)
    return {
        "city": world.CLASSES[c],
        "images": len(x),
        "planted": int(is_planted(own.boxes[:, 1]).sum()),
        "auc": motif_auc(here.map, own.mask, 5),
        "precision_at": precision_at_k(hit, (10, 20, 50, 100)),
        "precision_random": float(is_planted(patch_motif(found.control.where, own.motif, k)).mean()),
        "purity": purity(found.cluster, motif),
        "purity_of_hits": purity(found.cluster[hit], motif[hit]) if hit.any() else 0.0,
        "found": [f._asdict() | {"name": world.MOTIFS[f.motif].name} for f in
                  ranks(found.cluster, motif, order, planted, least=3, recall=recall)],
        "clusters": [
            {"rank": j.rank, "median": j.median, "patches": len(j.members), "planted": float(hit[j.members].mean())}
            for j in found.clusters
        ],
        "q_label_below_.05": {"hits": _share(q[hit] <= 0.05), "others": _share(q[~hit] <= 0.05)},
        "p_draws_below_.05": {
            "hits": _share(found.p_draws[hit] <= 0.05), "others": _share(found.p_draws[~hit] <= 0.05)
        },
        "T_by_motif_x1000": {
            motif_.name: 1000 * float(here.map[own.motif == i].mean())
            for i, motif_ in enumerate(world.MOTIFS) if (own.motif == i).any()
        },
    }  # fmt: skip


def _share(a: np.ndarray) -> float | None:
    return float(a.mean()) if len(a) else None


def run(config: Config) -> Result:
    """Measure, mine, sweep."""
    if config.model not in weights.cards("denoiser") and not Path(config.model).exists():
        raise Unavailable(f"the weights {config.model!r} are not here; train them with `ddpm train --data cities`")
    m = model.load(config.model)
    quiet = not config.folder
    folder = Path(config.folder or _temporary())

    def measure(name: str, w: world.World, c: Any, draws: int, **how: Any) -> maps.Maps:
        x = data.to_float(w.images)
        say = (lambda _: None) if quiet else print
        return maps.measure(folder / name, m.eps, m.schedule, x, c, draws=draws, quiet=quiet, say=say, **how)

    w = world.draw(4 * config.images, config.seed)
    T = measure("main", w, w.labels, config.draws)
    cities = []
    for c in CITIES:
        others = subset(w, w.labels != c)
        rest = subset(others, np.arange(len(others.labels)) < max(1, config.images // 2))
        cities.append(mine_city(config, m, w, c, T, measure(f"others_{c}", rest, c, config.draws)))

    small = world.draw(4 * config.more_images, config.seed + 1)
    parts = [
        measure(f"draws_{i}", small, small.labels, config.draws, seed=i)
        for i in range(max(1, config.more_draws // config.draws))
    ]
    groups = np.concatenate([p.groups for p in parts], 1)
    each = config.draws // parts[0].groups.shape[1]
    draws = [g for g in (1, 2, 5, 10, 20, 40) if g <= groups.shape[1]]
    by_draws = {
        g * each: {f"auc_{p}": by_city(small, groups[:, :g].mean(1), p) for p in (1, 3, 5, 7)}
        | at_places(small, groups[:, :g].mean(1), config.patch)
        for g in draws
    }
    full = groups.mean(1)
    by_patch = {k: at_places(small, full, k) for k in (3, 4, 5, 6, 7, 8)}
    windows = [measure(f"t_{a:g}", small, small.labels, config.window_draws, t_range=(a, b)).map for a, b in WINDOWS]
    by_window = {
        f"{a:g}-{b:g}": {"auc": by_city(small, t), "T_planted_x1000": 1000 * float(t[small.mask].mean())}
        | at_places(small, t, config.patch)
        for (a, b), t in zip(WINDOWS, windows, strict=True)
    }
    by_rate = {}
    for rate in (0.1, 0.3):
        rare = world.draw(4 * config.more_images, config.seed + 2, rate=rate)
        t = measure(f"rate_{rate:g}", rare, rare.labels, max(4, config.draws // 2)).map
        by_rate[rate] = {"planted": int(is_planted(rare.boxes[:, 1]).sum()), "auc": by_city(rare, t)}
        by_rate[rate] |= at_places(rare, t, config.patch)
    found = [f for city in cities for f in city["found"]]
    auc = [by_city(w, T.map, p) for p in (1, 5)]
    rows = [
        Row("map AUC, pixels", ours=auc[0]),
        Row("map AUC, averaged over 5 × 5", ours=auc[1]),
        *(Row(f"precision of the first {k}", ours=_mean(cities, k)) for k in (20, 50)),
        Row("precision at random places", ours=float(np.mean([c["precision_random"] for c in cities]))),
        Row("planted motifs with a cluster of their own, of 8", ours=float(sum(f["rank"] is not None for f in found))),
        Row("largest rank of such a cluster", ours=float(max([f["rank"] for f in found if f["rank"]], default=0))),
        Row("purity of such a cluster, least", ours=min(f["purity"] for f in found)),
        Row("purity of all clusters", ours=float(np.mean([c["purity"] for c in cities]))),
        Row("share of planted motifs covered by a patch", ours=float(np.mean([f["recall"] for f in found]))),
    ]
    numbers = {
        "n": f"{config.images} images of each city; sweeps: {config.more_images}", "cities": cities,
        "by_draws": by_draws, "by_patch": by_patch, "by_t": by_window, "by_rate": by_rate,
        "model": {"name": m.name, "sha256": m.card.get("sha256")},
    }  # fmt: skip
    return Result(rows, picture(w, T.map, cities, by_draws, by_window, by_patch), numbers)


def _temporary() -> str:
    import tempfile

    return tempfile.mkdtemp()


def _mean(cities: list[dict], k: int) -> float | None:
    values = [c["precision_at"][k] for c in cities if k in c["precision_at"]]
    return float(np.mean(values)) if values else None


def picture(w: world.World, T: np.ndarray, cities: list, by_draws: dict, by_window: dict, by_patch: dict) -> Any:
    """Maps above; below AUC and precision against draws, noise level, and patch size."""
    x = data.to_float(w.images)
    most = float(np.quantile(np.abs(T), 0.995)) / 1.5
    with plot.style():
        figure = plot.new_figure(9.6, 5.4)
        parts: Any = figure.subfigures(2, 1, height_ratios=[1.25, 1])
        above, below = parts
        tops = above.subplots(1, 4)
        for c, ax in enumerate(tops):
            ids = np.flatnonzero(w.labels == c)[:4]
            grey = np.broadcast_to(x[ids], (len(ids), *x.shape[1:3], 3))
            pairs = np.stack([grey, plot.overlay(x[ids], T[ids], most)], 1).reshape(-1, *grey.shape[1:])
            ax.imshow(plot.grid(pairs, 2), interpolation="nearest")
            ax.set_title(world.CLASSES[c], fontsize=9)
            ax.set_xticks([]), ax.set_yticks([])
            ax.spines[:].set_visible(False)
        a, b, d = below.subplots(1, 3)
        for p in (1, 3, 5, 7):
            a.plot(list(by_draws), [r[f"auc_{p}"] for r in by_draws.values()], label=f"map averaged over {p} × {p}")
        a.set(xlabel="draws", ylabel="AUC", xscale="log", ylim=(0.5, 1))
        middle = [(lo + hi) / 2 for lo, hi in WINDOWS]
        b.plot(middle, [r["auc"] for r in by_window.values()], label="AUC (5 × 5)")
        b.plot(middle, [r["precision"] for r in by_window.values()], label="precision")
        b.set(xlabel="t/T", ylim=(0, 1))
        d.plot(list(by_patch), [r["precision"] for r in by_patch.values()], label="precision")
        d.plot(list(by_patch), [r["random"] for r in by_patch.values()], label="at random places")
        d.set(xlabel="patch side, pixels", ylim=(0, 1))
        for ax in (a, b, d):
            ax.legend(fontsize=6.5)
    return figure
