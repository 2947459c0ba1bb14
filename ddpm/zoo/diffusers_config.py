"""Convert configurations of diffusers' `UNet2DModel` and `DDPMScheduler` to ours and back.

Ho et al.'s network is one of many that diffusers' fields can describe. The choices that `UNetConfig` has as well are
converted. Any other is a different function, so all of them are named in one message and refused, not approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm.config import UNetConfig
from ddpm.tools import schema
from ddpm.zoo.cards import LEVELS, LIMITS, check_network
from ddpm.zoo.diffusers_schedule import Refusals, from_sampling, from_schedule, to_process, to_schedule

__all__ = ["from_sampling", "from_schedule", "from_unet", "to_process", "to_schedule", "to_unet"]

# field: (diffusers' default if the file has none, the value of our network, the reason for refusing any other)
FIXED: dict[str, tuple[Any, Any, str]] = {
    "center_input_sample": (False, False, "images are in [-1, 1] already"),
    "time_embedding_type": ("positional", "positional", "times enter as sines and cosines"),
    "mid_block_type": ("UNetMidBlock2D", "UNetMidBlock2D", "our middle is block, attention, block"),
    "mid_block_scale_factor": (1, 1, "our blocks are not rescaled"),
    "downsample_type": ("conv", "conv", "our networks change size by convolutions"),
    "upsample_type": ("conv", "conv", "our networks change size by convolutions"),
    "act_fn": ("silu", "silu", "our blocks use silu"),
    "class_embed_type": (None, None, "our classes are rows of a table"),
}
BLOCKS = {"DownBlock2D": False, "AttnDownBlock2D": True, "UpBlock2D": False, "AttnUpBlock2D": True}


@dataclass(frozen=True)
class _Config:
    """The fields of a `UNet2DModel` other than those of `FIXED`, with diffusers' defaults."""

    sample_size: int | tuple[int, ...] | None = None
    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    down_block_types: tuple[str, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
    up_block_types: tuple[str, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
    layers_per_block: int = 2
    dropout: float = 0.0
    attention_head_dim: int | None = 8
    add_attention: bool = True
    downsample_padding: int = 1
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    norm_eps: float = 1e-5
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    resnet_time_scale_shift: str = "default"
    time_embedding_dim: int | None = None
    num_class_embeds: int | None = None
    num_train_timesteps: Any = None  # read by other kinds of time embeddings only


_LIMITS = {
    "sample_size": LIMITS["image_size"],
    "in_channels": LIMITS["image_channels"],
    "out_channels": (1, 2 * LIMITS["image_channels"][1]),
    "block_out_channels": (1, LIMITS["channels"][1] * LIMITS["multipliers"][1]),
    "layers_per_block": LIMITS["blocks"],
    "dropout": LIMITS["dropout"],
    "norm_num_groups": LIMITS["groups"],
    "attention_head_dim": (1, LIMITS["head_width"][1]),
    "attn_norm_num_groups": LIMITS["groups"],
    "downsample_padding": (0, 1),
    "freq_shift": LIMITS["time_shift"],
    "norm_eps": LIMITS["norm_eps"],
    "num_class_embeds": (1, LIMITS["num_classes"][1]),
}


def to_unet(config: dict[str, Any], null_label: str = "", patch: int = 1, size: int = 0) -> UNetConfig:
    """Convert the config.json of a `UNet2DModel`; one message names every field that cannot be.

    null_label: "last" if the last row of the class table means "no class". patch: the network takes images after
    `pixel_unshuffle(·, patch)`, which its file does not state. size: of the images, where the file leaves it open.
    """
    # fields with a single supported value
    refuse = Refusals()
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        refuse("_class_name", config["_class_name"], "UNet2DModel", "other networks have other layers")
        refuse.done()
    for field, (default, ours, why) in FIXED.items():
        value = config.get(field, default)
        if (ours if value == "swish" and field == "act_fn" else value) != ours:
            refuse(field, value, ours, why + ("" if field in config else " (the file is silent: diffusers' default)"))
    refuse.unknown(config, FIXED.keys() | _Config.__dataclass_fields__.keys())
    c = schema.read(_Config, config, "the network", _LIMITS)
    # fields that must fit each other
    widths = c.block_out_channels
    _check_widths(c, refuse)
    H, W = _size(c, size, refuse)
    attend = _attend(c, refuse)
    if c.out_channels not in (c.in_channels, 2 * c.in_channels):
        both = c.in_channels, 2 * c.in_channels
        refuse("out_channels", c.out_channels, both, "the network predicts the image, or that and the variance")
    if c.resnet_time_scale_shift not in ("default", "scale_shift"):
        how = c.resnet_time_scale_shift
        refuse("resnet_time_scale_shift", how, ("default", "scale_shift"), "time is added, or scales and shifts")
    refuse.done()
    if c.in_channels % patch**2:
        raise ValueError(f"patch {patch} does not divide the {c.in_channels} channels of the network")
    # the network
    rows = c.num_class_embeds or 0
    unet = UNetConfig(
        image_size=H * patch,
        image_width=W * patch if W != H else 0,
        image_channels=c.in_channels // patch**2,
        patch=patch,
        channels=widths[0],
        multipliers=tuple(w // widths[0] for w in widths),
        blocks=c.layers_per_block,
        attention=tuple(max(H, W) // 2**i for i, a in enumerate(attend) if a),
        groups=c.norm_num_groups,
        dropout=c.dropout,
        num_classes=rows - (rows > 0 and null_label == "last"),
        scale_shift=c.resnet_time_scale_shift == "scale_shift",
        learned_variance=c.out_channels == 2 * c.in_channels,
        head_width=(c.attention_head_dim or 0) if any(attend) or c.add_attention else 0,
        middle_attention=c.add_attention,
        middle_groups=_middle_groups(c),
        norm_eps=c.norm_eps,
        time_shift=c.freq_shift,
        symmetric=c.downsample_padding == 1,
        null_label=not rows or null_label == "last",
    )
    check_network(unet)
    return unet


def cosines_first(config: dict[str, Any]) -> bool:
    """True if the time embedding of this config.json has the cosines before the sines; ours has the sines first."""
    return config.get("flip_sin_to_cos", _Config.flip_sin_to_cos)


def _check_widths(c: _Config, refuse: Refusals) -> None:
    widths = c.block_out_channels
    if not 1 <= len(widths) <= LEVELS:
        refuse("block_out_channels", widths, f"1 to {LEVELS} widths", "a network has that many levels")
        refuse.done()
    if any(w % widths[0] for w in widths):
        refuse("block_out_channels", list(widths), "multiples of the first", "our widths are channels times whole ones")
    if c.time_embedding_dim not in (None, 4 * widths[0]):
        why = "ours is four times the width of the first level"
        refuse("time_embedding_dim", c.time_embedding_dim, 4 * widths[0], why)
    if widths[0] % 2 or widths[0] // 2 <= c.freq_shift:
        least = 2 * c.freq_shift + 2
        refuse("block_out_channels", list(widths), f"an even first width >= {least}", "half of it are frequencies")


def _size(c: _Config, size: int, refuse: Refusals) -> tuple[int, int]:
    """Return (H, W) of the positions; sizes between which the levels do not halve evenly do not run in diffusers."""
    sides = (c.sample_size,) * 2 if isinstance(c.sample_size, int) else tuple(c.sample_size or (size,) * 2)
    if sides == (0, 0):
        refuse("sample_size", None, "one or two whole numbers", "the file leaves the size open; say it with --size")
    elif len(sides) != 2:
        refuse("sample_size", sides, "one or two whole numbers", "images have a height and a width")
    elif any(s % 2 ** (len(c.block_out_channels) - 1) for s in sides):
        least = 2 ** (len(c.block_out_channels) - 1)
        refuse("sample_size", c.sample_size or size, f"multiples of {least}", "each level halves the size")
    return sides[0], sides[-1]


def _attend(c: _Config, refuse: Refusals) -> list[bool]:
    """Return which levels have attention."""
    sides = (("down_block_types", c.down_block_types, "Down"), ("up_block_types", c.up_block_types, "Up"))
    others = False
    for field, blocks, side in sides:
        for block in blocks:
            if block not in BLOCKS or side not in block:
                others = True
                refuse(field, block, f"{side}Block2D or Attn{side}Block2D", "our levels have no other kinds of blocks")
    attend = [BLOCKS.get(b, False) for b in c.down_block_types]
    mirror = [BLOCKS.get(b, False) for b in reversed(c.up_block_types)]
    if not others and (len(attend) != len(c.block_out_channels) or attend != mirror):
        why = "our attention is at the same sizes both ways, one kind of block a width"
        refuse("up_block_types", list(c.up_block_types), "the mirror of down_block_types", why)
    return attend


def _middle_groups(c: _Config) -> int | None:
    """Return the groups of the norm before the middle's attention: `attn_norm_num_groups`, as diffusers fills it in."""
    none = 0 if c.resnet_time_scale_shift == "scale_shift" else c.norm_num_groups
    groups = none if c.attn_norm_num_groups is None else c.attn_norm_num_groups
    return groups if c.add_attention and groups != c.norm_num_groups else None


def from_unet(unet: UNetConfig) -> dict[str, Any]:
    """Return the equivalent `UNet2DModel` (after `pixel_unshuffle(·, patch)` if patch > 1)."""
    if unet.multipliers[0] != 1:
        raise ValueError(
            f"multipliers {unet.multipliers} cannot be exported: the peer's time embedding is as wide as its first "
            f"level, and ours has {unet.channels} channels where the level has {unet.channels * unet.multipliers[0]}"
        )
    if unet.padded != unet.image_shape[:2]:
        raise ValueError(
            f"images of {'x'.join(map(str, unet.image_shape[:2]))} cannot be exported: our network pads them to "
            f"{'x'.join(map(str, unet.padded))} inside and cuts its answer, which diffusers' does not"
        )
    # levels
    H, W = (side // unet.patch for side in unet.padded)
    attn = ["Attn" * (s in unet.attention) for s in unet.map_sizes]
    groups = unet.groups if unet.middle_groups is None else unet.middle_groups
    channels = unet.image_channels * unet.patch**2
    return {
        "_class_name": "UNet2DModel",
        "sample_size": H if H == W else [H, W],
        "in_channels": channels,
        "out_channels": channels * (1 + unet.learned_variance),
        **{field: ours for field, (_, ours, _) in FIXED.items()},
        "down_block_types": [f"{a}DownBlock2D" for a in attn],
        "up_block_types": [f"{a}UpBlock2D" for a in reversed(attn)],
        "block_out_channels": [unet.channels * m for m in unet.multipliers],
        "layers_per_block": unet.blocks,
        "dropout": unet.dropout,
        "attention_head_dim": unet.head_width or None,
        "add_attention": unet.middle_attention,
        "downsample_padding": 1 if unet.symmetric else 0,
        "flip_sin_to_cos": False,
        "freq_shift": unet.time_shift,
        "norm_eps": unet.norm_eps,
        "norm_num_groups": unet.groups,
        "attn_norm_num_groups": groups or None,
        "resnet_time_scale_shift": "scale_shift" if unet.scale_shift else "default",
        "num_class_embeds": unet.num_classes + unet.null_label if unet.num_classes else None,
    }
