"""Diffusion in medical imaging: anomaly maps against the best test, and reconstruction from part of the Fourier plane.

The survey's two uses that have an exact case. Anomalies: an image is noised and denoised by a model of healthy images,
and |x - x̂0| shows what is not healthy. In drawn towns without ornaments one ornament is the anomaly; the best test is
the likelihood ratio of towns with and without ornaments. Reconstruction: a scanner measures part of the Fourier
coefficients with noise; for stationary Gaussian signals the answer is the Wiener filter. What we see: where the map is
drawn from little noise, t = 100, it finds the image and the cell almost always, and -log p(x_t) alone, without the
alternative, is the weakest test. From t = 300 on the map beats every test of x_t, since it also sees x. The guided walk
is the Wiener filter where something was measured, and the prior where not. What does not carry over: a lesion is no
tile from a list, and a scanner's model is only nearly linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata

from ddpm import oracle, plot, q_sample
from ddpm.data import to_float
from ddpm.datasets import world
from ddpm.guides import by_value
from ddpm.oracles.rewards import tilt_measured, value_of
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Kazerouni et al. 2023, Diffusion models in medical imaging: a comprehensive survey"
MINUTES = 0.7
UNCHECKED = "The exact column is the best test of x_t, the likelihood ratio; how others compare is the finding."

CURVES = ("map", "-log p(x_t)", "best test", "map, cells")


@dataclass(frozen=True)
class Config:
    """Healthy images and as many with an anomaly, times; points, samples and steps of the reconstruction."""

    n: int = 60
    times: tuple[int, ...] = (50, 100, 200, 300, 400, 500, 600)
    points: int = 32
    drawn: int = 1000
    steps: int = 250
    seed: int = 0


QUICK = {"n": 10, "times": (100, 300), "drawn": 800, "steps": 100}


def auc(sick: np.ndarray, healthy: np.ndarray) -> float:
    """P(a sick score is higher than a healthy one), ties by halves"""
    rank = rankdata(np.concatenate([sick, healthy]))[: len(sick)]
    return float((rank.sum() - len(sick) * (len(sick) + 1) / 2) / (len(sick) * len(healthy)))


def anomalies(config: Config) -> tuple[list[Row], dict]:
    """AUC of the map and of the likelihood, for whole images and for the cells of sick images, by t."""
    schedule, healthy, all_towns = linear(), world.distribution(0.0), world.distribution()
    every = world.draw(12 * config.n, config.seed)
    boxes = every.boxes[[world.MOTIFS[m].city >= 0 for m in every.boxes[:, 1]]]
    once = np.flatnonzero(np.bincount(boxes[:, 0], minlength=len(every.labels)) == 1)[: config.n]
    at = {i: (top // 7) * 4 + left // 7 for i, _, top, left in boxes}
    x = np.concatenate([to_float(every.images[once]), to_float(world.draw(config.n, config.seed + 1, rate=0.0).images)])
    cell = np.array([at[i] for i in once])
    rows, curves, n = list[Row](), {name: list[float]() for name in CURVES}, len(once)
    for t in config.times:
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), t), x.shape)
        x_t = q_sample(schedule, jnp.asarray(x), t, noise)
        answer = healthy.answer(schedule, x_t, t)
        gap = np.abs(x - np.asarray(answer.x0))
        log_p = np.asarray(answer.log_prob, float)
        ratio = np.asarray(all_towns.log_prob(schedule, x_t, t), float) - log_p
        per_cell = gap[:n].reshape(n, 4, 7, 4, 7).mean((2, 4)).reshape(n, 16)
        sick = np.arange(16) == cell[:, None]
        found = [auc(score[:n], score[n:]) for score in (gap.mean((1, 2, 3)), -log_p, ratio)]
        found.append(float(np.mean([auc(per_cell[i, sick[i]], per_cell[i, ~sick[i]]) for i in range(n)])))
        for i, name in enumerate(("images, by the map", "images, by -log p(x_t)")):
            rows.append(Row(f"t = {t}: AUC of {name}", None, found[2], found[i]))
        rows.append(Row(f"t = {t}: AUC of the cells of sick images, by the map", ours=found[3]))
        for name, value in zip(curves, found, strict=True):
            curves[name].append(value)
        if t == config.times[2 % len(config.times)]:
            shown = [plot.grid(np.asarray(s)[:6], 6)[..., 0] for s in (x, answer.x0, np.clip(gap, 0, 1))]
    return rows, {"times": config.times, "curves": curves, "shown": shown}


def reconstruction(config: Config) -> tuple[list[Row], dict]:
    """Mean and spread of a stationary Gaussian signal from part of its Fourier coefficients."""
    D, noise, rng = config.points, 0.5, np.random.default_rng(config.seed)
    lag = np.minimum(np.arange(D), D - np.arange(D))
    column = np.exp(-((lag / 3.0) ** 2)) + 1e-3 * (lag == 0)  # the covariance is circulant
    cov = column[(np.arange(D)[:, None] - np.arange(D)) % D]
    k = np.arange(D // 2 + 1)
    wave = np.stack([f(2 * np.pi * np.outer(k, np.arange(D)) / D) for f in (np.cos, np.sin)], 1).reshape(-1, D)
    size = np.linalg.norm(wave, axis=1)
    wave, power = wave[size > 1e-9] / size[size > 1e-9, None], np.repeat(np.fft.rfft(column).real, 2)[size > 1e-9]
    kept = np.r_[0:3, 5:9]  # part of the real and imaginary parts, the lowest and some others
    truth = np.linalg.cholesky(cov) @ rng.normal(size=D)
    y = wave[kept] @ truth + noise**0.5 * rng.normal(size=len(kept))
    wiener = power[kept] / (power[kept] + noise) * y  # coefficient by coefficient
    left = power.copy()
    left[kept] *= noise / (power[kept] + noise)
    with float64():
        schedule, m = linear(), oracle.gaussian(np.zeros(D), cov)
        tilted, log_Z = tilt_measured(m, wave[kept], y, noise)
        guided = by_value(eps=m.eps(schedule), schedule=schedule, value=value_of(tilted, m, schedule, log_Z))
        x_T = jax.random.normal(jax.random.key(config.seed), (config.drawn, D), float)
        x = np.asarray(walk(ddim_step(guided, schedule), jax.random.key(0), x_T, make_times(1000, config.steps)))
    got = x @ wave.T
    rows, mean = list[Row](), np.zeros(len(power))
    mean[kept], n = wiener, config.drawn
    for j in (0, 1, 7, 3, 4):
        what, few = f"{'' if j in kept else 'not '}measured coefficient {j}", 5 / config.steps
        se, close, wide = float(got[:, j].std() / n**0.5), 4.5 * float(left[j] / n) ** 0.5 + few, 3.2 / n**0.5 + 3 * few
        rows.append(Row(f"{what}: mean", None, float(mean[j]), float(got[:, j].mean()), se, within=close, near=1))
        rows.append(Row(f"{what}: spread", None, float(left[j] ** 0.5), float(got[:, j].std()), within=wide))
    return rows, {"truth": truth, "mean": x.mean(0), "std": x.std(0), "wiener": wave[kept].T @ wiener}


def run(config: Config) -> Result:
    """Both uses."""
    (rows, numbers), (more, signal) = anomalies(config), reconstruction(config)
    return Result([*rows, *more], None, numbers | {"signal": signal})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw AUC by t, sick images with their maps, and the reconstructed signal."""
    with plot.style():
        figure = plot.new_figure(10.4, 2.8)
        left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.1, 1))  # type: ignore[misc]
        ax = left.subplots()
        for name, y in numbers["curves"].items():
            ax.plot(numbers["times"], y, "o-", ms=3, label=name)
        ax.set(xlabel="t", ylabel="AUC", ylim=(0.4, 1.03))
        ax.legend(fontsize=7)
        for ax, name, grid in zip(middle.subplots(3, 1), ("x", "x̂0", "map"), numbers["shown"], strict=True):
            ax.imshow(np.array(grid), cmap="gray")
            ax.set_title(name, fontsize=8, loc="left", pad=2)
            ax.axis("off")
        ax, s = right.subplots(), {k: np.array(v) for k, v in numbers["signal"].items()}
        ax.fill_between(range(len(s["mean"])), s["mean"] - s["std"], s["mean"] + s["std"], color="0.85")
        for name, label in (("truth", "truth"), ("mean", "guided, mean ± spread"), ("wiener", "Wiener filter")):
            ax.plot(s[name], label=label)
        ax.set(xlabel="point", ylabel="signal")
        ax.legend(fontsize=7)
    return figure
