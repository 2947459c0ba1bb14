"""Take the training step: Algorithm 1 with Adam, warm-up, clipping and parameter averages.   [Ho et al. 2020]

    repeat:  x0 ~ data, t ~ U{1…T}, ε ~ N(0, I);  descend ∇_θ ‖ε - ε̂_θ(√ᾱ_t x0 + √(1-ᾱ_t) ε, t, c)‖²

Losses other than ‖ε - ε̂‖² are `objectives`; t may be drawn where the loss is large (`importance`).
Step n is a pure function of (state, n): its key is fold_in(seed, n) and its images are those of (seed, n). A run that
is interrupted and resumed is therefore the same run, bit for bit. Splitting a batch into parts (`accumulate`) or over
devices, or making many steps per call (`steps_per_call`), changes a step only by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from ddpm import train
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.data import to_float
from ddpm.flows.matching import pair_by_transport
from ddpm.flows.table import FEW_STEPS, TAUGHT
from ddpm.loss import stratified_times
from ddpm.losses import importance, objectives, times
from ddpm.losses.objectives import Objective
from ddpm.networks.dit import build
from ddpm.networks.inspect import param_shapes
from ddpm.networks.skip import Prior, make_prior, ramp, skip_head
from ddpm.oracles import low_rank
from ddpm.oracles.low_rank import LowRank
from ddpm.schedule import Schedule
from ddpm.train import TrainState
from ddpm.training import averages, by_layer, captions, few_steps
from ddpm.training.adam import optimiser
from ddpm.training.config import TrainConfig
from ddpm.training.devices import everywhere, rows
from ddpm.training.vector import raveled


class Metrics(NamedTuple):
    """The metrics of one step; with many steps per call, each has a leading axis."""

    loss: jax.Array  # () the objective's mean over the batch: L_simple by default
    grad_norm: jax.Array  # () before clipping
    layers: jax.Array  # (L,) the norm of the gradient in each layer of `by_layer.layers`


class Draws(NamedTuple):
    """The random draws in the loss of one batch, except for dropout."""

    x0: jax.Array  # (B, H, W, C), some mirrored if flip is set
    t: jax.Array  # (B,) int
    noise: jax.Array  # like x0
    c: Any  # (B,) labels or a `Condition`, some replaced by ∅; None
    weight: jax.Array | None = None  # (B,) 1/(T p_t), for times drawn with non-uniform p_t
    more: Any = ()  # (B,) each: a second time, a jump or a scale; t of a flow's loss is then τ, and no integer


def empty_prior(config: TrainConfig, unet: UNetConfig) -> Any:
    """Return a prior of the right shapes without data; () where nothing but the network predicts."""
    if config.loss in TAUGHT:
        like = param_shapes(few_steps.of_teacher(config, unet))
        return few_steps.Teacher(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like))
    if config.predict != "gaussian":
        return ()
    K = unet.num_classes + 1 if unet.num_classes and config.gaussian in ("class", "pooled") else 1
    D, r = math.prod(unet.image_shape), 0 if config.gaussian == "isotropic" else config.gaussian_rank
    shared = 1 if config.gaussian == "pooled" else K
    gaussian = LowRank(jnp.zeros((K, D)), jnp.zeros((shared, D, r)), jnp.ones((K, r)), jnp.ones(K))
    return Prior(gaussian, jnp.ones(config.T + 1), ramp(config.T, *config.gaussian_fade))


def fitted_prior(config: TrainConfig, unet: UNetConfig, schedule: Schedule, images: Any, labels: Any) -> Prior:
    """Fit to images (N, H, W, C) uint8 with labels (N,) the Gaussian that the network continues."""
    x, c = to_float(images), labels if config.conditional else None
    if config.flip:  # as in the training, half of the images are mirrored
        x[::2] = x[::2, :, ::-1].copy()
    fitted = low_rank.fit(x, c, config.gaussian_rank, config.gaussian, unet.num_classes or None)
    return make_prior(fitted, schedule, ramp(config.T, *config.gaussian_fade))


def init_state(config: TrainConfig, unet: UNetConfig, prior: Any = None) -> TrainState:
    """Initialise the state before the first step, a pure function of the seed (and of the data's Gaussian)."""
    prior = empty_prior(config, unet) if prior is None else prior
    params = build(unet)[0](jax.random.fold_in(jax.random.key(config.seed), 0))
    params = few_steps.first_params(unet, params, prior)
    emas = {name: jax.tree.map(jnp.copy, params) for name in averages.decays(config)}
    history = importance.loss_history(config.T) if config.importance else ()
    opt = optimiser(config).init(params)
    return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), opt, emas, prior, history)


# --- the loss and its gradient ----------------------------------------------------------------------------------------


def draw(
    config: TrainConfig,
    unet: UNetConfig,
    schedule: Schedule,
    key: jax.Array,
    x0: jax.Array,
    c: jax.Array,
    history: Any = (),
    now: Any = 0,
) -> tuple[Draws, jax.Array]:
    """Draw flips, dropped labels, times and noises of the whole batch; return the dropout key too. now: the step"""
    key_flip, key_drop, key_loss, key_dropout = jax.random.split(key, 4)
    if config.flip:
        flip = jax.random.bernoulli(key_flip, 0.5, (x0.shape[0], 1, 1, 1))
        x0 = jnp.where(flip, x0[:, :, ::-1], x0)
    label = captions.dropped(unet, key_drop, c, config.p_uncond)
    key_t, key_noise = jax.random.split(key_loss)  # as in loss.simple_loss
    t, weight, more = stratified_times(key_t, x0.shape[0], schedule.T), None, ()
    if config.loss in FEW_STEPS:
        t, more = few_steps.draw(config, key_t, x0.shape[0], schedule, now)
    elif config.importance:
        t, weight = importance.draw_times(history, key_t, x0.shape[0])
    elif config.times != "uniform":
        t = times.draw(key_t, x0.shape[0], schedule, config.times)
    noise = jax.random.normal(key_noise, x0.shape, x0.dtype)
    if config.coupling == "transport":
        noise = noise[_nearest(x0, noise, c if unet.num_classes else jnp.zeros_like(c))]
    return Draws(x0, t, noise, label, weight, more), key_dropout


def _nearest(x0: jax.Array, noise: jax.Array, c: jax.Array) -> jax.Array:
    """Return the order in which the noises belong to x0 by optimal transport within each class; on the host."""

    def order(*batch: Any) -> np.ndarray:
        return pair_by_transport(*batch).astype(np.int32)

    return jax.pure_callback(order, jax.ShapeDtypeStruct(c.shape, jnp.int32), x0, noise, c)


def of_config(config: TrainConfig) -> Objective:
    """Return the objective that `config` names; a Gaussian skip is part of the network, which then predicts ε."""
    return objectives.objective(config.loss, config.predict.replace("gaussian", "eps"), config.variance, config.path)


def draws_loss(
    config: TrainConfig, unet: UNetConfig, schedule: Schedule, params: dict, draws: Draws, key: jax.Array, prior: Any
) -> tuple[jax.Array, jax.Array]:
    """Compute the mean of the objective over these draws, and its terms (B,); `key` is for dropout."""
    if config.loss in FEW_STEPS:
        nets = few_steps.nets(config, unet, params, prior, key)
        terms = few_steps.terms(config, nets, schedule, draws)
        return terms.mean(), terms
    net = Partial(build(unet)[1], params, **({"key": key} if unet.dropout else {}))
    net = skip_head(net, prior, schedule, config.gaussian_input) if prior else net
    terms = of_config(config)(net, schedule, draws.x0, draws.t, draws.noise, draws.c)
    return objectives.mean(terms, draws.weight), terms


def gradient(
    config: TrainConfig,
    unet: UNetConfig,
    schedule: Schedule,
    state: TrainState,
    key: jax.Array,
    x0: jax.Array,
    c: jax.Array,
) -> tuple[jax.Array, dict, Any]:
    """Compute (loss, ∇_θ loss, new history) of one batch, drawn from `key`; of the state, θ, prior and history.

    With `accumulate` they are means over parts. The draws are made once for the whole batch; only dropout is drawn anew
    for each part. Part i takes the images i, i+A, i+2A…, so a batch that is spread over devices has parts that are too.
    """
    params, prior, history = state.params, state.prior, state.history
    # random draws
    draws, key_dropout = draw(config, unet, schedule, key, x0, c, history, state.step)
    loss_and_grad = jax.value_and_grad(partial(draws_loss, config, unet, schedule), has_aux=True)
    A = config.accumulate
    if A == 1:
        (loss, terms), grad = loss_and_grad(params, draws, key_dropout, prior)
        return loss, grad, _remember(config, history, draws.t, terms)

    # one part of the batch
    def add(total: Any, i_part: tuple[jax.Array, Draws]) -> tuple[Any, jax.Array]:
        i, part = i_part
        (loss, terms), grad = loss_and_grad(params, part, jax.random.fold_in(key_dropout, i), prior)
        return jax.tree.map(lambda a, b: a + b / A, total, (loss, grad)), terms

    # sum over all parts
    parts = jax.tree.map(lambda a: a.reshape(a.shape[0] // A, A, *a.shape[1:]).swapaxes(0, 1), draws)
    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    (loss, grad), terms = jax.lax.scan(add, zero, (jnp.arange(A), parts))
    return loss, grad, _remember(config, history, draws.t, terms.swapaxes(0, 1).reshape(-1))


def _remember(config: TrainConfig, history: Any, t: jax.Array, terms: jax.Array) -> Any:
    return importance.remember(history, t, terms) if config.importance else history


# --- the step ---------------------------------------------------------------------------------------------------------


def seed_data(config: TrainConfig) -> np.ndarray:
    """Return the key of the run's seed as plain numbers, to pass to a compiled step."""
    return np.asarray(jax.random.key_data(jax.random.key(config.seed)))


def take_step(
    config: TrainConfig,
    unet: UNetConfig,
    state: TrainState,
    schedule: Schedule,
    images: jax.Array,
    c: jax.Array,
    n: jax.Array | None = None,
    seed: jax.Array | None = None,
) -> tuple[TrainState, Metrics]:
    """Take one step on the batch `images` (B, H, W, C) uint8 with labels `c` (B,).

    If the loss, gradient, new parameters or averages are not finite, the state stays unchanged. If the step number `n`
    is given, all later steps then leave it unchanged too, and report a NaN loss.
    seed: `seed_data(config)`, if one program serves several seeds.
    """
    # loss and gradient
    now = state.step
    start = jax.random.key(config.seed) if seed is None else jax.random.wrap_key_data(seed)
    key = jax.random.fold_in(start, now + 1)
    loss, grad, history = gradient(config, unet, schedule, state, key, to_float(images), c)
    # Adam and the averages, each tree of parameters as one vector
    before, unravel = raveled(state._replace(prior=(), history=()), state.params)
    vector = ravel_pytree(grad)[0]
    norm = optax.global_norm(vector)
    after = train.descend(before, vector, optimiser(config), config.ema)
    count, decays = now.astype(jnp.float32), averages.decays(config)
    emas = {k: train.update(before.emas[k], after.params, decay(count)) for k, decay in decays.items()}
    after = after._replace(emas=emas)
    # rejection of a non-finite step
    good = jnp.isfinite(loss) & jnp.isfinite(norm) & by_layer.all_finite((after.params, after.ema, emas))
    if n is not None:
        good &= n == now
    vectors, history = jax.lax.cond(good, lambda: (after, history), lambda: (before, state.history))
    new = unravel(vectors)._replace(prior=state.prior, history=history)
    return new, Metrics(jnp.where(good, loss, jnp.nan), norm, by_layer.layer_norms(grad))


def _many(step: Callable[..., tuple[TrainState, Metrics]], state: TrainState, per_step: Any) -> tuple[Any, Any]:
    """Run `step(state, *parts)` for each part of `per_step` in one compiled loop."""
    return jax.lax.scan(lambda s, parts: step(s, *parts), state, per_step)


def make_step(config: TrainConfig, unet: UNetConfig, many: bool = False) -> jax.stages.Wrapped:
    """Compile (state, schedule, images uint8 (N, H, W, C), labels (N,), ids (B,), n ()) -> (state, metrics).

    The whole data set is on the device. The state is donated. `n` and the `seed` after it may be omitted: `take_step`.
    `many`: ids (K, B) and n (K,) make K steps in one `lax.scan`.
    """

    def step(
        state: TrainState,
        schedule: Schedule,
        images: jax.Array,
        labels: jax.Array,
        ids: jax.Array,
        n: Any = None,
        seed: Any = None,
    ) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, ids: jax.Array, n: Any) -> tuple[TrainState, Metrics]:
            return take_step(config, unet, state, schedule, images[ids], labels[ids], n, seed)

        return _many(one, state, (ids, n)) if many else one(state, ids, n)

    return jax.jit(step, donate_argnums=0)


def make_sharded_step(config: TrainConfig, unet: UNetConfig, mesh: Mesh, many: bool = False) -> jax.stages.Wrapped:
    """Compile (state, schedule, batch uint8 (B, H, W, C), labels (B,), n, seed) -> (state, metrics) for a mesh.

    The rows of the batch are sharded over the devices of all processes, and the state is replicated; XLA inserts the
    sum over devices that the gradient needs. `many`: batch, labels and n have a leading axis of K steps.
    """

    def step(
        state: TrainState, schedule: Schedule, images: jax.Array, c: jax.Array, n: jax.Array, seed: jax.Array
    ) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, images: jax.Array, c: jax.Array, n: jax.Array) -> tuple[TrainState, Metrics]:
            return take_step(config, unet, state, schedule, images, c, n, seed)

        return _many(one, state, (images, c, n)) if many else one(state, images, c, n)

    same, split = everywhere(mesh), rows(mesh, 1 if many else 0)
    return jax.jit(step, donate_argnums=0, in_shardings=(same, same, split, split, same, same), out_shardings=same)
