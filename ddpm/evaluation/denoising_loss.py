"""Measure the test ε-MSE of a denoiser, compared with the exact linear-Gaussian baseline."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of
from ddpm.data import Dataset, to_float
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.statistics import stratified_subset
from ddpm.loss import per_image, squared_error
from ddpm.oracles import low_rank
from ddpm.oracles.gaussian import MOST_NUMBERS, fit, linear_loss
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.batches import parts, progress
from ddpm.tools.conditions import rows
from ddpm.tools.partials import check_labels

RANK = 128  # directions of the low-rank baseline of large images


@jax.jit
def _errors(
    eps: Eps, schedule: Schedule, x0: jax.Array, t: jax.Array, c: jax.Array | None, key: jax.Array, ids: jax.Array
) -> jax.Array:
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), x0.shape[1:]))(ids)
    return per_image(squared_error(eps, schedule, x0, t, noise, c))


def eps_mse(
    eps: Eps,
    schedule: Schedule,
    x0: Any,
    c: Any = None,
    key: jax.Array | None = None,
    *,
    repeats: int = 1,
    batch: int = 250,
    baseline: np.ndarray | None = None,
) -> Measure:
    """L_simple = E_{t, x0, ε} ‖ε - ε̂(x_t, t, c)‖²/D on given images, t uniform on 1…T.   [Ho et al. 2020, Eq. 14]

    x0: (N, ...) floats in [-1, 1];  c: (N,) labels, or None for ∅. Each image is used `repeats` times. The N·repeats
    times are stratified, one draw from each of as many equal parts of 1…T, and assigned to the images at random, so
    that little of the error comes from t. The same key gives the same times and noises, so differences between
    denoisers are paired.
    baseline: (T+1,) the loss of another denoiser at each t (`oracle.linear_loss`); its mean is reported too.
    """
    # images, labels and keys
    x0, T = np.asarray(x0, dtype=np.float32), schedule.T
    key = jax.random.key(0) if key is None else key
    N = len(x0)
    n = N * check.whole("repeats", repeats, 1)
    c = None if c is None else check_labels(eps, c, (N,))
    key_t, key_deal, key_noise = jax.random.split(key, 3)
    # stratified times, assigned to images at random
    t = _stratified(key_t, n, T)  # ascending
    image = np.asarray(jax.random.permutation(key_deal, n)) % N  # the image of each time
    # losses, batch by batch
    eps, loss = partial_of(eps), np.empty(n)
    for ids, m in progress(parts(n, batch), desc="ε-MSE", unit="batch"):
        label = jax.tree.map(jnp.asarray, rows(c, image[ids]))
        errors = _errors(
            eps, schedule, jnp.asarray(x0[image[ids]]), jnp.asarray(t[ids]), label, key_noise, jnp.asarray(ids)
        )
        loss[ids[:m]] = np.asarray(errors)[:m]
    # standard error within parts of 1…T
    bins = [_bin(loss[part]) for part in np.array_split(np.arange(n), min(50, max(1, n // 4)))]
    return Measure(
        "ε-MSE",
        float(loss.mean()),
        float(np.sqrt(sum((error * size / n) ** 2 for _, error, size in bins))),
        n,
        f"draws on {N:,} images, {'no label' if c is None else 'labels given'}",
        f"t uniform on 1..{T}",
        better="lower",
        error="over draws within 50 parts of 1..T",
        reference=None if baseline is None else float(np.mean(baseline[1:])),
        reference_what="" if baseline is None else "best linear-Gaussian",
        detail={"by_t": _by_t(loss, t, T, baseline)},
    )


def _stratified(key: jax.Array, n: int, T: int) -> np.ndarray:
    """Draw one time from each of n equal parts of 1…T: (n,), ascending"""
    u = (np.arange(n) + np.asarray(jax.random.uniform(key, (n,)))) / n
    return np.minimum(1 + (u * T).astype(np.int32), T)


def _bin(loss: np.ndarray) -> tuple[float, float, int]:
    """Return the mean, its standard error, and the number of draws."""
    n = len(loss)
    return float(loss.mean()), float(loss.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0, n


def _by_t(loss: np.ndarray, t: np.ndarray, T: int, baseline: np.ndarray | None) -> list[dict]:
    """Report the loss, its standard error and the baseline for each tenth of 1…T."""
    edges, rows = np.unique(np.linspace(0, T, 11).astype(int)), []
    for low, high in zip(edges[:-1] + 1, edges[1:], strict=True):
        inside = (t >= low) & (t <= high)
        if inside.any():
            value, error, n = _bin(loss[inside])
            row: dict[str, Any] = {"t": [int(low), int(high)], "value": value, "standard_error": error, "n": n}
            rows.append(row if baseline is None else {**row, "baseline": float(np.mean(baseline[low : high + 1]))})
    return rows


def _baseline(train: np.ndarray, train_labels: Any, schedule: Schedule, x: np.ndarray, labels: Any) -> np.ndarray:
    """The loss of the best linear denoiser of the training images on other images x at every t: (T+1,)"""
    if train[0].size <= MOST_NUMBERS:
        return linear_loss(fit(train, train_labels), schedule, x, labels)
    fewest = len(train) if train_labels is None else min(np.unique(train_labels, return_counts=True)[1])
    found = low_rank.fit(train, train_labels, min(RANK, fewest - 1))
    return found.loss_on(schedule, x, labels)


def denoising(
    eps: Eps,
    schedule: Schedule,
    data: Dataset,
    num_classes: int,
    *,
    n: int | None = None,
    seed: int = 0,
    repeats: int = 1,
) -> dict[str, Measure]:
    """Measure the test ε-MSE with labels and with ∅, each with a linear-Gaussian baseline.

    The baseline is exact (`gaussian.linear_loss`): Gaussians are fitted to the training images and evaluated on the
    same test images, with one Gaussian per class for labels and a single one for ∅. For images of more than
    `MOST_NUMBERS` numbers they are low-rank Gaussians.
    """
    # test images, balanced by class
    ids = stratified_subset(data.y_test, len(data.x_test) if n is None else min(n, len(data.x_test)), seed)
    x, c, train = to_float(data.x_test[ids]), data.y_test[ids], to_float(data.x_train)
    out, key = {}, jax.random.key(seed)
    for name, title, labels, train_labels in (
        ("eps_mse", "ε-MSE, class given", c, data.y_train),
        ("eps_mse_null", "ε-MSE, no class", None, None),
    ):
        # loss and baseline on the same draws
        if labels is not None and not num_classes:
            continue
        baseline = _baseline(train, train_labels, schedule, x, labels)
        m = eps_mse(eps, schedule, x, labels, key, repeats=repeats, baseline=baseline)
        of = f"draws on {len(x):,} test images of {data.name}"
        detail = {**m.detail, "ratio": m.value / float(np.mean(baseline[1:]))}  # below 1: better than any linear one
        out[name] = dataclasses.replace(m, name=title, of=of, seed=seed, detail=detail)
    return out
