"""One computation as a program of XLA, of ONNX Runtime and of PyTorch, so that they can be timed in turns.

A `Side` is a function without arguments that computes and waits, and one that reads what it has computed as
(B, H, W, C). Where a library is not installed its function returns None.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm.config import UNetConfig
from ddpm.schedule import cosine
from ddpm.tools import files
from ddpm.zoo import diffusers, onnx_graph
from ddpm.zoo.model import Model
from experiments.lab.speed import peers

T = 500  # the time at which every network is evaluated


@dataclass(frozen=True)
class Side:
    """A computation, and its result as an array."""

    call: Callable[[], Any]
    read: Callable[[Any], np.ndarray] = np.asarray


def installed(*packages: str) -> bool:
    """True if all of these packages are there."""
    return all(importlib.util.find_spec(name) is not None for name in packages)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers of this shape."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def first(a: np.ndarray) -> np.ndarray:
    """Channels first, as ONNX and PyTorch have them: (B, H, W, C) -> (B, C, H, W)."""
    return np.ascontiguousarray(a.transpose(0, 3, 1, 2))


def last(a: Any) -> np.ndarray:
    """Channels last again."""
    return np.asarray(a).transpose(0, 2, 3, 1)


def xla(f: Callable, *args: Any) -> Side:
    """A compiled function of JAX on these arrays."""
    arrays, g = jax.tree.map(jax.numpy.asarray, args), jax.jit(f)
    return Side(lambda: jax.block_until_ready(g(*arrays)))


# --- the whole network ------------------------------------------------------------------------------------------------


def onnx_network(unet: UNetConfig, params: dict, x: np.ndarray, threads: int) -> Side:
    """The network in ONNX Runtime, as `ddpm export` writes it."""
    model = Model("network", unet, params, cosine(1000), (), {"schedule": {"name": "cosine", "T": 1000}})
    session = _session(onnx_graph.to_onnx(model), threads)
    feed = {"x_t": x, "t": np.full(len(x), T)}
    return Side(lambda: session.run(None, feed)[0])


def torch_network(unet: UNetConfig, params: dict, x: np.ndarray, compiled: bool = False) -> Side | None:
    """The network in diffusers, eager or under torch.compile; images are unshuffled beforehand."""
    if not installed("torch", "diffusers"):
        return None
    import torch

    model = peers.diffusers_unet(unet).eval()
    flat = {name: np.asarray(a) for name, a in files.flatten(params).items()}
    theirs = {k: diffusers.to_peer(k, a) for k, a in diffusers.reorder_pixels(unet, flat).items()}
    state = {diffusers.peer_name(k): torch.tensor(np.ascontiguousarray(a)) for k, a in theirs.items()}
    model.load_state_dict(state, strict=True)
    F, net = torch.nn.functional, torch.compile(model) if compiled else model
    small, t = F.pixel_unshuffle(torch.tensor(first(x)), unet.patch), torch.full((len(x),), T)

    def call() -> Any:
        with torch.inference_mode():
            return peers.call(net, small, t)

    return Side(call, lambda y: last(F.pixel_shuffle(y, unet.patch)))


def _session(graph: bytes, threads: int) -> Any:
    """A session on this many threads that wait without spinning, so that only work takes processor time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


# --- one layer --------------------------------------------------------------------------------------------------------


def onnx_layer(unet: UNetConfig, params: dict, x: np.ndarray, write: Callable, threads: int) -> Side:
    """One layer in ONNX Runtime: `write(graph, "x")` adds its nodes and returns the name of its result."""
    import onnx

    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx_graph.Graph(params, unet)
    out = write(graph, "x")
    arrays = [onnx.numpy_helper.from_array(a, name) for name, a in graph.arrays.items()]
    body = onnx.helper.make_graph(
        graph.nodes, "layer", [value("x", kind, first(x).shape)], [value(out, kind, ("B", "C", "H", "W"))], arrays
    )
    version = [onnx.helper.make_opsetid("", onnx_graph.OPSET)]
    made = onnx.helper.make_model(body, opset_imports=version, ir_version=onnx_graph.IR)
    session, feed = _session(made.SerializeToString(), threads), {"x": first(x)}
    return Side(lambda: session.run(None, feed)[0], last)


def torch_layer(f: Callable, x: np.ndarray, *arrays: np.ndarray) -> Side | None:
    """One layer in PyTorch, eager: f(torch.nn.functional, x, *arrays), x with channels first."""
    if not installed("torch"):
        return None
    import torch

    tensors = [torch.tensor(np.ascontiguousarray(a)) for a in (first(x), *arrays)]

    def call() -> Any:
        with torch.inference_mode():
            return f(torch.nn.functional, *tensors)

    return Side(call, last)
