"""Adam on the clipped gradient, and the learning rate by step.   [Ho et al. 2020, App. B]"""

from __future__ import annotations

import optax

from ddpm.training.config import TrainConfig


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Rises from 0 in `warmup` steps; then stays, or falls to 0 at the last step as `lr_schedule` says.

    late_cosine: along a half cosine over the last `decay` share; cosine, linear: at once.
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
    """Adam on the clipped gradient.   [Ho et al. 2020, App. B]"""
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(learning_rate(config)))
