"""Define layers with parameters: linear map, convolution, group norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm.tools.ops import _conv, conv, group_norm

# Ho et al. initialise every weight uniformly with variance 1/fan_avg, and the last layer of each block near zero.
init_uniform = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform")
init_zero = nnx.initializers.variance_scaling(1e-10, "fan_avg", "uniform")


class Linear(nnx.Module):
    def __init__(
        self, d_in: int, d_out: int, *, rngs: nnx.Rngs, init: Callable = init_uniform, dtype: Any = jnp.float32
    ):
        self.kernel = nnx.Param(init(rngs.params(), (d_in, d_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(d_out))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(self.dtype) @ self.kernel[...].astype(self.dtype)
        return y + self.bias[...].astype(self.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class Conv(nnx.Module):
    def __init__(
        self,
        c_in: int,
        c_out: int,
        k: int = 3,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
        init: Callable = init_uniform,
        dtype: Any,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (k, k, c_in, c_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(c_out))
        self.stride, self.dtype = stride, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, w = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        # TensorFlow's SAME: with stride 2 on an even size it pads right and bottom only, as released weights expect.
        y = conv(x, w) if self.stride == 1 else _conv(x, w, self.stride)
        return y + self.bias[...].astype(self.dtype).reshape(1, 1, 1, -1)


class GroupNorm(nnx.Module):
    def __init__(self, channels: int, groups: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.groups = groups

    def __call__(self, x: jax.Array) -> jax.Array:
        return group_norm(x, self.scale[...], self.bias[...], self.groups)
