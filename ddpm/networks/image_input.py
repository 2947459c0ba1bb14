"""A picture as a further input of a network: to colourise, to fill in, to edit.

    ε̂([x_t, y], t, T)   y is concatenated with x_t   [Saharia et al. 2022, Palette; Brooks et al. 2023, InstructPix2Pix]

A trained network is widened by weights 0 for the new channels, and keeps its bias: at first y changes nothing, to the
bit. ∅ of the picture is the picture 0, in training and in sampling.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.config import UNetConfig
from ddpm.contracts import Eps, partial_of, technique
from ddpm.networks.inspect import param_shapes
from ddpm.networks.numbers import widened
from ddpm.tools.conditions import Condition
from ddpm.tools.partials import known_parts


def with_image(config: Any, params: dict) -> tuple[Any, dict]:
    """Widen the first layer of a network for a picture like x_t: its configuration and parameters, equal at first."""
    if config.extra_channels:
        raise ValueError(f"the network already has {config.extra_channels} extra channels; give one without")
    wide: UNetConfig = dataclasses.replace(config, extra_channels=config.image_channels)
    return wide, widened(params, param_shapes(wide), config)


@technique(net=partial_of)
def seeing(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps) -> jax.Array:
    """net([x_t, y], t, c) with y = c.image, 0 where it is None;  c: a `Condition`, or None"""
    c = Condition() if c is None else c
    if not isinstance(c, Condition):
        raise TypeError(f"c is of type {type(c).__name__}; a network that sees a picture wants Condition(image=y)")
    y = jnp.zeros_like(x_t) if c.image is None else jnp.asarray(c.image, x_t.dtype)
    if y.shape != x_t.shape:
        raise ValueError(f"c.image has shape {y.shape}; give a picture for each of x_t, {x_t.shape}")
    return net(jnp.concatenate([x_t, y], axis=-1), t, c._replace(image=None))


seeing.__wrapped__.conditions = lambda *, net: ("image", *(known_parts(net) or ()))  # type: ignore[attr-defined]
