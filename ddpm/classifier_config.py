"""How a classifier is trained: the options of `ddpm classifier`. Reading them does not import JAX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifierTrainConfig:
    """Train a classifier of a data set; its weights and card go to the package's folder of weights.

    Example: ddpm classifier --data fashion_mnist
    """

    data: str = "fashion_mnist"
    epochs: int = 12
    batch: int = 256  # images a step
    lr: float = 0.3  # highest rate of the one-cycle schedule
    momentum: float = 0.9  # Nesterov's
    weight_decay: float = 5e-4  # of the kernels only, added to the gradient
    smoothing: float = 0.1  # label smoothing
    shift: int = 2  # each image is moved by up to this many pixels in both directions
    flip: bool = True  # mirror half of the images, left and right
    erase: int = 6  # side of the square that is set to 0 (mid grey) at a random place, pixels; 0: none
    ema: float = 0.995  # the average of the parameters, which is what is kept
    seed: int = 0  # of the parameters, the order of the data and its augmentation
    schedule: str = ""  # train p(c | x_t, t) on this noise schedule; empty: clean images
    validate: int = 0  # leave out the last so many training images and measure on them; nothing is written
    note: str = ""  # what else there is to say on the card
    out: str = ""  # where the weights go; the package's own folder of weights if empty
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
