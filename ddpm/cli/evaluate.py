"""`ddpm evaluate`: one table, one JSON file, one picture; known results are read from the cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import data, loss, plot
from ddpm.classifiers import classifier, convnet
from ddpm.cli import options
from ddpm.datasets import sources
from ddpm.evaluation import (
    bits,
    denoising_loss,
    distances,
    inception,
    measure,
    neighbours,
    real_features,
    scores,
    statistics,
)
from ddpm.evaluation import model as ev
from ddpm.evaluation.measure import Measure, as_json
from ddpm.samplers import generation
from ddpm.tools import cache, image_files, machine
from ddpm.tools.files import write_atomic
from ddpm.zoo import model

DISTANCES = (distances, neighbours, real_features, scores, statistics)
CODE = (
    bits,
    classifier,
    convnet,
    denoising_loss,
    ev,
    generation,
    inception,
    loss,
    *DISTANCES,
)  # the code that a result depends on


def run(command: options.Evaluate) -> None:
    """Measure a model, or a set of images, and write the table, the numbers and the pictures."""
    # Data, classifier and settings
    dataset = sources.load(command.data, command.data_dir)
    judge = classifier.load(command.classifier or command.data)
    about: dict[str, Any] = {
        "data_sha256": dataset.sha256,
        "classifier_sha256": judge.card["sha256"],
        "seed": command.seed,
    }
    settings: dict[str, Any] = {"inception": command.inception}
    m = None
    # Images: from files, or drawn by the model
    if command.samples is not None:
        x, c = image_files.load(command.samples, dataset.image_shape[-1])
        about["samples_sha256"] = hashlib.sha256(x.tobytes() + (b"" if c is None else c.tobytes())).hexdigest()
        of = f"images of {command.samples}"
    else:
        m = model.load(command.model)
        how: dict[str, Any] = {
            "sampler": command.sampler,
            "steps": command.steps,
            "guidance": command.guidance,
            "seed": command.seed,
        }
        x, c = ev.drawn(m, command.n, cache=command.cache, **how)
        about |= {"model": m.name, "weights_sha256": m.card.get("sha256")}
        settings |= {"n": command.n, "n_bound": command.n_bound, "n_flow": command.n_flow, **how}
        of = f"{m.name}, {command.sampler} {command.steps}"
    # Measures: from the cache, or computed
    named = m is None or about["weights_sha256"]  # a model without a checksum has no key for the cache
    path = cache.path("evaluation", about, settings, of, cache.code(*CODE)) if command.cache and named else None
    measures = _kept(path)
    if measures is None:
        if m is None:
            measures = scores.score_images(x, c, dataset, judge, of=of, seed=command.seed, cache=command.cache)
        else:
            bits_of: dict[str, Any] = {"n_bound": command.n_bound, "n_flow": command.n_flow}
            measures = ev.evaluate(m, dataset, judge, samples=(x, c), cache=command.cache, **bits_of, **how)
        if command.inception:
            measures |= inception.measures(x, dataset, of=of, seed=command.seed)
        if path is not None:
            write_atomic(path.with_suffix(".json"), json.dumps(as_json(measures)).encode())
    elif path is not None:
        print(f"known: {path.with_suffix('.json')} (--no-cache measures again)")
    # Table, numbers and pictures
    print(measure.table(measures))
    about |= {"device": machine.device_name(), "versions": machine.versions(), **settings}
    numbers = about | {"measures": as_json(measures)}
    write_atomic(command.out, (json.dumps(numbers, indent=1, ensure_ascii=False) + "\n").encode())
    picture, closest = command.out.with_suffix(".png"), command.out.with_name(f"{command.out.stem}_neighbours.png")
    plot.save_evaluation(picture, as_json(measures))
    save_neighbours(closest, measures, x, dataset)
    print(f"\nnumbers: {command.out}\npicture: {picture}\nnearest training images: {closest} (holds real images)")


def _kept(path: Path | None) -> dict[str, Measure] | None:
    if path is None or not path.with_suffix(".json").exists():
        return None
    try:
        return measure.from_json(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError):
        return None  # a damaged file is measured again


def save_neighbours(
    path: Path, measures: dict[str, Measure], x: np.ndarray, dataset: data.Dataset, n: int = 12
) -> None:
    """Draw the n images nearest to a training image, each above it; likewise test images.

    A copy is a pair of equal images at distance 0; test images show how near an image that is no copy can come.
    """
    groups = []
    for space in ("pixels", "features"):
        detail = measures[f"nearest_{space}"].detail
        for images, which, name in ((x, "closest", "image"), (dataset.x_test, "closest_test", "test image")):
            pair = {k: v[:n] for k, v in detail[which].items()}
            own, near = images[pair["image"]], dataset.x_train[pair["training_image"]]
            groups.append((f"{name}, by {space}", data.to_float(own), data.to_float(near), pair["distance"]))
    shortest = min(len(g[3]) for g in groups)
    groups = [(name, a[:shortest], b[:shortest], d[:shortest]) for name, a, b, d in groups]
    plot.save_pairs(
        path, groups, "those nearest to a training image, above it, with their distance in pixels or features"
    )
