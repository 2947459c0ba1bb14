"""What can be chosen, in plain frozen dataclasses: the network, its training, the presets. JAX is not imported."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class UNetConfig:
    """The ε-prediction U-Net of Ho et al. (2020), and what we vary of it."""

    image_size: int = 28  # height and width of the image, pixels
    image_channels: int = 1  # 1 grey, 3 colour
    patch: int = 1  # space-to-depth: patch x patch pixels become the channels of one position
    channels: int = 128  # width of the first level
    multipliers: tuple[int, ...] = (1, 2, 2, 2)  # width of each level, in units of `channels`; each halves the size
    blocks: int = 2  # residual blocks per level on the way down (one more on the way up)
    attention: tuple[int, ...] = (
        16,
    )  # sizes of the feature map at which attention is applied (the middle has it always)
    groups: int = 32  # groups of the group normalisation
    dropout: float = 0.0  # inside each residual block
    num_classes: int = 0  # labels 0..num_classes-1; num_classes is the null label; 0: no labels at all
    scale_shift: bool = False  # time enters as scale and shift of the second norm (FiLM) instead of a sum
    learned_variance: bool = False  # a second half of output channels, v of Nichol and Dhariwal (2021)
    dtype: str = "float32"  # of the convolutions and matrix products; parameters and statistics stay float32

    def __post_init__(self) -> None:
        size, least = self.image_size, self.patch * 2 ** (len(self.multipliers) - 1)
        if size < 1 or self.image_channels < 1 or self.patch < 1 or not self.multipliers or self.blocks < 1:
            raise ValueError(f"sizes must be positive: {self}")
        if size % least:
            raise ValueError(
                f"image_size {size} is not divisible by patch * 2^(levels-1) = {least}; "
                f"use fewer multipliers, a smaller patch, or pad the images"
            )
        for m in self.multipliers:
            if (self.channels * m) % self.groups:
                raise ValueError(f"channels {self.channels} * {m} is not divisible by groups {self.groups}")
        sizes = [size // self.patch // 2**i for i in range(len(self.multipliers))]
        for a in self.attention:
            if a not in sizes:
                raise ValueError(f"attention at size {a} is not among the feature map sizes {sizes}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; give a rate in [0, 1)")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype {self.dtype!r} is not known. Known: float32, bfloat16")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return (self.image_size, self.image_size, self.image_channels)


@dataclass(frozen=True)
class TrainConfig:
    """A training run. Whatever is set here is written to runs/NAME/config.json."""

    data: str = "fashion_mnist"  # fashion_mnist, cifar10, digits or cities
    preset: str = "cpu"  # the network: cpu, small, medium, large (28x28), cifar10, cifar10_cpu (32x32x3), digits (8x8)
    name: str = ""  # the folder runs/NAME; DATA-PRESET if empty
    steps: int = 3000  # in all; a run that is resumed goes on to this number
    batch: int = 64  # images a step
    lr: float = 1e-3  # Adam's learning rate after the warm-up
    warmup: int = 200  # steps in which the learning rate rises from 0
    decay: float = 0.5  # the last share of the steps, in which the learning rate falls to 0 along a cosine
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999  # the average of the parameters decays by min(ema, (1+n)/(10+n))
    p_uncond: float = 0.1  # share of the labels that become the null label, for guidance; ignored without classes
    conditional: bool = True  # give the network the class labels
    schedule: str = "cosine"  # linear, linear_ho or cosine
    T: int = 1000  # noise levels
    flip: bool = False  # mirror half of the images, left and right
    seed: int = 0  # of the parameters, the noise, the times and the order of the data
    log_every: int = 50  # steps between rows of metrics.csv
    save_every: int = 500  # steps between checkpoints
    sample_every: int = 1000  # steps between sample grids; 0: only at the end
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR, else a cache in the home folder

    def __post_init__(self) -> None:
        for field in ("steps", "batch", "T", "log_every", "save_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; give a whole number >= 1")
        for field in ("warmup", "seed", "sample_every"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; give a whole number >= 0")
        for field in ("lr", "clip"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ValueError(f"{field} is {getattr(self, field)}; give a positive number")
        for field in ("ema", "p_uncond", "decay"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is {getattr(self, field)}; give a number in [0, 1]")

    # What a resumed run may change; every other field must be as it was.
    FREE = ("name", "steps", "log_every", "save_every", "sample_every", "data_dir")

    @property
    def run_name(self) -> str:
        """The folder's name under runs/."""
        return self.name or f"{self.data}-{self.preset}"


def unet_config(preset: str, **changes: object) -> UNetConfig:
    """The network preset of that name, with some fields changed."""
    from ddpm import check

    base = UNETS[check.choice("preset", preset, UNETS)]
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


UNETS: dict[str, UNetConfig] = {
    # Ho et al. 2020, App. B: 35,746,307 parameters.
    "cifar10": UNetConfig(32, 3, channels=128, multipliers=(1, 2, 2, 2), attention=(16,)),
    "cifar10_cpu": UNetConfig(32, 3, patch=2, channels=32, multipliers=(1, 2), attention=(8,), groups=8),
    "large": UNetConfig(28, 1, channels=128, multipliers=(1, 2, 2), attention=(14,)),
    "medium": UNetConfig(28, 1, channels=64, multipliers=(1, 2, 2), attention=(14,)),
    "small": UNetConfig(28, 1, channels=32, multipliers=(1, 2, 2), attention=(7,)),
    # Space-to-depth: 28x28 pixels become 14x14 positions of 4 channels. The one to train on a laptop.
    "cpu": UNetConfig(28, 1, patch=2, channels=32, multipliers=(1, 2), attention=(7,), groups=8),
    # scikit-learn's 8x8 digits, in a minute.
    "digits": UNetConfig(8, 1, channels=24, multipliers=(1, 2), blocks=1, attention=(4,), groups=8),
}
