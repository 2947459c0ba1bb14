"""The baseline of a training: the exact loss of the best linear denoiser on the same images, and their axes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ddpm import data
from ddpm.losses import objectives, times
from ddpm.oracles.gaussian import MOST_NUMBERS, fit, linear_loss
from ddpm.oracles.spectrum import Axes, axes, training_loss
from ddpm.schedule import Schedule
from ddpm.tools.files import Damaged, read_json, write_atomic
from ddpm.training.config import TrainConfig

FILE = "baseline.json"  # in the folder of a run


def weight_of_eps(config: TrainConfig, schedule: Schedule) -> np.ndarray | None:
    """w_t with which a training's loss is mean_t w_t ‖ε - ε̂‖², the frequency of t included: (T+1,)

    None for losses that are not of this form: vlb and hybrid.
    """
    predict = config.predict.replace("gaussian", "eps")
    weight = objectives.weight_of_eps(config.loss, predict, config.path, schedule)
    return None if weight is None else np.asarray(weight * times.frequency(schedule, config.times), dtype=np.float64)


def loss_of_zero(config: TrainConfig, schedule: Schedule, second: float) -> float:
    """The loss of a network whose output is 0, as a new one's is, on data with E[x0²] = `second`.

    The objective of an output 0 has no term x0·ε in its mean, so it is that of x0 alone and of ε alone.
    """
    t = jnp.arange(1, schedule.T + 1)
    one, none = jnp.ones((schedule.T, 1, 1, 1)), jnp.zeros((schedule.T, 1, 1, 1))
    objective = objectives.objective(config.loss, config.predict, config.variance, config.path)
    of_x0, of_noise = (
        objective(lambda x_t, t, c: 0 * x_t, schedule, x0, t, noise, None) for x0, noise in ((one, none), (none, one))
    )
    return float((times.frequency(schedule, config.times)[1:] * (second * of_x0 + of_noise)).mean())


def baseline(
    folder: Path, dataset: data.Dataset, schedule: Schedule, conditional: bool, config: TrainConfig | None = None
) -> float:
    """Compute the exact training loss of the best linear-Gaussian denoiser, kept in baseline.json with `axes_card`.

    config: of the training, for its loss and how often it draws each t; without it ‖ε - ε̂‖² with uniform times. The
    file then also has `loss_of_zero`.

    For larger images it is that of the best denoiser with a few hundred directions and one variance for the rest,
    where the number of images does not allow all of them; `at_least` in the file bounds what all would give.
    """
    file = folder / FILE
    if not file.exists():
        c = dataset.y_train if conditional and dataset.num_classes else None
        about: dict = {"images": len(dataset.x_train), "split": "train"}
        weight = weight_of_eps(config, schedule) if config else None
        weight = np.ones(schedule.T) if weight is None else weight[1:]
        if config and config.predict != "gaussian":
            about["loss_of_zero"] = loss_of_zero(config, schedule, _second_moment(dataset.x_train))
        if math.prod(dataset.image_shape) <= MOST_NUMBERS:
            x = np.empty(dataset.x_train.shape, np.float32)
            for i in range(0, len(x), 1000):  # all at once would hold three copies
                x[i : i + 1000] = data.to_float(dataset.x_train[i : i + 1000])
            found = {"linear_gaussian_loss": float((weight * linear_loss(fit(x, c), schedule, x, c)[1:]).mean())}
        else:
            low, high = training_loss(schedule, dataset.x_train, c, weight=weight)
            found = {"linear_gaussian_loss": high, "at_least": low}
        write_atomic(file, json.dumps(found | about | {"axes": axes_card(axes(dataset.x_train))}).encode())
    kept = read_json(file)
    loss = kept.get("linear_gaussian_loss")
    if not isinstance(loss, int | float) or not math.isfinite(loss):
        raise Damaged(f"{file} holds no linear_gaussian_loss; delete it, and it is computed again")
    if "axes" not in kept:  # a run of an earlier version
        write_atomic(file, json.dumps(kept | {"axes": axes_card(axes(dataset.x_train))}).encode())
    return loss


def _second_moment(images: np.ndarray) -> float:
    """E[x0²] of a pixel in [-1, 1], from how often each of the 256 values occurs."""
    count = np.bincount(images.reshape(-1), minlength=256)
    return float(count @ data.to_float(np.arange(256, dtype=np.uint8)).astype(np.float64) ** 2 / count.sum())


def axes_card(axes: Axes) -> dict[str, list]:
    """Return the axes with five digits, as cards and baseline.json have them."""
    var, mean = ([float(f"{v:.5g}") for v in a] for a in (axes.var, axes.mean))
    return {"var": var, "mean": mean, "number": axes.number.tolist()}
