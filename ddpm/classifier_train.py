"""Training of the classifiers that ship: SGD with Nesterov momentum and a one-cycle rate, on one CPU core.

    ddpm classifier --data fashion_mnist                     p(c | x), which gives accuracies and features
    ddpm classifier --data fashion_mnist --schedule linear   p(c | x_t, t), for classifier guidance
    ddpm classifier --data fashion_mnist --validate 5000     the same, measured on the last 5,000 training images

Cross-entropy with smoothed labels; each image is moved, mirrored and partly erased at random. The averaged parameters
are kept, with the statistics of their norms taken on the training images and folded in (`convnet.fold`). A run goes on
where it stopped: step n is a pure function of the state and n. The last option leaves those images out of the training
and writes no weights: it is for choosing a recipe without a look at the test images.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from ddpm import cache, check, checkpoint, data, oracle, weights
from ddpm.classifier import Classifier, accuracy, noisy_accuracy, save
from ddpm.classifier_config import ClassifierTrainConfig
from ddpm.convnet import BatchNorm, ClassifierConfig, build, fold, forward, whitening
from ddpm.finite import finite
from ddpm.forward import q_sample
from ddpm.loss import stratified_times
from ddpm.metrics import stratified_subset
from ddpm.network import count
from ddpm.origin import commit
from ddpm.schedule import Schedule, make_schedule
from ddpm.train import ema_decay

CONFIGS: dict[str, ClassifierConfig] = {
    "fashion_mnist": ClassifierConfig(),
    "cifar10": ClassifierConfig(32, 3, patch=2, widths=(32, 96, 128)),
    "digits": ClassifierConfig(8, 1, widths=(32, 64)),
}


class State(NamedTuple):
    """All that changes during training; what a checkpoint holds."""

    params: dict
    mean: dict  # the moving average of params
    opt: Any  # the momentum


def augment(key: jax.Array, x: jax.Array, shift: int, flip: bool, erase: int = 0) -> jax.Array:
    """Each image moved by up to `shift` pixels (its edge repeated), half mirrored, a square set to 0. x: (B, H, W, C)

    The square, erase × erase, has its corner anywhere from -erase/2: parts of it may lie outside.
    """
    key_shift, key_flip, key_erase = jax.random.split(key, 3)
    B, H, W, C = x.shape
    padded = jnp.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corner = jax.random.randint(key_shift, (B, 2), 0, 2 * shift + 1)
    x = jax.vmap(lambda a, at: jax.lax.dynamic_slice(a, (at[0], at[1], 0), (H, W, C)))(padded, corner)
    mirror = jax.random.bernoulli(key_flip, 0.5, (B, 1, 1, 1)) & flip
    x = jnp.where(mirror, x[:, :, ::-1], x)
    if not erase:
        return x
    most = jnp.broadcast_to(jnp.array([[H, W]]) - erase // 2, (B, 2))
    at = jax.random.randint(key_erase, (B, 2), jnp.full((B, 2), -(erase // 2)), most)
    row, column = (jnp.arange(n)[None] - at[:, i : i + 1] for i, n in enumerate((H, W)))  # (B, H), (B, W)
    hole = ((row >= 0) & (row < erase))[:, :, None] & ((column >= 0) & (column < erase))[:, None, :]
    return jnp.where(hole[..., None], 0.0, x)


@lru_cache(maxsize=8)
def _training(
    config: ClassifierConfig, how: ClassifierTrainConfig, n_step: int
) -> tuple[optax.GradientTransformation, Callable[..., tuple[State, jax.Array]], Callable[..., dict]]:
    """The optimiser, the step (state, schedule, n, x, c) -> (state, share right), and the norms' statistics."""
    tx = optax.chain(
        optax.add_decayed_weights(how.weight_decay, partial(jax.tree.map, lambda a: a.ndim > 1)),
        optax.sgd(optax.linear_onecycle_schedule(n_step, how.lr, 0.25, 0.9), how.momentum, nesterov=True),
    )

    def noisy(schedule: Schedule | None, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        if schedule is None:
            return x, None
        key_t, key_noise = jax.random.split(key)
        t = stratified_times(key_t, len(x), config.T + 1) - 1  # 0..T
        return q_sample(schedule, x, t, jax.random.normal(key_noise, x.shape)), t

    def loss(params: dict, schedule: Any, key: jax.Array, x: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_augment, key_noise = jax.random.split(key)
        x, t = noisy(schedule, key_noise, augment(key_augment, x, how.shift, how.flip, how.erase))
        logits = forward(config, params, x, t, BatchNorm())[0]
        target = optax.smooth_labels(jax.nn.one_hot(c, config.num_classes), how.smoothing)
        return optax.softmax_cross_entropy(logits, target).mean(), (logits.argmax(1) == c).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, schedule: Any, n: jax.Array, x: jax.Array, c: jax.Array) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(jax.random.key(how.seed), n)
        grad, right = jax.grad(loss, has_aux=True)(state.params, schedule, key, data.to_float(x), c)
        updates, opt = tx.update(grad, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        params["whitening"] = state.params["whitening"]  # fixed: the decay would shrink it
        decay = ema_decay(n.astype(jnp.float32), how.ema)
        return State(params, jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.mean, params), opt), right

    @jax.jit
    def statistics(params: dict, schedule: Any, key: jax.Array, x: jax.Array) -> dict:
        norm = BatchNorm()
        key_flip, key_noise = jax.random.split(key)
        x, t = noisy(schedule, key_noise, augment(key_flip, data.to_float(x), 0, how.flip))
        forward(config, params, x, t, norm)
        return norm.statistics

    return tx, step, statistics


def train(
    config: ClassifierConfig,
    how: ClassifierTrainConfig,
    x: np.ndarray,
    y: np.ndarray,
    progress: bool = True,
    folder: Path | None = None,
) -> Classifier:
    """The classifier of images x (N, H, W, C) uint8 and classes y (N,) int; with a schedule, t is uniform in 0..T.

    folder: keep checkpoints there (every 200 steps, with `checkpoint`), and go on from the newest that fits.
    """
    n_step, schedule = len(x) // how.batch * how.epochs, None
    tx, step, statistics = _training(config, how, n_step)
    params = build(config)[0](jax.random.fold_in(jax.random.key(how.seed), 2**31 - 1))
    first = data.to_float(x[:2000])
    if config.schedule:
        schedule = make_schedule(config.schedule, config.T)
        rng = np.random.default_rng(how.seed)
        a = np.asarray(schedule.alpha_bar)[rng.integers(0, config.T + 1, (len(first), 1, 1, 1))]
        first = np.sqrt(a) * first + np.sqrt(1 - a) * rng.normal(size=first.shape)
    params["whitening"] = jnp.asarray(whitening(first, config.patch))
    state, start, right = State(params, jax.tree.map(jnp.copy, params), tx.init(params)), 0, 0.0
    found = None if folder is None else checkpoint.restore(folder, state)
    if found is not None and found[1]["train"] == _about(how):
        state, start = found[0], found[1]["step"]
    with tqdm(total=n_step, initial=start, disable=not progress, unit="step", desc="classifier") as bar:
        for n in range(start, n_step):
            ids = data.batch_ids(how.seed, n, len(x), how.batch)
            state, r = step(state, schedule, jnp.int32(n), x[ids], y[ids].astype(np.int32))
            right = 0.98 * right + 0.02 * float(r)
            bar.update()
            if n % 50 == 49:
                bar.set_postfix(train_accuracy=f"{right:.4f}")
            if folder is not None and n % 200 == 199:
                checkpoint.save(folder, n + 1, state, {"train": _about(how)})
    if not all(np.all(np.isfinite(a)) for a in jax.tree.leaves(state.mean)):
        raise RuntimeError(f"training diverged: the parameters are not finite. Lower lr, which is {how.lr}")
    key, found_statistics = jax.random.fold_in(jax.random.key(how.seed), 2**31 - 2), []
    for i in range(max(1, min(40, len(x) // how.batch))):
        part = x[i * how.batch : (i + 1) * how.batch]
        found_statistics.append(statistics(state.mean, schedule, jax.random.fold_in(key, i), part))
    return Classifier(config, fold(config, state.mean, _pooled(found_statistics)), {}, f"{how.data}_classifier")


def _pooled(batches: list[dict]) -> dict:
    """Mean and variance over all batches of one size, from those of each."""
    out = {}
    for name in batches[0]:
        mean, var = (jnp.stack([b[name][i] for b in batches]) for i in (0, 1))
        out[name] = (mean.mean(0), var.mean(0) + mean.var(0))
    return out


def exact_accuracy(images: data.Dataset, name: str, T: int, times: Any, n: int = 1000, seed: int = 0) -> dict:
    """What p(c | x_t) can reach without a network, on n test images at each time, one noise each.

    gaussian: the posterior of one Gaussian a class, fitted to the training images. ideal: that of the training images
    themselves (`finite`), exact if they were all there is; on test images it is too sure where t is small.
    """
    schedule = make_schedule(name, T)
    ids = stratified_subset(images.y_test, min(n, len(images.x_test)), seed)
    x0, y = jnp.asarray(data.to_float(images.x_test[ids])), images.y_test[ids]
    by_class = oracle.fit(data.to_float(images.x_train), images.y_train)
    whole = finite(images.x_train, images.y_train)
    out: dict[str, dict] = {"gaussian": {}, "ideal": {}}
    for t in times:
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), t), x0.shape)
        x_t = q_sample(schedule, x0, jnp.int32(t), noise)
        for who, posterior in (("gaussian", by_class.class_posterior), ("ideal", whole.class_posterior)):
            guess = np.concatenate(
                [
                    np.asarray(posterior(schedule, x_t[i : i + 100], jnp.int32(t)).argmax(1))
                    for i in range(0, len(y), 100)
                ]
            )
            out[who][int(t)] = round(float((guess == y).mean()), 4)
    return out | {"n": len(y)}


def _about(how: ClassifierTrainConfig) -> dict[str, Any]:
    return {f.name: getattr(how, f.name) for f in dataclasses.fields(how) if f.name not in ("note", "out", "data_dir")}


def _command(how: ClassifierTrainConfig) -> str:
    """The command line that trains with this recipe."""
    changed = [f"--data {how.data}"]
    for k, v in _about(how).items():
        if k != "data" and v != getattr(ClassifierTrainConfig, k):
            option = k.replace("_", "-")
            changed.append(f"--{'' if v else 'no-'}{option}" if isinstance(v, bool) else f"--{option} {v}")
    return " ".join(["ddpm classifier", *changed])


def main(how: ClassifierTrainConfig) -> Classifier:
    """Train a classifier of a data set, measure it on the test images, and write weights and card."""
    from ddpm.run import device_name, versions

    config = CONFIGS[check.choice("data set", how.data, CONFIGS)]
    config = dataclasses.replace(config, schedule=how.schedule, mirror=False) if how.schedule else config
    images = data.load(how.data, how.data_dir)
    x, y, x_test, y_test = images.x_train, images.y_train, images.x_test, images.y_test
    if how.validate:
        split = len(x) - check.whole("validate", how.validate, 1, len(x) - how.batch)
        x, y, x_test, y_test = x[:split], y[:split], x[split:], y[split:]
    params = count(jax.eval_shape(build(config)[0], jax.random.key(0)))
    steps = len(x) // how.batch * how.epochs
    print(f"{how.data}: a classifier of {params:,} parameters, {steps:,} steps of {how.batch} on {device_name()}")
    name = f"{how.data}{'_noisy' if how.schedule else ''}_classifier"
    path = Path(how.out) if how.out else weights.FOLDER / name
    folder = None if how.validate else cache.folder() / f"training-{path.name}"
    start, at_commit = time.perf_counter(), commit()
    classifier = train(config, how, x, y, folder=folder)
    seconds = time.perf_counter() - start
    test = noisy_accuracy if how.schedule else accuracy
    card = {
        "parameters": params,
        "train": _about(how),
        "data": {"name": how.data, "sha256": images.sha256, "train_images": len(x)},
        "test": test(classifier, x_test, y_test),
        "seconds": round(seconds),
        "device": device_name().replace(" 1 cores", " 1 core"),
        "versions": versions(),
        "commit": at_commit,
        "command": _command(how),
    } | ({"note": how.note} if how.note else {})
    if how.schedule:
        measured: Any = card["test"]
        times = [t for t in measured["accuracy_by_t"] if t > 0]
        card["exact_posteriors"] = exact_accuracy(images, how.schedule, config.T, times, seed=how.seed)
    classifier = dataclasses.replace(classifier, card=card, name=path.name)
    print(f"{'held-out training images' if how.validate else 'test'}: {card['test']}\n{seconds:.0f} s")
    if not how.validate:
        save(path, classifier)
        shutil.rmtree(folder, ignore_errors=True)  # type: ignore[arg-type]
        print(f"weights and card: {path}.safetensors, .json")
    return classifier
