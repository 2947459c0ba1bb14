"""Which operator lowers the ratio: every convolution, norm, activation and attention of the network, both sides.

The layers and how often each occurs are read off the peer's network as it runs; each distinct one is then timed alone
(forward, gradient with respect to the input, gradient with respect to the kernel), the two sides in turns. A row of the
table is the sum over the network. Alone, an operator cannot be fused with its neighbours, which XLA does in the step:
its norms and activations cost less there than here.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.tools.ops import _conv, conv, group_norm
from experiments.lab.speed import peers
from experiments.lab.speed.parts import rounds_of

Layer = tuple[Any, ...]
Pair = tuple[Callable[[], Any], Callable[[], Any]]


def layers(unet: UNetConfig, batch: int) -> Counter[Layer]:
    """How many of each: ("conv", size, in, out, k, stride), ("norm", size, channels, groups), ("attention", n, C)."""
    import torch

    model, found = peers.diffusers_unet(unet), Counter[Layer]()

    def note(module: Any, inputs: Any, _: Any) -> None:
        kind = type(module).__name__
        if kind not in ("Conv2d", "GroupNorm", "Attention"):
            return
        x = inputs[0]
        if kind == "Conv2d":
            # diffusers pads by hand before a strided convolution: its input is one larger
            size, stride = x.shape[-1], module.stride[0]
            found["conv", size - size % stride, x.shape[1], module.out_channels, module.kernel_size[0], stride] += 1
        elif kind == "GroupNorm" and x.dim() == 4:
            found["norm", x.shape[-1], x.shape[1], module.num_groups] += 1
        elif kind == "GroupNorm":
            found["norm", int(x.shape[-1] ** 0.5), x.shape[1], module.num_groups] += 1
        elif kind == "Attention":
            found["attention", x.shape[-1] * x.shape[-2], x.shape[1]] += 1

    for module in model.modules():
        module.register_forward_hook(note)
    x = torch.zeros(2, unet.image_channels, unet.image_size, unet.image_size, device=peers.device())
    with torch.no_grad():
        model(x, 0)
    return found


def _run(f: Callable, *args: Any) -> Callable[[], Any]:
    """Compile the function; return a call of it on these arrays that waits for the result."""
    g = jax.jit(f)
    return lambda: jax.block_until_ready(g(*args))


def _torch(f: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        f()
        peers.wait()

    return run


def conv_pairs(B: int, size: int, c_in: int, c_out: int, k: int, stride: int) -> dict[str, Pair]:
    """(ours, PyTorch's) for the three computations of a convolution."""
    import torch

    rng, out = np.random.default_rng(0), size // stride
    x, w = rng.normal(size=(B, size, size, c_in)), rng.normal(size=(k, k, c_in, c_out))
    g = rng.normal(size=(B, out, out, c_out))
    X, W, G = (jnp.asarray(a, jnp.float32) for a in (x, w, g))

    def f(x: jax.Array, w: jax.Array) -> jax.Array:
        return conv(x, w) if stride == 1 else _conv(x, w, stride)

    where, pad = peers.device(), (k - 1) // 2 if stride == 1 else 1
    tx, tw, tg = (
        torch.tensor(a.transpose(p), dtype=torch.float32, device=where).contiguous() for a, p in _turned(x, w, g)
    )

    def back(mask: list[bool]) -> Callable[[], Any]:
        args = (None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)
        return _torch(lambda: torch.ops.aten.convolution_backward(tg, tx, tw, *args))

    return {
        "convolution, forward": (
            _run(f, X, W),
            _torch(lambda: torch.nn.functional.conv2d(tx, tw, stride=stride, padding=pad)),
        ),
        "convolution, gradient of the input": (
            _run(lambda x, w, g: jax.vjp(lambda x: f(x, w), x)[1](g)[0], X, W, G),
            back([True, False, False]),
        ),
        "convolution, gradient of the kernel": (
            _run(lambda x, w, g: jax.vjp(lambda w: f(x, w), w)[1](g)[0], X, W, G),
            back([False, True, False]),
        ),
    }


def _turned(x: Any, w: Any, g: Any) -> list[tuple[Any, tuple[int, ...]]]:
    return [(x, (0, 3, 1, 2)), (w, (3, 2, 0, 1)), (g, (0, 3, 1, 2))]


def _with_gradient(f: Callable, *shapes: tuple[int, ...]) -> Callable[[], Any]:
    arrays = [jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes)]
    return _run(lambda *a: jax.vjp(f, *a)[1](a[0]), *arrays)


def _torch_with_gradient(f: Callable, *shapes: tuple[int, ...]) -> Callable[[], Any]:
    import torch

    arrays = [torch.randn(s, device=peers.device(), requires_grad=True) for s in shapes]
    g = torch.randn(shapes[0], device=peers.device())
    return _torch(lambda: torch.autograd.grad(f(*arrays), arrays, g))


def norm_pairs(B: int, size: int, c: int, groups: int) -> dict[str, Pair]:
    """(ours, PyTorch's): group normalisation, then silu, each forward and backward."""
    import torch

    F, shape, turned = torch.nn.functional, (B, size, size, c), (B, c, size, size)
    return {
        "group norm, with its gradient": (
            _with_gradient(lambda x, s, b: group_norm(x, s, b, groups), shape, (c,), (c,)),
            _torch_with_gradient(lambda x, s, b: F.group_norm(x, groups, s, b, 1e-6), turned, (c,), (c,)),
        ),
        "silu, with its gradient": (
            _with_gradient(jax.nn.silu, shape),
            _torch_with_gradient(F.silu, turned),
        ),
    }


def attention_pairs(B: int, n: int, c: int) -> dict[str, Pair]:
    """(ours, PyTorch's): softmax(q kᵀ/√C) v, forward and backward."""
    import torch

    def ours(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        weights = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", q, k) / c**0.5)
        return jnp.einsum("bqk,bkc->bqc", weights, v)

    def reference(q: Any, k: Any, v: Any) -> Any:
        one_head = (a[:, None] for a in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(*one_head)[:, 0]

    shape = (B, n, c)
    return {
        "attention, with its gradient": (
            _with_gradient(ours, shape, shape, shape),
            _torch_with_gradient(reference, shape, shape, shape),
        )
    }


PAIRS: dict[str, Callable[..., dict[str, Pair]]] = {
    "conv": conv_pairs,
    "norm": norm_pairs,
    "attention": attention_pairs,
}


def table(unet: UNetConfig, batch: int, rounds: int) -> dict[str, Any]:
    """{operator: {ours, peer: ms over the network, ratio, share of the gap}}, and rates of the largest convolutions."""
    total: dict[str, list[float]] = {}
    convs = []
    for layer, times_in_network in sorted(layers(unet, batch).items(), key=str):
        kind, *sizes = layer
        for name, (ours, reference) in PAIRS[kind](batch, *sizes).items():
            seconds = {k: statistics.median(v) for k, v in rounds_of(rounds, {"o": ours, "t": reference}).items()}
            row = total.setdefault(name, [0.0, 0.0])
            row[0] += times_in_network * seconds["o"]
            row[1] += times_in_network * seconds["t"]
            if kind == "conv":
                size, c_in, c_out, k, stride = sizes
                gflop = 2 * batch * (size // stride) ** 2 * k * k * c_in * c_out / 1e9
                convs.append((times_in_network * seconds["o"], name, sizes, gflop / seconds["o"], gflop / seconds["t"]))
    gap = sum(o - t for o, t in total.values())
    rows = {
        name: {
            "ours_ms": round(1e3 * o, 1),
            "peer_ms": round(1e3 * t, 1),
            "ratio": round(t / o, 2),
            "share_of_gap": round((o - t) / gap, 2),
        }
        for name, (o, t) in sorted(total.items(), key=lambda item: item[1][1] - item[1][0])
    }
    largest = [
        {"what": name, "size_in_out_k_stride": sizes, "ours_GFLOPs": round(a), "peer_GFLOPs": round(b)}
        for _, name, sizes, a, b in sorted(convs, key=lambda row: -row[0])[:6]
    ]
    return {"operators": rows, "largest": largest}
