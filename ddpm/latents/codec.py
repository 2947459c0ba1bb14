"""An encoder and a decoder with the scale of the codes between them.

    z = (encode(x0) - mean)/std          the chain runs on z;      x0 ≈ decode(std z + mean)      [Rombach et al. 2022]

`mean` and `std` are one number each, taken over the training images and stored with the codec. Codes of another scale
are another chain: without the division, SNR_t is std² times as large at every t, which moves log SNR by 2 log std.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Partial, partial_of
from ddpm.tools import check
from ddpm.tools.batches import parts
from ddpm.tools.ops import depth_to_space, space_to_depth


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

    def encoded(self, x0: Any, batch: int = 256) -> np.ndarray:
        """z of many images, as a data set: (N, ...) float32"""
        run, x0 = jax.jit(self.to_latent), np.asarray(x0, np.float32)
        return np.concatenate([np.asarray(run(jnp.asarray(x0[i])))[:m] for i, m in parts(len(x0), batch)])


def unit(z: Any) -> Any:
    """Return the codes z of a data set, if their standard deviation is 1 within a tenth; else refuse them.

    A chain on codes without their scale runs, and has another SNR at each t than its schedule says.
    """
    std = float(np.std(np.asarray(z, np.float64)))
    if not abs(std - 1) <= 0.1:
        raise ValueError(
            f"the codes have standard deviation {std:.3g}, which moves log SNR by {2 * np.log(std):+.3g} at every t; "
            f"give codec.to_latent(x0), which divides by the codec's std"
        )
    return z


def rearranged(x0: Any, factor: int) -> Codec:
    """The codec that loses nothing: factor × factor pixels become the channels of one position; 1: pixels themselves.

    It is x0 = U z with an orthogonal U, so a chain on its codes is the chain on pixels, with their scale.
    """
    check.whole("factor", factor, 1)
    if np.shape(x0)[1] % factor or np.shape(x0)[2] % factor:
        raise ValueError(f"factor is {factor}; give a divisor of the image's height and width, {np.shape(x0)[1:3]}")
    return with_scale(*_rearranging(factor), x0)


@lru_cache(maxsize=8)
def _rearranging(factor: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two functions, the same ones for the same factor."""
    return partial(space_to_depth, p=factor), partial(depth_to_space, p=factor)


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
