"""Define layers with parameters: linear map, convolution, group norm; and how their arrays are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm.tools.ops import _conv, conv, conv_doubled, group_norm

# Ho et al. initialise every weight uniformly with variance 1/fan_avg, and the last layer of each block near zero.
init_uniform = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform")
init_zero = nnx.initializers.variance_scaling(1e-10, "fan_avg", "uniform")


def in_a_program(args: Any) -> bool:
    """True if these are arguments of a function that JAX traces, such as one under jit."""
    return any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(args))


def runs_once(f: Callable) -> Callable:
    """Compile `f` with little optimisation, for what runs once, such as drawing the first parameters.

    The preset `nano` is initialised after 8 s of compilation in place of 38, to the same bits. Inside another jit,
    which compiles in its own way, `f` is called as it is.
    """
    compiled = jax.jit(f, compiler_options={"xla_backend_optimization_level": 1})

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        return (f if in_a_program(args) else compiled)(*args)

    return call


def traced_once(f: Callable) -> Callable:
    """Trace `f` once for arguments of these shapes, however often a program calls it, as guidance does twice.

    XLA inlines the calls again, so the computation stays the same. Outside a program, and where the dict `seen`,
    the last argument of `f`, is to be filled, `f` is called as it is.
    """
    jitted = jax.jit(f)

    @functools.wraps(f)
    def call(*args: Any, seen: dict | None = None) -> Any:
        return jitted(*args) if seen is None and in_a_program(args) else f(*args, seen)

    return call


class Draws:
    """The random arrays of a network, drawn together: array i is init_i(fold_in(key, i), shape_i), as in nnx.Rngs.

    A network asks for each of them, `draws(init, shape)`. The first time it gets zeros, which tells what it will want;
    `draws.of(key)` then draws all arrays of one init and shape at once, and hands them out in the same order. One
    draw for each shape compiles in a fifth of the time of one for each array, to the same bits.
    """

    def __init__(self, arrays: list[jax.Array] | None = None) -> None:
        self.requests: list[tuple[Callable, tuple[int, ...]]] = []
        self.arrays = arrays

    def __call__(self, init: Callable, shape: tuple[int, ...]) -> jax.Array:
        self.requests.append((init, shape))
        return jnp.zeros(shape) if self.arrays is None else self.arrays[len(self.requests) - 1]

    def of(self, key: jax.Array) -> Draws:
        """Draw what was asked for, from `key`."""
        alike: dict[tuple[Callable, tuple[int, ...]], list[int]] = {}
        for i, wanted in enumerate(self.requests):
            alike.setdefault(wanted, []).append(i)
        arrays: dict[int, jax.Array] = {}
        for (init, shape), at in alike.items():
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.array(at))
            drawn = jax.vmap(lambda k, init=init, shape=shape: init(k, shape, jnp.float32))(keys)
            arrays |= dict(zip(at, drawn, strict=True))
        return Draws([arrays[i] for i in sorted(arrays)])


class Linear(nnx.Module):
    def __init__(self, d_in: int, d_out: int, *, draws: Draws, init: Callable = init_uniform, dtype: Any = jnp.float32):
        self.kernel = nnx.Param(draws(init, (d_in, d_out)))
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
        draws: Draws,
        init: Callable = init_uniform,
        symmetric: bool = False,
        dtype: Any,
    ):
        self.kernel = nnx.Param(draws(init, (k, k, c_in, c_out)))
        self.bias = nnx.Param(jnp.zeros(c_out))
        self.stride, self.dtype = stride, dtype
        # TensorFlow's SAME: with stride 2 on an even size it pads right and bottom only, as Ho et al.'s weights expect.
        self.padding = ((k // 2, k // 2),) * 2 if symmetric else "SAME"

    def __call__(self, x: jax.Array) -> jax.Array:
        x, w = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        return self.convolved(x, w) + self.bias[...].astype(self.dtype).reshape(1, 1, 1, -1)

    def convolved(self, x: jax.Array, w: jax.Array) -> jax.Array:
        return conv(x, w) if self.stride == 1 else _conv(x, w, self.stride, self.padding)


class DoubledConv(Conv):
    """The convolution of the image with each pixel four times."""

    def convolved(self, x: jax.Array, w: jax.Array) -> jax.Array:
        return conv_doubled(x, w)


class GroupNorm(nnx.Module):
    def __init__(self, channels: int, groups: int, epsilon: float = 1e-6):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.groups, self.epsilon = groups, epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        return group_norm(x, self.scale[...], self.bias[...], self.groups, self.epsilon)


class TimeMLP(nnx.Module):
    """linear(silu(linear(h)))"""

    def __init__(self, channels: int, d_time: int, *, draws: Draws):
        self.linear_1 = Linear(channels, d_time, draws=draws)
        self.linear_2 = Linear(d_time, d_time, draws=draws)

    def __call__(self, h: jax.Array) -> jax.Array:
        return self.linear_2(nnx.silu(self.linear_1(h)))


class Resample(nnx.Module):
    """The last layer of a level: a strided convolution down, or nearest-neighbour doubling and a convolution up."""

    def __init__(self, channels: int, up: bool, symmetric: bool, *, draws: Draws, dtype: Any):
        if up:
            self.conv: Conv = DoubledConv(channels, channels, draws=draws, dtype=dtype)
        else:
            self.conv = Conv(channels, channels, stride=2, symmetric=symmetric, draws=draws, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)
