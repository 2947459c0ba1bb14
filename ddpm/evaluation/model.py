"""Evaluate a model: its denoising on test images, its bits/dim and its samples, each with a baseline.

    measures = evaluate(model, data, classifier)      draws images, scores them, and measures the denoiser itself
    measures = score_images(x, labels, data, classifier)      any images, uint8 (n, H, W, C)
    print(table(measures));  json.dumps(as_json(measures))

Every distance is reported together with its floor, the same distance for test images at the same n.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np

from ddpm.classifiers.classifier import Classifier
from ddpm.data import Dataset, to_uint8
from ddpm.evaluation import bits
from ddpm.evaluation.denoising_loss import denoising
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.scores import score_images
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools import cache as cache_
from ddpm.tools import check, files, image_files


def draw(
    model: Any,
    n: int = 2000,
    *,
    sampler: str = "ddim",
    steps: int = 50,
    guidance: float = 2.0,
    seed: int = 0,
    batch: int = 100,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw n images of a model, uint8, with labels that cycle through the classes (or None)."""
    c = np.arange(check.whole("n", n, 1), dtype=np.int32) % model.num_classes if model.num_classes else None
    x = generate(
        model.eps,
        model.schedule,
        jax.random.key(seed),
        model.image_shape,
        c,
        Sampling(sampler, steps, guidance if model.num_classes else 1.0),
        n=n,
        batch=batch,
    )
    return to_uint8(x), c


def drawn(model: Any, n: int = 2000, *, cache: bool = True, **how: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Call `draw`, and cache the result under the hash of weights and settings."""
    # file in the cache
    checksum = getattr(model, "card", {}).get("sha256", "")
    settings = {"sampler": "ddim", "steps": 50, "guidance": 2.0, "seed": 0, "batch": 100} | how | {"n": n}
    name = cache_.path("samples", checksum, settings)
    path = name.with_name(name.name + ".npz") if cache and checksum else None
    # cached images, if there are any
    if path is not None and path.exists():
        try:
            return image_files.load_npz(path)
        except files.Damaged:
            pass  # draw again
    # new images
    x, c = draw(model, n, **how)
    if path is not None:
        try:
            image_files.save_npz(path, x, c)
        except OSError as e:
            print(f"could not keep the images for the next time: {e}", file=sys.stderr)
    return x, c


def evaluate(
    model: Any,
    data: Dataset,
    classifier: Classifier,
    *,
    n: int = 2000,
    sampler: str = "ddim",
    steps: int = 50,
    guidance: float = 2.0,
    seed: int = 0,
    samples: tuple[np.ndarray, np.ndarray | None] | None = None,
    test_images: int | None = None,
    n_bound: int = 500,
    n_flow: int = 100,
    cache: bool = True,
) -> dict[str, Measure]:
    """Measure the samples, denoising and bits/dim of a model.

    model: anything with .eps, .schedule, .num_classes (0: no labels) and .image_shape.
    n: the number of images to draw, unless `samples` holds images drawn before.
    test_images: the number of test images for the denoising error; all if not given.
    n_bound, n_flow: the numbers of test images for bits/dim by the bound and by the flow; 0: none.
    """
    # compatibility with the data
    if tuple(model.image_shape) != data.image_shape or model.num_classes not in (0, data.num_classes):
        raise ValueError(
            f"the model draws images {tuple(model.image_shape)} of {model.num_classes} classes; "
            f"{data.name} has {data.image_shape} of {data.num_classes}"
        )
    # samples
    if samples is None:
        how = {"sampler": sampler, "steps": steps, "guidance": guidance, "seed": seed}
        samples = drawn(model, n, cache=cache, **how)
    of = f"images of {getattr(model, 'name', 'the model')} ({sampler} {steps}, guidance {guidance:g}, seed {seed})"
    # denoising, bits/dim and scores of the samples
    return {
        **denoising(model.eps, model.schedule, data, model.num_classes, n=test_images, seed=seed),
        **bits.measures(
            model.eps,
            model.schedule,
            data,
            model.num_classes,
            n_bound=n_bound,
            n_flow=n_flow,
            seed=seed,
        ),
        **score_images(*samples, data, classifier, of=of, seed=seed, cache=cache),
    }
