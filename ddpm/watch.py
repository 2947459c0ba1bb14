"""Where a training goes wrong: the gradient's norm by layer, and the first layer that is no longer a number."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The order of the computation, in the names of the network: between the parts, and inside a part.
_PARTS = ("time_embedding", "class_embedding", "conv_in", "down_blocks", "mid_block", "up_blocks", "conv_norm_out")
_INSIDE = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut", "group_norm", "to_q", "to_k", "to_v")


def _place(name: str) -> tuple:
    """A key that sorts layers as they are computed: `down_blocks.0.attentions.1` follows `down_blocks.0.resnets.1`."""
    parts = name.split(".")
    head = _PARTS.index(parts[0]) if parts[0] in _PARTS else len(_PARTS)
    numbers = [int(p) for p in parts if p.isdigit()]
    words = [p for p in parts[1:] if not p.isdigit()]
    kind = words[0] if words else ""
    late = kind in ("downsamplers", "upsamplers")
    within = [_INSIDE.index(p) if p in _INSIDE else len(_INSIDE) for p in words[1:]]
    if parts[0] == "mid_block":  # residual block, attention, residual block
        numbers = [0, {("resnets", 0): 0, ("attentions", 0): 1}.get((kind, numbers[0] if numbers else 0), 2)]
    return (head, numbers[:1], late, numbers[1:2], kind == "attentions", within, name)


def _by_layer(tree: Any) -> dict[str, list[Any]]:
    """{'down_blocks.0.resnets.1.conv1': [kernel, bias]} in the order of the computation."""
    layers: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        layer = jax.tree_util.keystr(path[:-1], simple=True, separator=".")
        layer = layer or jax.tree_util.keystr(path, simple=True, separator=".")  # a table without a layer of its own
        layers.setdefault(layer, []).append(leaf)
    return {name: layers[name] for name in sorted(layers, key=_place)}


def layers(tree: Any) -> list[str]:
    """The names of the layers, in the order of the computation."""
    return list(_by_layer(tree))


def layer_norms(tree: Any) -> jax.Array:
    """√Σ g² over the arrays of each layer: (L,), in the order of `layers`."""
    return jnp.stack([jnp.sqrt(sum(jnp.sum(a * a) for a in leaves)) for leaves in _by_layer(tree).values()])


def all_finite(tree: Any) -> jax.Array:
    """True where every number of the tree is one."""
    return jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]).all()


def not_finite(tree: Any) -> list[str]:
    """The layers that hold a number that is none, in the order of the computation."""
    return [n for n, leaves in _by_layer(tree).items() if not all(np.isfinite(np.asarray(a)).all() for a in leaves)]


def explain(config: Any, unet: Any, schedule: Any, state: Any, images: np.ndarray, c: np.ndarray) -> str:
    """What of the step after `state`, on this batch, is the first that is no number: one sentence.

    In the order in which it is computed: a parameter; an activation on the way forward; the loss; a gradient on the way
    back, from the last layer to the first; their norm. (A step that was well but for the parameters that it would have
    made is named too.)
    """
    from ddpm import train
    from ddpm.data import to_float
    from ddpm.forward import q_sample
    from ddpm.network import activations

    if bad := not_finite(state.params):
        return f"of the parameters, {bad[0]} is the first layer that is not finite"
    key = jax.random.fold_in(jax.random.key(config.seed), state.step + 1)
    x0, labels = jnp.asarray(to_float(images)), jnp.asarray(c)
    names: list[str] = []

    @jax.jit
    def forward(params: Any) -> list[jax.Array]:
        draws, _ = train.draw(config, unet, schedule, key, x0, labels, state.history)
        x_t = q_sample(schedule, draws.x0, draws.t, draws.noise)
        seen = activations(unet, params, x_t, draws.t, draws.c)
        names[:] = list(seen)  # a dict that leaves `jit` is sorted
        return [jnp.isfinite(a).all() for a in seen.values()]

    finite = forward(state.params)
    for name, good in zip(names, finite, strict=True):
        if not good:
            return f"on the way forward, the output of layer {name!r} is the first that is not finite"
    loss, grad, _ = jax.jit(lambda p: train.gradient(config, unet, schedule, p, key, x0, labels, state.history))(
        state.params
    )
    if bad := not_finite(grad):
        return f"on the way back, the gradient of {bad[-1]} is the first that is not finite (the loss is {loss:.4g})"
    worst = layers(grad)[int(np.argmax(layer_norms(grad)))]
    return f"every gradient is finite (the largest is that of {worst}); their norm or the new parameters are not"
