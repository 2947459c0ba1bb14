"""Compute Inception FID and KID, as published papers do, through torch-fidelity.

The features are those of an Inception-v3 trained on ImageNet. torch-fidelity downloads its weights (95 MB) at first
use, and the metrics are not defined without them. Grey images are given as three equal channels. Two Inception FIDs of
Fashion-MNIST are comparable only if the reference images, their number and n are the same.

    pip install torch-fidelity
    ddpm evaluate --inception
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np

from ddpm.data import Dataset
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.statistics import stratified_subset
from ddpm.tools import image_files

WEIGHTS = "the weights of Inception-v3, which torch-fidelity downloads from github.com at first use"


def measures(x: np.ndarray, data: Dataset, *, of: str = "images", n_train: int = 10_000, seed: int = 0) -> dict:
    """Measure FID and KID of images x (n, H, W, C) uint8 against n_train training images.

    Each is reported together with the same metric of test images.
    """
    try:
        fidelity = import_module("torch_fidelity")
    except ImportError:
        raise RuntimeError(
            f"Inception FID wants torch-fidelity (pip install torch-fidelity) and {WEIGHTS}; "
            "without --inception the distances in the shipped classifier's features are measured"
        ) from None
    # reference and test images
    train = data.x_train[stratified_subset(data.y_train, min(n_train, len(data.x_train)), seed)]
    test = data.x_test[stratified_subset(data.y_test, min(len(x), len(data.x_test)), seed)]
    # metrics of the samples and of the test images
    with tempfile.TemporaryDirectory() as folder:
        for name, images in (("train", train), ("samples", x), ("test", test)):
            image_files.save_png(Path(folder) / name, images, rgb=True)
        found = {}
        for name in ("samples", "test"):
            try:
                found[name] = fidelity.calculate_metrics(
                    input1=str(Path(folder) / name),
                    input2=str(Path(folder) / "train"),
                    cuda=False,
                    fid=True,
                    kid=True,
                    kid_subset_size=min(1000, len(x), len(test), len(train)),
                    verbose=False,
                )
            except OSError as e:  # a URLError is one
                raise RuntimeError(f"Inception FID wants {WEIGHTS}; that failed: {e}") from e
    # measures with their floors
    out = {}
    for key, name, value, error in (
        ("inception_fid", "Inception FID", "frechet_inception_distance", None),
        ("inception_kid", "Inception KID", "kernel_inception_distance_mean", "kernel_inception_distance_std"),
    ):
        out[key] = Measure(
            name,
            float(found["samples"][value]),
            float(found["samples"][error]) / 10 if error else 0.0,  # the mean of 100 subsets
            len(x),
            f"{of}, 8 bit",
            f"against {len(train):,} training images; biased upwards in n"
            if not error
            else f"against {len(train):,} training images",
            f"Inception-v3 of torch-fidelity {getattr(fidelity, '__version__', '')}, pool 3, 2048 wide",
            seed,
            "lower",
            "over 100 subsets" if error else "not estimated",
            float(found["test"][value]),
            f"test, n = {len(test):,}",
        )
    return out
