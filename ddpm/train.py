"""Training: Algorithm 1 with Adam, warm-up, clipping, an average of the parameters, and checkpoints.   [Ho et al. 2020]

    repeat:  x0 ~ data, t ~ U{1…T}, ε ~ N(0, I);  descend ∇_θ ‖ε - ε̂_θ(√ᾱ_t x0 + √(1-ᾱ_t) ε, t, c)‖²

Step n is a pure function of (state, n): its key is fold_in(seed, n) and its images are those of (seed, n). So a run
that was interrupted and resumed is the same run, bit for bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddpm.config import TrainConfig, UNetConfig
from ddpm.data import to_float
from ddpm.loss import drop_labels, simple_loss
from ddpm.network import build, eps_fn
from ddpm.schedule import Schedule


class TrainState(NamedTuple):
    """All that changes during training; what a checkpoint holds."""

    step: jax.Array  # () int32, steps taken
    params: dict  # θ
    ema: dict  # the moving average of θ, used for sampling
    opt: Any  # Adam's moments


class Metrics(NamedTuple):
    """What one step reports."""

    loss: jax.Array  # () L_simple on the batch
    grad_norm: jax.Array  # () before clipping


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Rises from 0 in `warmup` steps, stays, and falls to 0 along a half cosine over the last `decay` share."""
    fall = max(1, round(config.decay * config.steps))
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.lr, config.warmup),
            optax.cosine_decay_schedule(config.lr, fall),
        ],
        [max(config.warmup, config.steps - fall)],
    )


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """Adam on the clipped gradient.   [Ho et al. 2020, App. B]"""
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(learning_rate(config)))


def ema_decay(n: jax.Array, most: float) -> jax.Array:
    """min(d, (1+n)/(10+n)): early on the average forgets fast, else a short run samples from its initialisation."""
    return jnp.minimum(most, (1 + n) / (10 + n))


def init_state(config: TrainConfig, unet: UNetConfig) -> TrainState:
    """The state before the first step; a pure function of the seed."""
    params = build(unet)[0](jax.random.fold_in(jax.random.key(config.seed), 0))
    return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimiser(config).init(params))


def batch_loss(
    unet: UNetConfig, config: TrainConfig, schedule: Schedule, params: dict, key: jax.Array, x0: jax.Array, c: jax.Array
) -> jax.Array:
    """L_simple of one batch, with flips, dropped labels and dropout drawn from `key`."""
    key_flip, key_drop, key_loss, key_dropout = jax.random.split(key, 4)
    if config.flip:
        flip = jax.random.bernoulli(key_flip, 0.5, (x0.shape[0], 1, 1, 1))
        x0 = jnp.where(flip, x0[:, :, ::-1], x0)
    label = drop_labels(key_drop, c, unet.num_classes, config.p_uncond) if unet.num_classes else None
    eps = eps_fn(unet, params)
    if unet.dropout:
        eps = partial(eps, key=key_dropout)
    return simple_loss(eps, schedule, key_loss, x0, label)


def make_step(config: TrainConfig, unet: UNetConfig) -> jax.stages.Wrapped:
    """The compiled step: (state, schedule, images uint8 (N, H, W, C), labels (N,), ids (B,)) -> (state, metrics).

    The state is donated. A step whose loss or gradient is not finite changes nothing: the last good state stays.
    """
    tx = optimiser(config)

    def step(
        state: TrainState, schedule: Schedule, images: jax.Array, labels: jax.Array, ids: jax.Array
    ) -> tuple[TrainState, Metrics]:
        n = state.step
        key = jax.random.fold_in(jax.random.key(config.seed), n + 1)
        x0 = to_float(images[ids])
        loss, grad = jax.value_and_grad(partial(batch_loss, unet, config, schedule))(state.params, key, x0, labels[ids])
        norm = optax.global_norm(grad)
        updates, opt = tx.update(grad, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = ema_decay(n.astype(jnp.float32), config.ema)
        ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params)
        good = jnp.isfinite(loss) & jnp.isfinite(norm)
        new = jax.tree.map(lambda a, b: jnp.where(good, a, b), TrainState(n + 1, params, ema, opt), state)
        return new, Metrics(loss, norm)

    return jax.jit(step, donate_argnums=0)
