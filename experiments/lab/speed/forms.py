"""Operators of the U-Net in other forms: each gives the numbers of ours, and XLA makes another program of it.

`swapped(conv=im2col)` puts a form in the place of ours while a network is traced; `census` lists the layers that a
network has. Images are (B, H, W, C), kernels (k, k, I, O), as in `ddpm.tools.ops`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ddpm import network
from ddpm.config import UNetConfig
from ddpm.networks.inspect import param_shapes
from ddpm.tools import layers, ops

OURS: dict[str, tuple[Any, str]] = {  # where each operator of the network is looked up
    "conv": (layers, "conv"),
    "group_norm": (layers, "group_norm"),
    "attention": (network.Attention, "__call__"),
    "conv_doubled": (layers, "conv_doubled"),
}
Layer = tuple[Any, ...]


@contextlib.contextmanager
def swapped(**forms: Callable) -> Iterator[None]:
    """Put these forms in the places of our operators, for what is traced inside."""
    before = {name: getattr(*OURS[name]) for name in forms}
    try:
        for name, form in forms.items():
            setattr(*OURS[name], form)
        yield
    finally:
        for name, f in before.items():
            setattr(*OURS[name], f)


def apply_of(unet: UNetConfig, **forms: Callable) -> Callable:
    """The network (params, x_t, t) -> ε̂ with these forms; nothing of what was traced with others is used again."""
    apply = network.build.__wrapped__(unet)[1]

    def with_forms(params: dict, x: jax.Array, t: jax.Array) -> jax.Array:
        with swapped(**forms):
            return apply(params, x, t)

    return with_forms


def census(unet: UNetConfig) -> Counter[Layer]:
    """How many ("conv", size, I, O, k) of stride 1, ("norm", size, C), ("attention", size, C) and ("up", size, C).

    Norms are those before a SiLU, that is all but those of attention; the convolution of a doubled image is an "up".
    """
    found: Counter[Layer] = Counter()

    def conv(x: jax.Array, w: jax.Array) -> jax.Array:
        found["conv", x.shape[1], *w.shape[2:], w.shape[0]] += 1
        return ops.conv(x, w)

    def norm(x: jax.Array, *rest: Any) -> jax.Array:
        found["norm", x.shape[1], x.shape[-1]] += 1
        return x

    def attention(self: Any, x: jax.Array) -> jax.Array:
        found["attention", x.shape[1], x.shape[-1]] += 1
        return x

    def up(x: jax.Array, w: jax.Array) -> jax.Array:
        found["up", x.shape[1], x.shape[-1]] += 1
        return ops.conv_doubled(x, w)

    apply = apply_of(unet, conv=conv, group_norm=norm, attention=attention, conv_doubled=up)
    x = jax.ShapeDtypeStruct((1, *unet.image_shape), jnp.float32)
    jax.eval_shape(apply, param_shapes(unet), x, jax.ShapeDtypeStruct((1,), jnp.int32))
    return found


# --- convolution ------------------------------------------------------------------------------------------------------


def shifted(x: jax.Array, k: int) -> list[jax.Array]:
    """The k² copies of x that a kernel of that size meets, zeros outside: each (B, H, W, I)."""
    H, W = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    return [padded[:, a : a + H, b : b + W] for a in range(k) for b in range(k)]


def im2col(x: jax.Array, w: jax.Array) -> jax.Array:
    """One product: the k² copies side by side, (B·H·W, k²·I), times the kernel, (k²·I, O)."""
    patches = jnp.concatenate(shifted(x, len(w)), -1)
    return (patches.reshape(-1, patches.shape[-1]) @ w.reshape(-1, w.shape[-1])).reshape(*x.shape[:3], -1)


def nine_products(x: jax.Array, w: jax.Array) -> jax.Array:
    """k² products, one for each place of the kernel, added up."""
    taps = w.reshape(-1, *w.shape[2:])
    products = [(a.reshape(-1, x.shape[-1]) @ b) for a, b in zip(shifted(x, len(w)), taps, strict=True)]
    return sum(products[1:], products[0]).reshape(*x.shape[:3], -1)


def winograd_kernel(w: jax.Array) -> jax.Array:
    """G w Gᵀ of a 3x3 kernel, (16, I, O): needed once for a network."""
    G = jnp.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], jnp.float32)
    return jnp.einsum("ia,jb,abcd->ijcd", G, G, w).reshape(16, *w.shape[2:])


def winograd(x: jax.Array, U: jax.Array) -> jax.Array:
    """Aᵀ [U ⊙ (Bᵀ d B)] A with U of `winograd_kernel`: 16 products for 2x2 pixels, not 36.   [Lavin and Gray 2016]"""
    (B, H, W, I), O = x.shape, U.shape[-1]
    h, v = -(-H // 2), -(-W // 2)  # tiles down and across
    padded = jnp.pad(x, ((0, 0), (1, 1 + 2 * h - H), (1, 1 + 2 * v - W), (0, 0)))
    d = [[padded[:, a : a + 2 * h - 1 : 2, b : b + 2 * v - 1 : 2] for b in range(4)] for a in range(4)]
    # The same sums along rows, then along columns
    to_four = lambda z: (z[0] - z[2], z[1] + z[2], z[2] - z[1], z[1] - z[3])  # noqa: E731  Bᵀ z
    to_two = lambda z: (z[0] + z[1] + z[2], z[1] - z[2] - z[3])  # noqa: E731  Aᵀ z
    rows = list(zip(*(to_four([d[a][b] for a in range(4)]) for b in range(4)), strict=True))
    V = jnp.stack([u.reshape(-1, I) for row in rows for u in to_four(row)])
    M = jax.lax.dot_general(V, U, (((2,), (1,)), ((0,), (0,)))).reshape(4, 4, B, h, v, O)
    half = [to_two([M[a, b] for a in range(4)]) for b in range(4)]
    Y = jnp.stack([jnp.stack(to_two([half[b][a] for b in range(4)]), 3) for a in range(2)], 2)
    return Y.reshape(B, 2 * h, 2 * v, O)[:, :H, :W]


def winograd_params(params: dict) -> dict:
    """The parameters of a network with those 3x3 kernels as (4, 4, I, O), for `winograd_or_ours`."""
    return with_kernels(params, lambda w: winograd_kernel(jnp.asarray(w)).reshape(4, 4, *w.shape[2:]))


def with_kernels(params: dict, f: Callable) -> dict:
    """The parameters of a network with f(w) for every 3x3 kernel w that does not change the size"""

    def change(path: Any, a: Any) -> Any:
        resamples = any("samplers" in str(getattr(part, "key", "")) for part in path)
        return f(a) if a.ndim == 4 and len(a) == 3 and not resamples else a

    return jax.tree_util.tree_map_with_path(change, params)


def winograd_or_ours(x: jax.Array, w: jax.Array) -> jax.Array:
    """`winograd` with a kernel of `winograd_params`; ours with any other."""
    return winograd(x, w.reshape(16, *w.shape[2:])) if len(w) == 4 else ops.conv(x, w)


def product_1x1(x: jax.Array, w: jax.Array) -> jax.Array:
    """A 1x1 convolution as one product; any other as ours."""
    return (x.reshape(-1, x.shape[-1]) @ w[0, 0]).reshape(*x.shape[:3], -1) if len(w) == 1 else ops.conv(x, w)


def only_3x3(form: Callable) -> Callable:
    """This form for 3x3 kernels, ours for others."""
    return lambda x, w: form(x, w) if len(w) == 3 else ops.conv(x, w)


# --- norm and attention -----------------------------------------------------------------------------------------------


def _group_mean(a: jax.Array, groups: int, pixels: int) -> jax.Array:
    """Sums of the channels (B, C) -> the mean of each one's group, (B, C)."""
    B, C = a.shape
    mean = a.reshape(B, groups, C // groups).sum(2, keepdims=True) / (pixels * C // groups)
    return jnp.broadcast_to(mean, (B, groups, C // groups)).reshape(B, C)


def _scaled(x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """x · a + b with one a and b for each image and channel"""
    a = jax.lax.rsqrt(var + eps) * scale[None]
    return x * a[:, None, None] + (bias[None] - mean * a)[:, None, None]


def norm_folded(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float = 1e-6) -> jax.Array:
    """Mean, then the mean square around it, as ours; scale and shift in one multiply-add."""
    pixels = x.shape[1] * x.shape[2]
    mean = _group_mean(x.sum((1, 2)), groups, pixels)
    centred = x - mean[:, None, None]
    return _scaled(x, mean, _group_mean((centred * centred).sum((1, 2)), groups, pixels), scale, bias, epsilon)


def norm_two_sums(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float = 1e-6) -> jax.Array:
    """Mean and mean square in one pass, var = E[x²] - E[x]²; scale and shift in one multiply-add."""
    zero, pixels = jnp.float32(0), x.shape[1] * x.shape[2]
    add = lambda a, b: (a[0] + b[0], a[1] + b[1])  # noqa: E731
    one, two = (_group_mean(a, groups, pixels) for a in jax.lax.reduce((x, x * x), (zero, zero), add, (1, 2)))
    return _scaled(x, one, jnp.maximum(two - one * one, 0), scale, bias, epsilon)


def attention_block(q: Any, k: Any, v: Any, out: Any, x: jax.Array, heads: int = 1) -> jax.Array:
    """Attention without its norm and its sum, as ours; q, k, v, out: (kernel, bias), x (B, N, C)"""
    a, b, c = (x @ w + bias[None, None] for w, bias in (q, k, v))
    return ops.attend(a, b, c, heads) @ out[0] + out[1][None, None]


def attention_one_product(q: Any, k: Any, v: Any, out: Any, x: jax.Array, heads: int = 1) -> jax.Array:
    """The same, with q, k and v by one product"""
    w, bias = (jnp.concatenate(parts, -1) for parts in zip(q, k, v, strict=True))
    a, b, c = jnp.split(x @ w + bias[None, None], 3, -1)
    return ops.attend(a, b, c, heads) @ out[0] + out[1][None, None]


def one_product(self: Any, x: jax.Array) -> jax.Array:
    """`Attention` of the network with q, k and v by one product"""
    h = (x if self.group_norm is None else self.group_norm(x)).reshape(len(x), -1, x.shape[-1])
    q, k, v, out = ((a.kernel[...], a.bias[...]) for a in (self.to_q, self.to_k, self.to_v, self.to_out[0]))
    return x + attention_one_product(q, k, v, out, h, self.heads).reshape(x.shape)


IN_A_NETWORK: dict[str, dict[str, Callable]] = {  # the network with other forms of some operators
    "3x3 by im2col": {"conv": only_3x3(im2col)},
    "3x3 by Winograd": {"conv": winograd_or_ours},
    "1x1 as products": {"conv": product_1x1},
    "norm in one pass": {"group_norm": norm_two_sums},
    "norm folded": {"group_norm": norm_folded},
    "one 3x3 of the doubled image": {"conv_doubled": ops.conv_of_doubled},
    "q, k, v in one product": {"attention": one_product},
}
PARAMS: dict[str, Callable[[dict], dict]] = {"3x3 by Winograd": winograd_params}  # what they need of the parameters
