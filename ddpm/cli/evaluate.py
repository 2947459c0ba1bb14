"""`ddpm evaluate`: one table, one JSON file, one picture; known results are read from the cache."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import data, loss, plot
from ddpm.classifiers import classifier, convnet
from ddpm.cli import options
from ddpm.datasets import sources
from ddpm.datasets.reading import is_own, short_name
from ddpm.evaluation import (
    bits,
    certificate,
    denoising_loss,
    distances,
    inception,
    measure,
    neighbours,
    ode_likelihood,
    real_features,
    scores,
    statistics,
)
from ddpm.evaluation import model as ev
from ddpm.evaluation.measure import Measure, as_json
from ddpm.losses import bound
from ddpm.sample import Sampling
from ddpm.samplers import generation
from ddpm.samplers.names import name as sampler_name
from ddpm.samplers.names import times_name
from ddpm.tools import cache, image_files, machine
from ddpm.tools.files import check_writable, write_atomic
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
    ode_likelihood,
    bound,
    *DISTANCES,
)  # the code that a result depends on


@dataclass(frozen=True)
class Scored:
    """The images that are scored, and the model that drew them, if one did."""

    x: np.ndarray  # (n, H, W, C) uint8
    c: np.ndarray | None  # (n,) labels
    of: str  # in words
    about: dict[str, Any]  # where they come from, with checksums
    settings: dict[str, Any]  # how they were drawn
    model: model.Model | None = None
    plan: ev.Plan | None = None  # of the model's evaluation


def run(command: options.Evaluate) -> None:
    """Measure a model, or a set of images, and write the table, the numbers and the pictures."""
    picture = command.out.with_suffix(".png")
    closest = command.out.with_name(f"{command.out.stem}_neighbours.png")
    for file in (command.out, picture, closest):
        check_writable(file)
    if command.certificate is not None:
        if command.samples is None:
            raise ValueError(
                "a certificate is of images: draw them with `ddpm sample --npz`, and give them by --samples"
            )
        check_writable(certificate.suffix(command.certificate))
    # Model, data, classifier and images; a wrong option of the model is refused before any data are read
    found = walk_of(command) if command.samples is None else None
    dataset = sources.load(command.data, command.data_dir)
    judge = judge_of(command, dataset)
    scored = from_model(command, dataset, *found) if found else from_files(command, dataset)
    by = judge.card["sha256"] if judge else None
    about = {"data_sha256": dataset.sha256, "classifier_sha256": by, "seed": command.seed}
    about, settings = about | scored.about, {"inception": command.inception} | scored.settings
    # Measures: from the cache, or computed
    named = scored.model is None or about["weights_sha256"]  # a model without a checksum has no key for the cache
    name = cache.path("evaluation", about, settings, scored.of, cache.code(*CODE))
    path = name.with_suffix(".json") if command.cache and named else None
    measures = kept(path)
    if measures is None:
        measures = measured(command, dataset, judge, scored)
        if path is not None:
            cache.write(path, as_json(measures))
    else:
        print(f"known: {path} (--no-cache measures again)")
    # Table, numbers and pictures
    print(measure.table(measures))
    about |= {"device": machine.device_name(), "versions": machine.versions(), **settings}
    numbers = about | {"measures": as_json(measures)}
    write_atomic(command.out, (json.dumps(numbers, indent=1, ensure_ascii=False) + "\n").encode())
    plot.save_evaluation(picture, as_json(measures))
    save_neighbours(closest, measures, scored.x, dataset)
    if command.certificate is not None:
        asked = certified(command)
        made = certificate.certify(scored.x, scored.c, dataset, judge, measures, asked)
        certificate.write(command.certificate, made)
        print(f"certificate: {command.certificate}")
    print(f"\nnumbers: {command.out}\npicture: {picture}\nnearest training images: {closest} (holds real images)")


def certified(command: options.Evaluate) -> dict[str, Any]:
    """The options with which the images of a certificate are measured again."""
    return {k: getattr(command, k) for k in ("data", "classifier", "seed", "inception")}


def judge_of(command: options.Evaluate, dataset: data.Dataset) -> classifier.Classifier | None:
    """Load the classifier that gives labels and features; of one's own images one that was trained here, if any."""
    name = command.classifier
    if not name and is_own(command.data, sources.NAMES):
        folder = Path("runs") / f"{short_name(command.data)}_classifier"
        if not (folder / "classifier.json").is_file():
            how = f"`ddpm classifier --data {command.data}` trains one" if dataset.num_classes else "it has no classes"
            print(f"no classifier of {dataset.name} ({how}): without Fréchet distance, accuracy and overlap")
            return None
        name = str(folder)
    judge = classifier.load(name or command.data)
    check_judge(judge, dataset)
    return judge


def check_judge(judge: classifier.Classifier, dataset: data.Dataset) -> None:
    """Refuse a classifier whose images or classes are not those of the data set: its numbers would mean nothing."""
    own, wanted = judge.config, (dataset.image_shape, dataset.num_classes)
    if (tuple(own.image_shape), own.num_classes) != wanted:
        raise ValueError(
            f"classifier {judge.name!r} knows images {tuple(own.image_shape)} of {own.num_classes} classes; "
            f"{dataset.name} has {wanted[0]} of {wanted[1]}. Give --classifier one that `ddpm classifier` trained on it"
        )


# --- images -----------------------------------------------------------------------------------------------------------


def from_files(command: options.Evaluate, dataset: data.Dataset) -> Scored:
    """Read images, and labels if there are any."""
    assert command.samples is not None
    size, names = dataset.image_shape[:2], dataset.class_names
    x, c = image_files.load(command.samples, dataset.image_shape[-1], size, names)
    checksum = certificate.samples_sha256(x, c)
    return Scored(x, c, f"images of {command.samples}", {"samples_sha256": checksum}, {})


def walk_of(command: options.Evaluate) -> tuple[model.Model, Sampling]:
    """Load the model, and read how its images are to be drawn."""
    m = model.load(command.model)
    m = m.plain if command.plain else m
    if not m.num_classes and command.guidance not in (None, 0, 1):
        raise ValueError(f"guidance is {command.guidance:g}, but {m.name!r} knows no classes to follow; leave it out")
    guidance = m.guided(command.guidance)
    return m, m.how(command.sampler, command.steps, guidance, command.times)


def from_model(command: options.Evaluate, dataset: data.Dataset, m: model.Model, sampling: Sampling) -> Scored:
    """Draw images with the model, or take them from the cache."""
    ev.check_fits(m, dataset)
    plan = ev.Plan(
        command.n, sampling, command.seed, n_bound=command.n_bound, n_flow=command.n_flow, cache=command.cache
    )
    x, c = ev.drawn(m, plan.n, sampling, plan.seed, plan.cache)
    steps = len(sampling.times(m.schedule)) - 1
    how = {"sampler": sampler_name(sampling), "steps": steps, "guidance": sampling.guidance, "seed": command.seed}
    if kind := times_name(sampling):
        how["times"] = sampling.times(m.schedule).tolist()
    settings = {"n": plan.n, "n_bound": plan.n_bound, "n_flow": plan.n_flow, **how}
    about = {"model": m.name, "weights_sha256": m.card.get("sha256")}
    return Scored(x, c, f"{m.name}, {sampler_name(sampling)} {steps}{kind}", about, settings, m, plan)


# --- measures ---------------------------------------------------------------------------------------------------------


def kept(path: Path | None) -> dict[str, Measure] | None:
    """Read the measures of an earlier run; None if there are none, or if the file was changed."""
    found = None if path is None else cache.read(path)
    try:
        return None if found is None else measure.from_json(found)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # a damaged file is measured again


def measured(
    command: options.Evaluate, dataset: data.Dataset, judge: classifier.Classifier | None, scored: Scored
) -> dict[str, Measure]:
    """Measure the images, and the model if there is one."""
    if scored.model is None or scored.plan is None:
        x, c, of = scored.x, scored.c, scored.of
        measures = scores.score_images(x, c, dataset, judge, of=of, seed=command.seed, cache=command.cache)
    else:
        measures = ev.evaluate(scored.model, dataset, judge, scored.plan, (scored.x, scored.c))
    if command.inception:
        measures |= inception.measures(scored.x, dataset, of=scored.of, seed=command.seed)
    return measures


def save_neighbours(
    path: Path, measures: dict[str, Measure], x: np.ndarray, dataset: data.Dataset, n: int = 12
) -> None:
    """Draw the n images nearest to a training image, each above it; likewise test images.

    A copy is a pair of equal images at distance 0; test images show how near an image that is no copy can come.
    """
    groups = []
    for space in [space for space in ("pixels", "features") if f"nearest_{space}" in measures]:
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
