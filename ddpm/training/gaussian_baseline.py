"""The baseline of a training: the exact loss of the best linear denoiser on the same images."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ddpm import data
from ddpm.oracles.gaussian import MOST_NUMBERS, fit, linear_loss
from ddpm.oracles.spectrum import training_loss
from ddpm.schedule import Schedule
from ddpm.tools.files import Damaged, read_json, write_atomic


def baseline(folder: Path, dataset: data.Dataset, schedule: Schedule, conditional: bool) -> float:
    """Compute the exact training loss of the best linear-Gaussian denoiser, cached in baseline.json.

    For larger images it is that of the best denoiser with a few hundred directions and one variance for the rest,
    where the number of images does not allow all of them; `at_least` in the file bounds what all would give.
    """
    file = folder / "baseline.json"
    if not file.exists():
        c = dataset.y_train if conditional and dataset.num_classes else None
        about = {"images": len(dataset.x_train), "split": "train"}
        if math.prod(dataset.image_shape) <= MOST_NUMBERS:
            x = data.to_float(dataset.x_train)
            found = {"linear_gaussian_loss": float(linear_loss(fit(x, c), schedule, x, c)[1:].mean())}
        else:
            low, high = training_loss(schedule, dataset.x_train, c)
            found = {"linear_gaussian_loss": high, "at_least": low}
        write_atomic(file, json.dumps(found | about).encode())
    kept = read_json(file).get("linear_gaussian_loss")
    if not isinstance(kept, int | float) or not math.isfinite(kept):
        raise Damaged(f"{file} holds no linear_gaussian_loss; delete it, and it is computed again")
    return kept
