"""A small classifier: p(c | x) for accuracies, and 64 features per image to compare sets of images.

    p(c | x) = softmax(logits)_c,   logits = (W silu(f) + b)/√d,   f = features of x

It takes the place of an Inception network: it is trained on the data set itself, on one CPU core
(`ddpm.classifiers.fitting`; the network is in `ddpm.classifiers.convnet`), and ships with its card. With a `schedule`
it is p(c | x_t, t) (`ddpm.classifiers.timenet`), the classifier of Dhariwal and Nichol (2021, Sec. 4).

The features are d = 64 wide because the Fréchet distance of n images is too large by about (d + d(d+1)/4)/n in whitened
features (`ddpm.evaluation.distances.frechet_floor`): wide features need many images before they are informative. They
are the mean over the image and its mirror image, so a distance in them ignores whether a shoe points left or right.
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
from ddpm.tools import check, files, schema

Config = ClassifierConfig | TimeNetConfig


def build(config: Config) -> tuple[Callable[..., dict], Callable[..., tuple[jax.Array, jax.Array]]]:
    """Return `init(key) -> params` and `apply(params, x, t=None) -> (logits, features)` of either network."""
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
    """A trained classifier: its config, its parameters, and the card that reports its accuracy."""

    config: Config
    params: dict
    card: dict
    name: str = "unnamed"

    def __call__(self, x: Any, t: Any = None, batch: int = 250) -> tuple[np.ndarray, np.ndarray]:
        """Compute logits (N, K) and features (N, d) of images, one batch at a time.

        x: (N, H, W, C), uint8 or floats in [-1, 1].

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
            if n < batch:  # the last batch is padded, so that it does not compile again
                part = np.concatenate([part, np.broadcast_to(part[-1:], (batch - n, *part.shape[1:]))])
                t_part = None if t_part is None else np.concatenate([t_part, np.broadcast_to(t_part[-1:], batch - n)])
            a, b = _apply(self.config, self.params, part, t_part)
            logits.append(np.asarray(a)[:n])
            features.append(np.asarray(b)[:n])
        return np.concatenate(logits), np.concatenate(features)

    def logits(self, x: Any, t: Any = None) -> np.ndarray:
        """Compute log p(c | x), up to a constant: (N, H, W, C) -> (N, num_classes)"""
        return self(x, t)[0]

    def features(self, x: Any, t: Any = None) -> np.ndarray:
        """Compute the penultimate layer: (N, H, W, C) -> (N, 64)"""
        return self(x, t)[1]

    @property
    def log_prob(self) -> Partial:
        """Return log p(c | x_t), a differentiable function (x_t, t, c) -> (B,) for `guide.classifier`."""
        return Partial(_log_prob(self.config), self.params)

    def predict(self, x: Any, t: Any = None) -> np.ndarray:
        """Predict the most probable class: (N, H, W, C) -> (N,) int"""
        return self.logits(x, t).argmax(1)


def load(name: str = "fashion_mnist") -> Classifier:
    """Load a classifier.

    name: a data set or the name of shipped weights, a run's folder, or a path without suffix
    """
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
    config = read_config(card, f"{path}.json")
    return Classifier(config, jax.tree.map(jnp.asarray, params), card, path.name)


LIMITS = {"image_size": (4, 2048), "num_classes": (1, 100_000), "widths": (1, 65_536), "T": (1, 100_000)}


def read_config(card: dict[str, Any], where: str) -> Config:
    """Check the card of a classifier and return its network; a ValueError names the file and the field."""
    if card.get("kind", "classifier") != "classifier":
        raise ValueError(f"{where}: kind is {schema.show(card['kind'])}; wanted 'classifier'")
    fields = card.get("config")
    noisy = isinstance(fields, dict) and fields.get("schedule")
    kind: type[Config] = TimeNetConfig if noisy else ClassifierConfig
    return schema.read(kind, fields, f"{where}: config", LIMITS, strict=True)


def save(path: str | Path, classifier: Classifier) -> None:
    """Write the parameters and the card, which holds the config."""
    card = {"kind": "classifier", "config": dataclasses.asdict(classifier.config)} | classifier.card
    files.save(path, jax.tree.map(np.asarray, classifier.params), card)


def accuracy(classifier: Classifier, x: Any, y: Any, t: Any = None) -> dict:
    """Measure the share p of correct predictions, its standard error √(p(1-p)/n), and p of each class."""
    right = classifier.predict(x, t) == np.asarray(y)
    p, n = float(right.mean()), len(right)
    per_class = [round(float(right[y == k].mean()), 4) for k in range(classifier.config.num_classes)]
    return {"accuracy": p, "standard_error": math.sqrt(p * (1 - p) / n), "n": n, "per_class": per_class}
