"""Algorithm 1: descend the gradient of the loss, and keep a moving average of the parameters.   [Ho et al. 2020]

    repeat:  x0 ~ data, t ~ U{1…T}, ε ~ N(0, I);  descend ∇_θ ‖ε - ε̂_θ(√ᾱ_t x0 + √(1-ᾱ_t) ε, t, c)‖²

`ddpm.training` adds what a long run needs: accumulation, many devices, several averages, checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
    """All that changes during training; what a checkpoint holds."""

    step: jax.Array  # () int32, steps taken
    params: dict  # θ
    ema: dict  # the moving average of θ, used for sampling
    opt: Any  # Adam's moments
    emas: dict = {}  # further averages by name, of `ddpm.training.averages`  # noqa: RUF012
    prior: Any = ()  # of a Gaussian skip: fixed, `ddpm.networks.skip`
    history: Any = ()  # the last losses of each time, where times are drawn by importance


def make_step(loss: Callable[..., jax.Array], optimiser: Any, decay: float = 0.999) -> Callable[..., Any]:
    """The compiled step (state, *batch) -> (state, loss) that minimises `loss(params, *batch)`, a number."""

    def step(state: TrainState, *batch: Any) -> tuple[TrainState, jax.Array]:
        value, grad = jax.value_and_grad(loss)(state.params, *batch)
        return descend(state, grad, optimiser, decay), value

    return jax.jit(step)


def descend(state: TrainState, grad: Any, optimiser: Any, decay: float) -> TrainState:
    """θ ← θ + the optimiser's update, and θ̂ ← β θ̂ + (1 - β) θ, from the gradient of the loss."""
    updates, opt = optimiser.update(grad, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = update(state.ema, params, ema_decay(state.step.astype(jnp.float32), decay))
    return state._replace(step=state.step + 1, params=params, ema=ema, opt=opt)


def ema_decay(n: jax.Array, most: float) -> jax.Array:
    """min(d, (1+n)/(10+n)): early on the average forgets fast, else a short run samples from its initialisation."""
    return jnp.minimum(most, (1 + n) / (10 + n))


def update(average: Any, params: Any, decay: jax.Array) -> Any:
    """β θ̂ + (1 - β) θ, leaf by leaf."""
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
