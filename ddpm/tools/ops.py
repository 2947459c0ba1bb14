"""Compute the operations of the U-Net: convolution, group norm, time embedding, attention.   [Ho et al. 2020]

These are pure functions of arrays, written for operations that XLA compiles well on a CPU. The Flax modules with their
parameters are in `ddpm.tools.layers` and `ddpm.network`; their attributes are named as in diffusers' `UNet2DModel`, so
released weights load by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# --- operations -------------------------------------------------------------------------------------------------------


def _conv(x: jax.Array, w: jax.Array, stride: int = 1, padding: Any = "SAME") -> jax.Array:
    return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve with stride 1, same padding, odd kernel: x (B, H, W, I), w (k, k, I, O) -> (B, H, W, O).

    The gradients are written as ordinary NHWC convolutions. XLA's CPU compiler has a fast path for that layout only,
    and does not rewrite other layouts inside `lax.scan`: the automatic gradient is about 40 times slower there.
    A primitive states these gradients once for reverse mode, forward mode and all higher orders.
    """
    return _conv_p.bind(x, w, depth=0)


def _kernel_gradient(x: jax.Array, g: jax.Array, k: int) -> jax.Array:
    """Σ over images and pixels of (patches of x) times g: x (B, H, W, I), g (B, H, W, O) -> (k, k, I, O)."""
    same = (k // 2, k // 2)
    # The batch axis takes the role of the channels.
    return _conv(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), padding=(same, same)).transpose(1, 2, 0, 3)


def _turned(w: jax.Array) -> jax.Array:
    """The kernel that carries a gradient back: w(-a, -b) with inputs and outputs exchanged."""
    return jnp.flip(w, (-4, -3)).swapaxes(-2, -1)


def _bilinear(name: str, f: Callable[..., jax.Array]) -> Primitive:
    """Make a primitive of f(a, b, **sizes), linear in a and in b; `depth` counts the axes of `vmap` in front."""
    primitive = Primitive(name)

    def mapped(a: jax.Array, b: jax.Array, depth: int, **sizes: Any) -> jax.Array:
        g = partial(f, **sizes)
        for _ in range(depth):
            g = jax.vmap(g)
        return g(a, b)

    def abstract(a: Any, b: Any, **sizes: Any) -> Any:
        out = jax.eval_shape(partial(mapped, **sizes), a, b)
        return jax.core.ShapedArray(out.shape, out.dtype)

    def batch(args: Any, axes: Any, depth: int, **sizes: Any) -> tuple[jax.Array, int]:
        n = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
        a, b = (
            jnp.broadcast_to(a, (n, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
            for a, axis in zip(args, axes, strict=True)
        )
        if primitive is _conv_p and depth == 0 and axes[1] is None:  # one kernel: more images
            out = primitive.bind(a.reshape(-1, *a.shape[2:]), args[1], depth=0)
            return out.reshape(*a.shape[:2], *out.shape[1:]), 0
        return primitive.bind(a, b, depth=depth + 1, **sizes), 0

    primitive.def_impl(jax.jit(mapped, static_argnames=("depth", "k")))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(mapped, multiple_results=False))
    batching.primitive_batchers[primitive] = batch
    return primitive


# <g, conv(x, w)> is linear in x, w and g, so the two operations are each other's gradients.
_conv_p = _bilinear("conv", _conv)
_kernel_gradient_p = _bilinear("conv_kernel_gradient", _kernel_gradient)
ad.defbilinear(
    _conv_p,
    lambda g, x, w, depth: _conv_p.bind(g, _turned(w), depth=depth),
    lambda g, x, w, depth: _kernel_gradient_p.bind(x, g, depth=depth, k=w.aval.shape[depth]),
)
ad.defbilinear(
    _kernel_gradient_p,
    lambda w, x, g, depth, k: _conv_p.bind(g, _turned(w), depth=depth),
    lambda w, x, g, depth, k: _conv_p.bind(x, w, depth=depth),
)


def doubled(x: jax.Array) -> jax.Array:
    """Each pixel four times: (B, H, W, C) -> (B, 2H, 2W, C)."""
    B, H, W, C = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


@jax.custom_jvp
def conv_doubled(x: jax.Array, w: jax.Array) -> jax.Array:
    """conv(doubled(x), w): x (B, H, W, I), w (k, k, I, O) -> (B, 2H, 2W, O).

    On a CPU a 3x3 kernel becomes four 2x2 convolutions of x: 16 products for 36. Where derivatives are taken it is
    computed as it is written, so a training step stays the same to the bit; the gradients of the four are slower.
    """
    if w.shape[:2] != (3, 3) or x.dtype.itemsize < 4:  # sums of weights would round in half precision
        return conv_of_doubled(x, w)
    return jax.lax.platform_dependent(x, w, cpu=_four_small, default=conv_of_doubled)


def conv_of_doubled(x: jax.Array, w: jax.Array) -> jax.Array:
    """conv(doubled(x), w), one convolution of the large image."""
    return conv(doubled(x), w)


@conv_doubled.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return jax.jvp(conv_of_doubled, primals, tangents)


def _four_small(x: jax.Array, w: jax.Array) -> jax.Array:
    """conv(doubled(x), w) of a 3x3 kernel, by four 2x2 convolutions of x.

    The three rows of w meet two rows of x: for even rows of the result {0} and {1, 2}, for odd ones {0, 1} and {2};
    columns likewise.
    """

    def merged(z: Any, odd: int) -> tuple[jax.Array, jax.Array]:
        return (z[0] + z[1], z[2]) if odd else (z[0], z[1] + z[2])

    def part(odd_row: int, odd_column: int) -> jax.Array:
        kernel = jnp.stack([jnp.stack(merged(row, odd_column)) for row in merged(w, odd_row)])
        return _conv(x, kernel, 1, ((1 - odd_row, odd_row), (1 - odd_column, odd_column)))

    B, H, W, _ = x.shape
    y = jnp.stack([jnp.stack([part(a, b) for b in (0, 1)], 3) for a in (0, 1)], 2)  # (B, H, 2, W, 2, O)
    return y.reshape(B, 2 * H, 2 * W, w.shape[-1])


def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float = 1e-6) -> jax.Array:
    """(x - mean) / √(var + ε) over each group of channels and all pixels, then scale and bias.   [Wu and He 2018]

    x: (B, H, W, C). Statistics take two passes in float32 (E[x²] - E[x]² loses all digits at a large mean). Pixels are
    summed per channel first, which on a CPU is about seven times faster than one reduction over a group.
    """
    B, H, W, C = x.shape
    n = H * W * C // groups

    def group_mean(a: jax.Array) -> jax.Array:  # (B, H, W, C) -> (B, 1, 1, C), equal within a group
        per_channel = a.sum((1, 2))
        per_group = per_channel.reshape(B, groups, C // groups).sum(2, keepdims=True) / n
        return jnp.broadcast_to(per_group, (B, groups, C // groups)).reshape(B, 1, 1, C)

    x32 = x.astype(jnp.float32)
    centred = x32 - group_mean(x32)
    inv_std = jax.lax.rsqrt(group_mean(centred * centred) + epsilon)
    return (centred * (inv_std * scale.reshape(1, 1, 1, C)) + bias.reshape(1, 1, 1, C)).astype(x.dtype)


def time_embedding(t: jax.Array, dim: int, shift: int = 1) -> jax.Array:
    """[sin(t ω_i), cos(t ω_i)], ω_i = 10000^(-i/(dim/2 - shift)), i = 0…dim/2-1: (B,) -> (B, dim) float32.

    Shift 1 follows Ho et al.'s code. It is always float32: bfloat16 merges a thousand times into about five hundred.
    """
    half = dim // 2
    omega = jnp.exp(-math.log(10_000) / (half - shift) * jnp.arange(half, dtype=jnp.float32))
    angle = t.astype(jnp.float32)[:, None] * omega[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


def space_to_depth(x: jax.Array, p: int) -> jax.Array:
    """(B, H, W, C) -> (B, H/p, W/p, p·p·C): each p × p block of pixels becomes the channels of one position."""
    B, H, W, C = x.shape
    return x.reshape(B, H // p, p, W // p, p, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, H // p, W // p, p * p * C)


def depth_to_space(x: jax.Array, p: int) -> jax.Array:
    """Invert `space_to_depth`."""
    B, H, W, C = x.shape
    return x.reshape(B, H, W, p, p, C // p**2).transpose(0, 1, 3, 2, 4, 5).reshape(B, H * p, W * p, C // p**2)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, heads: int = 1) -> jax.Array:
    """softmax(q kᵀ/√C) v: q (B, N, C), k and v (B, M, C) -> (B, N, C); the softmax in float32.

    With several heads each does so on its own part of the channels, C/heads of them, which is then the C of √C.

    Keys and values may come from another sequence (M ≠ N), as in cross-attention. Where possible this uses cuDNN's
    fused kernel, which never stores the (N, M) table.
    """
    if heads > 1:
        shape = q.shape
        q, k, v = (jnp.moveaxis(a.reshape(*a.shape[:2], heads, -1), 2, 0) for a in (q, k, v))  # (heads, B, N, C/heads)
        return jnp.moveaxis(jax.vmap(attend)(q, k, v), 0, 2).reshape(shape)
    if fused_attention(q.shape[-1], q.dtype):
        one = (a[:, :, None] for a in (q, k, v))  # one head: (B, N, 1, C)
        return jax.nn.dot_product_attention(*one, implementation="cudnn")[:, :, 0]
    logits = jnp.einsum("bqc,bkc->bqk", q, k).astype(jnp.float32) / math.sqrt(q.shape[-1])
    return jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(logits).astype(v.dtype), v)


def fused_attention(channels: int, dtype: Any) -> bool:
    """True if cuDNN supports attention with this width and type.

    It needs an NVIDIA GPU, bfloat16, and C a multiple of 8 up to 128, or up to 256 from Hopper on.
    """
    if dtype != jnp.bfloat16 or jax.default_backend() != "gpu" or channels % 8:
        return False
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))  # "9.0"; on AMD something like "gfx90a"
    major = int(capability.split(".")[0]) if capability.split(".")[0].isdigit() else 0
    return major >= 8 and channels <= (256 if major >= 9 else 128)
