"""Measure bits/dim, the cost of storing byte images, by the bound and by the flow.

A model with P(b) for the byte image b ∈ {0…255}^D stores it in -log₂ P(b) bits: -log₂ P(b)/D bits per dimension.

*The bound.* The decoder at t = 1 is a probability mass function on bytes (`bound.decoder_nll`), so -log₂ P(b) ≤ L holds
as it stands: data are x = b/127.5 - 1, and no density is involved. [Ho et al. 2020, Eq. 5] The sum over t is estimated
without bias: L_T and the term t = 1 are exact; of 2…T a few are drawn with probability q(t) ∝ 1/t and divided by it.

*The flow.* It gives a density p on R^D, which uniform noise turns into a probability mass [Theis et al. 2016, Eq. 3]:
with u ~ U[0, 1)^D and y = b + u, P(b) = ∫ p_y(b + u) du, so by Jensen's inequality

    -log₂ P(b) ≤ -E_u log₂ p_y(b + u).

The network sees x = y/128 - 1, in [-1, 1); y = 128 (x + 1) stretches each of the D dimensions by 128, so

    p_y(y) = p_x(x) 128^-D        and        bits/dim = -log₂ p_x(x)/D + log₂ 128,

where the offset is 7. (For data on [0, 1] it is 8. Without the offset, a model looks 7 or 8 bits better than it is, and
its bits may be negative.) Two choices make the result an upper bound rather than an estimate of the optimum: u is not
learned, and p_x is the density at the first time, p_1 (data and noise of variance 1-ᾱ_1), evaluated at x itself.

The baselines are fitted to the training images: a histogram for each pixel (a probability mass on bytes), and one
Gaussian with full covariance (a density, with the same u and the same offset).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import partial_of
from ddpm.data import Dataset, to_float
from ddpm.evaluation.measure import Measure
from ddpm.evaluation.ode_likelihood import density_bits_per_dim, dequantise, ode_log_prob
from ddpm.evaluation.statistics import stratified_subset
from ddpm.losses.bound import bound_term, prior_bits
from ddpm.oracles.gaussian import MOST_NUMBERS
from ddpm.samplers.solvers import sigma_bar
from ddpm.schedule import Schedule
from ddpm.tools import check, keys
from ddpm.tools.batches import parts, progress
from ddpm.tools.conditions import rows
from ddpm.tools.partials import check_labels

# --- baselines --------------------------------------------------------------------------------------------------------


def histogram_bits(train: np.ndarray, test: np.ndarray, prior: float = 0.5) -> np.ndarray:
    """Compute bits/dim under a histogram of the training bytes at each pixel: (N, ...) uint8 -> (N,)

    ½ is added to every count.   [Krichevsky and Trofimov 1981]
    """
    a, b = train.reshape(len(train), -1), test.reshape(len(test), -1)
    bits = np.zeros(len(b))
    for pixel in range(a.shape[1]):
        count = np.bincount(a[:, pixel], minlength=256) + prior
        bits -= np.log2(count / count.sum())[b[:, pixel]]
    return bits / a.shape[1]


def gaussian_bits(train: np.ndarray, test: np.ndarray, seed: int = 0) -> np.ndarray:
    """Compute bits/dim of dequantised test bytes under one Gaussian fitted to the training bytes: (N,)"""
    rng, D = np.random.default_rng(seed), int(np.prod(train.shape[1:]))
    x, y = ((b.reshape(len(b), D) + rng.random((len(b), D), np.float32)) / 128 - 1 for b in (train, test))
    mean = x.mean(0, dtype=np.float64)
    x, y = x - mean.astype(np.float32), y - mean
    lam, U = np.linalg.eigh(np.asarray(x.T @ x, np.float64) / (len(x) - 1))
    log_prob = -0.5 * ((y @ U) ** 2 / lam + np.log(2 * np.pi * lam)).sum(1)
    return np.asarray(density_bits_per_dim(log_prob, D))


# --- a model ----------------------------------------------------------------------------------------------------------


def drawn_times(T: int, n: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw times 2…T with probability q(t) ∝ 1/t; return t and 1/q(t), each (draws, n).

    The draws of an image are stratified: one from each of `draws` equal parts of q. They do not depend on n.
    """
    t = np.arange(2, T + 1)
    q = (1 / t) / (1 / t).sum()
    u = (np.arange(draws)[:, None] + np.random.default_rng(seed).random((n, draws)).T) / draws
    at = np.minimum(np.searchsorted(np.cumsum(q), u), len(t) - 1)
    return t[at], 1 / q[at]


def bound_bits(
    eps: Any,
    schedule: Schedule,
    x0: Any,
    c: Any = None,
    *,
    draws: int = 20,
    variance: Any = "fixed_large",
    seed: int = 0,
    batch: int = 100,
) -> np.ndarray:
    """Estimate the variational bound of each image in bits/dim: (N, ...) -> (N,)

    The estimate is unbiased and takes 1 + draws calls of ε. The times and noises of image i are its own, whatever N and
    the batch.
    x0: bytes scaled to [-1, 1];  c: (N,) labels, or None for ∅;  variance: as in `bound.bound_term`.
    """
    # times and their weights, with t = 1 first
    check.whole("draws", draws, 1)
    x0, eps, n = np.asarray(x0, np.float32), partial_of(eps), len(x0)
    c = None if c is None else check_labels(eps, c, (n,))
    times, weight = drawn_times(schedule.T, n, draws, seed)
    times, weight = np.vstack([np.ones((1, n), int), times]), np.vstack([np.ones((1, n)), weight / draws])
    bits, key, term = np.zeros(n), jax.random.key(seed), bound_term(eps, schedule, variance)
    # sum of the terms, batch by batch
    with progress(total=n * (draws + 1), desc="bits/dim, bound", unit="call") as bar:
        for ids, m in parts(n, batch):
            x, own = jnp.asarray(x0[ids]), keys.of_images(key, ids)
            label = jax.tree.map(jnp.asarray, rows(c, ids))
            total = np.array(prior_bits(schedule, x), np.float64)
            for k in range(draws + 1):
                t = jnp.asarray(times[k, ids], jnp.int32)
                noise = keys.normal_like(keys.fold_in(own, k), x)
                total += weight[k, ids] * np.asarray(term(x, t, t - 1, noise, label), np.float64)
                bar.update(m)
            bits[ids[:m]] = total[:m]
    return bits


def even_times(schedule: Schedule, steps: int) -> np.ndarray:
    """Return at most steps + 1 ascending times 1…T, nearly even in log σ̄, σ̄ = √((1-ᾱ)/ᾱ)."""
    check.whole("steps", steps, 1)
    sigma = np.log(np.asarray(sigma_bar(schedule, jnp.arange(1, schedule.T + 1)), np.float64))
    wanted = np.linspace(sigma[0], sigma[-1], steps + 1)
    return np.unique(1 + np.abs(sigma[None, :] - wanted[:, None]).argmin(1))


def flow_bits(
    eps: Any,
    schedule: Schedule,
    images: Any,
    c: Any = None,
    *,
    steps: int = 50,
    seed: int = 0,
    batch: int = 50,
) -> np.ndarray:
    """Compute bits/dim of each byte image by the probability-flow ODE: (N, ...) -> (N,)

    Image i has its own u and its own Hutchinson probe, whatever N and the batch.
    images: uint8;  c: (N,) labels, or None for ∅;  steps: of Heun's method, each two calls of ε and of its gradient.
    """
    images, eps, n = np.asarray(images), partial_of(eps), len(images)
    c = None if c is None else check_labels(eps, c, (n,))
    times, key, bits = even_times(schedule, steps), jax.random.key(seed), np.zeros(n)
    with progress(total=n, desc="bits/dim, flow", unit="image") as bar:
        for ids, m in parts(n, batch):
            key_u, key_probe = keys.split(keys.of_images(key, ids))
            x = dequantise(key_u, jnp.asarray(images[ids]))
            label = jax.tree.map(jnp.asarray, rows(c, ids))
            log_prob = ode_log_prob(eps, schedule, x, label, times=times, key=key_probe)
            bits[ids[:m]] = np.asarray(density_bits_per_dim(log_prob, int(np.prod(x.shape[1:]))))[:m]
            bar.update(m)
    return bits


def _gaussian_reference(data: Dataset, seed: int) -> tuple[float | None, str]:
    """bits/dim of the test images under one Gaussian; none where the images are too few, or too large, to fit it."""
    D = int(np.prod(data.image_shape))
    if len(data.x_train) <= D or D > MOST_NUMBERS:
        return None, ""
    return float(gaussian_bits(data.x_train, data.x_test, seed).mean()), "one Gaussian, full covariance"


def check_images(**numbers: int) -> None:
    """Refuse a number of test images other than 0, which omits the measure, or at least 2: one has no error."""
    for name, n in numbers.items():
        if check.whole(name, n, 0) == 1:
            raise ValueError(f"{name} is 1, and one image has no standard error; give at least 2, or 0 to omit it")


def measures(
    eps: Any,
    schedule: Schedule,
    data: Dataset,
    num_classes: int,
    *,
    n_bound: int = 500,
    n_flow: int = 100,
    seed: int = 0,
) -> dict[str, Measure]:
    """Measure bits/dim of test images by the bound and by the flow; 0 images omit one.

    The class is given if the model takes labels.
    """
    check_images(n_bound=n_bound, n_flow=n_flow)
    out: dict[str, Measure] = {}
    for name, title, n in (("bits_bound", "bits/dim, bound", n_bound), ("bits_flow", "bits/dim, flow", n_flow)):
        if min(n, len(data.x_test)) < 2:
            continue
        # test images, balanced by class
        ids = stratified_subset(data.y_test, min(n, len(data.x_test)), seed)
        x, c = data.x_test[ids], data.y_test[ids] if num_classes else None
        # bits and baseline
        if name == "bits_bound":
            bits = bound_bits(eps, schedule, to_float(x), c, seed=seed)
            reference: float | None = float(histogram_bits(data.x_train, data.x_test).mean())
            what = "histogram of each pixel"
            how = "variational bound, variance β; L_T and t = 1 exactly, 20 draws of 2..T"
        else:
            bits = flow_bits(eps, schedule, x, c, seed=seed)
            reference, what = _gaussian_reference(data, seed)
            how = "probability-flow ODE, 50 steps of Heun, uniform dequantisation, one probe, offset 7"
        out[name] = Measure(
            title,
            float(bits.mean()),
            float(bits.std(ddof=1) / np.sqrt(len(bits))),
            len(bits),
            f"test images of {data.name}{', labels given' if num_classes else ''}",
            how,
            "pixels",
            seed,
            "lower",
            "over images, with their draws",
            reference,
            what,
        )
    return out
