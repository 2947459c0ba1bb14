"""Configuration of the diffusion transformer, its presets, and networks by name. JAX is not imported."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

from ddpm.config import UNETS, UNetConfig
from ddpm.networks.text_config import TEXTS

# The fields of a U-Net that a transformer has too; the others keep the values that they have here.
SHARED = (
    *("image_size", "image_channels", "image_width", "extra_channels", "num_classes", "learned_variance", "dtype"),
    *("patch", "channels", "blocks"),
)


@dataclass(frozen=True)
class DiTConfig(UNetConfig):
    """The diffusion transformer of Peebles and Xie (2023) with adaLN-Zero: `channels` wide, `blocks` deep."""

    patch: int = 4  # patch x patch pixels are one token
    channels: int = 96  # D, the width of every token
    multipliers: tuple[int, ...] = (1,)
    blocks: int = 6  # transformer blocks
    attention: tuple[int, ...] = ()
    groups: int = 1
    attention_heads: int = 4  # each D/attention_heads wide

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_heads < 1 or self.channels % self.attention_heads:
            raise ValueError(f"channels {self.channels} is not divisible by attention_heads {self.attention_heads}")
        if self.channels % 4:
            raise ValueError(f"channels is {self.channels}; a position is coded in four parts: give a multiple of 4")
        given = [f.name for f in dataclasses.fields(UNetConfig) if f.name not in SHARED]
        if wrong := [name for name in given if getattr(self, name) != getattr(type(self), name)]:
            raise ValueError(f"{wrong[0]} is {getattr(self, wrong[0])}; a DiT has no such choice: leave it out")

    @property
    def tokens(self) -> int:
        """N = (H/patch) (W/patch), of the image as it is padded inside"""
        H, W = self.padded
        return H * W // self.patch**2

    @property
    def parameters(self) -> int:
        """The number of parameters: 18 D² + 15 D a block, and the embeddings and the last layer."""
        D, inside = self.channels, self.patch**2 * (self.image_channels + self.extra_channels)
        outside = self.patch**2 * self.image_channels * (2 if self.learned_variance else 1)
        embeddings = inside * D + D + 2 * (D**2 + D) + (D * (self.num_classes + 1) if self.num_classes else 0)
        return self.blocks * (18 * D**2 + 15 * D) + embeddings + 2 * D**2 + 2 * D + outside * (D + 1)

    @property
    def flops(self) -> int:
        """Operations of the matrix products for one image, two a multiplication: N (24 D² + 4 N D) + 12 D² a block."""
        D, N, inside = self.channels, self.tokens, self.patch**2 * (self.image_channels + self.extra_channels)
        outside = self.patch**2 * self.image_channels * (2 if self.learned_variance else 1)
        block = 2 * N * 12 * D**2 + 4 * N**2 * D + 2 * 6 * D**2
        return self.blocks * block + 2 * N * D * (inside + outside) + 2 * 2 * D**2 + 2 * 2 * D**2


DITS: dict[str, DiTConfig] = {
    "dit_small": DiTConfig(28, 1),  # as many parameters as the U-Net `cpu`, 49 tokens
    "dit_digits": DiTConfig(8, 1, patch=2, channels=48, blocks=3),
}
PRESETS: Mapping[str, UNetConfig] = ChainMap(DITS, TEXTS, UNETS)  # type: ignore[arg-type]


def network_config(preset: str, **changes: object) -> UNetConfig:
    """Return the network preset of this name, a U-Net, a DiT or one that reads captions, with some fields changed."""
    from ddpm.tools import check  # which imports JAX

    return dataclasses.replace(PRESETS[check.choice("preset", preset, PRESETS)], **changes)  # type: ignore[arg-type]
