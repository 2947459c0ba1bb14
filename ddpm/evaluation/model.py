"""Evaluate a model: its denoising on test images, its bits/dim and its samples, each with a baseline.

    measures = evaluate(model, data, classifier)      draws images, scores them, and measures the denoiser itself
    measures = score_images(x, labels, data, classifier)      any images, uint8 (n, H, W, C)
    print(table(measures));  json.dumps(as_json(measures))

Every distance is reported together with its floor, the same distance for test images at the same n.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
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
from ddpm.samplers.names import name as sampler_name
from ddpm.samplers.names import resolved, times_name
from ddpm.tools import cache as cache_
from ddpm.tools import check, image_files


@dataclass(frozen=True)
class Plan:
    """What `evaluate` measures."""

    n: int = 2000  # images to draw
    how: Sampling = Sampling(guidance=2.0)  # they are drawn
    seed: int = 0  # of the images, subsets and noises
    test_images: int | None = None  # for the denoising error; all if not given
    n_bound: int = 500  # test images for bits/dim by the variational bound; 0: none
    n_flow: int = 100  # and by the probability flow
    cache: bool = True  # keep images and features for the next time

    def __post_init__(self) -> None:
        bits.check_images(n_bound=self.n_bound, n_flow=self.n_flow)


def draw(
    model: Any, n: int = 2000, how: Sampling = Sampling(guidance=2.0), seed: int = 0, batch: int = 100
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw n images of a model, uint8, with labels that cycle through the classes (or None)."""
    c, key = _labels(model, check.images_asked("n", n)), jax.random.key(check.seed(seed))
    return to_uint8(generate(model.eps, model.schedule, key, model.image_shape, c, how, n, batch)), c


def _labels(model: Any, n: int) -> np.ndarray | None:
    """Return labels that cycle through the classes: (n,) int32, or None without classes."""
    return np.arange(n, dtype=np.int32) % model.num_classes if model.num_classes else None


def drawn(
    model: Any, n: int = 2000, how: Sampling = Sampling(guidance=2.0), seed: int = 0, cache: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Call `draw`, and cache the result under the hash of weights and settings."""
    # file in the cache; of times that are not trailing the whole list is part of its name
    how = resolved(how)
    checksum, steps = getattr(model, "card", {}).get("sha256", ""), len(how.times(model.schedule)) - 1
    settings = {"sampler": how.sampler, "steps": steps, "guidance": how.guidance, "seed": seed, "n": n}
    settings["noise"] = "of each image"  # files of earlier versions, whose noise was that of a batch, are not read
    if how.rule != "trailing":
        settings["times"] = how.times(model.schedule).tolist()
    if not how.clip:
        settings["clip"] = False
    name = cache_.path("samples", checksum, settings)
    path = name.with_name(name.name + ".npz") if cache and checksum and isinstance(how.sampler, str) else None
    # cached images, if there are any
    if path is not None and path.exists():
        with contextlib.suppress(ValueError, OSError):  # a damaged file is drawn again
            x, c = image_files.load_npz(path)
            if x.shape == (n, *model.image_shape) and np.array_equal(np.asarray(c), np.asarray(_labels(model, n))):
                return x, c
    # new images
    x, c = draw(model, n, how, seed)
    if path is not None:
        try:
            image_files.save_npz(path, x, c)
        except OSError as e:
            print(f"could not keep the images for the next time: {e}", file=sys.stderr)
    return x, c


def check_fits(model: Any, data: Dataset) -> None:
    """Refuse a model whose images or classes are not those of the data set."""
    if tuple(model.image_shape) != data.image_shape or model.num_classes not in (0, data.num_classes):
        side = model.image_shape[0]
        square = tuple(model.image_shape[:2]) == (side, side) != data.image_shape[:2]
        remedy = f"; your own images come to its size by --size {side}" if square else ""
        raise ValueError(
            f"the model draws images {tuple(model.image_shape)} of {model.num_classes} classes; "
            f"{data.name} has {data.image_shape} of {data.num_classes}{remedy}"
        )


def evaluate(
    model: Any,
    data: Dataset,
    classifier: Classifier | None,
    plan: Plan = Plan(),
    samples: tuple[np.ndarray, np.ndarray | None] | None = None,
) -> dict[str, Measure]:
    """Measure the samples, denoising and bits/dim of a model.

    model: anything with .eps, .schedule, .num_classes (0: no labels) and .image_shape;  classifier: as in
    `score_images`;  samples: images that `drawn` has returned for this plan, if there are some.
    """
    check_fits(model, data)
    how, seed, net = resolved(plan.how), plan.seed, (model.eps, model.schedule, data, model.num_classes)
    x, c = drawn(model, plan.n, how, seed, plan.cache) if samples is None else samples
    steps = len(how.times(model.schedule)) - 1
    name = getattr(model, "name", "the model")
    of = f"images of {name} ({sampler_name(how)} {steps}{times_name(how)}, guidance {how.guidance:g}, seed {seed})"
    return {
        **denoising(*net, n=plan.test_images, seed=seed),
        **bits.measures(*net, n_bound=plan.n_bound, n_flow=plan.n_flow, seed=seed),
        **score_images(x, c, data, classifier, of=of, seed=seed, cache=plan.cache),
    }
