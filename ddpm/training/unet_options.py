"""The network of a training: a preset, changed by options, at the size of the images. JAX is not imported."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ddpm.config import UNetConfig
from ddpm.networks.dit_config import DiTConfig
from ddpm.training.config import TrainConfig

OPTIONS = ("channels", "multipliers", "blocks", "attention", "patch", "scale_shift")


def given(config: TrainConfig) -> dict[str, Any]:
    """Return the options of the network that were given; they replace those of the preset."""
    return {name: getattr(config, name) for name in OPTIONS if getattr(config, name) is not None}


def adapted(base: UNetConfig, shape: tuple[int, int, int], options: dict[str, Any]) -> UNetConfig:
    """Return a preset with other options for images (H, W, C).

    Without an `attention` of its own, attention stays at the levels where the preset has it. The groups of the norms
    are as many as divide all widths, at most those of the preset.
    """
    H, W, C = shape
    new = {"image_size": H, "image_width": W if W != H else 0, "image_channels": C} | options
    if isinstance(base, DiTConfig):
        if wrong := options.keys() & {"multipliers", "attention", "scale_shift"}:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(wrong))
            raise ValueError(
                f"{words}: of a U-Net; the preset is a transformer: --channels, --blocks and --patch are its"
            )
        return dataclasses.replace(base, **new)
    multipliers = new.get("multipliers", base.multipliers)
    widths = [new.get("channels", base.channels) * m for m in multipliers]
    common = math.gcd(*widths)
    new["groups"] = max((g for g in range(1, base.groups + 1) if common > 0 and common % g == 0), default=1)
    if "attention" in options:
        return dataclasses.replace(base, **new)
    where = [i for i, size in enumerate(base.map_sizes) if size in base.attention and i < len(multipliers)]
    unet = dataclasses.replace(base, **new | {"attention": ()})
    return dataclasses.replace(unet, attention=tuple(unet.map_sizes[i] for i in where))


def suggestion(shape: tuple[int, int, int]) -> str:
    """Return options of a small network for images (H, W, C), as words of a command."""
    short, long = sorted(shape[:2])
    patch = 2 if short >= 24 else 1
    levels = max(n for n in (1, 2, 3) if n == 1 or short / patch / 2 ** (n - 1) >= 4)
    last = -(-long // (patch * 2 ** (levels - 1)))
    attention = f" --attention {last}" if levels > 1 and last <= 16 else " --attention"
    return f"--channels 32 --multipliers {' '.join(['1', '2', '2'][:levels])} --patch {patch}{attention}"
