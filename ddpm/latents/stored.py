"""Keep a trained codec: both halves of the network, and the mean and standard deviation of its codes, in one file.

Codes without their scale are another chain, and a decoder of another training makes other images of the same codes.
So both halves and the scale have one checksum, and what lacks one of them is not loaded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial
from ddpm.latents.autoencoder import AutoencoderConfig, build
from ddpm.latents.codec import Codec
from ddpm.tools import files, schema

LIMITS: schema.Limits = {
    "image_size": (2, 2048),
    "image_channels": (1, 1024),
    "factor": (2, 64),
    "code_channels": (1, 1024),
    "channels": (1, 4096),
    "groups": (1, 4096),
    "std": (1e-30, 1e30),
}


@dataclass(frozen=True)
class CodecCard:
    """What the card of a codec must say."""

    config: AutoencoderConfig
    mean: float
    std: float


def save(path: str | Path, config: AutoencoderConfig, codec: Codec, card: dict[str, Any] | None = None) -> None:
    """Write `path`.safetensors and its card; the numbers are kept as float16, the scale in full."""
    about = {"kind": "codec", "config": dataclasses.asdict(config), "mean": codec.mean, "std": codec.std}
    params = {"encoder": codec.encode.args[0], "decoder": codec.decode.args[0]}
    files.save(path, jax.tree.map(lambda a: np.asarray(a, np.float16), params), about | (card or {}))


def load(path: str | Path) -> tuple[Codec, dict[str, Any]]:
    """Load a codec and its card. Refused: another kind of file, no scale, arrays that do not fit the config."""
    params, card = files.load(path)
    if card.get("kind") != "codec":
        raise ValueError(f"{path}.json: kind is {schema.show(card.get('kind'))}; wanted 'codec'")
    if missing := [name for name in ("mean", "std") if name not in card]:
        raise ValueError(
            f"{path}.json has no {' and no '.join(missing)} of its codes; a chain on codes without their scale is "
            f"another chain: make the codec again with ddpm.latents.make_codec, which measures both"
        )
    about = schema.read(CodecCard, card, f"{path}.json", LIMITS)
    init, encode, decode = build(about.config)
    files.refuse_other_shapes(params, jax.eval_shape(init, jax.random.key(0)), f"arrays of the codec {str(path)!r}")
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    return Codec(Partial(encode, params["encoder"]), Partial(decode, params["decoder"]), about.mean, about.std), card
