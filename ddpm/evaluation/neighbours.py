"""Find nearest neighbours between two sets of features, and measure how the sets overlap."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ddpm.evaluation.statistics import pair, pieces


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """‖a_i - b_j‖², (n, d), (m, d) -> (n, m), never negative."""
    d = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(d, 0)


def nearest(a: Any, b: Any, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest rows of b for each row of a: ascending distances and indices, (n, k) each."""
    a, b = np.asarray(a), np.asarray(b)
    shift = b.mean(0, keepdims=True)  # near the origin, fewer digits cancel
    a, b = a - shift, b - shift
    distance, index = np.empty((len(a), k)), np.empty((len(a), k), dtype=np.int64)
    b_squared = (b * b).sum(1)[None, :]
    for i in pieces(len(a), 500):
        d = b_squared - 2 * (a[i] @ b.T)  # ‖a_i‖² is constant within a row, so it is left out
        near = np.argpartition(d, k - 1, axis=1)[:, :k] if k > 1 else d.argmin(1)[:, None]
        for j in range(k):
            distance[i, j] = ((a[i] - b[near[:, j]]).astype(np.float64) ** 2).sum(1)  # exact for the selected rows
        order = np.argsort(distance[i], axis=1, kind="stable")
        distance[i] = np.sqrt(np.take_along_axis(distance[i], order, 1))
        index[i] = np.take_along_axis(near, order, 1)
    return distance, index


def radii(f: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    """Compute the squared distance of each row to its k-th nearest other row: (n, d) -> (len(ks), n)"""
    out = np.empty((len(ks), len(f)))
    for i in pieces(len(f)):
        d = squared_distances(f[i], f)
        d[np.arange(len(d)), np.arange(len(f))[i]] = -1.0  # the row itself comes first, before exact copies
        out[:, i] = np.partition(d, ks, axis=1)[:, list(ks)].T
    return out


class Overlap(NamedTuple):
    """The overlap of two sets, image by image; the means of the four fields are the metrics."""

    precision: np.ndarray  # (n,) bool: the sample lies in the ball of a real image
    recall: np.ndarray  # (m,) bool: the real image lies in the ball of a sample
    density: np.ndarray  # (n,) the number of real balls that contain the sample, divided by k
    coverage: np.ndarray  # (m,) bool: the real image has a sample in its ball


def overlap(real: Any, fake: Any, k_precision: int = 3, k_density: int = 5) -> Overlap:
    """Compute precision and recall (k = 3), density and coverage (k = 5).

    A ball reaches to the k-th neighbour in its own set.   [Kynkäänniemi et al. 2019, Eqs. 1-2; Naeem et al. 2020,
    Eqs. 3-4] real: (m, d), fake: (n, d). All four metrics depend on n and m, so use sets of equal size. Density is not
    bounded by 1.
    """
    real, fake = pair(real, fake)
    most = max(k_precision, k_density)
    if min(len(real), len(fake)) <= most:
        raise ValueError(
            f"{len(real)} real and {len(fake)} generated images; k = {most} needs more than {most} of each"
        )
    # radii of the balls
    shift = real.mean(0)
    real, fake = real - shift, fake - shift
    ball_p, ball_d = radii(real, (k_precision, k_density))  # (m,), (m,)
    ball_fake = radii(fake, (k_precision,))[0]  # (n,)
    # membership, chunk by chunk
    n, m = len(fake), len(real)
    precision, density, recall, coverage = np.zeros(n, bool), np.zeros(n), np.zeros(m, bool), np.zeros(m, bool)
    for i in pieces(n):
        d = squared_distances(fake[i], real)  # (chunk, m)
        precision[i] = (d <= ball_p).any(1)
        recall |= (d <= ball_fake[i, None]).any(0)
        inside = d <= ball_d
        density[i] = inside.sum(1) / k_density
        coverage |= inside.any(0)
    return Overlap(precision, recall, density, coverage)
