"""Images of a shipped model, drawn once by any step, and judged in the shipped classifier's features.

The images are kept in the cache folder under the hash of weights and settings, so an interrupted experiment resumes
where it stopped, and two experiments that need the same images draw them only once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ddpm import data
from ddpm.classifiers import classifier
from ddpm.datasets import sources
from ddpm.evaluation import distances, real_features, statistics
from ddpm.sample import walk
from ddpm.schedule import make_times
from ddpm.tools import cache, files, image_files
from ddpm.zoo import model
from experiments.lab.runner import Unavailable


class Judge:
    """The real images and their features, to which other images are compared."""

    def __init__(self, name: str):
        try:
            self.data = sources.load(name)
        except (FileNotFoundError, ConnectionError) as error:
            raise Unavailable(f"the experiment compares with the real {name}, which is not here: {error}") from error
        self.classifier = classifier.load(name)
        self.real = real_features.reference(self.data, self.classifier)
        self.train = distances.moments(self.real.train)

    def features(self, x: np.ndarray) -> np.ndarray:
        """(n, H, W, C) uint8 -> (n, d)"""
        return self.classifier.features(x)

    def frechet(self, f: np.ndarray, c: np.ndarray | None = None) -> tuple[float, float]:
        """Fréchet distance of features (n, d) to the training images', and its bootstrap standard error."""

        def distance(g: np.ndarray) -> float:
            return distances.frechet_moments(distances.moments(g), self.train)

        return distance(f), statistics.bootstrap(f, distance, draws=40, strata=c)

    def further(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[float, float]:
        """Distance of features a minus that of b, whose rows share noise and labels c: both (n, d).

        The standard error comes from a bootstrap that draws the same rows of both.
        """
        d = a.shape[1]

        def difference(g: np.ndarray) -> float:
            far, near = (distances.frechet_moments(distances.moments(h), self.train) for h in (g[:, :d], g[:, d:]))
            return far - near

        both = np.concatenate([a, b], 1)
        return difference(both), statistics.bootstrap(both, difference, draws=40, strata=c)

    def floor(self, n: int, seed: int = 0) -> float:
        """Fréchet distance of n real test images, equally many of each class."""
        ids = statistics.stratified_subset(self.data.y_test, n, seed)
        return distances.frechet_moments(distances.moments(self.real.test[ids]), self.train)

    def accuracy(self, x: np.ndarray, c: np.ndarray) -> tuple[float, float]:
        """Share of images that the classifier assigns to the requested class, and its standard error."""
        p = float((self.classifier.predict(x) == c).mean())
        return p, float(np.sqrt(max(p * (1 - p), 1 / len(x)) / len(x)))


def labels(m: model.Model, n: int) -> np.ndarray:
    """n labels: the classes in turn."""
    return np.arange(n, dtype=np.int32) % m.num_classes


def draw(
    m: model.Model,
    name: str,
    make_step: Callable[[jax.Array], Any],
    n: int,
    steps: int,
    seed: int = 0,
    *,
    begin: Callable[[jax.Array, jax.Array], Any] = lambda x, c: x,
    end: Callable[[Any], Any] = lambda x: x,
    rule: str = "trailing",
    times: np.ndarray | None = None,
    batch: int = 100,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw n images (uint8) by the walk of make_step(c), and a number each; cached under `name` and the settings.

    make_step: labels (batch,) -> step;  begin: (x_T, labels) -> the walk's first state;  end: last state -> (x_0, one
    number an image);  times: replaces the rule's list of `steps`.
    """
    settings: dict[str, Any] = {"name": name, "n": n, "steps": steps, "seed": seed, "rule": rule, "batch": batch}
    if times is not None:
        settings["times"] = [int(t) for t in times]
    path = cache.path("drawn", m.card.get("sha256", m.name), settings)
    path = Path(f"{path}.npz")
    if path.exists():
        try:
            x, extra = image_files.load_npz(path)
            return x, np.zeros(n) if extra is None else extra
        except files.Damaged:
            pass
    times = make_times(m.schedule.T, steps, rule) if times is None else times
    done, extras = [], []
    key_x, key = jax.random.split(jax.random.key(seed))
    for i in tqdm(range(0, n, batch), desc=name, unit="batch"):
        c = jnp.asarray(labels(m, n)[np.minimum(np.arange(i, i + batch), n - 1)])
        x_T = jax.random.normal(jax.random.fold_in(key_x, i), (batch, *m.image_shape))
        out = end(walk(make_step(c), jax.random.fold_in(key, i), begin(x_T, c), times))
        drawn, number = out if isinstance(out, tuple) else (out, jnp.zeros(batch))
        done.append(data.to_uint8(np.asarray(drawn))[: n - i])
        extras.append(np.broadcast_to(np.asarray(number), (batch,))[: n - i])
    images, extra = np.concatenate(done), np.concatenate(extras)
    path.parent.mkdir(parents=True, exist_ok=True)
    image_files.save_npz(path, images, np.round(extra).astype(np.int64))
    return images, extra
