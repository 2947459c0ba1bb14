"""From Gaussian to ideal: what a denoiser can know at each noise level, and how many steps are Gaussian.

Wang and Vastola find that at high noise the score of a diffusion model is that of a Gaussian with the data's mean and
covariance, so that the first 15 to 30 % of the sampling steps can be replaced by its closed form. We compare that
Gaussian denoiser (exact loss) with the ideal denoiser of the 60,000 training images, which can only return those
images: on training images it is the floor that a network reaches by memorising, and on test images it fails badly below
t = 250. The gap between the two closed forms shows where the Gaussian stops being enough: it is 2 to 4 % at t = 700 and
about 15 % at 600 with the linear schedule; so the first 30 % of the steps are Gaussian, as the paper finds, without any
network. The shipped network (trained with the cosine schedule, evaluated at the same signal-to-noise ratio, without a
class) is far below both where there is little noise, and above the Gaussian from t = 700 on: there a closed form beats
it. Its errors on training and on test images are the same: it has not memorised. All errors are Monte-Carlo estimates
over n images of each split with one noise each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.forward import q_sample
from ddpm.oracles import finite_set, gaussian
from ddpm.oracles.gaussian import teleport
from ddpm.schedule import linear
from ddpm.zoo import model
from experiments.lab.runner import Result, Row

PAPER = "Wang and Vastola 2024"
MINUTES = 2
TIMES = (50, 100, 200, 250, 300, 400, 500, 600, 700, 800)


@dataclass(frozen=True)
class Config:
    """Images of each split, the network to compare ("" for none), and the seed."""

    data: str = "fashion_mnist"
    n: int = 400
    model: str = "fashion_mnist"
    seed: int = 1


QUICK = {"data": "digits", "n": 50, "model": ""}


def matching_time(m: model.Model, a: float) -> int:
    """The time t of the network's schedule with the signal-to-noise ratio of ᾱ = a."""
    alpha_bar = np.asarray(m.schedule.alpha_bar, np.float64)[1:]
    return int(np.argmin(np.abs(np.log(alpha_bar / (1 - alpha_bar)) - math.log(a / (1 - a))))) + 1


def run(config: Config) -> Result:
    """Measure ε-errors by t, and the gain of teleportation along the first direction."""
    d = sources.load(config.data)
    schedule, gauss = linear(), gaussian.fit(data.to_float(d.x_train))
    ideal = finite_set.finite(d.x_train, d.y_train)
    key = jax.random.key(config.seed)
    net = model.load(config.model) if config.model else None
    rng = np.random.default_rng(config.seed)
    sets = {}
    for i, (split, x) in enumerate((("train", d.x_train), ("test", d.x_test))):
        ids = rng.permutation(len(x))[: config.n]
        x0 = jnp.asarray(data.to_float(x[ids]))
        y = jnp.asarray((d.y_train if split == "train" else d.y_test)[ids])
        sets[split] = x0, y, jax.random.normal(jax.random.fold_in(key, i), x0.shape)
    rows: list[Row] = []
    curves: dict[tuple[str, str], list[float]] = {}
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    for split, (x0, _, noise) in sets.items():
        linear_loss = gaussian.linear_loss(gauss, schedule, x0)
        for t in TIMES:
            x_t = q_sample(schedule, x0, t, noise)
            a = float(schedule.alpha_bar[t])
            answer = ideal.answer(schedule, x_t, t)
            error = jnp.mean(((x_t - math.sqrt(a) * answer.x0) / math.sqrt(1 - a) - noise) ** 2)
            curves.setdefault((split, "ideal"), []).append(float(error))
            curves.setdefault((split, "Gaussian"), []).append(float(linear_loss[t]))
            rows.append(Row(f"{split}, t = {t}: Gaussian", None, float(linear_loss[t]), None))
            rows.append(Row(f"{split}, t = {t}: ideal of the training set", None, float(error), None))
            if net is not None:
                t_net = matching_time(net, a)
                x_net = q_sample(net.schedule, x0, t_net, noise)
                out = net.eps(x_net, jnp.full(len(x0), t_net), None)
                value = ((out - noise) ** 2).mean((1, 2, 3))
                curves.setdefault((split, "network"), []).append(float(value.mean()))
                rows.append(
                    Row(
                        f"{split}, t = {t}: network, no class",
                        None,
                        None,
                        float(value.mean()),
                        float(value.std() / math.sqrt(len(value))),
                    )
                )
    lam, u = float(gauss.var[0].max()), np.asarray(gauss.basis[0])[:, int(np.argmax(gauss.var[0]))]
    mean = np.asarray(gauss.mean[0])
    for t in (700, 600, 500):
        exact = math.sqrt((alpha_bar[t] * lam + 1 - alpha_bar[t]) / (alpha_bar[1000] * lam + 1 - alpha_bar[1000]))
        ends = [
            np.asarray(teleport(gauss, schedule, jnp.asarray(s * u + math.sqrt(alpha_bar[1000]) * mean)[None], t))[0]
            for s in (0, 1)
        ]
        rows.append(
            Row(f"gain along the first direction, T → {t}", None, exact, float((ends[1] - ends[0]) @ u), within=1e-3)
        )
    with plot.style():
        figure = plot.new_figure(8.4, 3.2)
        for ax, split in zip(figure.subplots(1, 2), sets, strict=True):
            for (of, what), values in curves.items():
                if of == split:
                    ax.plot(TIMES, np.maximum(values, 1e-6), marker="o", markersize=3, label=what)
            ax.set(
                title=f"{split} images, {d.name}", xlabel="t (linear schedule)", ylabel="ε-MSE per pixel", yscale="log"
            )
            ax.legend()
    return Result(rows, figure, {"n": config.n, "seed": config.seed, "data": config.data})
