"""The network of a training: a preset, changed by options, at the size of the images. JAX is not imported."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ddpm.config import UNetConfig
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
    if H != W:
        raise ValueError(f"images are {H}x{W}; the network takes square ones: bring them to a size, such as --size {H}")
    new = {"image_size": H, "image_channels": C} | options
    patch, multipliers = new.get("patch", base.patch), new.get("multipliers", base.multipliers)
    if "attention" not in options:
        where = [i for i in range(len(base.multipliers)) if base.image_size // base.patch // 2**i in base.attention]
        new["attention"] = tuple(H // max(patch, 1) // 2**i for i in where if i < len(multipliers))
    widths = [new.get("channels", base.channels) * m for m in multipliers]
    common = math.gcd(*widths)
    new["groups"] = max((g for g in range(1, base.groups + 1) if common > 0 and common % g == 0), default=1)
    return dataclasses.replace(base, **new)


def suggestion(shape: tuple[int, int, int]) -> str:
    """Return options of a small network for images (H, W, C), as words of a command; "" if they are not square."""
    H, W, _ = shape
    if H != W:
        return ""
    patch = 2 if H >= 24 and H % 2 == 0 else 1
    levels = max(
        n for n in (1, 2, 3) if n == 1 or (H % (patch * 2 ** (n - 1)) == 0 and H // patch // 2 ** (n - 1) >= 4)
    )
    last = H // patch // 2 ** (levels - 1)
    attention = f" --attention {last}" if levels > 1 and last <= 16 else " --attention"
    return f"--channels 32 --multipliers {' '.join(['1', '2', '2'][:levels])} --patch {patch}{attention}"
