"""Report gradient norms by layer, and whether all values are finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

# The names of the layers in the order of computation: between the parts of the network, and within a part.
_PARTS = (
    *("time_embedding", "time_1", "time_2", "class_embedding", "embed", "conv_in", "down_blocks", "mid_block"),
    *("up_blocks", "conv_norm_out", "layers", "modulation", "last"),
)
_BLOCK = ("modulation", "to_qkv", "to_out", "mlp_in", "mlp_out")  # of a transformer
_INSIDE = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut", "group_norm", "to_q", "to_k", "to_v")


def _place(name: str) -> tuple:
    """Return a key that sorts layers in the order of computation.

    For example, `down_blocks.0.attentions.1` follows `down_blocks.0.resnets.1`.
    """
    parts = name.split(".")
    head = _PARTS.index(parts[0]) if parts[0] in _PARTS else len(_PARTS)
    numbers = [int(p) for p in parts if p.isdigit()]
    words = [p for p in parts[1:] if not p.isdigit()]
    kind = words[0] if words else ""
    late = kind in ("downsamplers", "upsamplers")
    within = [_INSIDE.index(p) if p in _INSIDE else len(_INSIDE) for p in words[1:]]
    if parts[0] == "layers" and kind in _BLOCK:
        within = [_BLOCK.index(kind)]
    if parts[0] == "mid_block":  # residual block, attention, residual block
        numbers = [0, {("resnets", 0): 0, ("attentions", 0): 1}.get((kind, numbers[0] if numbers else 0), 2)]
    return (head, numbers[:1], late, numbers[1:2], kind == "attentions", within, name)


def _by_layer(tree: Any) -> dict[str, list[Any]]:
    """Group the leaves by layer, {'down_blocks.0.resnets.1.conv1': [kernel, bias]}, in the order of computation."""
    layers: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        layer = jax.tree_util.keystr(path[:-1], simple=True, separator=".")
        layer = layer or jax.tree_util.keystr(path, simple=True, separator=".")  # a table that belongs to no layer
        layers.setdefault(layer, []).append(leaf)
    return {name: layers[name] for name in sorted(layers, key=_place)}


def layers(tree: Any) -> list[str]:
    """Return the names of the layers in the order of computation."""
    return list(_by_layer(tree))


def layer_norms(tree: Any) -> jax.Array:
    """√Σ g² over the arrays of each layer, in the order of `layers`: (L,)"""
    return jnp.stack([jnp.sqrt(sum(jnp.sum(a * a) for a in leaves)) for leaves in _by_layer(tree).values()])


def all_finite(tree: Any) -> jax.Array:
    """True if all leaves are finite."""
    return jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]).all()
