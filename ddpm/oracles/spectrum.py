"""The training loss of the best linear denoiser, from the eigenvalues of the images' covariance alone.

With the eigenvalues λ of one Gaussian, or of one for each class, the loss on the images that it was fitted to is

    L_t = (1/D) Σ_d f(λ_d),   f(λ) = ᾱ_t λ / (ᾱ_t λ + 1-ᾱ_t)

No eigenvector is needed. For N images of D numbers the covariance D x D and the matrix of products N x N have the same
eigenvalues, so either is enough. Where both are large, the r largest are found by subspace iteration, and the rest, of
which the sum S and the number m are known, is bounded: f is concave, so Σ f is largest if all are S/m, and smallest if
S/λ_r of them are λ_r and the others 0. The upper bound is the loss of the denoiser of `ddpm.oracles.low_rank`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ddpm.data import to_float
from ddpm.oracles.low_rank import fit
from ddpm.schedule import Schedule

MOST_EXACT = 4096  # the largest matrix whose eigenvalues are all computed; half a minute on two cores
RANK = 512
CHUNK = 1024  # images that are floats at the same time


class Axes(NamedTuple):
    """The principal axes of images in groups: variance, mean and number of each group."""

    var: np.ndarray  # (k,) λ, falling: the mean of the group
    mean: np.ndarray  # (k,) of μ in the eigenbasis, the root mean square of the group
    number: np.ndarray  # (k,) how many axes the group has


def axes(x: np.ndarray, alone: int = 16, groups: int = 8, images: int = 10_000) -> Axes:
    """Find the principal axes of (some of) the images: the largest ones each alone, the others in groups.

    x: (N, ...) uint8, of which evenly spaced ones are taken, at most 1 GiB as floats. Above `MOST_EXACT` numbers an
    image, 256 axes are found, and the others have one variance.
    """
    D = int(np.prod(x.shape[1:]))
    rows = np.unique(np.linspace(0, len(x) - 1, min(images, len(x), max(2, 2**28 // D))).astype(int))
    N = len(rows)
    some = np.concatenate([part.astype(np.float32) for part in _parts(x, rows)])
    mean = some.mean(0, dtype=np.float64)
    if D <= MOST_EXACT:
        centred = some - mean.astype(np.float32)
        var, basis = (a[..., ::-1] for a in np.linalg.eigh(np.float64(centred.T @ centred) / N))
    else:
        large = fit(some, rank=min(256, N - 1, D - 1))
        basis, var = (np.asarray(a[0], np.float64) for a in (large.basis, large.var))
        var = np.append(var, np.full(D - len(var), large.rest[0]))
    along = (basis.T @ mean) ** 2
    along = np.append(along, np.full(D - len(along), max(mean @ mean - along.sum(), 0) / max(D - len(along), 1)))
    # The first `alone` ones, then groups of growing size
    edges = np.unique(np.geomspace(min(alone, D), D, groups + 1).round().astype(int))
    edges = np.concatenate([np.arange(edges[0]), edges])
    number = np.diff(edges)
    var, along = (np.add.reduceat(a, edges[:-1]) / number for a in (np.maximum(var, 0), along))
    return Axes(var, np.sqrt(along), number)


class Spectrum(NamedTuple):
    """Eigenvalues of the covariance of images: the largest ones, and the sum and number of the rest."""

    share: float  # of the images
    var: np.ndarray  # (r,) falling
    rest: float  # the sum of those that are left out
    left: int  # their number; rest = 0 if all that are not 0 are in `var`


def training_loss(
    schedule: Schedule, x: np.ndarray, c: Any = None, most: int = MOST_EXACT, weight: Any = 1.0
) -> tuple[float, float]:
    """Bounds on mean_t w_t L_t of the best linear denoiser on the images x it is fitted to, with c of each class's own.

    x: (N, ...) uint8;  c: (N,) labels or None;  most: as `MOST_EXACT`;  weight: w_t, (T,)
    ->  two equal numbers where it is exact.
    """
    groups = [np.arange(len(x))] if c is None else [np.flatnonzero(np.asarray(c) == k) for k in np.unique(c)]
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)[1:, None]  # (T, 1)
    weight = np.broadcast_to(np.asarray(weight, dtype=np.float64), (schedule.T,))
    low = high = 0.0
    for rows in groups:
        s = eigenvalues(x, rows, most)
        f = _mean_over_t(alpha_bar, s.var, weight).sum()
        if s.rest > 0:
            last = s.var[-1]
            low += s.share * s.rest / last * _mean_over_t(alpha_bar, s.var[-1:], weight)[0]
            high += s.share * s.left * _mean_over_t(alpha_bar, np.array([s.rest / s.left]), weight)[0]
        low, high = low + s.share * f, high + s.share * f
    D = int(np.prod(x.shape[1:]))
    return low / D, high / D


def _mean_over_t(alpha_bar: np.ndarray, var: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """mean_t w_t ᾱλ/(ᾱλ + 1-ᾱ) of each λ: (r,) -> (r,)"""
    return weight @ (alpha_bar * var / (alpha_bar * var + 1 - alpha_bar)) / len(weight)


def eigenvalues(x: np.ndarray, rows: np.ndarray, most: int = MOST_EXACT) -> Spectrum:
    """Compute the eigenvalues of the covariance of the images x[rows], all of them if the smaller matrix allows it."""
    N, D = len(rows), int(np.prod(x.shape[1:]))
    mean = sum(part.sum(0) for part in _parts(x, rows)) / N
    # All eigenvalues, from the smaller of two matrices
    if N <= min(D, most):
        centred = np.concatenate(list(_parts(x, rows))) - mean
        matrix = centred @ centred.T / N
    elif D <= most:
        matrix = sum((p - mean).T @ (p - mean) for p in _parts(x, rows)) / N
    else:
        return _largest(x, rows, mean, min(RANK, most))
    var = np.maximum(np.linalg.eigvalsh(matrix)[::-1], 0)
    return Spectrum(N / len(x), var, 0.0, max(0, D - len(var)))


def _largest(x: np.ndarray, rows: np.ndarray, mean: np.ndarray, rank: int) -> Spectrum:
    """Find the largest eigenvalues by subspace iteration from a fixed seed, one pass over the images a step."""
    N, D = len(rows), len(mean)
    size = min(D, rank + 16)  # a few more than are kept, so that the last one kept is right too
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((D, size)))[0].astype(np.float32)
    total, small = 0.0, mean.astype(np.float32)
    for step in range(5):
        image = np.zeros((D, size), np.float64)  # Σ basis
        for p in _parts(x, rows):
            centred = p.astype(np.float32) - small
            image += centred.T @ (centred @ basis)
            total += 0.0 if step else float(np.square(centred, dtype=np.float64).sum())
        if step < 4:
            basis = np.linalg.qr(image)[0].astype(np.float32)
    var = np.maximum(np.linalg.eigvalsh(basis.T.astype(np.float64) @ image / N)[::-1][:rank], 0)
    return Spectrum(N / len(x), var, max(total / N - var.sum(), 0.0), D - rank)


def _parts(x: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in parts, flattened, in [-1, 1]: (CHUNK, D) float64"""
    for i in range(0, len(rows), CHUNK):
        part = to_float(np.asarray(x[rows[i : i + CHUNK]]))
        yield part.reshape(len(part), -1).astype(np.float64)
