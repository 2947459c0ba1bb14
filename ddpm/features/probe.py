"""Linear probes: how well the class can be read from a layer of the denoiser, by layer and time.

    ĉ = argmax_k w_k · f + b_k,    f = mean over positions of h_layer(x_t, t, ∅)              [Xiang et al. 2023, DDAE]

The features are computed without a label, so that they cannot reveal it; the probe is multinomial logistic regression
(scikit-learn) on standardised features. The best features lie in between: neither the first layers nor the last,
neither t = 0 nor pure noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.evaluation import statistics
from ddpm.features.activations import Trained, seen_by, weights_of
from ddpm.features.activations import layers as all_layers
from ddpm.forward import q_sample
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.batches import parts, progress


class Probe(NamedTuple):
    """The accuracy of a linear classifier on held-out images."""

    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    n_train: int
    n_test: int
    width: int  # of the features
    C: float  # the inverse regularisation, chosen on a fifth of the training images


def pooled_features(
    model: Trained,
    x0: Any,
    key: jax.Array,
    t: int,
    names: Sequence[str] | None = None,
    *,
    batch: int = 100,
) -> dict[str, np.ndarray]:
    """Average each layer's activations over positions, at one noise draw: {name: (B, C)}, in one pass.

    x0: (B, H, W, C) in [-1, 1];  t: 0..T, 0 for the clean image;  names: of `features.layers`, all of them if None.
    Image b has its own noise, fold_in(key, b), unlike in DIFT, where images are compared with each other.
    """
    # Validation
    config = model.unet
    x0 = np.asarray(check.images(x0, config.image_shape))
    check.whole("t", t, 0, model.schedule.T)
    names = tuple(all_layers(config)) if names is None else tuple(names)
    for layer in names:
        check.choice("layer", layer, all_layers(config))
    # Features, one batch at a time
    found = []
    for ids, m in progress(parts(len(x0), batch), desc=f"features, t = {t}", unit="batch"):
        f = _pooled(config, weights_of(model), x0[ids], ids, key, jnp.int32(t), names)
        found.append([np.asarray(a)[:m] for a in f])
    return {name: np.concatenate([p[j] for p in found]) for j, name in enumerate(names)}


@partial(jax.jit, static_argnames=("config", "names"))
def _pooled(
    config: UNetConfig,
    weights: tuple[dict, Schedule, Any],
    x0: jax.Array,
    ids: jax.Array,
    key: jax.Array,
    t: jax.Array,
    names: tuple[str, ...],
) -> list[jax.Array]:
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), x0.shape[1:], x0.dtype))(ids)
    by_layer = seen_by(config, weights, q_sample(weights[1], x0, t, noise), t)
    return [by_layer[name].astype(jnp.float32).mean((1, 2)) for name in names]


def linear_probe(
    f_train: Any, y_train: Any, f_test: Any, y_test: Any, *, Cs: Sequence[float] = (0.01, 0.1, 1.0), seed: int = 0
) -> Probe:
    """Fit logistic regression on f_train (N, d) and measure it on f_test (M, d).

    C is chosen on a fifth of the training set. Features are standardised with the mean and the standard deviation of
    the training set. y: (N,) int.
    """
    f_train, f_test = (np.asarray(f, dtype=np.float64) for f in (f_train, f_test))
    y_train, y_test = np.asarray(y_train), np.asarray(y_test)
    for name, f, y in (("train", f_train, y_train), ("test", f_test, y_test)):
        if f.ndim != 2 or y.shape != f.shape[:1] or not len(f):
            raise ValueError(f"f_{name} has shape {f.shape} and y_{name} {y.shape}; give (N, d) and (N,), N >= 1")
    if len(np.unique(y_train)) < 2 or len(f_train) < 10:
        raise ValueError("y_train has one class or fewer than 10 labels; a probe wants at least two classes")
    if not np.isin(y_test, y_train).all():
        raise ValueError("y_test has a class that y_train lacks; take more training images")
    order = np.random.default_rng(seed).permutation(len(f_train))
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]
    best = max(Cs, key=lambda C: _accuracy(f_train[rest], y_train[rest], f_train[held], y_train[held], C))
    p = _accuracy(f_train, y_train, f_test, y_test, best)
    return Probe(p, statistics.wilson(p, len(f_test)), len(f_train), len(f_test), f_train.shape[1], best)


def _accuracy(f_train: np.ndarray, y_train: np.ndarray, f_test: np.ndarray, y_test: np.ndarray, C: float) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are enough for a comparison
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=200)).fit(f_train, y_train)
    return float(model.score(f_test, y_test))


def probe_grid(
    model: Trained,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    times: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    key: jax.Array,
) -> dict[tuple[str, int], Probe]:
    """Fit a probe for each layer and time: {(name, t): Probe}.

    train, test: images (N, H, W, C) and labels (N,).
    """
    # One forward pass per time serves all layers
    out = {}
    for t in times:
        keys = jax.random.split(jax.random.fold_in(key, t))
        both = [pooled_features(model, x, k, t, names) for (x, _), k in zip((train, test), keys, strict=True)]
        for name in both[0]:
            out[name, t] = linear_probe(both[0][name], train[1], both[1][name], test[1])
    return out
