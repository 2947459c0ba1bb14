"""Explain a failed step: which part of the computation is the first that is not finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.training.by_layer import _by_layer, layer_norms, layers


def not_finite(tree: Any) -> list[str]:
    """The layers that hold a number that is none, in the order of the computation."""
    return [n for n, leaves in _by_layer(tree).items() if not all(np.isfinite(np.asarray(a)).all() for a in leaves)]


def explain(config: Any, unet: Any, schedule: Any, state: Any, images: np.ndarray, c: np.ndarray) -> str:
    """What of the step after `state`, on this batch, is the first that is no number: one sentence.

    In the order in which it is computed: a parameter; an activation on the way forward; the loss; a gradient on the way
    back, from the last layer to the first; their norm. (A step that was well but for the parameters that it would have
    made is named too.)
    """
    from ddpm.data import to_float
    from ddpm.forward import q_sample
    from ddpm.networks.inspect import activations
    from ddpm.training import step

    if bad := not_finite(state.params):
        return f"of the parameters, {bad[0]} is the first layer that is not finite"
    key = jax.random.fold_in(jax.random.key(config.seed), state.step + 1)
    x0, labels = jnp.asarray(to_float(images)), jnp.asarray(c)
    names: list[str] = []

    @jax.jit
    def forward(params: Any) -> list[jax.Array]:
        draws, _ = step.draw(config, unet, schedule, key, x0, labels, state.history)
        x_t = q_sample(schedule, draws.x0, draws.t, draws.noise)
        seen = activations(unet, params, x_t, draws.t, draws.c)
        names[:] = list(seen)  # a dict that leaves `jit` is sorted
        return [jnp.isfinite(a).all() for a in seen.values()]

    finite = forward(state.params)
    for name, good in zip(names, finite, strict=True):
        if not good:
            return f"on the way forward, the output of layer {name!r} is the first that is not finite"
    loss, grad, _ = jax.jit(lambda p: step.gradient(config, unet, schedule, p, key, x0, labels, state.history))(
        state.params
    )
    if bad := not_finite(grad):
        return f"on the way back, the gradient of {bad[-1]} is the first that is not finite (the loss is {loss:.4g})"
    worst = layers(grad)[int(np.argmax(layer_norms(grad)))]
    return f"every gradient is finite (the largest is that of {worst}); their norm or the new parameters are not"
