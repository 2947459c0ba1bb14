"""Algorithm 1: the gradient step of training and the moving average of the parameters.   [Ho et al. 2020]"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class TrainState(NamedTuple):
    """All that changes during training; what a checkpoint holds."""

    step: jax.Array  # () int32, steps taken
    params: dict  # θ
    ema: dict  # the moving average of θ, used for sampling
    opt: Any  # Adam's moments
    emas: dict = {}  # further averages by name, of `ddpm.training.averages`  # noqa: RUF012
    history: Any = ()  # the last losses of each time, where times are drawn by importance


def ema_decay(n: jax.Array, most: float) -> jax.Array:
    """min(d, (1+n)/(10+n)): early on the average forgets fast, else a short run samples from its initialisation."""
    return jnp.minimum(most, (1 + n) / (10 + n))


def update(average: Any, params: Any, decay: jax.Array) -> Any:
    """β θ̂ + (1 - β) θ, leaf by leaf."""
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
