"""The options of `ddpm generator`, and what they cannot say together; reading them does not import JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ddpm.cli.own import NONE, Own
from ddpm.datasets.reading import short_name
from ddpm.generators.table import KINDS, Recipe

KIND = "what to train. " + "; ".join(f"{name}: {what}" for name, what in KINDS.items())


@dataclass(frozen=True)
class GeneratorCommand:
    """Train a small generator that is no diffusion model: a VAE, a GAN, and their kin. Minutes on one CPU core.

    It writes generator.safetensors, its card, and samples.png: a row for each class. Examples:

        ddpm generator --kind cgan --steps 8000             a conditional GAN of Fashion-MNIST
        ddpm generator --kind vae --data digits             a VAE of scikit-learn's digits, in seconds
        ddpm generator --trained runs/fashion_mnist-cgan    draw again, with another --seed
    """

    kind: Annotated[Literal["ae", "vae", "gan", "cgan", "infogan", "acgan"], tyro.conf.arg(help=KIND)] = "cgan"
    data: str = "fashion_mnist"  # fashion_mnist, cifar10, digits, …, or the path of your own images
    steps: int = 1500  # of training; each player makes as many
    minutes: float = 0.0  # train for so many minutes of processor time instead
    batch: int | None = None  # images a step; 128, of a GAN 64
    lr: float | None = None  # Adam's rate; 2e-3, of a GAN 1e-3
    gamma: float | None = None  # weight of R1, ½ E ‖∇D‖² at real images, of a GAN; 1
    weight: float | None = None  # λ of the labels (acgan) or of the code (infogan); 1
    ema: float = 0.999  # decay of the average of the parameters, which is what is kept
    codes: int | None = None  # numbers a code; 16, of a GAN 64
    width: int = 24  # channels at half of the image's size
    seed: int = 0  # of the parameters, the order of the images, and what is drawn
    n: int = 10  # images in each row of the picture
    ship: bool = False  # also measure it, and put weights and card into the package's own folder of weights, as float16
    trained: str = ""  # draw with this one and train nothing: a folder runs/NAME, or shipped weights by name
    out: Path | None = None  # the folder; runs/DATA-KIND if not given
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR
    own: Own = NONE

    def recipe(self) -> Recipe:
        """How it is trained, with the numbers of this kind."""
        return Recipe(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Recipe)}).of(self.kind)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.out or Path("runs") / f"{short_name(self.data)}-{self.kind}"

    def refuse_training(self) -> None:
        """With --trained, refuse the options of a training: they would change nothing."""
        drawing = ("trained", "n", "seed", "out", "ship")
        given = [
            f.name for f in dataclasses.fields(self) if f.name not in drawing and getattr(self, f.name) != f.default
        ]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{flags}: this is for a training, and --trained only draws; leave out one of them")
