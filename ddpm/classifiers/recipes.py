"""Recipes for training a classifier, also the options of `ddpm classifier`. JAX is not imported."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifierTrainConfig:
    """A recipe: everything but the images that determines the parameters; the defaults are Fashion-MNIST's."""

    data: str = "fashion_mnist"
    epochs: int = 12
    batch: int = 256  # images per step
    lr: float = 0.3  # highest rate of the one-cycle schedule
    momentum: float = 0.9  # Nesterov's; Adam's β1
    weight_decay: float = 5e-4  # of the kernels only: added to SGD's gradient, or Adam's decoupled
    smoothing: float = 0.1  # label smoothing
    shift: int = 2  # each image is moved by up to this many pixels in both directions
    flip: bool = True  # mirror half of the images, left and right
    erase: int = 6  # side of the square that is set to 0 (mid grey) at a random place, pixels; 0: none
    ema: float = 0.995  # of the average of the parameters, which is what is kept
    seed: int = 0  # of the parameters, the order of the data and its augmentation
    schedule: str = ""  # p(c | x_t, t) on this noise schedule, by Adam; empty: clean images, by SGD
    muon: float = 0.0  # highest rate of Muon for the convolutions, the rest by SGD without decay; 0: all by SGD


RECIPES = {
    "fashion_mnist": ClassifierTrainConfig(),
    "cifar10": ClassifierTrainConfig("cifar10", epochs=4, momentum=0.85, smoothing=0.2, erase=0, muon=0.24, ema=0.98),
    "digits": ClassifierTrainConfig("digits", epochs=20, batch=64, lr=0.1, shift=1, flip=False, erase=0),
}
OWN = ClassifierTrainConfig("", epochs=20, batch=64, lr=0.1, flip=False, erase=0)  # of one's own images: may be few
# Noise is augmentation enough; p(c | x_t) is for images without augmentation, and its probabilities are not smoothed.
NOISY = {"epochs": 6, "batch": 128, "lr": 2e-3, "weight_decay": 0.02, "smoothing": 0.0, "ema": 0.999}
NOISY |= {"momentum": 0.9, "shift": 0, "flip": False, "erase": 0, "muon": 0.0}


def default_recipe(data: str, schedule: str = "") -> ClassifierTrainConfig:
    """Return the recipe of a data set, for clean or for noisy images; one for all sets of one's own images."""
    recipe = dataclasses.replace(RECIPES.get(data, OWN), data=data, schedule=schedule)
    return dataclasses.replace(recipe, **NOISY) if schedule else recipe  # type: ignore[arg-type]


def command_line(how: ClassifierTrainConfig) -> str:
    """Write the command that trains with this recipe; it names what differs from the default."""
    default, options = default_recipe(how.data, how.schedule), [f"--data {shlex.quote(how.data)}"]
    for f in dataclasses.fields(how):
        value = getattr(how, f.name)
        if value != getattr(default, f.name) or (f.name == "schedule" and value):
            options.append(f"--{f.name.replace('_', '-')} {value}")
    return " ".join(["ddpm classifier", *options])
