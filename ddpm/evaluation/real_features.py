"""Compute the features of the real images, cached by the hash of images and network."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

from ddpm.classifiers.classifier import Classifier
from ddpm.data import Dataset
from ddpm.tools import cache as cache_
from ddpm.tools import files
from ddpm.tools.batches import progress


class Reference(NamedTuple):
    """Features of the real images, and the name of their classifier."""

    train: np.ndarray  # (N, d)
    test: np.ndarray  # (M, d)
    name: str  # of the features


def reference(data: Dataset, classifier: Classifier, cache: bool = True) -> Reference:
    """Compute the features of all real images, or load them from the cache."""
    # features in the cache
    checksum = classifier.card.get("sha256", "")
    name = f"{classifier.name} ({classifier.config.features} wide, {checksum[:8] or 'unsaved'})"
    path = cache_.path("features", checksum, data.sha256) if cache and checksum else None
    if path is not None:
        try:
            arrays = files.load(path)[0]
            return Reference(arrays["train"], arrays["test"], name)
        except files.Damaged:
            pass
    # new features
    x, parts = np.concatenate([data.x_train, data.x_test]), []
    for i in progress(range(0, len(x), 2000), desc="features of the real images", unit="batch"):
        parts.append(classifier.features(x[i : i + 2000]))
    f = np.concatenate(parts)
    out = Reference(f[: len(data.x_train)], f[len(data.x_train) :], name)
    if path is not None:
        try:
            files.save(path, {"train": out.train, "test": out.test}, {"features": name, "data": data.name})
        except OSError as e:
            print(f"could not keep the features for the next time: {e}", file=sys.stderr)
    return out
