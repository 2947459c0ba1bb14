"""A small classifier: p(c | x) for accuracies, and 64 numbers an image in which sets of images are compared.

    logits = W silu(f) + b,   f = features of x,   p(c | x) = softmax(logits)_c

There is no Inception network here: what takes its place is trained on the data set itself, in half an hour on one CPU
core, and ships with its card. With a `schedule` it is p(c | x_t, t), the classifier of Dhariwal and Nichol (2021,
Sec. 4). The features are d = 64 wide because the Fréchet distance of n images is too large by about (d + d(d+1)/4)/n in
whitened features (`ddpm.metrics.frechet_floor`): wide features need many images before they say anything.

    python -m ddpm.classifier --data fashion_mnist        trains the one that ships, and writes its card
"""

from __future__ import annotations

import dataclasses
import math
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from tqdm import tqdm

from ddpm import check, data, store, weights
from ddpm.forward import q_sample
from ddpm.loss import stratified_times
from ddpm.network import Conv, GroupNorm, Linear, TimeMLP, _init_zero, count, space_to_depth, time_embedding
from ddpm.schedule import Schedule, make_schedule
from ddpm.train import ema_decay


@dataclass(frozen=True)
class ClassifierConfig:
    """A residual network of two sizes, and the noise it expects."""

    image_size: int = 28  # height and width of the image, pixels
    image_channels: int = 1  # 1 grey, 3 colour
    num_classes: int = 10
    patch: int = 2  # space-to-depth: patch x patch pixels become the channels of one position
    widths: tuple[int, ...] = (48, 96)  # channels at each size; each size is half of the one before, rounded up
    blocks: tuple[int, ...] = (1, 2)  # residual blocks at each size
    features: int = 64  # width of the penultimate layer
    groups: int = 8  # groups of the group normalisation
    schedule: str = ""  # the noise schedule of p(c | x_t, t); empty: clean images, no time
    T: int = 1000  # noise levels, where there is a schedule

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks) or not self.widths:
            raise ValueError(f"widths {self.widths} and blocks {self.blocks} must be of one length, at least 1")
        if self.image_size % self.patch:
            raise ValueError(f"image_size {self.image_size} is not divisible by patch {self.patch}")
        if any(w % self.groups for w in self.widths):
            raise ValueError(f"widths {self.widths} are not all divisible by groups {self.groups}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return (self.image_size, self.image_size, self.image_channels)


@dataclass(frozen=True)
class ClassifierTrainConfig:
    """How a classifier is trained."""

    data: str = "fashion_mnist"
    epochs: int = 20
    batch: int = 128  # images a step
    lr: float = 4e-3  # highest rate of the one-cycle schedule
    weight_decay: float = 0.02  # AdamW's, of the kernels only
    smoothing: float = 0.05  # label smoothing
    shift: int = 2  # each image is moved by up to this many pixels in both directions
    flip: bool = True  # mirror half of the images, left and right
    ema: float = 0.998  # the average of the parameters, which is what is kept
    seed: int = 0  # of the parameters, the order of the data and its augmentation
    schedule: str = ""  # train p(c | x_t, t) on this noise schedule; empty: clean images
    out: str = ""  # where the weights go; the package's own folder of weights if empty
    data_dir: str | None = None  # where the data are; else DDPM_DATA_DIR


CONFIGS: dict[str, ClassifierConfig] = {
    "fashion_mnist": ClassifierConfig(),
    "cifar10": ClassifierConfig(32, 3, widths=(64, 128), blocks=(2, 3)),
    "digits": ClassifierConfig(8, 1, patch=1, widths=(32, 64), blocks=(1, 1)),
}


# --- the network ------------------------------------------------------------------------------------------------------


class Block(nnx.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time)))"""

    def __init__(self, channels: int, d_time: int, groups: int, *, rngs: nnx.Rngs):
        self.norm1, self.norm2 = GroupNorm(channels, groups), GroupNorm(channels, groups)
        self.conv1 = Conv(channels, channels, rngs=rngs, dtype=jnp.float32)
        self.conv2 = Conv(channels, channels, rngs=rngs, init=_init_zero, dtype=jnp.float32)
        self.time = Linear(d_time, channels, rngs=rngs) if d_time else None

    def __call__(self, x: jax.Array, temb: jax.Array | None) -> jax.Array:
        h = self.conv1(nnx.silu(self.norm1(x)))
        if self.time is not None and temb is not None:
            h = h + self.time(temb)[:, None, None, :]
        return x + self.conv2(nnx.silu(self.norm2(h)))


class Net(nnx.Module):
    """Residual blocks, sizes halved by space-to-depth, the mean over positions, and two linear layers."""

    def __init__(self, config: ClassifierConfig, *, rngs: nnx.Rngs):
        d_time = 4 * config.widths[0] if config.schedule else 0
        self.config = config
        if d_time:
            self.time = TimeMLP(config.widths[0], d_time, rngs=rngs)
        self.stem = Conv(config.image_channels * config.patch**2, config.widths[0], rngs=rngs, dtype=jnp.float32)
        self.down = nnx.List(
            [Linear(4 * a, b, rngs=rngs) for a, b in zip(config.widths, config.widths[1:], strict=False)]
        )
        self.blocks = nnx.List(
            [
                nnx.List([Block(c, d_time, config.groups, rngs=rngs) for _ in range(n)])
                for c, n in zip(config.widths, config.blocks, strict=True)
            ]
        )
        self.norm = GroupNorm(config.widths[-1], config.groups)
        self.feature = Linear(config.widths[-1], config.features, rngs=rngs)
        self.head = Linear(config.features, config.num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, t: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        temb = None if t is None else nnx.silu(self.time(time_embedding(t, self.config.widths[0])))
        h = self.stem(space_to_depth(x, self.config.patch))
        for i, level in enumerate(self.blocks):
            if i > 0:
                odd = h.shape[1] % 2
                h = jnp.pad(h, ((0, 0), (0, odd), (0, odd), (0, 0)))
                h = self.down[i - 1](space_to_depth(h, 2))  # a 2x2 convolution with stride 2
            for block in level:
                h = block(h, temb)
        f = self.feature(nnx.silu(self.norm(h)).mean((1, 2)))  # (B, features)
        return self.head(nnx.silu(f)), f


@lru_cache(maxsize=32)
def build(config: ClassifierConfig) -> tuple[Callable[..., dict], Callable[..., tuple[jax.Array, jax.Array]]]:
    """Two pure functions: `init(key) -> params` and `apply(params, x, t=None) -> (logits (B, K), features (B, d))`.

    x: (B, H, W, C) in [-1, 1], or x_t with t: (B,) int where the config has a schedule.
    """

    def make(key: jax.Array) -> Net:
        return Net(config, rngs=nnx.Rngs(key))

    graphdef, _ = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))), nnx.Param)

    @jax.jit
    def init(key: jax.Array) -> dict:
        return nnx.to_pure_dict(nnx.split(make(key), nnx.Param)[1])

    def apply(params: dict, x: jax.Array, t: Any = None) -> tuple[jax.Array, jax.Array]:
        if x.ndim != 4 or x.shape[1:] != config.image_shape:
            want = ", ".join(map(str, config.image_shape))
            raise ValueError(f"x has shape {x.shape}; this classifier wants (B, {want})")
        if (t is None) == bool(config.schedule):
            raise ValueError(
                f"this classifier is p(c | x_t, t) on the {config.schedule} schedule; give it t"
                if config.schedule
                else "t was given to a classifier of clean images; leave it None"
            )
        t = None if t is None else jnp.broadcast_to(check.times(t, x, config.T, low=0), x.shape[:1])
        return nnx.merge(graphdef, params)(x, t)

    return init, apply


# --- using one --------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _apply(config: ClassifierConfig, params: dict, x: jax.Array, t: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    x = data.to_float(x) if x.dtype == jnp.uint8 else x
    return build(config)[1](params, x, t)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier: its config, its parameters, and the card that says how good it is."""

    config: ClassifierConfig
    params: dict
    card: dict
    name: str = "unnamed"

    def __call__(self, x: Any, t: Any = None, batch: int = 250) -> tuple[np.ndarray, np.ndarray]:
        """(logits (N, K), features (N, d)) of images (N, H, W, C), uint8 or floats in [-1, 1], a batch at a time.

        t: () or (N,) int in 0..T, for a classifier of noisy images (whose x may lie outside [-1, 1]).
        """
        x = np.asarray(x)
        if len(x) == 0:
            return np.zeros((0, self.config.num_classes), np.float32), np.zeros((0, self.config.features), np.float32)
        if x.dtype != np.uint8 and not self.config.schedule:
            check.images(x, self.config.image_shape, "x")
        t = None if t is None else np.broadcast_to(np.asarray(t), x.shape[:1])
        batch = min(batch, 1 << (len(x) - 1).bit_length())  # few sizes, so few compilations
        logits, features = [], []
        for i in range(0, len(x), batch):
            part, t_part = x[i : i + batch], None if t is None else t[i : i + batch]
            n = len(part)
            if n < batch:  # the last batch is filled up, so that it does not compile again
                part = np.concatenate([part, np.broadcast_to(part[-1:], (batch - n, *part.shape[1:]))])
                t_part = None if t_part is None else np.concatenate([t_part, np.broadcast_to(t_part[-1:], batch - n)])
            a, b = _apply(self.config, self.params, part, t_part)
            logits.append(np.asarray(a)[:n])
            features.append(np.asarray(b)[:n])
        return np.concatenate(logits), np.concatenate(features)

    def logits(self, x: Any, t: Any = None) -> np.ndarray:
        """Unnormalised log p(c | x): (N, H, W, C) -> (N, num_classes)"""
        return self(x, t)[0]

    def features(self, x: Any, t: Any = None) -> np.ndarray:
        """The penultimate layer: (N, H, W, C) -> (N, 64)"""
        return self(x, t)[1]

    def predict(self, x: Any, t: Any = None) -> np.ndarray:
        """The most probable class: (N, H, W, C) -> (N,) int"""
        return self.logits(x, t).argmax(1)


def load(name: str = "fashion_mnist") -> Classifier:
    """The classifier that ships for that data set (or under that full name), or one at a path without its suffix."""
    path = Path(name)
    if not path.with_name(path.name + ".json").exists():
        shipped = weights.cards("classifier")
        full = name if name in shipped else f"{name}_classifier"
        if full not in shipped:
            check.choice("classifier", name, [*(s.removesuffix("_classifier") for s in shipped)])
        path = weights.FOLDER / full
    params, card = store.load(path)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in card["config"].items()}
    config = ClassifierConfig(**fields)
    return Classifier(config, jax.tree.map(jnp.asarray, params), card, path.name)


def save(path: str | Path, classifier: Classifier) -> None:
    """Write the parameters and the card, which holds the config."""
    card = {"kind": "classifier", "config": dataclasses.asdict(classifier.config)} | classifier.card
    store.save(path, jax.tree.map(np.asarray, classifier.params), card)


def accuracy(classifier: Classifier, x: Any, y: Any, t: Any = None) -> dict:
    """Share p of images whose most probable class is right, its standard error √(p(1-p)/n), and that of each class."""
    right = classifier.predict(x, t) == np.asarray(y)
    p, n = float(right.mean()), len(right)
    per_class = [round(float(right[y == k].mean()), 4) for k in range(classifier.config.num_classes)]
    return {"accuracy": p, "standard_error": math.sqrt(p * (1 - p) / n), "n": n, "per_class": per_class}


def noisy_accuracy(classifier: Classifier, x: Any, y: Any, seed: int = 0) -> dict:
    """The accuracy of p(c | x_t, t) at ten times from 0 to T, one noise for each image."""
    schedule = make_schedule(classifier.config.schedule, classifier.config.T)
    x0, by_t = data.to_float(np.asarray(x)), {}
    for t in np.linspace(0, schedule.T, 11).astype(int):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), t), x0.shape)
        x_t = np.asarray(q_sample(schedule, jnp.asarray(x0), jnp.int32(t), noise))
        by_t[int(t)] = round(accuracy(classifier, x_t, y, t)["accuracy"], 4)
    return {"accuracy_by_t": by_t, "n": len(x0), "schedule": classifier.config.schedule}


# --- training ---------------------------------------------------------------------------------------------------------


def augment(key: jax.Array, x: jax.Array, shift: int, flip: bool) -> jax.Array:
    """Each image moved by up to `shift` pixels (its edge repeated) and, half of them, mirrored. x: (B, H, W, C)"""
    key_shift, key_flip = jax.random.split(key)
    B, H, W, C = x.shape
    padded = jnp.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corner = jax.random.randint(key_shift, (B, 2), 0, 2 * shift + 1)
    x = jax.vmap(lambda a, at: jax.lax.dynamic_slice(a, (at[0], at[1], 0), (H, W, C)))(padded, corner)
    mirror = jax.random.bernoulli(key_flip, 0.5, (B, 1, 1, 1)) & flip
    return jnp.where(mirror, x[:, :, ::-1], x)


@lru_cache(maxsize=8)
def _training(
    config: ClassifierConfig, how: ClassifierTrainConfig, n_step: int
) -> tuple[optax.GradientTransformation, Callable[..., tuple[tuple, jax.Array]]]:
    """The optimiser and the compiled step: (state, n, x uint8, c) -> (state, share of the batch that was right)."""
    apply = build(config)[1]
    tx = optax.adamw(
        optax.cosine_onecycle_schedule(n_step, how.lr),
        weight_decay=how.weight_decay,
        mask=partial(jax.tree.map, lambda a: a.ndim > 1),
    )

    def loss(
        params: dict, schedule: Schedule | None, key: jax.Array, x0: jax.Array, c: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        key_augment, key_t, key_noise = jax.random.split(key, 3)
        x_t, t = augment(key_augment, x0, how.shift, how.flip), None
        if schedule is not None:
            t = stratified_times(key_t, len(x0), config.T + 1) - 1  # 0..T
            x_t = q_sample(schedule, x_t, t, jax.random.normal(key_noise, x_t.shape))
        logits = apply(params, x_t, t)[0]
        target = optax.smooth_labels(jax.nn.one_hot(c, config.num_classes), how.smoothing)
        return optax.softmax_cross_entropy(logits, target).mean(), (logits.argmax(1) == c).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(
        state: tuple, schedule: Schedule | None, n: jax.Array, x: jax.Array, c: jax.Array
    ) -> tuple[tuple, jax.Array]:
        params, mean, opt = state
        key = jax.random.fold_in(jax.random.key(how.seed), n)
        grad, right = jax.grad(loss, has_aux=True)(params, schedule, key, data.to_float(x), c)
        updates, opt = tx.update(grad, opt, params)
        params = optax.apply_updates(params, updates)
        decay = ema_decay(n.astype(jnp.float32), how.ema)
        mean = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, mean, params)
        return (params, mean, opt), right

    return tx, step


def train(
    config: ClassifierConfig, how: ClassifierTrainConfig, x: np.ndarray, y: np.ndarray, progress: bool = True
) -> Classifier:
    """AdamW with a one-cycle rate on cross-entropy with smoothed labels; the averaged parameters are kept.

    x: (N, H, W, C) uint8;  y: (N,) int. With a noise schedule, t is uniform in 0..T.   [Loshchilov and Hutter 2019]
    """
    n_step = len(x) // how.batch * how.epochs
    tx, step = _training(config, how, n_step)
    schedule = make_schedule(config.schedule, config.T) if config.schedule else None
    params = build(config)[0](jax.random.fold_in(jax.random.key(how.seed), 2**31 - 1))
    state, right = (params, jax.tree.map(jnp.copy, params), tx.init(params)), 0.0
    with tqdm(total=n_step, disable=not progress, unit="step", desc="classifier") as bar:
        for n in range(n_step):
            ids = data.batch_ids(how.seed, n, len(x), how.batch)
            state, r = step(state, schedule, jnp.int32(n), x[ids], y[ids].astype(np.int32))
            right = 0.98 * right + 0.02 * float(r)
            bar.update()
            if n % 50 == 49:
                bar.set_postfix(train_accuracy=f"{right:.4f}")
    if not all(np.all(np.isfinite(a)) for a in jax.tree.leaves(state[1])):
        raise RuntimeError(f"training diverged: the parameters are not finite. Lower lr, which is {how.lr}")
    return Classifier(config, state[1], {}, f"{how.data}_classifier")


def commit() -> str:
    """The commit that the code is at, with `+` where files differ from it; empty outside a repository."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if git(["git", "status", "--porcelain", "-uno", "."]).stdout else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def main(how: ClassifierTrainConfig) -> Classifier:
    """Train a classifier of a data set, measure it on the test images, and write weights and card."""
    from ddpm.run import device_name, versions

    config = CONFIGS[check.choice("data set", how.data, CONFIGS)]
    config = dataclasses.replace(config, schedule=how.schedule) if how.schedule else config
    images = data.load(how.data, how.data_dir)
    params = count(jax.eval_shape(build(config)[0], jax.random.key(0)))
    steps = len(images.x_train) // how.batch * how.epochs
    print(f"{how.data}: a classifier of {params:,} parameters, {steps:,} steps of {how.batch} on {device_name()}")
    start, at_commit = time.perf_counter(), commit()
    classifier = train(config, how, images.x_train, images.y_train)
    seconds = time.perf_counter() - start

    about = {f.name: getattr(how, f.name) for f in dataclasses.fields(how) if f.name not in ("out", "data_dir")}
    changed = []
    for k, v in about.items():
        if k != "data" and v != getattr(ClassifierTrainConfig, k):
            option = k.replace("_", "-")
            changed.append(f"--{'' if v else 'no-'}{option}" if isinstance(v, bool) else f"--{option} {v}")
    card = {
        "parameters": params,
        "train": about,
        "data": {"name": how.data, "sha256": images.sha256, "train_images": len(images.x_train)},
        "test": None if how.schedule else accuracy(classifier, images.x_test, images.y_test),
        "seconds": round(seconds),
        "device": device_name().replace(" 1 cores", " 1 core"),
        "versions": versions(),
        "commit": at_commit,
        "command": " ".join(["python -m ddpm.classifier", f"--data {how.data}", *changed]),
    }
    if how.schedule:
        card["test"] = noisy_accuracy(classifier, images.x_test, images.y_test, how.seed)
    classifier = dataclasses.replace(classifier, card={k: v for k, v in card.items() if v is not None})
    name = f"{how.data}{'_noisy' if how.schedule else ''}_classifier"
    path = Path(how.out) if how.out else weights.FOLDER / name
    save(path, classifier)
    print(f"test: {card['test']}\n{seconds:.0f} s; weights and card: {path}.safetensors, .json")
    return classifier


if __name__ == "__main__":
    main(tyro.cli(ClassifierTrainConfig))
