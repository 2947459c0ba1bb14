"""Configuration of the network in plain frozen dataclasses, and its presets. JAX is not imported."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import inf
from typing import Any

RANGES = {  # of each field, or of each of its entries: from low to below high
    **dict.fromkeys(("image_size", "image_channels", "patch", "channels", "multipliers", "blocks", "groups"), (1, inf)),
    **dict.fromkeys(("image_width", "num_classes", "extra_channels"), (0, inf)),
    **dict.fromkeys(("head_width", "middle_groups", "time_shift"), (0, inf)),
    **dict.fromkeys(("dropout", "norm_eps"), (0, 1)),
}
DTYPES = ("float32", "bfloat16")
GAUSSIANS = ("class", "pooled", "one", "isotropic")  # of `ddpm.oracles.low_rank`: by class, one for all, N(m, σ² I)
LOSSES = ("simple", "mse", "min_snr", "p2", "vlb", "hybrid", "velocity")  # `ddpm.losses.objectives`
TIMES = ("uniform", "logit_normal", "log_normal")  # how often a training draws each t: `ddpm.losses.times`


@dataclass(frozen=True)
class UNetConfig:
    """The ε-prediction U-Net of Ho et al. (2020), and its variants."""

    image_size: int = 28  # height and width of the image, pixels
    image_channels: int = 1  # 1 grey, 3 colour
    image_width: int = 0  # the width, if it is another; 0: as the height
    extra_channels: int = 0  # of the input only, in addition to the image: an estimate of x0, a condition
    patch: int = 1  # space-to-depth: patch x patch pixels become the channels of one position
    channels: int = 128  # width of the first level
    multipliers: tuple[int, ...] = (1, 2, 2, 2)  # width of each level, in units of `channels`; each halves the size
    blocks: int = 2  # residual blocks per level on the way down (one more on the way up)
    attention: tuple[int, ...] = (16,)  # sizes of the feature map at which attention is applied (always in the middle)
    groups: int = 32  # groups of the group normalisation
    dropout: float = 0.0  # inside each residual block
    num_classes: int = 0  # labels 0..num_classes-1; num_classes is the null label; 0: no labels at all
    scale_shift: bool = False  # time enters as scale and shift of the second norm (FiLM) instead of a sum
    learned_variance: bool = False  # a second half of output channels, v of Nichol and Dhariwal (2021)
    dtype: str = "float32"  # of the convolutions and matrix products; parameters and statistics stay float32
    # Choices of networks that were trained elsewhere; Ho et al.'s are the defaults
    head_width: int = 0  # channels of one attention head; 0: one head, as wide as its level
    middle_attention: bool = True  # between the two blocks of the smallest size
    middle_groups: int | None = None  # of the norm of that attention; 0: it has none; None: `groups`
    norm_eps: float = 1e-6  # what the group norm adds to the variance
    time_shift: int = 1  # frequencies of the time embedding: ω_i = 10000^(-i/(channels/2 - time_shift))
    symmetric: bool = False  # strided convolutions pad on all four sides, not on the right and below only
    null_label: bool = True  # the class table ends with a row for no class

    def __post_init__(self) -> None:
        for name, (low, below) in RANGES.items():
            value = getattr(self, name)
            values = value if isinstance(value, tuple | list) else () if value is None else (value,)
            if not all(low <= v < below for v in values):
                right = f"whole numbers >= {low}" if below == inf else f"a rate in [{low}, {below})"
                raise ValueError(f"{name} is {value}; give {right}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not known. Known: {', '.join(DTYPES)}")
        # Relations between fields
        if not self.multipliers:
            raise ValueError("multipliers is empty; give the width of each level, such as (1, 2, 2)")
        for m, size in zip(self.multipliers, self.map_sizes, strict=True):
            if (self.channels * m) % self.groups:
                raise ValueError(f"channels {self.channels} * {m} is not divisible by groups {self.groups}")
            attends = size in self.attention or size == self.map_sizes[-1]
            if attends and self.head_width and (self.channels * m) % self.head_width:
                raise ValueError(f"channels {self.channels} * {m} is not divisible by head_width {self.head_width}")
        for a in set(self.attention) - set(self.map_sizes):
            raise ValueError(f"attention at size {a} is not among the feature map sizes {self.map_sizes}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return (self.image_size, self.image_width or self.image_size, self.image_channels)

    @property
    def padded(self) -> tuple[int, int]:
        """(H, W) inside the network: rows and columns of zeros are added until all levels divide them."""
        least = self.patch * 2 ** (len(self.multipliers) - 1)
        H, W, _ = self.image_shape
        return -(-H // least) * least, -(-W // least) * least

    @property
    def map_sizes(self) -> list[int]:
        """Size of the feature map at each level: its longer side."""
        return [max(self.padded) // self.patch // 2**i for i in range(len(self.multipliers))]


def unet_config(preset: str, **changes: object) -> UNetConfig:
    """Return the network preset of this name, with some fields changed."""
    from ddpm.tools import check

    return dataclasses.replace(UNETS[check.choice("preset", preset, UNETS)], **changes)  # type: ignore[arg-type]


_CELLS: Any = {"channels": 64, "multipliers": (1,), "blocks": 1, "attention": (), "groups": 8, "scale_shift": True}
UNETS: dict[str, UNetConfig] = {
    # Ho et al. 2020, App. B: 35,746,307 parameters.
    "cifar10": UNetConfig(32, 3, channels=128, multipliers=(1, 2, 2, 2), attention=(16,)),
    "cifar10_cpu": UNetConfig(32, 3, patch=2, channels=32, multipliers=(1, 2), attention=(8,), groups=8),
    "large": UNetConfig(28, 1, channels=128, multipliers=(1, 2, 2), attention=(14,)),
    "medium": UNetConfig(28, 1, channels=64, multipliers=(1, 2, 2), attention=(14,)),
    "small": UNetConfig(28, 1, channels=32, multipliers=(1, 2, 2), attention=(7,)),
    # Space-to-depth: 28x28 pixels become 14x14 positions of 4 channels. The one to train on a laptop.
    "cpu": UNetConfig(28, 1, patch=2, channels=32, multipliers=(1, 2), attention=(7,), groups=8),
    # For the drawn cities and blocks: each cell is one of 4x4 positions, so the network knows where the cells are.
    **{name: UNetConfig(4 * p, 1, patch=p, **_CELLS) for name, p in (("cities", 7), ("blocks", 6))},
    # A narrow `cpu`: for comparing trainings of a minute each.
    "nano": UNetConfig(28, 1, patch=2, channels=16, multipliers=(1, 2), blocks=1, attention=(), groups=8),
    # scikit-learn's 8x8 digits, in a minute.
    "digits": UNetConfig(8, 1, channels=24, multipliers=(1, 2), blocks=1, attention=(4,), groups=8),
}
