"""Adam on the clipped gradient, and the learning rate by step.   [Ho et al. 2020, App. B]"""

from __future__ import annotations

import optax

from ddpm.training.config import TrainConfig


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Return the learning rate by step: a warm-up, followed by `lr_schedule`.

    The rate rises linearly from 0 during the first `warmup` steps. With `constant` it then stays; otherwise it falls to
    0 at the last step. `late_cosine` falls along a half cosine over the last `decay` share of the steps; `cosine` and
    `linear` start to fall right after the warm-up.
    """
    rest = max(1, config.steps - config.warmup)
    fall = max(1, round(config.decay * config.steps))
    after: dict[str, tuple[int, optax.Schedule]] = {
        "late_cosine": (max(config.warmup, config.steps - fall), optax.cosine_decay_schedule(config.lr, fall)),
        "cosine": (config.warmup, optax.cosine_decay_schedule(config.lr, rest)),
        "linear": (config.warmup, optax.linear_schedule(config.lr, 0.0, rest)),
        "constant": (config.warmup, optax.constant_schedule(config.lr)),
    }
    start, schedule = after[config.lr_schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, config.lr, config.warmup), schedule], [start])


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """Return Adam on the clipped gradient.   [Ho et al. 2020, App. B]"""
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(learning_rate(config)))
