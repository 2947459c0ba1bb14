"""Typicality: how much knowing the class helps to denoise an image, and where in the image.

    T(x|c) = E_{t,ε}[ L_t(x, ε, ∅) - L_t(x, ε, c) ],   L_t(x, ε, c) = ‖ε - ε̂(x_t, t, c)‖²/D       [Siglidis et al. 2024]

Positive: x looks like its class. The same (t, ε) serve both terms, which makes the variance of the difference up to 50
times smaller, and all images, so that the result for one image does not depend on the others in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Partial, partial_of
from ddpm.loss import per_image, squared_error
from ddpm.schedule import Schedule
from ddpm.tools import check
from ddpm.tools.batches import parts, progress
from ddpm.tools.conditions import rows
from ddpm.tools.partials import check_labels


class Typicality(NamedTuple):
    """The result of `measure` for each image."""

    value: np.ndarray  # (B,)  T(x|c), in units of ε-MSE
    stderr: np.ndarray  # (B,)  standard error of the mean over the draws
    map: np.ndarray  # (B, H, W)  the same before the mean over pixels, averaged over channels


def time_window(T: int, t_range: tuple[float, float]) -> tuple[int, int]:
    """Return the first integer time in (low·T, high·T] and one past the last.

    (0, 1) is 1…T; (.1, .7) of 1,000 is 101…700, the times 100…699 of code that counts from 0.
    """
    low, high = t_range
    if not 0 <= low < high <= 1:
        raise ValueError(f"t_range is {t_range}; give two shares of T with 0 <= low < high <= 1")
    first, end = round(low * T) + 1, round(high * T) + 1
    if first >= end:
        raise ValueError(f"t_range {t_range} holds no time of a chain with T = {T}; widen it")
    return first, end


@dataclass(frozen=True)
class Draws:
    """Which pairs (t, ε) the expectation is taken over."""

    n: int = 100  # their number
    t_range: tuple[float, float] = (0.1, 0.7)  # t is uniform on the integers in (low·T, high·T]
    weight: Any = None  # (T+1,) a factor for each time; None: 1
    paired: bool = True  # False: the ∅ term has its own ε: unbiased, but much noisier (for teaching)


def measure(
    eps: Eps, schedule: Schedule, x0: Any, c: Any, key: jax.Array, draws: Draws = Draws(), null: Any = None,
    batch: int | None = None,
) -> Typicality:  # fmt: skip
    """Measure T(x|c), its standard error and its map.

    x0: (B, H, W, C) in [-1, 1];  c: (B,) labels, or one for all.
    null: the labels to compare with; None: the null label ∅. With labels it is the contrast T(x|c) - T(x|null).
    Images are processed `batch` at a time, the draws in one compiled loop: memory grows with neither number.
    batch=None: 20 on a CPU, where more at a time is no faster and delays the progress bar; 256 on other devices.
    """
    check.whole("draws", draws.n, 2)
    x0, B = check.batch(x0), len(x0)
    c = check_labels(eps, c, (B,), one=True)
    null = None if null is None else check_labels(eps, null, (B,), "null", one=True)
    window = jnp.asarray(time_window(schedule.T, draws.t_range))
    weight = np.ones(schedule.T + 1) if draws.weight is None else check.by_time("weight", draws.weight, schedule.T)
    loss = Partial(squared_error, partial_of(eps), schedule)
    # Batches of images; all share the draws
    batch = (20 if jax.default_backend() == "cpu" else 256) if batch is None else batch
    found = []
    for ids, m in progress(parts(B, batch), desc="typicality", unit="batch"):
        labels = rows((c, null), ids)
        part = _measure(loss, x0[ids], labels, key, window, jnp.asarray(weight, jnp.float32), draws.n, draws.paired)
        found.append([np.asarray(a)[:m] for a in part])
    return Typicality(*(np.concatenate(field) for field in zip(*found, strict=True)))


@partial(jax.jit, static_argnames=("n", "paired"))
def _measure(
    loss: Partial, x0: jax.Array, labels: tuple[jax.Array, Any], key: jax.Array, window: jax.Array, weight: jax.Array,
    n: int, paired: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    def draw(carry: Any, k: jax.Array) -> tuple[Any, None]:
        mean, m2, total = carry
        key_t, key_c, key_null = jax.random.split(jax.random.fold_in(key, k), 3)
        t = jax.random.randint(key_t, (), window[0], window[1])
        noise_c = jax.random.normal(key_c, x0.shape[1:], x0.dtype)
        noise_null = noise_c if paired else jax.random.normal(key_null, x0.shape[1:], x0.dtype)
        loss_c, loss_null = (
            loss(x0, t, jnp.broadcast_to(noise, x0.shape), label)
            for noise, label in zip((noise_c, noise_null), labels, strict=True)
        )
        difference = weight[t] * (loss_null - loss_c)  # (B, H, W, C)
        value = per_image(difference)
        delta = value - mean  # Welford's running mean and sum of squares
        mean = mean + delta / (k + 1)
        return (mean, m2 + delta * (value - mean), (total + difference).astype(total.dtype)), None

    zero = jnp.zeros(x0.shape[0])
    (mean, m2, total), _ = jax.lax.scan(draw, (zero, zero, jnp.zeros_like(x0)), jnp.arange(n))
    channels = total.mean(-1) if x0.ndim == 4 else total
    return mean, jnp.sqrt(m2 / (n - 1) / n), channels / n


def draws_for(pilot: Typicality, draws: int, stderr: float) -> int:
    """Estimate from a pilot how many draws bring the median standard error to `stderr`: it falls as 1/√draws."""
    if not stderr > 0:
        raise ValueError(f"stderr is {stderr}; give a positive number")
    return max(2, int(np.ceil(draws * (float(np.median(pilot.stderr)) / stderr) ** 2)))
