"""The folder of one mined label: tables, numbers, pictures, and the page that shows them.

patches.csv, clusters.csv, summary.json      numbers
scores.png, clusters_1.png, ...              pictures
index.html                                   all of it on one page
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import plot
from ddpm.mining import nulls, report
from ddpm.mining.maps import Maps
from ddpm.mining.patches import Patches
from ddpm.mining.patterns import Cluster, Mined, Sizes
from ddpm.tools import machine
from ddpm.tools.files import write_atomic, write_csv
from ddpm.typicality import Draws

PER_ROW, PER_SHEET = 8, 6  # patches shown per cluster, clusters per sheet


@dataclass(frozen=True)
class Subject:
    """What is mined, and how."""

    model: str  # its name
    weights_sha256: str | None
    label: str  # the name of the class
    source: str  # of the images, in words
    sizes: Sizes
    draws: Draws
    times: tuple[int, int]  # the first and the last t of the draws
    layer: str  # of the features
    seed: int
    command: str  # that does it again


@dataclass(frozen=True)
class Report:
    """What was found, with the images in which it was found."""

    subject: Subject
    x: np.ndarray  # (n, H, W, C)
    ids: np.ndarray  # (n,) of the images in their data set
    maps: Maps
    mined: Mined
    others: Patches | None  # the same rule on images of other labels

    @property
    def scores(self) -> list[tuple[str, np.ndarray]]:
        """The sets of scores that are compared, by name."""
        rows = [("most typical of each image", self.mined.patches.score), ("random places", self.mined.control.score)]
        return rows if self.others is None else [*rows, ("the same rule, images of other labels", self.others.score)]

    def images(self, cluster: Cluster) -> int:
        """Count the images that a cluster's patches come from."""
        return len(np.unique(self.mined.patches.where[cluster.members, 0]))

    def tiles(self, cluster: Cluster, maps: np.ndarray | None = None) -> np.ndarray:
        """Draw the patches of a cluster that are nearest to its centre, in a row."""
        k = self.subject.sizes.patch
        return report.row(report.tiles(self.x, self.mined, cluster.members[:PER_ROW], k, maps))


def summary(found: Report) -> dict[str, Any]:
    """Summarise the result in numbers."""
    mined, T = found.mined, found.maps
    q = nulls.false_discovery(mined.p_label)
    return {
        "images": len(T.groups),
        "patches": len(mined.patches.score),
        "mean_typicality": float(T.value.mean()),
        "share_of_images_with_T_above_0": float((T.value > 0).mean()),
        "median_score": float(np.median(mined.patches.score)),
        "median_score_random": float(np.median(mined.control.score)),
        "share_q_label_below_.05": None if np.isnan(q).any() else float((q <= 0.05).mean()),
        "share_p_draws_below_.05": float((mined.p_draws <= 0.05).mean()),
        "clusters": [
            {"rank": c.rank, "median": c.median, "patches": len(c.members), "images": found.images(c),
             "share_q_label_below_.05": None if np.isnan(c.significant) else c.significant}
            for c in mined.clusters
        ],
        "others": 0 if found.others is None else len(np.unique(found.others.where[:, 0])),
    }  # fmt: skip


def write(folder: Path, found: Report) -> str:
    """Write all files; return the result in words."""
    numbers = summary(found)
    write_tables(folder, found)
    write_summary(folder, found.subject, numbers)
    sheets = write_pictures(folder, found)
    report.save(folder / "index.html", **page(found, numbers, (folder / "scores.png").read_bytes()))
    by_label = numbers["share_q_label_below_.05"]
    return (
        f"median T x 1000 of the patches {1000 * numbers['median_score']:+.2f}, at random places "
        f"{1000 * numbers['median_score_random']:+.2f}; q <= .05 against other labels: "
        f"{'not measured' if by_label is None else format(by_label, '.3f')}; "
        f"p <= .05 against the noise of the draws: {numbers['share_p_draws_below_.05']:.3f}\n"
        f"page: {folder / 'index.html'}\nsheets: {', '.join(map(str, sheets))}\nnumbers: {folder / 'patches.csv'}"
    )


# --- tables, numbers, pictures ----------------------------------------------------------------------------------------


def write_tables(folder: Path, found: Report) -> None:
    """Write patches.csv, cluster by cluster, and clusters.csv."""
    mined, p = found.mined, found.mined.patches
    q = nulls.false_discovery(mined.p_label)
    write_csv(
        folder / "patches.csv",
        "cluster distance image top left turn T stderr p_draws p_label q_label".split(),
        [
            [mined.cluster[i], mined.distance[i], int(found.ids[p.where[i, 0]]), *p.where[i, 1:], p.turn[i], p.score[i],
             mined.stderr[i], mined.p_draws[i], mined.p_label[i], q[i]]
            for c in mined.clusters for i in c.members
        ],
    )  # fmt: skip
    write_csv(
        folder / "clusters.csv",
        "rank median_T patches images share_q_label_below_.05".split(),
        [[c.rank, c.median, len(c.members), found.images(c), c.significant] for c in mined.clusters],
    )


def write_summary(folder: Path, subject: Subject, numbers: dict[str, Any]) -> None:
    """Write summary.json."""
    s = subject
    about = {
        "model": s.model, "weights_sha256": s.weights_sha256, "label": s.label, "source": s.source,
        "command": s.command, "device": machine.device_name(), "versions": machine.versions(), "draws": s.draws.n,
        "t_range": list(s.draws.t_range), "patch": s.sizes.patch, "per_image": s.sizes.per_image, "layer": s.layer,
        "seed": s.seed,
    }  # fmt: skip
    write_atomic(folder / "summary.json", (json.dumps(about | numbers, indent=1, ensure_ascii=False) + "\n").encode())


def write_pictures(folder: Path, found: Report) -> list[Path]:
    """Write scores.png and the sheets of clusters; return the paths of the sheets."""
    k = found.subject.sizes.patch
    in_thousandths = [(name, 1000 * s) for name, s in found.scores]
    plot.save_scores(folder / "scores.png", in_thousandths, f"T x 1000 of {k} x {k} pixels")
    rows = [
        (f"{c.rank}. T {1000 * c.median:+.1f}\n{len(c.members)} patches", found.tiles(c)) for c in found.mined.clusters
    ]
    sheets = [folder / f"clusters_{i // PER_SHEET + 1}.png" for i in range(0, len(rows), PER_SHEET)]
    for i, sheet in enumerate(sheets):
        plot.save_strips(sheet, rows[i * PER_SHEET : (i + 1) * PER_SHEET])
    return sheets


# --- the page ---------------------------------------------------------------------------------------------------------


def page(found: Report, numbers: dict[str, Any], histogram: bytes) -> dict[str, Any]:
    """Collect the content of the page."""
    s = found.subject
    above = 100 * numbers["share_of_images_with_T_above_0"]
    facts = [
        ("model", s.model),
        ("images", f"{len(found.x)} of {s.label}; {s.source}"),
        ("draws", f"{s.draws.n} pairs (t, ε) for each image, the same for all; t in {s.times[0]}…{s.times[1]}"),
        ("typicality of the whole image", f"above 0 on {above:.1f} % of the images"),
        ("features", f"{s.layer} of the U-Net, t = .16 T, 8 draws; k-means with {s.sizes.clusters} clusters"),
        ("device", machine.device_name()),
    ]
    return {
        "title": f"What makes {s.label} look like {s.label}",
        "label": s.label,
        "k": s.sizes.patch,
        "count": s.sizes.per_image,
        "facts": facts,
        "chance": [_quartiles(name, score) for name, score in found.scores],
        "nulls": _nulls(numbers),
        "clusters": [_cluster(found, c) for c in found.mined.clusters],
        "histogram": histogram,
    }


def _quartiles(name: str, score: np.ndarray) -> tuple[str, int, str, str]:
    low, middle, high = np.quantile(1000 * score, (0.25, 0.5, 0.75))
    return name, len(score), f"{middle:+.2f}", f"{low:+.2f} … {high:+.2f}"


def _nulls(numbers: dict[str, Any]) -> str:
    by_label, by_draws = numbers["share_q_label_below_.05"], numbers["share_p_draws_below_.05"]
    signs = f"Signs of the draws flipped: p ≤ .05 for {100 * by_draws:.1f} % of the patches."
    if by_label is None:
        return signs
    return (
        f"Labels permuted: {100 * by_label:.1f} % of the patches have q ≤ .05 against what the same rule finds in "
        f"images of other labels, measured with this label; with {numbers['others']} of these no p is below "
        f"{1 / (1 + numbers['others']):.2g}. {signs}"
    )


def _cluster(found: Report, c: Cluster) -> dict[str, Any]:
    score, stderr = found.mined.patches.score, found.mined.stderr
    return {
        "rank": c.rank,
        "median": f"{1000 * c.median:+.2f}",
        "size": len(c.members),
        "images": found.images(c),
        "significant": "" if np.isnan(c.significant) else f"{100 * c.significant:.0f} %",
        "scores": ", ".join(f"{1000 * score[i]:+.1f} ± {1000 * stderr[i]:.1f}" for i in c.members[:PER_ROW]),
        "picture": report.png(found.tiles(c, found.maps.map)),
    }
