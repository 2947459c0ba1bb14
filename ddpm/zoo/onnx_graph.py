"""Export a network as an ONNX graph, which onnxruntime and many other programs compute without JAX.

    inputs   x_t (B, H, W, C) float32,  t (B,) int64 in 1…T,  c (B,) int64 if there are classes (num_classes: no class)
    output   named after what the network predicts, eps, x0, v or mu: (B, H, W, C), 2C with a learned variance

B is free. The graph is written layer by layer from the parameters, in the order of `UNet.__call__`; inside it images
are (B, C, H, W). The metadata of the file hold what a sampler needs besides: `alpha_bar` of t = 0…T, `predict`, and the
names of the classes, as JSON. Numbers are float32, whatever the network was trained in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.config import UNetConfig
from ddpm.networks.dit_config import DiTConfig
from ddpm.tools import files
from ddpm.zoo.diffusers import to_peer
from ddpm.zoo.model import Model

OPSET, IR = 17, 8  # read by onnxruntime from 1.12 (2022) on


def save(path: str | Path, model: Model) -> None:
    """Write `model.net` as one .onnx file; it must be new. Needs the package onnx."""
    path = Path(path)
    if path.exists():
        raise ValueError(f"{path} is there already; give --to another file")
    files.write_atomic(path, to_onnx(model))


def to_onnx(model: Model) -> bytes:
    """Return `model.net` as the bytes of an ONNX file."""
    try:
        import onnx
    except ImportError:
        raise ValueError("an export to ONNX needs the package onnx; install it with: pip install onnx") from None
    if model.predict == "gaussian":
        raise ValueError(
            f"{model.name!r} predicts 'gaussian': its network continues a Gaussian, which the graph does not hold; "
            f"export a network that predicts eps, x0, v or mu"
        )
    if model.predict == "edm":
        raise ValueError(
            f"{model.name!r} predicts 'edm': its input is scaled at each time, which the graph does not do"
        )
    if isinstance(model.unet, DiTConfig):
        raise ValueError(f"{model.name!r} is a transformer; only U-Nets are exported to ONNX")
    # Inputs, nodes, output
    H, W, C = model.image_shape
    whole = onnx.TensorProto.INT64
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x_t", onnx.TensorProto.FLOAT, ("B", H, W, C + model.unet.extra_channels))]
    inputs += [value(name, whole, ("B",)) for name in ("t", *(["c"] if model.num_classes else []))]
    graph = Graph({name: np.asarray(a, np.float32) for name, a in files.flatten(model.params).items()}, model.unet)
    out = graph.network("x_t", "t", "c", model.card.get("first_time", 1))
    graph.nodes.append(onnx.helper.make_node("Identity", [out], [model.predict]))
    channels = C * (2 if model.unet.learned_variance else 1)
    output = value(model.predict, onnx.TensorProto.FLOAT, ("B", H, W, channels))
    arrays = [onnx.numpy_helper.from_array(a, name) for name, a in graph.arrays.items()]
    # The file
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "UNet", inputs, [output], arrays),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="ddpm",
    )
    about = {
        "predict": model.predict,
        "classes": json.dumps(model.classes),
        "alpha_bar": json.dumps(np.asarray(model.schedule.alpha_bar, np.float64).tolist()),
    }
    onnx.helper.set_model_props(made, about)
    onnx.checker.check_model(made)
    return made.SerializeToString()


class Graph:
    """The nodes of an ONNX graph; a method adds those of one layer and returns the name of its output."""

    def __init__(self, params: dict[str, np.ndarray], unet: UNetConfig):
        self.params, self.unet = params, unet
        self.nodes: list[Any] = []
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, op: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Add one node; an array among its inputs becomes a constant of the file."""
        from onnx import helper

        names = []
        for value in inputs:
            if isinstance(value, np.ndarray):
                self.arrays[f"a{len(self.arrays)}"] = np.ascontiguousarray(value)
                value = f"a{len(self.arrays) - 1}"
            names.append(value)
        self.nodes.append(helper.make_node(op, names, [out := f"h{len(self.nodes)}"], **attributes))
        return out

    # --- layers -------------------------------------------------------------------------------------------------------

    def weights(self, at: str, kind: str = "kernel") -> tuple[np.ndarray, np.ndarray]:
        """The kernel (or scale) and the bias of the layer at this place."""
        return self.params[f"{at}/{kind}"], self.params[f"{at}/bias"]

    def linear(self, x: str, at: str) -> str:
        kernel, bias = self.weights(at)
        return self.add("Add", self.add("MatMul", x, kernel), bias)

    def conv(self, x: str, at: str, stride: int = 1) -> str:
        kernel, bias = self.weights(at)
        k = kernel.shape[0] // 2
        both = stride == 1 or self.unet.symmetric
        pads = [k, k, k, k] if both else [0, 0, 1, 1]  # a strided one pads below and right
        return self.add("Conv", x, to_peer("kernel", kernel), bias, strides=[stride, stride], pads=pads)

    def silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, np.array([0, *shape]))  # 0: the batch stays

    def group_norm(self, x: str, at: str, groups: int | None = None) -> str:
        """Norm over each group as one channel, then scale and bias of every channel."""
        if f"{at}/scale" not in self.params:
            return x
        scale, bias = (a[:, None, None] for a in self.weights(at, "scale"))
        groups = groups or self.unet.groups
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        shape = self.add("Shape", x)
        h = self.add("InstanceNormalization", self.reshape(x, groups, -1), ones, zeros, epsilon=self.unet.norm_eps)
        return self.add("Add", self.add("Mul", self.add("Reshape", h, shape), scale), bias)

    def res_block(self, x: str, time: str, at: str) -> str:
        h = self.conv(self.silu(self.group_norm(x, f"{at}/norm1")), f"{at}/conv1")
        kernel, bias = self.weights(f"{at}/time_emb_proj")
        parts = 2 if self.unet.scale_shift else 1
        first, *shift = [  # (B, c, 1, 1) each
            self.add("Unsqueeze", self.add("Add", self.add("MatMul", time, k), b), np.array([2, 3]))
            for k, b in zip(np.split(kernel, parts, 1), np.split(bias, parts), strict=True)
        ]
        if self.unet.scale_shift:
            h = self.group_norm(h, f"{at}/norm2")
            h = self.add("Add", self.add("Mul", h, self.add("Add", first, np.array([1], np.float32))), *shift)
        else:
            h = self.group_norm(self.add("Add", h, first), f"{at}/norm2")
        h = self.conv(self.silu(h), f"{at}/conv2")
        shortcut = f"{at}/conv_shortcut"
        return self.add("Add", h, self.conv(x, shortcut) if f"{shortcut}/kernel" in self.params else x)

    def attention(self, x: str, at: str) -> str:
        """x + softmax(q kᵀ/√d) v, with heads of d channels each"""
        C = len(self.params[f"{at}/to_q/bias"])
        d = self.unet.head_width or C
        groups = self.unet.middle_groups if at.startswith("mid_block") else None
        h = self.reshape(self.group_norm(x, f"{at}/group_norm", groups), C, -1)
        h = self.add("Transpose", h, perm=[0, 2, 1])  # (B, HW, C)
        q, k, v = (self.reshape(self.linear(h, f"{at}/to_{name}"), -1, C // d, d) for name in "qkv")
        q, v = (self.add("Transpose", a, perm=[0, 2, 1, 3]) for a in (q, v))  # (B, heads, HW, d)
        logits = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 2, 3, 1]))
        share = self.add("Softmax", self.add("Mul", logits, np.array([d**-0.5], np.float32)), axis=-1)
        h = self.add("Transpose", self.add("MatMul", share, v), perm=[0, 2, 1, 3])
        h = self.linear(self.reshape(h, -1, C), f"{at}/to_out/0")
        h = self.add("Reshape", self.add("Transpose", h, perm=[0, 2, 1]), self.add("Shape", x))
        return self.add("Add", x, h)

    def embedding(self, t: str, c: str, first_time: int) -> str:
        """silu of the embedding of time and class, as every block takes it"""
        half = self.unet.channels // 2
        omega = np.exp(-np.log(10_000) / (half - self.unet.time_shift) * np.arange(half)).astype(np.float32)[None]
        count = self.add("Sub", self.add("Cast", t, to=1), np.array([1 - first_time], np.float32))
        angle = self.add("Mul", self.add("Unsqueeze", count, np.array([1])), omega)
        h = self.add("Concat", self.add("Sin", angle), self.add("Cos", angle), axis=1)
        h = self.linear(self.silu(self.linear(h, "time_embedding/linear_1")), "time_embedding/linear_2")
        if self.unet.num_classes:
            h = self.add("Add", h, self.add("Gather", self.params["class_embedding"], c))
        return self.silu(h)

    # --- the network --------------------------------------------------------------------------------------------------

    def network(self, x_t: str, t: str, c: str, first_time: int) -> str:
        """Down through the levels, the middle, and up again with a skip from every layer."""
        time, patch, last = self.embedding(t, c, first_time), self.unet.patch, len(self.unet.multipliers) - 1
        (H, W, _), (below, right) = self.unet.image_shape, self.unet.padded
        h = self.add("Pad", self.add("Transpose", x_t, perm=[0, 3, 1, 2]), np.array([0] * 6 + [below - H, right - W]))
        h = self.add("SpaceToDepth", h, blocksize=patch)
        h = self.conv(h, "conv_in")
        skips = [h]
        for i in range(last + 1):
            for j in range(self.unet.blocks):
                h = self.block(h, time, f"down_blocks/{i}", j)
                skips.append(h)
            if i < last:
                h = self.conv(h, f"down_blocks/{i}/downsamplers/0/conv", stride=2)
                skips.append(h)
        h = self.block(h, time, "mid_block", 0)
        h = self.res_block(h, time, "mid_block/resnets/1")
        for i in range(last + 1):
            for j in range(self.unet.blocks + 1):
                h = self.block(self.add("Concat", h, skips.pop(), axis=1), time, f"up_blocks/{i}", j)
            if i < last:
                twice = np.array([1, 1, 2, 2], np.float32)
                how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                h = self.conv(self.add("Resize", h, "", twice, **how), f"up_blocks/{i}/upsamplers/0/conv")
        h = self.conv(self.silu(self.group_norm(h, "conv_norm_out")), "conv_out")
        h = self.add("DepthToSpace", h, blocksize=patch, mode="DCR")
        h = self.add("Slice", h, np.array([0, 0]), np.array([H, W]), np.array([2, 3]))
        return self.add("Transpose", h, perm=[0, 2, 3, 1])

    def block(self, h: str, time: str, level: str, j: int) -> str:
        """Block j of a level, with its attention if it has one"""
        h = self.res_block(h, time, f"{level}/resnets/{j}")
        at = f"{level}/attentions/{j}"
        return self.attention(h, at) if f"{at}/to_q/bias" in self.params else h
