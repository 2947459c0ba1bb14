"""`ddpm mine`: images, maps, patches and clusters; a page, sheets and numbers in one folder."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np

from ddpm import data, weights
from ddpm.cli import options
from ddpm.cli.images import Picked, Wanted, mismatch, pick
from ddpm.datasets.reading import short_name
from ddpm.features.activations import default_layer
from ddpm.mining import folder as folder_
from ddpm.mining import maps, patterns, shapes
from ddpm.mining.patches import pooled, select
from ddpm.tools import check
from ddpm.tools.files import check_writable
from ddpm.typicality import Draws, time_window
from ddpm.zoo import model


def run(command: options.Mine) -> None:
    """Mine one label; all validation happens before the long computation."""
    # Model and options
    m = model.load(command.model or (command.data if command.data in weights.cards("denoiser") else "fashion_mnist"))
    patterns.check_model(m)
    label = data.class_index(m.classes, command.label)
    draws = Draws(command.draws, command.t_range)
    first, end = time_window(m.schedule.T, draws.t_range)
    maps.group_count(draws.n)
    check.images_asked("n", command.n)
    check.images_asked("others", command.others, 0)
    sizes = patterns.Sizes(command.patch, command.per_image, command.top, command.clusters)
    patterns.check_sizes(command.n, m.image_shape, sizes)
    name = re.sub(r"\W+", "-", m.classes[label].lower()).strip("-")
    folder = command.out or Path("out/mine") / f"{short_name(command.data)}-{name}"
    check_writable(folder / "summary.json")
    layer = command.layer or default_layer(m.unet)
    features = patterns.dift_features(m, layer=layer, seed=command.seed)
    features(np.zeros((1, *m.image_shape), np.float32), np.array([label]))  # refuses an unknown layer
    # Images
    picked, others = images(command, m, label)
    patterns.check_sizes(len(picked.x), m.image_shape, sizes)
    print(
        f"{len(picked.x)} images of {m.classes[label]!r}, {len(others.x)} of other labels: {picked.source}\n"
        f"folder: {folder}"
    )
    # Maps, patterns and output files
    how = maps.Request(draws, command.seed)
    T = maps.measure(folder / "maps", m.eps, m.schedule, picked.x, label, how)
    T_others = maps.measure(folder / "maps_others", m.eps, m.schedule, others.x, label, how) if len(others.x) else None
    mined = patterns.mine(T, picked.x, label, features, sizes, others=T_others, seed=command.seed)
    of_others = None if T_others is None else select(pooled(T_others.map, sizes.patch), sizes.patch, sizes.per_image)
    again = f"ddpm mine {shlex.join(sys.argv[2:])}".strip()
    subject = folder_.Subject(
        m.name, m.card.get("sha256"), m.classes[label], picked.source, sizes, draws, (first, end - 1), layer,
        command.seed, again,
    )  # fmt: skip
    print(folder_.write(folder, folder_.Report(subject, picked.x, picked.ids, T, mined, of_others)))
    if command.data == "blocks" and (
        n := shapes.write(folder / "shapes.html", picked.ids, command.split, T.map, m.name)
    ):
        print(f"shapes that turn: {folder / 'shapes.html'}, {n} with all their views")


def images(command: options.Mine, m: model.Model, label: int) -> tuple[Picked, Picked]:
    """Return the images of the label, and those of other labels."""
    how = m.how(steps=command.steps, guidance=m.guided(None))
    o = command
    picked = pick(m, Wanted(o.data, o.label, o.n, o.others, o.split, o.data_dir, o.seed, how))
    if picked.classes != m.classes:
        raise ValueError(mismatch(m, command.data, m.image_shape, picked.classes))
    of_label = np.asarray(picked.c) == label
    return picked.take(np.flatnonzero(of_label)), picked.take(np.flatnonzero(~of_label))
