"""Explain a failed step: find the first part of the computation that is not finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.flows.table import FEW_STEPS
from ddpm.training.by_layer import _by_layer, layer_norms, layers


def not_finite(tree: Any) -> list[str]:
    """List the layers that hold NaN or infinite values, in the order of computation."""
    return [n for n, leaves in _by_layer(tree).items() if not all(np.isfinite(np.asarray(a)).all() for a in leaves)]


def explain(config: Any, unet: Any, schedule: Any, state: Any, images: np.ndarray, c: np.ndarray) -> str:
    """Name the first non-finite quantity of the step after `state`, in one sentence.

    The step is repeated on this batch and checked in the order of computation: the parameters; the activations of the
    forward pass; the loss; the gradients of the backward pass, from the last layer to the first; their norm. A step
    that fails only in its new parameters is reported too.
    """
    from ddpm.data import to_float
    from ddpm.forward import q_sample
    from ddpm.networks.inspect import activations
    from ddpm.networks.skip import Prior, with_x0
    from ddpm.training import step

    # parameters
    if bad := not_finite(state.params):
        return f"of the parameters, {bad[0]} is the first layer that is not finite"
    key = jax.random.fold_in(jax.random.key(config.seed), state.step + 1)
    x0, labels = jnp.asarray(to_float(images)), jnp.asarray(c)
    names: list[str] = []

    # activations of the forward pass
    @jax.jit
    def forward(params: Any) -> list[jax.Array]:
        draws, _ = step.draw(config, unet, schedule, key, x0, labels, state.history)
        x_t = q_sample(schedule, draws.x0, draws.t, draws.noise)
        if isinstance(state.prior, Prior):
            x_t = with_x0(state.prior.eps(schedule), schedule, x_t, draws.t, draws.c)
        seen = activations(unet, params, x_t, draws.t, draws.c)
        names[:] = list(seen)  # `jit` returns dicts in sorted order
        return [jnp.isfinite(a).all() for a in seen.values()]

    finite = () if config.loss in FEW_STEPS else forward(state.params)  # of one call; few-step losses have several
    for name, good in zip(names, finite, strict=True):
        if not good:
            return f"on the way forward, the output of layer {name!r} is the first that is not finite"
    # loss and gradients of the backward pass
    loss, grad, _ = jax.jit(lambda s: step.gradient(config, unet, schedule, s, key, x0, labels))(state)
    if bad := not_finite(grad):
        return f"on the way back, the gradient of {bad[-1]} is the first that is not finite (the loss is {loss:.4g})"
    worst = layers(grad)[int(np.argmax(layer_norms(grad)))]
    return f"every gradient is finite (the largest is that of {worst}); their norm or the new parameters are not"
