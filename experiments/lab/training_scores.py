"""Measures of a small training: error on test images, bits/dim, and images in a classifier's features.

Each seed is a training: a number is the mean over seeds, and its spread is half of their range.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data
from ddpm.contracts import Eps, Partial
from ddpm.datasets import sources
from ddpm.evaluation import distances
from ddpm.evaluation import scores as scoring
from ddpm.evaluation.bits import bound_bits
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.evaluation.statistics import stratified_subset
from ddpm.guide import cfg, clip_x0
from ddpm.oracles.gaussian import fit, linear_loss
from ddpm.sample import ddim_step
from ddpm.schedule import Schedule, make_schedule, make_times
from ddpm.zoo.model import Model
from experiments.lab.drawn_images import Judge, draw, labels
from experiments.lab.runner import Unavailable
from experiments.lab.small_trainings import Small


class NearestMean:
    """Pixels as features and the nearest class mean as label: for sets without a shipped classifier (`--quick`)."""

    def __init__(self, dataset: data.Dataset):
        x, y = self.features(dataset.x_train), dataset.y_train
        self.means = np.stack([x[y == k].mean(0) for k in range(dataset.num_classes)])

    def features(self, x: np.ndarray) -> np.ndarray:
        """(n, H, W, C) uint8 -> (n, HWC)"""
        return np.asarray(data.to_float(x), np.float64).reshape(len(x), -1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n,) labels"""
        return ((self.features(x)[:, None] - self.means) ** 2).sum(-1).argmin(1)


def judge_of(name: str) -> Judge:
    """The judge of a data set: its shipped classifier, or pixels where there is none."""
    if name != "digits":
        return Judge(name)
    judge = Judge.__new__(Judge)
    judge.data = sources.load(name)
    judge.classifier = NearestMean(judge.data)  # type: ignore[assignment]
    train, test = (judge.classifier.features(x) for x in (judge.data.x_train, judge.data.x_test))
    judge.real = scoring.Reference(train, test, "pixels")
    judge.train = distances.moments(train)
    return judge


def held_out(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n test images in [-1, 1], equally many of each class, and their labels."""
    try:
        d = sources.load(name)
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the experiment measures on {name}, which is not here: {error}") from error
    ids = stratified_subset(d.y_test, min(n, len(d.x_test)), 0)
    return np.asarray(data.to_float(d.x_test[ids])), d.y_test[ids]


def error(m: Model | OnChain, x: np.ndarray, c: np.ndarray) -> float:
    """ε-MSE, two draws an image; the same times and noises for every model."""
    return eps_mse(m.eps, m.schedule, x, c, jax.random.key(0), repeats=2).value


class OnChain(NamedTuple):
    """A denoiser and the chain on which it is measured."""

    eps: Eps
    schedule: Schedule


def on_chain(m: Any, schedule: Schedule) -> OnChain:
    """A model on another chain: x_t depends on ᾱ_t alone, so ε̂ is asked at the time of its own with the nearest ᾱ.

    Nearest in log SNR. The last step of a path has no signal, and log SNR = -∞; no other chain comes nearest to it.
    """
    own, asked = (np.asarray(s.alpha_bar, np.float64)[1:] for s in (m.schedule, schedule))
    log_snr = lambda a: np.log(np.maximum(a, 1e-12)) - np.log1p(-a)  # noqa: E731
    nearest = 1 + np.abs(log_snr(own)[None] - log_snr(asked)[:, None]).argmin(1)
    return OnChain(Partial(_asked_at, m.eps, jnp.asarray(np.append(0, nearest))), schedule)


def _asked_at(eps: Eps, times: Any, x_t: Any, t: Any, c: Any = None) -> Any:
    return eps(x_t, times[t], c)


def linear_error(name: str, schedule: str, x: np.ndarray, c: np.ndarray) -> float:
    """The exact ε-MSE of the best linear denoiser of each class."""
    d, s = sources.load(name), make_schedule(schedule)
    return float(np.mean(linear_loss(fit(data.to_float(d.x_train), d.y_train), s, x, c)[1:]))


def bits(m: Model, x: np.ndarray, c: np.ndarray, variance: Any = None) -> tuple[float, float]:
    """The bound in bits/dim with clipped x̂0, and its standard error over images; 20 draws of t each."""
    sigma2 = m.variance if variance is None else variance
    values = bound_bits(clip_x0(m.eps, m.schedule), m.schedule, x, c, variance=sigma2)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


class Scores(NamedTuple):
    """Fréchet distance and class accuracy of generated images."""

    frechet: float
    accuracy: float


def scores(judge: Judge, m: Model, n: int, steps: int, guidance: float = 1.0) -> Scores:
    """n images by DDIM, the same noises for every model: Fréchet distance, and share of the requested class."""
    eps = clip_x0(m.eps if guidance == 1 else cfg(m.eps, guidance), m.schedule)
    images, _ = draw(m, f"ddim guidance {guidance:g}", partial(ddim_step, eps, m.schedule), n, steps)
    return Scores(distance(judge, images), judge.accuracy(images, labels(m, n))[0])


def skipping(judge: Judge, m: Model, n: int, steps: int, share: float) -> float:
    """Fréchet distance when sampling begins with pure noise at t = (1 - share) T, without the first steps."""
    times = make_times(m.schedule.T, steps)
    times = times[times <= round((1 - share) * m.schedule.T)]
    step = partial(ddim_step, clip_x0(m.eps, m.schedule), m.schedule)
    name = "ddim guidance 1" if share == 0 else f"ddim without its first {share:g}"
    if share == 0:  # these are the images that `scores` draws
        return distance(judge, draw(m, name, step, n, steps)[0])
    return distance(judge, draw(m, name, step, n, steps, times=times)[0])


def distance(judge: Judge, images: np.ndarray) -> float:
    """Fréchet distance of uint8 images to the training images, in the judge's features."""
    return distances.frechet_moments(distances.moments(judge.features(images)), judge.train)


def shares(a: Sequence[float], b: Sequence[float]) -> float:
    """The share of the seeds in which a < b: 1 where an order holds for all."""
    return float(np.mean(np.less(a, b)))


def budget(config: Small) -> str:
    """The budget in words, for the title of a figure."""
    return f"{config.steps:,} steps of {config.batch} images, {config.seeds} seed{'' if config.seeds == 1 else 's'}"


def mean_range(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and half of their range."""
    a = np.asarray(values, np.float64)
    return float(a.mean()), float(np.ptp(a) / 2)
