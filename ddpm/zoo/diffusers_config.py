"""Convert configurations of diffusers' `UNet2DModel` and `DDPMScheduler` to ours and back.

Ho et al.'s network is one of many that diffusers' fields can describe: sine before cosine, frequencies over half-1,
padding right and below, one attention head, ε = 1e-6. Any other choice is a different function, so it is named and
refused instead of approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm.config import UNetConfig
from ddpm.tools import schema
from ddpm.zoo.cards import LEVELS, LIMITS, check_network
from ddpm.zoo.diffusers_schedule import from_sampling, from_schedule, refuse, to_process, to_schedule

__all__ = ["from_sampling", "from_schedule", "from_unet", "refuse", "to_process", "to_schedule", "to_unet"]

# field: (diffusers' default if the file has none, the value of our network, the reason for refusing any other)
FIXED: dict[str, tuple[Any, Any, str]] = {
    "center_input_sample": (False, False, "images are in [-1, 1] already"),
    "time_embedding_type": ("positional", "positional", "times enter as sines and cosines"),
    "flip_sin_to_cos": (True, False, "our time embedding has the sines first"),
    "freq_shift": (0, 1, "our frequencies are 10000^(-i/(half-1))"),
    "mid_block_type": ("UNetMidBlock2D", "UNetMidBlock2D", "our middle is block, attention, block"),
    "mid_block_scale_factor": (1, 1, "our blocks are not rescaled"),
    "add_attention": (True, True, "our middle has attention always"),
    "downsample_padding": (1, 0, "our strided convolution pads right and below only"),
    "downsample_type": ("conv", "conv", "our networks change size by convolutions"),
    "upsample_type": ("conv", "conv", "our networks change size by convolutions"),
    "act_fn": ("silu", "silu", "our blocks use silu"),
    "norm_eps": (1e-5, 1e-6, "our norms add 1e-6 to the variance"),
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
    "num_class_embeds": (1, LIMITS["num_classes"][1]),
}


def to_unet(config: dict[str, Any], null_label: str = "", patch: int = 1) -> UNetConfig:
    """Convert the config.json of a `UNet2DModel`; refuse and name any unsupported field.

    null_label: "last" if the last row of the class table means "no class". patch: the network takes images after
    `pixel_unshuffle(·, patch)`, which its file does not state.
    """
    # fields with a single supported value
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        refuse("_class_name", config["_class_name"], "UNet2DModel", "other networks have other layers")
    for field, (default, ours, why) in FIXED.items():
        value = config.get(field, default)
        if (ours if value == "swish" and field == "act_fn" else value) != ours:
            refuse(field, value, ours, why + ("" if field in config else " (the file is silent: diffusers' default)"))
    for field in sorted(config.keys() - FIXED.keys() - _Config.__dataclass_fields__.keys()):
        if not field.startswith("_") and config[field] not in (None, False):
            refuse(field, config[field], "no such field", "we do not know what it does")
    c = schema.read(_Config, config, "the network", _LIMITS)
    # widths, size and channels
    widths = c.block_out_channels
    if not 1 <= len(widths) <= LEVELS:
        refuse("block_out_channels", widths, f"1 to {LEVELS} widths", "a network has that many levels")
    if any(w % widths[0] for w in widths):
        refuse("block_out_channels", list(widths), "multiples of the first", "our widths are channels times whole ones")
    size = c.sample_size[0] if isinstance(c.sample_size, tuple) and len(set(c.sample_size)) == 1 else c.sample_size
    if not isinstance(size, int):
        refuse("sample_size", size, "one whole number", "our networks are made for one size of square images")
    assert isinstance(size, int)
    if c.out_channels not in (c.in_channels, 2 * c.in_channels):
        both = c.in_channels, 2 * c.in_channels
        refuse("out_channels", c.out_channels, both, "the network predicts the image, or that and the variance")
    # attention and time embedding
    attend = _attend(c)
    scale_shift = _scale_shift(c)
    _check_heads(c, [w for w, a in zip(widths, attend, strict=True) if a] + [widths[-1]])
    if c.time_embedding_dim not in (None, 4 * widths[0]):
        why = "ours is four times the width of the first level"
        refuse("time_embedding_dim", c.time_embedding_dim, 4 * widths[0], why)
    if c.in_channels % patch**2:
        raise ValueError(f"patch {patch} does not divide the {c.in_channels} channels of the network")
    unet = UNetConfig(
        image_size=size * patch,
        image_channels=c.in_channels // patch**2,
        patch=patch,
        channels=widths[0],
        multipliers=tuple(w // widths[0] for w in widths),
        blocks=c.layers_per_block,
        attention=tuple(size // 2**i for i, a in enumerate(attend) if a),
        groups=c.norm_num_groups,
        dropout=c.dropout,
        num_classes=_classes(c.num_class_embeds, null_label),
        scale_shift=scale_shift,
        learned_variance=c.out_channels == 2 * c.in_channels,
    )
    check_network(unet)
    return unet


def _attend(c: _Config) -> list[bool]:
    for field, blocks, side in (
        ("down_block_types", c.down_block_types, "Down"),
        ("up_block_types", c.up_block_types, "Up"),
    ):
        for block in blocks:
            if block not in BLOCKS or side not in block:
                refuse(field, block, f"{side}Block2D or Attn{side}Block2D", "our levels have no other kinds of blocks")
    attend = [BLOCKS[b] for b in c.down_block_types]
    if len(attend) != len(c.block_out_channels) or attend != [BLOCKS[b] for b in reversed(c.up_block_types)]:
        why = "our attention is at the same sizes both ways, one kind of block a width"
        refuse("up_block_types", list(c.up_block_types), "the mirror of down_block_types", why)
    return attend


def _scale_shift(c: _Config) -> bool:
    how, groups = c.resnet_time_scale_shift, c.norm_num_groups
    if how not in ("default", "scale_shift"):
        refuse("resnet_time_scale_shift", how, ("default", "scale_shift"), "time is added, or scales and shifts")
    middle = c.attn_norm_num_groups or (groups if how == "default" else None)
    if middle != groups:
        refuse("attn_norm_num_groups", middle, groups, "our middle's attention has the norm of all the others")
    return how == "scale_shift"


def _check_heads(c: _Config, widths: list[int]) -> None:
    dim = c.attention_head_dim
    if dim is not None and any(dim != w for w in widths):
        refuse("attention_head_dim", dim, None, "our attention has one head as wide as the level")


def _classes(rows: int | None, null_label: str) -> int:
    if rows is None:
        return 0
    if null_label != "last":
        refuse("num_class_embeds", rows, None, "our table has one more row for no class; if its last is that, say so")
    return rows - 1


def from_unet(unet: UNetConfig) -> dict[str, Any]:
    """Return the equivalent `UNet2DModel` (after `pixel_unshuffle(·, patch)` if patch > 1)."""
    if unet.multipliers[0] != 1:
        raise ValueError(
            f"multipliers {unet.multipliers} cannot be exported: the peer's time embedding is as wide as its first "
            f"level, and ours has {unet.channels} channels where the level has {unet.channels * unet.multipliers[0]}"
        )
    # levels
    sizes = [unet.image_size // unet.patch // 2**i for i in range(len(unet.multipliers))]
    attn = ["Attn" * (s in unet.attention) for s in sizes]
    channels = unet.image_channels * unet.patch**2
    return {
        "_class_name": "UNet2DModel",
        "sample_size": sizes[0],
        "in_channels": channels,
        "out_channels": channels * (1 + unet.learned_variance),
        **{field: ours for field, (_, ours, _) in FIXED.items()},
        "down_block_types": [f"{a}DownBlock2D" for a in attn],
        "up_block_types": [f"{a}UpBlock2D" for a in reversed(attn)],
        "block_out_channels": [unet.channels * m for m in unet.multipliers],
        "layers_per_block": unet.blocks,
        "dropout": unet.dropout,
        "attention_head_dim": None,
        "norm_num_groups": unet.groups,
        "attn_norm_num_groups": unet.groups,
        "resnet_time_scale_shift": "scale_shift" if unet.scale_shift else "default",
        "num_class_embeds": unet.num_classes + 1 if unet.num_classes else None,
    }
