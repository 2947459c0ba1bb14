"""An encoder and a decoder with the scale of the codes between them.

    z = (encode(x0) - mean)/std          the chain runs on z;      x0 ≈ decode(std z + mean)      [Rombach et al. 2022]

`mean` and `std` are one number each, taken over the training images and stored with the codec. Codes of another scale
are another chain: without the division, SNR_t is std² times as large at every t, which moves log SNR by 2 log std.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial, partial_of
from ddpm.tools import check
from ddpm.tools.batches import parts


class Codec(NamedTuple):
    """`encode`, `decode`, and the mean and standard deviation of the codes; made by `with_scale`. A pytree."""

    encode: Partial  # x0 (B, ...) -> codes (B, ...)
    decode: Partial  # codes -> x0
    mean: Any  # one number
    std: Any  # one number, > 0

    def to_latent(self, x0: jax.Array) -> jax.Array:
        """z = (encode(x0) - mean)/std"""
        return (self.encode(x0) - self.mean) / self.std

    def to_image(self, z: jax.Array) -> jax.Array:
        """decode(std z + mean)"""
        return self.decode(self.std * z + self.mean)


def with_scale(encode: Callable[..., Any], decode: Callable[..., Any], x0: Any, batch: int = 256) -> Codec:
    """Join an encoder and a decoder, with the mean and standard deviation of their codes over the training images.

    x0: (N, ...) floats. Mean and variance are those of all codes and all their numbers together, not of a first batch.
    """
    encode, decode, x0 = partial_of(encode), partial_of(decode), np.asarray(x0)
    one = jnp.asarray(x0[:1])
    code = jax.eval_shape(encode, one)
    try:
        back = jax.eval_shape(decode, code).shape
    except (TypeError, ValueError) as e:
        raise ValueError(f"the decoder does not take codes of shape {code.shape}: {e}") from None
    if back != one.shape:
        raise ValueError(f"the decoder makes {back} of codes {code.shape}; give the one that fits images {one.shape}")
    first = second = 0.0
    run = jax.jit(encode)
    for ids, m in parts(len(x0), batch):
        z = np.asarray(run(jnp.asarray(x0[ids])), np.float64)[:m]
        first, second = first + z.sum(), second + (z * z).sum()
    n = len(x0) * np.prod(code.shape[1:])
    std = float(np.sqrt(max(second / n - (first / n) ** 2, 0)))
    if not std > 1e-6 * max(1.0, abs(first / n)):
        raise ValueError(f"the codes have standard deviation {std:.3g}; the encoder gives the same code to all images")
    return Codec(encode, decode, float(first / n), float(check.number("std", std)))
