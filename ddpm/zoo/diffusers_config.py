"""Convert configurations of diffusers' `UNet2DModel` and `DDPMScheduler` to ours and back.

Ho et al.'s network is one of many that diffusers' fields can describe: sine before cosine, frequencies over half-1,
padding right and below, one attention head, ε = 1e-6. Any other choice is a different function, so it is named and
refused instead of approximated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm.config import UNetConfig
from ddpm.schedule import Schedule

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


def refuse(field: str, value: Any, wanted: Any, why: str) -> None:
    """Refuse a field value that our network does not support."""
    raise ValueError(f"unsupported: {field} is {value!r}, only {wanted!r} can be imported: {why}")


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
    # widths, size and channels
    widths = list(config.get("block_out_channels", (224, 448, 672, 896)))
    if any(w % widths[0] for w in widths):
        refuse("block_out_channels", widths, "multiples of the first", "our widths are channels times whole numbers")
    size = config.get("sample_size")
    size = size[0] if isinstance(size, list) and len(set(size)) == 1 else size
    if not isinstance(size, int):
        refuse("sample_size", size, "one whole number", "our networks are made for one size of square images")
    assert isinstance(size, int)
    channels, out = config.get("in_channels", 3), config.get("out_channels", 3)
    if out not in (channels, 2 * channels):
        refuse("out_channels", out, (channels, 2 * channels), "the network predicts ε, or ε and the variance")
    # attention and time embedding
    attend = _attend(config, len(widths))
    scale_shift = _scale_shift(config)
    _check_heads(config, [w for w, a in zip(widths, attend, strict=True) if a] + widths[-1:])
    wanted_dim = config.get("time_embedding_dim")
    if wanted_dim not in (None, 4 * widths[0]):
        refuse("time_embedding_dim", wanted_dim, 4 * widths[0], "ours is four times the width of the first level")
    if channels % patch**2:
        raise ValueError(f"patch {patch} does not divide the {channels} channels of the network")
    return UNetConfig(
        image_size=size * patch,
        image_channels=channels // patch**2,
        patch=patch,
        channels=widths[0],
        multipliers=tuple(w // widths[0] for w in widths),
        blocks=config.get("layers_per_block", 2),
        attention=tuple(size // 2**i for i, a in enumerate(attend) if a),
        groups=config.get("norm_num_groups", 32),
        dropout=config.get("dropout", 0.0),
        num_classes=_classes(config.get("num_class_embeds"), null_label),
        scale_shift=scale_shift,
        learned_variance=out == 2 * channels,
    )


def _attend(config: dict[str, Any], levels: int) -> list[bool]:
    down = list(config.get("down_block_types", ("DownBlock2D", *["AttnDownBlock2D"] * 3)))
    up = list(config.get("up_block_types", (*["AttnUpBlock2D"] * 3, "UpBlock2D")))
    for field, blocks, side in (("down_block_types", down, "Down"), ("up_block_types", up, "Up")):
        for block in blocks:
            if block not in BLOCKS or side not in block:
                refuse(field, block, f"{side}Block2D or Attn{side}Block2D", "our levels have no other kinds of blocks")
    attend = [BLOCKS[b] for b in down]
    if len(down) != levels or attend != [BLOCKS[b] for b in reversed(up)]:
        refuse("up_block_types", up, "the mirror of down_block_types", "our attention is at the same sizes both ways")
    return attend


def _scale_shift(config: dict[str, Any]) -> bool:
    how = config.get("resnet_time_scale_shift", "default")
    if how not in ("default", "scale_shift"):
        refuse("resnet_time_scale_shift", how, ("default", "scale_shift"), "time is added, or scales and shifts")
    groups = config.get("norm_num_groups", 32)
    middle = config.get("attn_norm_num_groups") or (groups if how == "default" else None)
    if middle != groups:
        refuse("attn_norm_num_groups", middle, groups, "our middle's attention has the norm of all the others")
    return how == "scale_shift"


def _check_heads(config: dict[str, Any], widths: list[int]) -> None:
    dim = config.get("attention_head_dim", 8)
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
            f"level, and ours has {unet.channels} channels beside {unet.channels * unet.multipliers[0]}"
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


# --- schedules --------------------------------------------------------------------------------------------------------


def to_schedule(config: dict[str, Any]) -> tuple[str, int]:
    """Convert a scheduler_config.json to (our name, T): `linear_ho`, `linear` or `cosine`."""
    T, kind = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    if config.get("prediction_type", "epsilon") != "epsilon":
        refuse("prediction_type", config["prediction_type"], "epsilon", "a model of ours predicts ε")
    if config.get("rescale_betas_zero_snr"):
        refuse("rescale_betas_zero_snr", True, False, "at ᾱ_T = 0 an ε says nothing about the image")
    if config.get("trained_betas") is not None:
        refuse("trained_betas", "a list", None, "a model's schedule has a name here; make one with schedule.from_beta")
    if kind == "squaredcos_cap_v2":
        return "cosine", T
    if kind != "linear":
        refuse("beta_schedule", kind, ("linear", "squaredcos_cap_v2"), "we have no schedule that is this one")
    ends = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    for name, factor in (("linear_ho", 1.0), ("linear", 1000 / T)):
        if np.allclose(ends, (1e-4 * factor, 0.02 * factor), rtol=1e-6, atol=0):
            return name, T
    refuse("beta_start, beta_end", ends, (1e-4, 0.02), "ours are Ho et al.'s, or those times 1000/T")
    raise AssertionError


def from_schedule(name: str, T: int, schedule: Schedule, learned_variance: bool = False) -> dict[str, Any]:
    """Return the `DDPMScheduler` of our schedule, with all β listed if diffusers has no name for it."""
    factor = 1000 / T if name == "linear" else 1.0
    known: dict[str, Any] = {
        "linear_ho": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        "linear": {"beta_schedule": "linear", "beta_start": 1e-4 * factor, "beta_end": 0.02 * factor},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    }
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": T,
        **known.get(name, {"trained_betas": np.asarray(schedule.beta)[1:].tolist()}),
        "prediction_type": "epsilon",
        "clip_sample": True,
        "variance_type": "learned_range" if learned_variance else "fixed_small",
    }
