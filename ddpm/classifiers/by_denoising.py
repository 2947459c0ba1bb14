"""A denoiser as a classifier: the class that helps most to denoise the image.

    ĉ(x0) = argmin_c E_{t,ε} ‖ε - ε̂(√ᾱ_t x0 + √(1-ᾱ_t) ε, t, c)‖²         [Li et al. 2023, Diffusion Classifier, Eq. 5]

All classes (and all images) share the pairs (t, ε), because the differences between classes are small compared with the
noise that they have in common. A few draws rule out most classes, so a schedule of `stages` drops them:
`((10, 4), (50, 2), (200, 1))` gives all classes 10 draws, the best 4 of each image 50, the best 2 of these 200.
It works with any `eps` and any data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, partial_of
from ddpm.loss import per_image, squared_error
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.batches import parts, progress
from ddpm.tools.partials import check_labels
from ddpm.typicality import time_window

Stages = Sequence[tuple[int, int]]  # (draws of each class by the end of the stage, classes kept after it)


@dataclass(frozen=True)
class Elimination:
    """Which draws each class gets, and when classes are dropped."""

    stages: Stages | None = None  # None: `default_stages(K)`;  ((n, 1),): all n draws of all classes
    t_range: tuple[float, float] = (0.0, 1.0)  # the times are spread evenly over (low·T, high·T]
    times: Any = None  # (n,) t of each draw, instead of t_range; n: the draws of the last stage
    weight: Any = None  # (T+1,) a factor for each time; None: 1


class Classified(NamedTuple):
    """The result of `classify` for each image."""

    label: np.ndarray  # (B,) int  the class with the least loss
    loss: np.ndarray  # (B, K)  mean loss of each class over its draws, ε-MSE
    draws: np.ndarray  # (B, K) int  the number of these draws
    margin: np.ndarray  # (B,)  loss of the second best minus that of the best, over the draws that both had
    stderr: np.ndarray  # (B,)  standard error of the margin over the draws (NaN for a single draw)

    @property
    def calls(self) -> int:
        """The number of evaluations of ε̂, counted image by image."""
        return int(self.draws.sum())


def even_times(T: int, n: int, t_range: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Spread n integer times evenly over the range, and so every beginning of the list too: (n,)

    The k-th lies at the fraction 0.b₀b₁b₂… (binary) of the range, where k = …b₂b₁b₀: van der Corput's sequence, shifted
    to the middle of the n cells. With n = 1 it is the middle of the range.
    """
    first, end = time_window(T, t_range)
    check.whole("n", n, 1)
    bits = max(1, (n - 1).bit_length())
    k, u = np.arange(n), np.zeros(n)
    for b in range(bits):
        u += (k >> b & 1) / 2 ** (b + 1)
    rank = np.argsort(np.argsort(u, kind="stable"), kind="stable")  # the same order, on n equal cells
    return (first + np.floor((rank + 0.5) / n * (end - first))).astype(np.int32)


def draw_losses(
    eps: Eps,
    schedule: Schedule,
    x0: Any,
    c: Any,
    key: jax.Array,
    times: Any,
    span: tuple[int, int] | None = None,
    batch: int = 256,
) -> np.ndarray:
    """L[b, m, k] = ‖ε_k - ε̂(x_t, t_k, c[b, m])‖²/D for the draws first ≤ k < end, NaN for the others: (B, M, n).

    x0: (B, ...) in [-1, 1];  c: (B, M) the labels to evaluate for each image;  times: (n,) t of each draw;  span:
    (first, end), all draws if None. ε_k comes from fold_in(key, k), the same for all images and labels. `batch` pairs
    of image and label are evaluated at a time (the last batch is padded), by one compiled program.
    """
    # Validation
    x0, c = check.batch(x0), np.asarray(c)
    if c.ndim != 2 or len(c) != len(x0):
        raise ValueError(f"c has shape {c.shape}; give labels ({len(x0)}, M) for each image")
    check_labels(eps, c, c.shape)
    times = np.asarray(check.times(times, jnp.asarray(times), schedule.T), dtype=np.int32)
    n = len(times)
    first, end = (0, n) if span is None else span
    if not 0 <= first < end <= n:
        raise ValueError(f"draws {first}..{end} are asked for; there are {n} times")
    # All pairs of image and label, one batch at a time
    image, label = np.repeat(np.arange(len(x0)), c.shape[1]), c.reshape(-1).astype(np.int32)
    found = []
    with progress(total=len(label) * (end - first), desc="losses", unit="call") as bar:
        for ids, m in parts(len(label), batch):
            part = _draw_losses(partial_of(eps), schedule, x0[image[ids]], label[ids], key, times, first, end)
            found.append(np.asarray(part)[:, :m])
            bar.update(m * (end - first))
    return np.concatenate(found, axis=1).T.reshape(*c.shape, n)


@jax.jit
def _draw_losses(
    eps: Eps, schedule: Schedule, x0: jax.Array, c: jax.Array, key: jax.Array, times: jax.Array, first: Any, end: Any
) -> jax.Array:
    def draw(k: jax.Array, losses: jax.Array) -> jax.Array:  # losses: (n, B)
        noise = jax.random.normal(jax.random.fold_in(key, k), x0.shape[1:], x0.dtype)
        error = squared_error(eps, schedule, x0, times[k], jnp.broadcast_to(noise, x0.shape), c)
        return losses.at[k].set(per_image(error).astype(losses.dtype))

    return jax.lax.fori_loop(first, end, draw, jnp.full((len(times), len(x0)), jnp.nan, x0.dtype))


def classify(
    eps: Eps,
    schedule: Schedule,
    x0: Any,
    classes: int | Sequence[int],
    key: jax.Array,
    plan: Elimination = Elimination(),
    batch: int = 256,
) -> Classified:
    """Compute ĉ(x0) with successive elimination of classes.   [Li et al. 2023, Alg. 2]

    x0: (B, ...) in [-1, 1];  classes: K, or the labels to choose among. `planned_calls` predicts the cost.
    """
    # Labels, stages, times and weights
    x0 = check.batch(x0)
    labels = np.arange(classes) if isinstance(classes, int | np.integer) else np.asarray(classes)
    K = len(check_labels(eps, labels, (len(labels),), "classes"))
    stages = check_stages(default_stages(K) if plan.stages is None else plan.stages, K)
    n = stages[-1][0]
    times = even_times(schedule.T, n, plan.t_range) if plan.times is None else np.asarray(plan.times)
    if times.shape != (n,):
        raise ValueError(f"times has shape {times.shape}; the last stage has {n} draws: give ({n},)")
    weight = np.ones(schedule.T + 1) if plan.weight is None else check.by_time("weight", plan.weight, schedule.T)
    weight = np.asarray(weight, dtype=np.float64)

    # Stage by stage: new draws for the classes that are left, of which the best are kept
    B = len(x0)
    batch = max(1, min(batch, B * K))
    table = np.full((B, K, n), np.nan)
    kept, done = np.broadcast_to(np.arange(K), (B, K)), 0
    for draws, keep in stages:
        new = draw_losses(eps, schedule, x0, labels[kept], key, times, (done, draws), batch)
        rows = np.arange(B)[:, None]
        table[rows, kept, done:draws] = weight[times[done:draws]] * new[..., done:draws]
        order = np.argsort(table[rows, kept, :draws].mean(2), axis=1, kind="stable")
        kept, done = np.take_along_axis(kept, order, 1)[:, :keep], draws
    return _decide(table, kept[:, 0], labels)


def _decide(table: np.ndarray, best: np.ndarray, labels: np.ndarray) -> Classified:
    """Compute the result from losses (B, K, n), NaN without a draw, and winners (B,)."""
    B, K, _ = table.shape
    draws, loss = (~np.isnan(table)).sum(2), np.nanmean(table, axis=2)
    rows = np.arange(B)
    others = np.where(np.arange(K) == best[:, None], -1, draws)
    last = others == others.max(1, keepdims=True)  # the classes that stayed longest, except for the winner
    second = np.where(last, loss, np.inf).argmin(1)
    difference = table[rows, second] - table[rows, best]  # (B, n)
    both = (~np.isnan(difference)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = np.nanmean(difference, axis=1)
        var = np.nansum((difference - margin[:, None]) ** 2, axis=1) / (both - 1)
    return Classified(labels[best], loss, draws, margin, np.sqrt(var / both))


def default_stages(K: int) -> list[tuple[int, int]]:
    """Elimination 10 draws for all classes, 50 for the best four, 200 for the best two.

    Stages that would drop no class are left out.
    """
    return [(draws, keep) for draws, keep in ((10, 4), (50, 2), (200, 1)) if keep < K]


def check_stages(stages: Stages, K: int) -> list[tuple[int, int]]:
    """Check that the draws rise and the kept classes fall, from fewer than K to one."""
    stages = [(check.whole("draws", d, 1), check.whole("keep", k, 1)) for d, k in stages]
    draws, keep = [d for d, _ in stages], [k for _, k in stages]
    if K < 2:
        raise ValueError(f"there are {K} classes to choose among; give at least 2")
    rises = all(a < b for a, b in pairwise(draws))
    falls = all(a > b for a, b in pairwise([K, *keep]))
    if not stages or not rises or not falls or keep[-1] != 1:
        raise ValueError(
            f"stages is {stages}; give pairs (draws, keep) with rising draws and with kept classes that fall from "
            f"below {K} to 1, such as ((10, {max(1, K // 2)}), (100, 1))"
        )
    return stages


def planned_calls(images: int, K: int, stages: Stages) -> int:
    """Predict the number of evaluations of ε̂: images · Σ_stages (classes left) · (new draws)."""
    total, left, done = 0, K, 0
    for draws, keep in check_stages(stages, K):
        total, left, done = total + left * (draws - done), keep, draws
    return images * total
