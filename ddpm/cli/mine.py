"""`ddpm mine`: images, maps, patches and clusters; a page, sheets and numbers in one folder."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm import data, plot
from ddpm.cli import options
from ddpm.datasets import sources
from ddpm.features.activations import default_layer
from ddpm.mining import maps, patterns, report
from ddpm.mining import nulls as nulls_
from ddpm.mining.patches import Patches, pooled, select
from ddpm.mining.patterns import Mined
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools import machine
from ddpm.tools.files import write_atomic
from ddpm.typicality import time_window
from ddpm.zoo import model

PER_ROW, PER_SHEET = 8, 6  # patches shown per cluster, clusters per sheet


def images_of(command: options.Mine, m: model.Model, label: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Return images of the label, their indices, images of other labels, and the source.

    The other labels have equal shares; the indices are those in the data set.
    """
    rest = [k for k in range(m.num_classes) if k != label]
    share = -(-command.others // len(rest)) if rest else 0
    # Images drawn by the model itself
    if command.data == "generated":
        c = np.concatenate([np.full(command.n, label), np.repeat(rest, share)[: command.others]])
        key = jax.random.key(command.seed)
        x = generate(m.eps, m.schedule, key, m.image_shape, c, Sampling(steps=50, guidance=2.0))
        source = f"drawn by {m.name} (DDIM, 50 steps, guidance 2, seed {command.seed})"
        return x[: command.n], np.arange(command.n), x[command.n :], source
    # Images of a data set, which has to fit the model
    dataset = sources.load(command.data, command.data_dir)
    if dataset.image_shape != m.image_shape or dataset.class_names != m.classes:
        raise ValueError(
            f"model {m.name!r} wants images {m.image_shape} of {', '.join(m.classes)}; "
            f"{command.data} has {dataset.image_shape} of {', '.join(dataset.class_names)}"
        )
    x, y = (dataset.x_test, dataset.y_test) if command.split == "test" else (dataset.x_train, dataset.y_train)
    # The label's images, and others in equal shares
    mine_ids = np.flatnonzero(y == label)[: command.n]
    if not len(mine_ids):
        raise ValueError(
            f"{command.data} has no {command.split} image of {m.classes[label]!r}; take another --split or --label"
        )
    other_ids: Any = np.concatenate([np.flatnonzero(y == k)[:share] for k in rest])[: command.others] if rest else []
    ids = np.asarray(other_ids, dtype=int)
    return data.to_float(x[mine_ids]), mine_ids, data.to_float(x[ids]), f"{command.data} {command.split} images"


def run(command: options.Mine) -> None:
    """Mine one label; all validation happens before the long computation."""
    # Model and options
    m = model.load(command.model)
    patterns.check_model(m)
    label = data.class_index(m.classes, command.label)
    time_window(m.schedule.T, command.t_range)
    maps.group_count(command.draws)
    for name, value, low in (("n", command.n, 1), ("others", command.others, 0)):
        if value < low:
            raise ValueError(f"{name} is {value}; give a whole number >= {low}")
    sizes = (command.patch, command.per_image, command.top, command.clusters)
    patterns.check_sizes(command.n, m.image_shape, *sizes)
    command = dataclasses.replace(command, layer=command.layer or default_layer(m.unet))
    features = patterns.dift_features(m, layer=command.layer, seed=command.seed)
    features(np.zeros((1, *m.image_shape), np.float32), np.array([label]))  # refuses an unknown layer
    # Images and folder
    x, ids, others, source = images_of(command, m, label)
    patterns.check_sizes(len(x), m.image_shape, *sizes)
    name = re.sub(r"\W+", "-", m.classes[label].lower()).strip("-")
    folder = command.out or Path("out/mine") / f"{command.data}-{name}"
    print(f"{len(x)} images of {m.classes[label]!r}, {len(others)} of other labels: {source}\nfolder: {folder}")

    # Maps, patterns and output files
    how: dict[str, Any] = {"draws": command.draws, "t_range": command.t_range, "seed": command.seed}
    T = maps.measure(folder / "maps", m.eps, m.schedule, x, label, **how)
    T_others = maps.measure(folder / "maps_others", m.eps, m.schedule, others, label, **how) if len(others) else None
    k, count, most, clusters = sizes
    mined = patterns.mine(
        T, x, label, features, others=T_others, k=k, count=count, most=most, clusters=clusters, seed=command.seed
    )
    theirs = None if T_others is None else select(pooled(T_others.map, k), k, count)
    write(folder, command, m, label, source, x, ids, T, mined, theirs)


# --- output files -----------------------------------------------------------------------------------------------------


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    """Write a table, completely or not at all."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([[f"{v:.6g}" if isinstance(v, (float, np.floating)) else v for v in row] for row in rows])
    write_atomic(path, text.getvalue().encode())


def chance(mined: Mined, theirs: Patches | None, k: int) -> list[tuple[str, np.ndarray]]:
    """Collect the sets of scores that are compared."""
    rows = [("most typical of each image", mined.patches.score), ("random places", mined.control.score)]
    return rows if theirs is None else [*rows, ("the same rule, images of other labels", theirs.score)]


def summary(mined: Mined, T: maps.Maps) -> dict[str, Any]:
    """Summarise the result in numbers."""
    q = nulls_.false_discovery(mined.p_label)
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
            {"rank": c.rank, "median": c.median, "patches": len(c.members), "images": _images(mined, c.members),
             "share_q_label_below_.05": None if np.isnan(c.significant) else c.significant}
            for c in mined.clusters
        ],
    }  # fmt: skip


def _images(mined: Mined, members: np.ndarray) -> int:
    return len(np.unique(mined.patches.where[members, 0]))


def write(
    folder: Path,
    command: options.Mine,
    m: model.Model,
    label: int,
    source: str,
    x: np.ndarray,
    ids: np.ndarray,
    T: maps.Maps,
    mined: Mined,
    theirs: Patches | None,
) -> None:
    """Write patches.csv, clusters.csv, summary.json, scores.png, clusters_N.png and index.html."""
    # Tables
    k, q, p = command.patch, nulls_.false_discovery(mined.p_label), mined.patches
    numbers = summary(mined, T) | {"others": 0 if theirs is None else len(np.unique(theirs.where[:, 0]))}
    members = [i for c in mined.clusters for i in c.members]
    write_csv(
        folder / "patches.csv",
        "cluster distance image top left turn T stderr p_draws p_label q_label".split(),
        [
            [mined.cluster[i], mined.distance[i], int(ids[p.where[i, 0]]), *p.where[i, 1:], p.turn[i], p.score[i],
             mined.stderr[i], mined.p_draws[i], mined.p_label[i], q[i]]
            for i in members
        ],
    )  # fmt: skip
    write_csv(
        folder / "clusters.csv",
        "rank median_T patches images share_q_label_below_.05".split(),
        [[c.rank, c.median, len(c.members), _images(mined, c.members), c.significant] for c in mined.clusters],
    )
    # Summary
    about = {
        "model": m.name, "weights_sha256": m.card.get("sha256"), "label": m.classes[label], "source": source,
        "command": f"ddpm mine {shlex.join(sys.argv[2:])}".strip(), "device": machine.device_name(),
        "versions": machine.versions(), "draws": command.draws, "t_range": list(command.t_range), "patch": k,
        "per_image": command.per_image, "layer": command.layer, "seed": command.seed,
    }  # fmt: skip
    write_atomic(folder / "summary.json", (json.dumps(about | numbers, indent=1, ensure_ascii=False) + "\n").encode())

    # Pictures and page
    held = chance(mined, theirs, k)
    plot.save_scores(folder / "scores.png", [(name, 1000 * s) for name, s in held], f"T x 1000 of {k} x {k} pixels")
    rows = [
        (
            f"{c.rank}. T {1000 * c.median:+.1f}\n{len(c.members)} patches",
            report.row(report.tiles(x, mined, c.members[:PER_ROW], k)),
        )
        for c in mined.clusters
    ]
    sheets = [folder / f"clusters_{i // PER_SHEET + 1}.png" for i in range(0, len(rows), PER_SHEET)]
    for i, sheet in enumerate(sheets):
        plot.save_strips(sheet, rows[i * PER_SHEET : (i + 1) * PER_SHEET])
    report.save(folder / "index.html", **_content(command, m, label, source, x, T, mined, held, numbers, folder))
    print(
        f"median T x 1000 of the patches {1000 * numbers['median_score']:+.2f}, at random places "
        f"{1000 * numbers['median_score_random']:+.2f}; q <= .05 against other labels: "
        f"{'not measured' if theirs is None else format(numbers['share_q_label_below_.05'], '.3f')}; "
        f"p <= .05 against the noise of the draws: {numbers['share_p_draws_below_.05']:.3f}\n"
        f"page: {folder / 'index.html'}\nsheets: {', '.join(map(str, sheets))}\nnumbers: {folder / 'patches.csv'}"
    )


def _content(
    command: options.Mine, m: model.Model, label: int, source: str, x: np.ndarray, T: maps.Maps, mined: Mined,
    held: list[tuple[str, np.ndarray]], numbers: dict, folder: Path,
) -> dict[str, Any]:  # fmt: skip
    """Collect the content of the page."""
    # Facts about the run
    name, k = m.classes[label], command.patch
    window, above = time_window(m.schedule.T, command.t_range), numbers["share_of_images_with_T_above_0"]
    facts = [
        ("model", m.name), ("images", f"{len(x)} of {name}; {source}"),
        ("draws", f"{command.draws} pairs (t, ε) for each image, the same for all; t in {window[0]}…{window[1] - 1}"),
        ("typicality of the whole image", f"above 0 on {100 * above:.1f} % of the images"),
        ("features", f"{command.layer} of the U-Net, t = .16 T, 8 draws; k-means with {command.clusters} clusters"),
        ("device", machine.device_name()),
    ]  # fmt: skip
    # Scores compared with the control, and the two nulls
    table = []
    for what, s in held:
        low, middle, high = np.quantile(1000 * s, (0.25, 0.5, 0.75))
        table.append((what, len(s), f"{middle:+.2f}", f"{low:+.2f} … {high:+.2f}"))
    by_label, by_draws = numbers["share_q_label_below_.05"], numbers["share_p_draws_below_.05"]
    nulls = f"Signs of the draws flipped: p ≤ .05 for {100 * by_draws:.1f} % of the patches."
    if by_label is not None:
        nulls = (
            f"Labels permuted: {100 * by_label:.1f} % of the patches have q ≤ .05 against what the same rule finds in "
            f"images of other labels, measured with this label; with {numbers['others']} of these no p is below "
            f"{1 / (1 + numbers['others']):.2g}. {nulls}"
        )
    # Clusters with their pictures
    clusters = [
        {
            "rank": c.rank,
            "median": f"{1000 * c.median:+.2f}",
            "size": len(c.members),
            "images": _images(mined, c.members),
            "significant": "" if np.isnan(c.significant) else f"{100 * c.significant:.0f} %",
            "scores": ", ".join(
                f"{1000 * mined.patches.score[i]:+.1f} ± {1000 * mined.stderr[i]:.1f}" for i in c.members[:PER_ROW]
            ),
            "picture": report.png(report.row(report.tiles(x, mined, c.members[:PER_ROW], k, T.map))),
        }
        for c in mined.clusters
    ]
    return {
        "title": f"What makes {name} look like {name}", "label": name, "k": k, "count": command.per_image,
        "facts": facts, "chance": table, "nulls": nulls, "clusters": clusters,
        "histogram": (folder / "scores.png").read_bytes(),
    }  # fmt: skip
