"""Networks that are told one more number of each image: how far to jump, or a guidance scale.

The number h in [0, 1] enters as four further channels of the input, (h, sin πh, sin 2πh, sin 4πh), each constant over
the image. All are 0 at h = 0, so the network is then that without a number; and a trained network is widened to one
with a number by weights that are 0. Both kinds of networks, U-Net and transformer, take such channels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ddpm.config import UNetConfig
from ddpm.contracts import Eps, partial_of, technique

CHANNELS = 4


def with_number(x: jax.Array, h: jax.Array) -> jax.Array:
    """x ⊕ (h, sin πh, sin 2πh, sin 4πh): (B, H, W, C), (B,) -> (B, H, W, C+4)"""
    waves = jnp.stack([h, *(jnp.sin(k * jnp.pi * h) for k in (1, 2, 4))], axis=-1)
    flat = jnp.broadcast_to(waves[:, None, None, :], (*x.shape[:-1], CHANNELS))
    return jnp.concatenate([x, flat.astype(x.dtype)], axis=-1)


@technique(net=partial_of)
def numbered(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps) -> jax.Array:
    """net(x_t ⊕ channels of h, t, label) for c = (label, h), h: (B,)"""
    label, h = c
    return net(with_number(x_t, h), t, label)


@technique(eps=partial_of)
def at_number(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, eps: Eps, h: Any) -> jax.Array:
    """ε(x_t, t, (c, h)) with one h for all images: a denoiser of (x_t, t, c) again."""
    return eps(x_t, t, (c, jnp.full(x_t.shape[0], h, x_t.dtype)))


@technique(net=partial_of)
def slowed(x_t: jax.Array, t: jax.Array, c: Any = None, /, *, net: Eps, factor: Any) -> jax.Array:
    """net(x_t, factor·t, c): for losses with a derivative by the time, which the sinusoids of t = 0…T make steep."""
    return net(x_t, factor * t, c)


def told_net(net: Eps, slow: float = 0.0) -> Eps:
    """Return a network (x_t, t, (c, h)) of one whose input has the channels; `slow`, if not 0, multiplies its t."""
    return numbered(slowed(net, slow) if slow else net)


def with_channels(unet: UNetConfig) -> UNetConfig:
    """Return the configuration of the network that is told a number."""
    return dataclasses.replace(unet, extra_channels=CHANNELS)


def without_channels(unet: UNetConfig) -> UNetConfig:
    """Return the configuration of the network without the number."""
    return dataclasses.replace(unet, extra_channels=0)


def widened(params: Any, like: Any, unet: UNetConfig) -> Any:
    """Give the first layer of `params` further input channels with weights 0, to the shapes of `like`.

    unet: the configuration without the channels. Its patches become (patch², C) channels, of which C grows.
    """
    p, C = unet.patch**2, unet.image_channels

    def grown(old: jax.Array, new: Any) -> jax.Array:
        if old.shape == new.shape:
            return old
        *window, _, out = old.shape  # (…, patch²·C, out)
        more = new.shape[-2] // p - C
        pad = [(0, 0)] * (len(window) + 1) + [(0, more), (0, 0)]
        return jnp.pad(old.reshape(*window, p, C, out), pad).reshape(new.shape)

    return jax.tree.map(grown, params, like)
