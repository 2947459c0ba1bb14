"""A small classifier: p(c | x) for accuracies, and 64 numbers an image in which sets of images are compared.

    p(c | x) = softmax(logits)_c,   logits = (W silu(f) + b)/√d,   f = features of x

There is no Inception network here: what takes its place is trained on the data set itself, on one CPU core
(`ddpm.classifier_train`; the network is in `ddpm.convnet`), and ships with its card. With a `schedule` it is
p(c | x_t, t) (`ddpm.timenet`), the classifier of Dhariwal and Nichol (2021, Sec. 4).

The features are d = 64 wide because the Fréchet distance of n images is too large by about (d + d(d+1)/4)/n in whitened
features (`ddpm.metrics.frechet_floor`): wide features need many images before they say anything. They are the mean of
those of the image and of its mirror image, so a distance in them does not see whether a shoe points left or right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from ddpm import data, weights
from ddpm.classifiers import convnet, timenet
from ddpm.classifiers.convnet import ClassifierConfig
from ddpm.classifiers.timenet import TimeNetConfig
from ddpm.tools import check, files

Config = ClassifierConfig | TimeNetConfig


def build(config: Config) -> tuple[Callable[..., dict], Callable[..., tuple[jax.Array, jax.Array]]]:
    """`init(key) -> params` and `apply(params, x, t=None) -> (logits, features)` of either network."""
    return timenet.build(config) if isinstance(config, TimeNetConfig) else convnet.build(config)


@partial(jax.jit, static_argnums=0)
def _apply(config: Config, params: dict, x: jax.Array, t: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    x = data.to_float(x) if x.dtype == jnp.uint8 else x
    return build(config)[1](params, x, t)


@lru_cache(maxsize=32)
def _log_prob(config: Config) -> Callable[..., jax.Array]:
    def log_prob(params: dict, x_t: jax.Array, t: Any, c: jax.Array) -> jax.Array:
        logits = build(config)[1](params, x_t, t)[0]
        return jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(c)[:, None], 1)[:, 0]

    return log_prob


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier: its config, its parameters, and the card that says how good it is."""

    config: Config
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

    @property
    def log_prob(self) -> Partial:
        """log p(c | x_t): (x_t, t, c) -> (B,), which `guide.classifier` takes; it can be differentiated."""
        return Partial(_log_prob(self.config), self.params)

    def predict(self, x: Any, t: Any = None) -> np.ndarray:
        """The most probable class: (N, H, W, C) -> (N,) int"""
        return self.logits(x, t).argmax(1)


def load(name: str = "fashion_mnist") -> Classifier:
    """The classifier that ships for that data set (or under that name), a run's folder, or a path without suffix."""
    path = Path(name)
    if (path / "classifier.json").exists():
        path = path / "classifier"
    if not path.with_name(path.name + ".json").exists():
        shipped = weights.cards("classifier")
        full = name if name in shipped else f"{name}_classifier"
        if full not in shipped:
            check.choice("classifier", name, [*(s.removesuffix("_classifier") for s in shipped)])
        path = weights.FOLDER / full
    params, card = files.load(path)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in card["config"].items()}
    kind = TimeNetConfig if fields.get("schedule") else ClassifierConfig
    return Classifier(kind(**fields), jax.tree.map(jnp.asarray, params), card, path.name)


def save(path: str | Path, classifier: Classifier) -> None:
    """Write the parameters and the card, which holds the config."""
    card = {"kind": "classifier", "config": dataclasses.asdict(classifier.config)} | classifier.card
    files.save(path, jax.tree.map(np.asarray, classifier.params), card)


def accuracy(classifier: Classifier, x: Any, y: Any, t: Any = None) -> dict:
    """Share p of images whose most probable class is right, its standard error √(p(1-p)/n), and that of each class."""
    right = classifier.predict(x, t) == np.asarray(y)
    p, n = float(right.mean()), len(right)
    per_class = [round(float(right[y == k].mean()), 4) for k in range(classifier.config.num_classes)]
    return {"accuracy": p, "standard_error": math.sqrt(p * (1 - p) / n), "n": n, "per_class": per_class}
