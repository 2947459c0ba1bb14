"""MT-Diffusion: a label that is diffused with the image makes one chain of both, and costs the image nothing.

The claim: several kinds of data, an image and its label say, are encoded into one space, noised there together, and one
network denoises all of them, so that one model draws pairs, labels images and draws images of a label. Here the image
is a number from one of three Gaussians, and its label is one-hot, three numbers more: the pair is a mixture of three
Gaussians in four dimensions, thin along the label, and everything about it is known.

What we see: drawn together, image and label agree as the data do: the labels have the classes' probabilities, and the
image given the label its Gaussian. With times of its own (t for the image, u for the label) the same denoiser labels a
clean image, as a draw from p(c | x0), right as often as that draw should be. The scale of the label decides when it is
decided: at scale 4 it is fixed at high noise, before the image, and at scale .25 long after it, when the image has
chosen its class for itself. So the label leads or follows. What does not carry over: the paper's encoders are learned,
and its losses of several kinds share one network, which costs and helps in ways that no exact denoiser shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.oracle import Mixture
from ddpm.oracles import eps_by_place, together
from ddpm.sample import ddim_step, walk
from ddpm.samplers import place_step
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row

PAPER = "Chen et al. 2024, Diffusion models for multi-task generative modeling (MT-Diffusion)"
MINUTES = 0.3
MEAN, VAR, WEIGHT = np.array([-1.2, 0.0, 1.5]), np.array([0.2, 0.1, 0.3]), np.array([0.5, 0.2, 0.3])
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
THIN = 1e-4  # the variance of a clean label, relative to its scale


@dataclass(frozen=True)
class Config:
    """Pairs, steps, scales of the one-hot label, and times at which the certainty is measured."""

    n: int = 20_000
    steps: int = 250
    scales: tuple[float, ...] = (0.25, 1.0, 4.0)
    times: tuple[int, ...] = (50, 100, 200, 300, 400, 500, 600, 700, 800, 900)
    seed: int = 0


QUICK = {"n": 5000, "steps": 100, "scales": (1.0,), "times": (200, 600)}


def pairs(scale: float) -> Mixture:
    """The mixture of (image, label): three Gaussians in four dimensions"""
    mean = np.concatenate([MEAN[:, None], scale * np.eye(3)], 1)
    cov = np.stack([np.diag([v, *[THIN * scale**2] * 3]) for v in VAR])
    return oracle.mixture(mean, cov, WEIGHT)


def posterior(x: np.ndarray, a: float = 1.0) -> np.ndarray:
    """p(c | x_t) from the image alone, in NumPy: (n, 3)"""
    v = a * VAR + 1 - a
    p = WEIGHT * np.exp(-((x[:, None] - np.sqrt(a) * MEAN) ** 2) / 2 / v) / np.sqrt(v)
    return p / p.sum(1, keepdims=True)


def certainty(m: Mixture, x0: jax.Array, t: int, seed: int) -> tuple[float, float]:
    """E max_c p(c | label at t), and E max_c p(c | image at t): which of the two is decided first"""
    rng, a = np.random.default_rng([seed, t]), ALPHA_BAR[t]
    noisy = np.sqrt(a) * np.asarray(x0) + np.sqrt(1 - a) * rng.normal(size=x0.shape)
    label, mean = noisy[:, 1:], np.sqrt(a) * np.asarray(m.mean)[:, 1:]
    var = a * float(m.var.min()) + 1 - a
    log = np.log(WEIGHT) - ((label[:, None] - mean) ** 2).sum(2) / 2 / var
    p = np.exp(log - log.max(1, keepdims=True))
    return float((p.max(1) / p.sum(1)).mean()), float(posterior(noisy[:, 0], a).max(1).mean())


def run(config: Config) -> Result:
    """Draw pairs, label clean images, draw images of a label; and find when label and image are decided."""
    rows, curves = list[Row](), dict[str, list[tuple]]()
    n, key, down = config.n, jax.random.key(config.seed), make_times(1000, config.steps)
    schedule, few = linear(), 4 / config.steps
    noise = jax.random.normal(key, (n, 4))

    def close(var: float, n: float) -> float:  # 4.5 standard errors, and the error of the steps
        return float(4.5 * np.sqrt(var / n) + few)

    for scale in config.scales:
        m = pairs(scale)
        x = np.asarray(walk(ddim_step(m.eps(schedule), schedule), key, noise, down))
        image, label = x[:, 0], x[:, 1:].argmax(1)
        for k in range(3):
            what = f"scale {scale:g}, drawn together, label {k}"
            share, of_k = float((label == k).mean()), image[label == k]
            each = (
                ("probability", WEIGHT[k], share, close(WEIGHT[k] * (1 - WEIGHT[k]), n)),
                ("mean of its images", MEAN[k], float(of_k.mean()), close(VAR[k], n * WEIGHT[k])),
                ("their variance", VAR[k], float(of_k.var()), close(2 * VAR[k] ** 2, n * WEIGHT[k])),
            )
            rows += [Row(f"{what}: {of}", None, right, ours, None, within, 1.0) for of, right, ours, within in each]
        x0, c = m.sample(jax.random.fold_in(key, 1), n)
        start = jnp.concatenate([x0[:, :1], noise[:, 1:]], 1)
        step = place_step(eps_by_place(m, schedule), schedule, together((0, 1), (down, 3)))
        given = np.asarray(walk(step, key, start, np.arange(len(down) - 1, -1, -1)))[:, 1:].argmax(1)
        p = posterior(np.asarray(x0)[:, 0])
        exact, ours = float((p**2).sum(1).mean()), float((given == np.asarray(c)).mean())
        off = (np.eye(3)[given] - p).mean(0)  # each label is drawn as often as p(c | x0)
        near = float(4.5 * np.sqrt((p * (1 - p)).mean() / n) + 1 / config.steps)
        rows.append(
            Row(f"scale {scale:g}: labels less p(c | x0)", None, 0.0, float(np.abs(off).max()), None, near, 1.0)
        )
        rows.append(
            Row(
                f"scale {scale:g}: a clean image is labelled right",
                None,
                exact,
                ours,
                None,
                close(exact * (1 - exact), n),
                1.0,
            )
        )
        for t in config.times:
            of_label, of_image = certainty(m, x0, t, config.seed)
            curves.setdefault(f"label, scale {scale:g}", []).append((t, of_label))
            if scale == config.scales[0]:
                curves.setdefault("image", []).append((t, of_image))
    return Result(rows, None, {"curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw how sure the class is from the noisy label, and from the noisy image, by time."""
    with plot.style():
        figure = plot.new_figure(5.8, 3.2)
        ax = figure.subplots()
        for name, found in numbers["curves"].items():
            ax.plot(*np.array(found).T, "o-", ms=3, label=f"from the {name}")
        ax.set(xlabel="t", ylabel="mean probability of the likeliest class", ylim=(0.4, 1.02))
        ax.legend(fontsize=8)
    return figure
