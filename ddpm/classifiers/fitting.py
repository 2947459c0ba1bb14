"""Training of the classifiers on one CPU core, with a one-cycle rate and averaged parameters.

For clean images (`convnet`): SGD with Nesterov's momentum, or Muon (`optimiser.py`) where few passes have to
suffice; smoothed labels; images moved, mirrored and erased; at the end the statistics of the norms are computed on the
training images and folded in. For noisy images (`timenet`): AdamW, t uniform in 0..T. The averaged parameters are
kept. An interrupted run resumes: step n is a pure function of the state and n. The command is `ddpm.cli.classifier`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm import data
from ddpm.classifiers import convnet, timenet
from ddpm.classifiers.augmentation import augment
from ddpm.classifiers.classifier import Classifier, Config, build
from ddpm.classifiers.convnet import BatchNorm, ClassifierConfig, whitening
from ddpm.classifiers.optimiser import muon, unit_kernels
from ddpm.classifiers.recipes import ClassifierTrainConfig
from ddpm.forward import q_sample
from ddpm.loss import stratified_times
from ddpm.schedule import Schedule, make_schedule
from ddpm.tools import checkpoint
from ddpm.tools.batches import progress
from ddpm.train import ema_decay

CONFIGS: dict[str, ClassifierConfig] = {
    "fashion_mnist": ClassifierConfig(),
    "cifar10": ClassifierConfig(32, 3, patch=2, widths=(32, 96, 128)),
    "digits": ClassifierConfig(8, 1, widths=(32, 64)),
}


class State(NamedTuple):
    """Everything that changes during training, which is what a checkpoint holds."""

    params: dict
    mean: dict  # the moving average of params
    opt: Any  # the momentum


def optimiser(how: ClassifierTrainConfig, n_step: int) -> optax.GradientTransformation:
    """Build the optimiser with a one-cycle rate; only kernels decay.

    The rate rises for a quarter of the steps (with Muon a tenth), and then falls to 0.
    """
    rate = optax.linear_onecycle_schedule(n_step, how.lr, 0.1 if how.muon else 0.25, 0.9)
    kernels = partial(jax.tree.map, lambda a: a.ndim > 1)
    if how.schedule:
        return optax.adamw(rate, how.momentum, 0.99, weight_decay=how.weight_decay, mask=kernels)
    if how.muon:
        of_kernels = muon(optax.linear_onecycle_schedule(n_step, how.muon, 0.1, 0.9))
        return optax.multi_transform(
            {"muon": of_kernels, "sgd": optax.sgd(rate, how.momentum, nesterov=True)},
            partial(jax.tree.map, lambda a: "muon" if a.ndim == 4 else "sgd"),
        )
    return optax.chain(
        optax.add_decayed_weights(how.weight_decay, kernels), optax.sgd(rate, how.momentum, nesterov=True)
    )


def _logits(
    config: Config, how: ClassifierTrainConfig, schedule: Schedule | None, params: dict, key: jax.Array, x: jax.Array
) -> jax.Array:
    """Compute the training logits of augmented images; with a schedule they are noisy.

    x: (B, H, W, C) uint8
    """
    key_augment, key_noise = jax.random.split(key)
    x = augment(key_augment, data.to_float(x), how.shift, how.flip, how.erase)
    if isinstance(config, ClassifierConfig):
        return convnet.forward(config, params, x, BatchNorm())[0]
    assert schedule is not None
    key_t, key_noise = jax.random.split(key_noise)
    t = stratified_times(key_t, len(x), config.T + 1) - 1  # 0..T
    return timenet.forward(config, params, q_sample(schedule, x, t, jax.random.normal(key_noise, x.shape)), t)[0]


@lru_cache(maxsize=8)
def _training(
    config: Config, how: ClassifierTrainConfig, n_step: int
) -> tuple[optax.GradientTransformation, Callable[..., tuple[State, jax.Array]]]:
    """Return the optimiser, and the step (state, schedule, n, x, c) -> (state, accuracy)."""
    tx = optimiser(how, n_step)

    def loss(params: dict, schedule: Any, key: jax.Array, x: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = _logits(config, how, schedule, params, key, x)
        target = optax.smooth_labels(jax.nn.one_hot(c, config.num_classes), how.smoothing)
        return optax.softmax_cross_entropy(logits, target).mean(), (logits.argmax(1) == c).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, schedule: Any, n: jax.Array, x: jax.Array, c: jax.Array) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(jax.random.key(how.seed), n)
        grad, right = jax.grad(loss, has_aux=True)(state.params, schedule, key, x, c)
        updates, opt = tx.update(grad, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        params = unit_kernels(params) if how.muon else params
        if "whitening" in params:  # it is fixed, and weight decay would shrink it
            params["whitening"] = state.params["whitening"]
        decay = ema_decay(n.astype(jnp.float32), how.ema)
        return State(params, jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.mean, params), opt), right

    return tx, step


def train(
    config: Config,
    how: ClassifierTrainConfig,
    x: np.ndarray,
    y: np.ndarray,
    folder: Path | None = None,
) -> Classifier:
    """Train a classifier on images x (N, H, W, C) uint8 and classes y (N,) int.

    With a schedule, t is uniform in 0..T.
    folder: keep checkpoints there (every 200 steps, with `checkpoint`), and resume from the newest that fits.
    """
    if how.schedule != config.schedule:
        raise ValueError(f"the recipe is for the schedule {how.schedule!r}, the network for {config.schedule!r}")
    # Schedule, optimiser and initial parameters
    n_step = len(x) // how.batch * how.epochs
    schedule = None if isinstance(config, ClassifierConfig) else make_schedule(config.schedule, config.T)
    tx, step = _training(config, how, n_step)
    params = build(config)[0](jax.random.fold_in(jax.random.key(how.seed), 2**31 - 1))
    if isinstance(config, ClassifierConfig):
        params["whitening"] = jnp.asarray(whitening(data.to_float(x[:2000]), config.patch))
    # The initial state, or that of the newest checkpoint
    state, start, right = State(params, jax.tree.map(jnp.copy, params), tx.init(params)), 0, 0.0
    about = dataclasses.asdict(how)
    found = None if folder is None else checkpoint.restore(folder, state)
    if found is not None and dataclasses.asdict(ClassifierTrainConfig()) | found[1]["train"] == about:
        state, start = found[0], found[1]["step"]
    # Training steps, with a checkpoint every 200
    with progress(total=n_step, initial=start, unit="step", desc="classifier") as bar:
        for n in range(start, n_step):
            ids = data.batch_ids(how.seed, n, len(x), how.batch)
            state, r = step(state, schedule, jnp.int32(n), x[ids], y[ids].astype(np.int32))
            right = 0.98 * right + 0.02 * float(r)
            bar.update()
            if n % 50 == 49:
                bar.set_postfix(train_accuracy=f"{right:.4f}", refresh=False)
            if folder is not None and n % 200 == 199:
                checkpoint.save(folder, n + 1, state, {"train": about})
    # The averaged parameters, with folded norms for clean images
    if not all(np.all(np.isfinite(a)) for a in jax.tree.leaves(state.mean)):
        raise RuntimeError(f"training diverged: the parameters are not finite. Lower lr, which is {how.lr}")
    mean = state.mean
    if isinstance(config, ClassifierConfig):
        mean = convnet.fold(config, mean, norm_statistics(config, how, mean, x))
    return Classifier(config, mean, {}, f"{how.data}_classifier")


def norm_statistics(config: ClassifierConfig, how: ClassifierTrainConfig, params: dict, x: np.ndarray) -> dict:
    """Compute mean and variance of the input of each norm, over up to 40 training batches.

    The images are mirrored as in training.
    """

    @jax.jit
    def statistics(key: jax.Array, x: jax.Array) -> dict:
        norm = BatchNorm()
        convnet.forward(config, params, augment(key, data.to_float(x), 0, how.flip), norm)
        return norm.statistics

    key, batches = jax.random.fold_in(jax.random.key(how.seed), 2**31 - 2), []
    for i in range(max(1, min(40, len(x) // how.batch))):
        batches.append(statistics(jax.random.fold_in(key, i), x[i * how.batch : (i + 1) * how.batch]))
    return pooled(batches)


def pooled(batches: list[dict]) -> dict:
    """Combine mean and variance of batches of one size into those of all."""
    out = {}
    for name in batches[0]:
        mean, var = (jnp.stack([b[name][i] for b in batches]) for i in (0, 1))
        out[name] = (mean.mean(0), var.mean(0) + mean.var(0))
    return out
