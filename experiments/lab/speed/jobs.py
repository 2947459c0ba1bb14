"""The jobs of `experiments.lab.speed.turns`: what each process builds, and how far its sides agree.

network      the whole network: ours, in other forms, in ONNX Runtime and in PyTorch
operators    each operator of that network alone, as it occurs in it
level        programs of ours, in a process whose flags are those of one level of optimisation
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig, unet_config
from ddpm.networks import build as build_network
from ddpm.networks.inspect import param_shapes
from ddpm.tools import ops
from experiments.lab.speed import engines, forms, parts
from experiments.lab.speed.engines import Side, drawn

Calls = dict[str, Callable[[], Any]]
OURS, ORT, TORCH, COMPILED = "ours", "ONNX Runtime", "PyTorch", "PyTorch, compiled"
CENTRE = "1x1 in place of 3x3"
EMPTY = "empty call"


def build(job: dict[str, Any]) -> tuple[Calls, Any]:
    """The sides of a job, by name, and what is to be said about them."""
    if not job["torch"]:
        sys.modules["torch"] = None  # type: ignore[assignment]  # as if it were not installed
    elif engines.installed("torch"):
        import torch

        torch.set_num_threads(job["threads"])
    jobs: dict[str, Callable] = {"network": network, "operators": operators, "level": level}
    return jobs[job["do"]](job)


def weights(unet: UNetConfig) -> dict:
    """Parameters that are nowhere zero, so that every layer matters."""
    rng = np.random.default_rng(0)

    def draw(path: Any, a: Any) -> np.ndarray:
        return ((path[-1].key == "scale") + 0.1 * rng.normal(size=a.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, param_shapes(unet))


def error(side: Side, ours: Side) -> float:
    """The largest difference of two sides, as a share of the largest number of ours."""
    a, b = (np.asarray(s.read(s.call()), np.float64) for s in (side, ours))
    return float(np.abs(a - b).max() / np.abs(b).max())


def network(job: dict[str, Any]) -> tuple[Calls, dict[str, float]]:
    """Sides "SIDE, batch B", and the largest error of each side."""
    unet, threads = unet_config(job["preset"]), job["threads"]
    params, sides = weights(unet), dict[str, Callable[[], Any]]()
    errors: dict[str, float] = {}
    # The centre of each kernel: not the same function, but the same network without 8/9 of its convolutions
    centre = forms.with_kernels(params, lambda w: w[1:2, 1:2])
    for B in job["batches"]:
        x = drawn(B, *unet.image_shape)
        t = jnp.full(B, engines.T)
        found: dict[str, Side | None] = {
            OURS: engines.xla(forms.apply_of(unet), params, x, t),
            ORT: engines.onnx_network(unet, params, x, threads),
            TORCH: engines.torch_network(unet, params, x),
            COMPILED: engines.torch_network(unet, params, x, True) if B in job["compiled"] else None,
        }
        for name in job["forms"]:
            held = forms.PARAMS.get(name, lambda params: params)(params)
            found[name] = engines.xla(forms.apply_of(unet, **forms.IN_A_NETWORK[name]), held, x, t)
        present = {name: side for name, side in found.items() if side is not None}
        for name, side in present.items():
            errors[name] = max(errors.get(name, 0.0), error(side, present[OURS]))
        present[f"{OURS}, {CENTRE}"] = engines.xla(forms.apply_of(unet), centre, x, t)
        present[f"{ORT}, {CENTRE}"] = engines.onnx_network(unet, centre, x, threads)
        sides |= {f"{name}, batch {B}": side.call for name, side in present.items()}
    return sides, errors


# --- operators --------------------------------------------------------------------------------------------------------

CONV3, CONV1, NORM, ATTENTION, UP = (
    *("3x3 convolutions", "1x1 convolutions", "group norms with SiLU", "attention without its norm"),
    "doubling the image, with its convolution",
)


def operators(job: dict[str, Any]) -> tuple[Calls, dict[str, Any]]:
    """Sides of every layer, what each stands for (operator, form, batch, how often it occurs), and the errors.

    A call costs something by itself, which the layers of a whole network do not pay: that of `EMPTY` is told apart.
    """
    unet, errors = unet_config(job["preset"]), dict[str, float]()
    tiny = drawn(1, 1, 1, 1)
    found: dict[str, Side | None] = {
        OURS: engines.xla(jnp.negative, tiny),
        ORT: engines.onnx_layer(unet, {}, tiny, lambda g, x: g.add("Neg", x), job["threads"]),
        TORCH: engines.torch_layer(lambda F, x: -x, tiny),
    }
    sides = {f"{EMPTY}, {name}": side.call for name, side in found.items() if side is not None}
    meaning: dict[str, tuple[str, str, int, int]] = {}
    for B in job["batches"]:
        for layer, times in sorted(forms.census(unet).items(), key=str):
            if layer[0] not in job["kinds"]:
                continue
            operator, found = LAYERS[layer[0]](unet, B, job["threads"], *layer[1:])
            present = {form: side for form, side in found.items() if side is not None}
            for form, side in present.items():
                sides[name := f"{operator}, {form}, batch {B}, {layer}"] = side.call
                meaning[name] = (operator, form, B, times)
                key = f"{operator}, {form}"
                errors[key] = max(errors.get(key, 0.0), error(side, present[OURS]))
    return sides, {"meaning": meaning, "errors": errors}


def _convolution(
    unet: UNetConfig, B: int, threads: int, size: int, c_in: int, c_out: int, k: int
) -> tuple[str, dict[str, Side | None]]:
    x, w = drawn(B, size, size, c_in), drawn(k, k, c_in, c_out, seed=1)
    held = {"at/kernel": w, "at/bias": np.zeros(c_out, np.float32)}
    found = {
        OURS: engines.xla(ops.conv, x, w),
        ORT: engines.onnx_layer(unet, held, x, lambda g, x: g.conv(x, "at"), threads),
        TORCH: engines.torch_layer(lambda F, x, w: F.conv2d(x, w, padding=k // 2), x, w.transpose(3, 2, 0, 1)),
    }
    if k == 1:
        return CONV1, found | {"one product": engines.xla(forms.product_1x1, x, w)}
    return CONV3, found | {
        "im2col": engines.xla(forms.im2col, x, w),
        "nine products": engines.xla(forms.nine_products, x, w),
        "Winograd": engines.xla(forms.winograd, x, forms.winograd_kernel(jnp.asarray(w))),
    }


def _norm(unet: UNetConfig, B: int, threads: int, size: int, C: int) -> tuple[str, dict[str, Side | None]]:
    x, scale, bias = drawn(B, size, size, C), 1 + 0.1 * drawn(C), 0.1 * drawn(C, seed=1)
    held = {"at/scale": scale, "at/bias": bias}

    def with_silu(norm: Callable) -> Side:
        return engines.xla(lambda *a: jax.nn.silu(norm(*a, unet.groups, unet.norm_eps)), x, scale, bias)

    def reference(F: Any, x: Any, scale: Any, bias: Any) -> Any:
        return F.silu(F.group_norm(x, unet.groups, scale, bias, unet.norm_eps))

    return NORM, {
        OURS: with_silu(ops.group_norm),
        "folded": with_silu(forms.norm_folded),
        "one pass": with_silu(forms.norm_two_sums),
        ORT: engines.onnx_layer(unet, held, x, lambda g, x: g.silu(g.group_norm(x, "at")), threads),
        TORCH: engines.torch_layer(reference, x, scale, bias),
    }


def _attention(unet: UNetConfig, B: int, threads: int, size: int, C: int) -> tuple[str, dict[str, Side | None]]:
    x = drawn(B, size, size, C)
    parts_of = [(drawn(C, C, seed=i) / C**0.5, 0.1 * drawn(C, seed=i + 4)) for i in range(4)]
    held: dict[str, np.ndarray] = {}
    for name, (kernel, bias) in zip(("to_q", "to_k", "to_v", "to_out/0"), parts_of, strict=True):
        held |= {f"at/{name}/kernel": kernel, f"at/{name}/bias": bias}

    def ours(f: Callable) -> Side:
        return engines.xla(lambda x, *p: x + f(*p, x.reshape(B, -1, C)).reshape(x.shape), x, *parts_of)

    def reference(F: Any, x: Any, *flat: Any) -> Any:
        q, k, v = (F.linear(x.flatten(2).mT, flat[i], flat[i + 1])[:, None] for i in (0, 2, 4))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + F.linear(h, flat[6], flat[7]).mT.unflatten(2, x.shape[2:])

    flat = [a for kernel, bias in parts_of for a in (kernel.T, bias)]
    return ATTENTION, {
        OURS: ours(forms.attention_block),
        "q, k, v in one product": ours(forms.attention_one_product),
        ORT: engines.onnx_layer(unet, held, x, lambda g, x: g.attention(x, "at"), threads),
        TORCH: engines.torch_layer(reference, x, *flat),
    }


def _up(unet: UNetConfig, B: int, threads: int, size: int, C: int) -> tuple[str, dict[str, Side | None]]:
    x, w = drawn(B, size, size, C), drawn(3, 3, C, C, seed=1)
    held = {"at/kernel": w, "at/bias": np.zeros(C, np.float32)}

    def write(g: Any, x: str) -> str:
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return g.conv(g.add("Resize", x, "", np.array([1, 1, 2, 2], np.float32), **how), "at")

    def reference(F: Any, x: Any, w: Any) -> Any:
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, padding=1)

    return UP, {
        OURS: engines.xla(ops.conv_doubled, x, w),
        "one 3x3 of the doubled image": engines.xla(ops.conv_of_doubled, x, w),
        ORT: engines.onnx_layer(unet, held, x, write, threads),
        TORCH: engines.torch_layer(reference, x, w.transpose(3, 2, 0, 1)),
    }


Maker = Callable[..., tuple[str, dict[str, Side | None]]]
LAYERS: dict[str, Maker] = {"conv": _convolution, "norm": _norm, "attention": _attention, "up": _up}


# --- levels of optimisation -------------------------------------------------------------------------------------------


def level(job: dict[str, Any]) -> tuple[Calls, dict[str, float]]:
    """The forward pass, a training step, SiLU and a norm with their gradients; and the seconds that each compiled."""
    unet = unet_config(job["preset"])
    apply, params, B = build_network(unet)[1], weights(unet), job["step"]
    sides: Calls = {}
    seconds: dict[str, float] = {}
    shape = (B, unet.map_sizes[0], unet.map_sizes[0], unet.channels)
    x, scale, bias = drawn(*shape), 1 + 0.1 * drawn(unet.channels), 0.1 * drawn(unet.channels)

    def norm(x: jax.Array, s: jax.Array, b: jax.Array) -> jax.Array:
        return ops.group_norm(x, s, b, unet.groups)

    def gradient(f: Callable, *args: np.ndarray) -> Callable[[], Side]:
        return lambda: engines.xla(lambda *a: jax.vjp(f, *a)[1](a[0]), *args)

    def forward(B: int) -> Callable[[], Side]:
        return lambda: engines.xla(apply, params, drawn(B, *unet.image_shape), jnp.full(B, engines.T))

    makers: dict[str, Callable[[], Side]] = {f"forward pass, batch {n}": forward(n) for n in job["batches"]}
    makers[f"SiLU with its gradient, batch {B}"] = gradient(jax.nn.silu, x)
    makers[f"group norm with its gradient, batch {B}"] = gradient(norm, x, scale, bias)
    if job["training"]:
        makers[f"training step, batch {B}"] = lambda: Side(parts.our_step(unet, B)[0])
    for name, make in makers.items():
        start = time.process_time()
        sides[name] = make().call
        sides[name]()
        seconds[name] = time.process_time() - start
    return sides, seconds
