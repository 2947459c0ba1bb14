"""Fine-tuning: a training that begins with the parameters of a trained model in place of random ones.

Nothing else changes: the loss, the optimiser and the averages are those of any training, and begin with these
parameters too. The images may be others, of any size, in other classes; what must agree is what the network was
trained to do: the parameters' shapes, what it predicts, and the noise of each t. A network that continues a Gaussian
continues that of the new images, fitted with the same options; on the model's own images, with the same --flip, that is
the model's own, but for what shipped weights round.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.networks.inspect import param_shapes
from ddpm.schedule import Schedule
from ddpm.tools import files
from ddpm.train import TrainState
from ddpm.training.config import TrainConfig

GAUSSIAN = ("gaussian", "gaussian_rank", "gaussian_fade")  # the options of the Gaussian that a network continues
BY_CLASS = "class_embedding"  # the table with a row for each class


def check_begin(config: TrainConfig, unet: UNetConfig, schedule: Schedule, model: Any) -> None:
    """Refuse a model that predicts something else, on another schedule, or with a network of other shapes.

    model: with predict, schedule and params, as a `ddpm.zoo.model.Model`; or None.
    """
    if model is None:
        if config.begin:
            raise ValueError(f"begin is {config.begin!r}; give its model as well: begin=model.load({config.begin!r})")
        return
    name = f"begin {model.name!r}"
    if model.predict != config.predict:
        raise ValueError(
            f"{name} predicts {model.predict}, but predict is {config.predict}; give predict {model.predict}"
        )
    if not np.array_equal(np.asarray(model.schedule.alpha_bar), np.asarray(schedule.alpha_bar)):
        raise ValueError(
            f"{name} knows the noise of {model.card['schedule']['name']} with T = {model.schedule.T}, but this "
            f"training has {config.chain} with T = {config.T}; give the same"
        )
    known = model.card.get("train") or {}
    for field in GAUSSIAN if config.predict == "gaussian" else ():
        mine, its = getattr(config, field), known.get(field, TrainConfig.__dataclass_fields__[field].default)
        if not np.array_equal(its, mine):
            raise ValueError(
                f"{name} continues a Gaussian with {field} {its}, but {field} is {mine}: what its network adds to one "
                f"is wrong for the other; give the same, as --like {config.begin} does"
            )
    here, there = (files.flatten(tree) for tree in (param_shapes(unet), model.params))
    for path in sorted(here.keys() | there.keys()):
        of = [tuple(a[path].shape) if path in a else "none" for a in (here, there)]
        if of[0] != of[1] and BY_CLASS not in path:
            raise ValueError(
                f"{name} has another network than preset {config.preset!r} makes for {config.data}: {path} has shape "
                f"{of[1]} there, and {of[0]} here; give --like {config.begin} as well, and images with as many channels"
            )


def begun(state: TrainState, model: Any) -> TrainState:
    """Return the state before the first step with the model's parameters, in all averages too.

    The table of the classes stays random where the model has another number of them.
    """
    if model is None:
        return state
    known = files.flatten(model.params)

    def first(path: Any, a: jax.Array) -> jax.Array:
        other = known.get("/".join(str(step.key) for step in path))
        return a if other is None or other.shape != a.shape else jnp.array(other, a.dtype)

    copies = [jax.tree_util.tree_map_with_path(first, state.params) for _ in range(2 + len(state.emas))]
    return state._replace(params=copies[0], ema=copies[1], emas=dict(zip(state.emas, copies[2:], strict=True)))
