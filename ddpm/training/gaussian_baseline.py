"""The baseline of a training: the exact loss of the best linear denoiser on the same images, and their axes."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ddpm import data
from ddpm.oracles.gaussian import MOST_NUMBERS, fit, linear_loss
from ddpm.oracles.spectrum import Axes, axes, training_loss
from ddpm.schedule import Schedule
from ddpm.tools.files import Damaged, read_json, write_atomic

FILE = "baseline.json"  # in the folder of a run


def baseline(folder: Path, dataset: data.Dataset, schedule: Schedule, conditional: bool) -> float:
    """Compute the exact training loss of the best linear-Gaussian denoiser, kept in baseline.json with `axes_card`.

    For larger images it is that of the best denoiser with a few hundred directions and one variance for the rest,
    where the number of images does not allow all of them; `at_least` in the file bounds what all would give.
    """
    file = folder / FILE
    if not file.exists():
        c = dataset.y_train if conditional and dataset.num_classes else None
        about = {"images": len(dataset.x_train), "split": "train"}
        if math.prod(dataset.image_shape) <= MOST_NUMBERS:
            x = data.to_float(dataset.x_train)
            found = {"linear_gaussian_loss": float(linear_loss(fit(x, c), schedule, x, c)[1:].mean())}
        else:
            low, high = training_loss(schedule, dataset.x_train, c)
            found = {"linear_gaussian_loss": high, "at_least": low}
        write_atomic(file, json.dumps(found | about | {"axes": axes_card(axes(dataset.x_train))}).encode())
    kept = read_json(file)
    loss = kept.get("linear_gaussian_loss")
    if not isinstance(loss, int | float) or not math.isfinite(loss):
        raise Damaged(f"{file} holds no linear_gaussian_loss; delete it, and it is computed again")
    if "axes" not in kept:  # a run of an earlier version
        write_atomic(file, json.dumps(kept | {"axes": axes_card(axes(dataset.x_train))}).encode())
    return loss


def axes_card(axes: Axes) -> dict[str, list]:
    """Return the axes with five digits, as cards and baseline.json have them."""
    var, mean = ([float(f"{v:.5g}") for v in a] for a in (axes.var, axes.mean))
    return {"var": var, "mean": mean, "number": axes.number.tolist()}
