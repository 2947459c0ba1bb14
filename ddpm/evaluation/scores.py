"""Score a set of images by all measures, each compared with held-out real images.

    measures = score_images(x, labels, data, classifier)      x: (n, H, W, C) uint8, from any source

Distances use the features of a classifier of this data set, so none of them is an FID; `ddpm.tools.image_files` writes
images for tools that compute one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ddpm.classifiers.classifier import Classifier
from ddpm.data import Dataset, to_float
from ddpm.evaluation import distances, statistics
from ddpm.evaluation import neighbours as neighbours_
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.real_features import Reference, reference
from ddpm.evaluation.statistics import stratified_subset
from ddpm.tools.batches import progress


def score_images(
    x: np.ndarray,
    labels: np.ndarray | None,
    data: Dataset,
    classifier: Classifier | None,
    *,
    of: str = "images",
    seed: int = 0,
    neighbours: int = 2000,
    cache: bool = True,
) -> dict[str, Measure]:
    """Score images x (n, H, W, C) uint8 with requested labels (n,), or None, by all measures.

    Distances are to the training images; each is reported with its floor, the same distance for n test images.
    `neighbours` limits the number of images whose nearest training images are searched. Without a classifier there are
    no features: what remains is whether the images are copies of training images, pixel by pixel.
    """
    # images and labels
    x = _images(x, data)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(x),) or labels.min() < 0 or labels.max() >= data.num_classes:
            raise ValueError(
                f"labels have shape {labels.shape} and lie in {labels.min()}..{labels.max()}; "
                f"give one in 0..{data.num_classes - 1} for each of the {len(x)} images"
            )
    if classifier is None:
        return {k: dataclasses.replace(m, of=f"{of}, 8 bit") for k, m in _memorised(x, data, neighbours, seed).items()}
    # features of the images and of test images
    real = reference(data, classifier, cache)
    logits, f = classifier(x)
    n_test = min(len(x), len(real.test))
    y_test = data.y_test if labels is not None else np.zeros(len(real.test), dtype=int)  # balanced if the images are
    test = stratified_subset(y_test, n_test, seed)
    f_test = real.test[test]
    # measures
    stages: list[tuple[str, Callable[[], dict[str, Measure]]]] = [
        ("Fréchet distance", partial(_frechet, f, labels, f_test, y_test[test], real, seed)),
        ("kernel distance", partial(_kernel, f, f_test, real, data, seed)),
        ("precision and recall", partial(_overlap, f, f_test, real, data, seed)),
        ("nearest neighbours", partial(_memorised, x, data, neighbours, seed, f, real)),
    ]
    if labels is not None:
        stages.insert(0, ("accuracy", partial(_accuracy, logits.argmax(1), labels, data, classifier)))
    measures: dict[str, Measure] = {}
    with progress(stages, desc="scores", unit="measure") as bar:
        for stage, measure in bar:
            bar.set_description(stage, refresh=False)
            measures |= measure()
    return {k: dataclasses.replace(m, of=f"{of}, 8 bit") for k, m in measures.items()}


def _images(x: Any, data: Dataset) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype != np.uint8:
        raise TypeError(f"x has type {x.dtype}; scores are of 8-bit images: give uint8 (ddpm.data.to_uint8)")
    if x.ndim != 4 or x.shape[1:] != data.image_shape:
        raise ValueError(f"x has shape {x.shape}; {data.name} wants (n, {', '.join(map(str, data.image_shape))})")
    if len(x) < 2 * data.num_classes:
        raise ValueError(f"x holds {len(x)} images; give at least {2 * data.num_classes}")
    return x


def _floor_name(n: int) -> str:
    return f"test, n = {n:,}"


def _accuracy(guess: np.ndarray, labels: np.ndarray, data: Dataset, classifier: Classifier) -> dict[str, Measure]:
    right, n, test = guess == labels, len(labels), classifier.card.get("test", {})
    # Each class, next to what the classifier gets right on test images
    p, per_class = float(right.mean()), {}
    for k, name in enumerate(data.class_names):
        if m := int((labels == k).sum()):
            share = float(right[labels == k].mean())
            on_test = test.get("per_class", [None] * data.num_classes)[k]
            per_class[name] = {
                "value": share,
                "interval": statistics.wilson(share, m),
                "n": m,
                "classifier_on_test": on_test,
            }
    # All classes together
    return {
        "accuracy": Measure(
            "class accuracy",
            p,
            float(np.sqrt(p * (1 - p) / n)),
            n,
            "",
            "share that the classifier assigns to the requested class",
            classifier.name,
            better="higher",
            error="binomial; Wilson's interval",
            reference=test.get("accuracy"),
            reference_what="real test images",
            interval=statistics.wilson(p, n),
            detail={"per_class": per_class},
        )
    }


def _frechet(
    f: np.ndarray, labels: np.ndarray | None, f_test: np.ndarray, y_test: np.ndarray, real: Reference, seed: int
) -> dict[str, Measure]:
    # distance to the training images
    train, d = distances.moments(real.train), f.shape[1]
    f = np.asarray(f, dtype=np.float64)

    def distance(g: np.ndarray) -> float:
        return distances.frechet_moments(distances.moments(g), train)

    # floor of a Gaussian, and extrapolation to n = ∞
    detail: dict[str, Any] = {"gaussian_floor": distances.frechet_floor(train.cov, len(f), train.n)}
    for name, g, strata in (("", f, labels), ("floor_", f_test, y_test)):
        if len(g) >= 8 * d:
            sizes = np.unique(np.geomspace(len(g) / 4, len(g), 5).astype(int))
            values, limit = distances.frechet_curve(g, train, sizes, seed, strata=strata)
            detail |= {f"{name}curve": {"n": sizes.tolist(), "value": values.tolist()}, f"{name}extrapolated": limit}
    # standard error, and the measure with its floor
    fewer = ", fewer than the images" if len(f_test) < len(f) else ""  # a higher floor: the bias goes as 1/n
    value, error = distance(f), statistics.bootstrap(f, distance, seed=seed, strata=labels)
    return {
        "frechet": Measure(
            "Fréchet distance",
            value,
            error,
            len(f),
            "",
            f"against all {train.n:,} training images; biased upwards, as its floor is",
            real.name,
            seed,
            "lower",
            f"bootstrap over the images{'' if labels is None else ' of each class'}, 100 sets",
            distance(f_test),
            _floor_name(len(f_test)) + fewer,
            (max(0.0, value - 1.96 * error), value + 1.96 * error),
            detail=detail,
        )
    }


def _kernel(f: np.ndarray, f_test: np.ndarray, real: Reference, data: Dataset, seed: int) -> dict[str, Measure]:
    some = real.train[stratified_subset(data.y_train, 10_000, seed)]
    # The kernel expects features of about unit size; all are scaled by the root mean square of the training features.
    scale = np.sqrt((some.astype(np.float64) ** 2).mean())
    value, error = distances.kernel_distance(f / scale, some / scale)
    floor, floor_error = distances.kernel_distance(f_test / scale, some / scale)
    return {
        "kernel": Measure(
            "kernel distance",
            value,
            error,
            len(f),
            "",
            f"against {len(some):,} training images; unbiased, but for sets with balanced classes a little below 0",
            f"{real.name}, divided by their root mean square",
            seed,
            "lower",
            "jackknife over 20 parts",
            floor,
            _floor_name(len(f_test)),
            detail={"floor_standard_error": floor_error, "scale": float(scale)},
        )
    }


def _overlap(f: np.ndarray, f_test: np.ndarray, real: Reference, data: Dataset, seed: int) -> dict[str, Measure]:
    # sets of equal size
    n = len(f_test)  # the same on both sides, for the samples and for their floor
    some = real.train[stratified_subset(data.y_train, n, seed)]
    sampled = f if len(f) == n else f[np.random.default_rng(seed).permutation(len(f))[:n]]
    # overlap with the training images
    samples, floor = neighbours_.overlap(some, sampled), neighbours_.overlap(some, f_test)
    meaning = {
        "precision": "share of the images that lie among the training images, k = 3",
        "recall": "share of the training images that lie among the images, k = 3",
        "density": "how many training neighbourhoods an image lies in, over k = 5",
        "coverage": "share of the training images with an image in their neighbourhood, k = 5",
    }
    # measures with their floors
    return {
        name: Measure(
            name,
            float(np.mean(per_image)),
            float(np.std(per_image, ddof=1) / np.sqrt(n)),
            n,
            "",
            f"{meaning[name]}; {len(some):,} training images",
            real.name,
            seed,
            "higher",
            "over the images, the other set given",
            float(np.mean(getattr(floor, name))),
            _floor_name(n),
            None if name == "density" else statistics.wilson(float(np.mean(per_image)), n),
        )
        for name, per_image in samples._asdict().items()
    }


def _pairs(ids: np.ndarray, which: np.ndarray, near: np.ndarray, some: np.ndarray) -> dict[str, list]:
    """List some images, each with its nearest training image and the distance."""
    return {
        "image": ids[some].tolist(),
        "training_image": which[some, 0].tolist(),
        "distance": [float(f"{d:.6g}") for d in near[some, 0]],
    }


def _memorised(
    x: np.ndarray, data: Dataset, neighbours: int, seed: int, f: Any = None, real: Reference | None = None
) -> dict[str, Measure]:
    # images, test images, and the spaces: pixels, and features if there are some
    rng = np.random.default_rng(seed)
    ids = rng.permutation(len(x))[: min(len(x), neighbours)]
    test = stratified_subset(data.y_test, min(len(ids), len(data.x_test)), seed)

    def flat(images: np.ndarray) -> np.ndarray:
        return to_float(images).reshape(len(images), -1)

    spaces = {"pixels": (flat(x[ids]), flat(data.x_test[test]), flat(data.x_train), "pixels")}
    if real is not None:
        spaces["features"] = (f[ids], real.test[test], real.train, real.name)
    # comparison of nearest distances, in each space
    out = {}
    for space, (a, b, train, what) in spaces.items():
        (near_a, which), (near_b, which_b) = neighbours_.nearest(a, train, 2), neighbours_.nearest(b, train, 2)
        value, error = statistics.closer(near_a[:, 0], near_b[:, 0])
        # closest pairs, and the share of near copies
        best, best_b = np.argsort(near_a[:, 0])[:20], np.argsort(near_b[:, 0])[:20]
        copies = [float((d[:, 0] < d[:, 1] / 2).mean()) for d in (near_a, near_b)]
        out[f"nearest_{space}"] = Measure(
            f"closer than test, {space}",
            value,
            error,
            len(ids),
            "",
            "how often an image lies nearer to its nearest training image than a test image does: .5 as unseen images, "
            "1 copies (or, in pixels, blur)",
            what,
            seed,
            "",
            "Mann and Whitney",
            0.5,
            "unseen images",
            detail={
                "median_distance": float(np.median(near_a[:, 0])),
                "median_distance_test": float(np.median(near_b[:, 0])),
                "share_twice_as_near_as_the_second": copies[0],
                "share_twice_as_near_as_the_second_test": copies[1],
                "closest": _pairs(ids, which, near_a, best),
                "closest_test": _pairs(test, which_b, near_b, best_b),
            },
        )
    return out
