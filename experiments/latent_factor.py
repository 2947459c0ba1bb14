"""Latent diffusion at an equal, small budget: pixels, a codec that loses nothing, and a trained one.

Rombach et al. train chains on codes f times smaller than the image and find f = 4 to 16 good: on pixels the same time
buys too few steps, and with f = 32 the decoder loses too much. Here one U-Net, 16 channels wide, is trained on garments
for the same processor minutes with three codecs: none (f = 1), 2x2 pixels as the channels of one position, which loses
nothing (f = 2), and a small trained autoencoder (f = 4), whose own training is paid from the same minutes. Loss, loop,
sampler and guidance are the same; x̂0 is clipped at the range of the codes. Test images that are encoded and decoded are
the floor of what a chain on these codes can reach, so their accuracy and distance stand beside those of the samples.
The exact rows are the sum of two errors for Gaussian data with this covariance and the best linear codec of as many
numbers: what the decoder loses, and what so few steps of DDIM do in the directions that are kept.

What we see after two minutes: f = 1 makes 290 steps, f = 2 makes 1,072, and f = 4, which has spent half of its time on
the codec, 1,058. The accuracy of the samples rises in this order, .55, .64 and .79, and their distance falls, 431, 368
and 205. f = 1 and 2 have the same data and differ in cost alone: what a step costs decides while time is short. With
f = 4 the limit is in sight: copies by its codec have .86 and 72, real images .94 and 2.5. So the order is the paper's,
and the exact rows say where it must turn around with more time, since the loss of the decoder stays. The rate rises in
a tenth of the time, at most in a hundred steps; else f = 1 would spend a third of its training below its rate.

What does not carry over: one seed and 400 images; 16 channels, because with 32 a step of f = 1 takes more than a
second; and at this size of image a codec costs as much as the network that it helps, while on large images it is
trained once for many models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import data, plot
from ddpm.evaluation.statistics import stratified_subset
from ddpm.latents import errors_by_size
from ddpm.sample import ddim_step
from ddpm.schedule import make_schedule, make_times
from ddpm.training.auto import operations
from experiments.lab import latent_trainings
from experiments.lab.drawn_images import Judge, labels
from experiments.lab.latent_trainings import Budget, Trained
from experiments.lab.linear_denoisers import by_formula, by_steps, variances
from experiments.lab.runner import Result, Row, float64
from experiments.lab.training_scores import distance, judge_of, mean_range

PAPER = "Rombach et al. 2022, Figs. 6 and 7 and Sec. 4.1"
MINUTES = 9
SHOWN = 20  # images of each factor in the figure


@dataclass(frozen=True)
class Config:
    """The data, the factors, processor minutes and seeds of each training, steps of the codec, and the drawing."""

    data: str = "fashion_mnist"
    factors: tuple[int, ...] = (1, 2, 4)
    minutes: float = 2.0
    seeds: int = 1
    channels: int = 16
    codec_steps: int = 1000
    share: float = 0.1  # of the minutes, in which the rate rises, if that is less than a hundred steps
    n: int = 400
    steps: int = 20
    guidance: float = 2.0


QUICK = {"data": "digits", "factors": (4,), "minutes": 0.06, "channels": 8, "codec_steps": 100, "n": 20, "steps": 2}


def budget(config: Config, factor: int, seed: int) -> Budget:
    """What is trained for this factor."""
    c = config
    return Budget(c.data, factor, c.minutes, c.channels, c.codec_steps, seed=seed, share=c.share)


def copies(judge: Judge, trained: Trained, n: int) -> tuple[float, float]:
    """Accuracy and Fréchet distance of test images after encoding and decoding: the floor of every chain on it."""
    ids = stratified_subset(judge.data.y_test, n, 0)
    x = data.to_float(judge.data.x_test[ids])
    back = np.asarray(jax.jit(trained.codec.to_image)(jnp.asarray(trained.codec.encoded(x))))
    made = data.to_uint8(back)
    return judge.accuracy(made, judge.data.y_test[ids])[0], distance(judge, made)


def sum_of_errors(config: Config, judge: Judge) -> list[Row]:
    """Gaussian data of this covariance, the best linear codec of as many numbers, and the sampler in its directions."""
    lam = variances(data.to_float(judge.data.x_train))[::-1]
    lam = lam[lam > 1e-9 * lam[0]]
    times, alpha_bar = make_times(1000, config.steps), np.asarray(make_schedule("cosine").alpha_bar, np.float64)
    rows = []
    with float64():
        made = by_steps(ddim_step, make_schedule("cosine"), jnp.asarray(lam), times)
    exact_made = by_formula(alpha_bar, lam, times, 0.0)
    for factor in config.factors:
        pixels = int(np.prod(judge.data.image_shape))
        k = min(len(lam), pixels if factor < 4 else 4 * (judge.data.image_shape[0] // factor) ** 2)
        exact = lam[k:].sum() + ((np.sqrt(lam[:k]) - np.sqrt(exact_made[:k])) ** 2).sum()
        ours = float(errors_by_size(lam, made).total[k])
        rows.append(
            Row(f"f = {factor}, exact: Gaussian data, {k} numbers, W₂² in pixels", None, float(exact), ours, None, 1e-3)
        )
    return rows


def measured(config: Config, judge: Judge, factor: int) -> tuple[list[Row], dict[str, Any]]:
    """Rows of one factor: cost, steps, the codec's floor, and what is drawn; mean over seeds, half of their range."""
    found: list[list[float]] = []
    name, images = f"f = {factor}", None
    for seed in range(config.seeds):
        trained = latent_trainings.train(budget(config, factor, seed))
        made = trained.draw(config.n, config.guidance, config.steps)
        images = made[:SHOWN] if images is None else images
        right = judge.accuracy(made, labels(trained.model, config.n))[0]
        found.append([trained.model.card["steps"], *copies(judge, trained, config.n), right, distance(judge, made)])
    columns = [mean_range(column) for column in zip(*found, strict=True)]
    words = (
        "steps of training",
        "accuracy of copies",
        "Fréchet of copies",
        "accuracy of samples",
        "Fréchet of samples",
    )
    cost = operations(trained.model.unet) / 1e6
    rows = [Row(f"{name}: MFLOP of the network an image", None, None, cost)]
    rows += [Row(f"{name}: {what}", None, None, *column) for what, column in zip(words, columns, strict=True)]
    minutes = trained.model.card["minutes"]
    about = dict(zip(words, (column[0] for column in columns), strict=True))
    return rows, {**about, "factor": factor, "MFLOP": cost, "minutes": minutes, "images": np.asarray(images)}


def run(config: Config) -> Result:
    """Train, draw and judge for each factor."""
    judge = judge_of(config.data)
    rows, numbers = [Row("ImageNet, 2 M steps: FID of LDM-1 less that of LDM-8, about", 38.0)], []
    for factor in config.factors:
        found, about = measured(config, judge, factor)
        rows += found
        numbers.append(about)
    floor = judge.floor(config.n)
    rows.append(Row(f"{config.n} test images: Fréchet, the floor", None, None, floor))
    rows += sum_of_errors(config, judge)
    return Result(rows, None, {"factors": numbers, "floor": floor, "minutes": config.minutes, "n": config.n})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw accuracy and Fréchet distance by factor, with the floor of the copies, and some samples."""
    found = numbers["factors"]
    x = np.arange(len(found))
    with plot.style():
        figure = plot.new_figure(10.0, 4.6)
        grid = figure.add_gridspec(2, 2 * len(found), height_ratios=[1.15, 1])
        half = len(found)
        for panel, what in (
            (figure.add_subplot(grid[0, :half]), "accuracy"),
            (figure.add_subplot(grid[0, half:]), "Fréchet"),
        ):
            panel.bar(
                x - 0.2, [f[f"{what} of copies"] for f in found], 0.36, color="0.75", label="copies: the codec's floor"
            )
            panel.bar(x + 0.2, [f[f"{what} of samples"] for f in found], 0.36, color="C0", label="samples")
            panel.set_xticks(
                x, [f"f = {f['factor']}\n{f['MFLOP']:.0f} MFLOP\n{f['steps of training']:,.0f} steps" for f in found]
            )
            panel.set(ylabel="accuracy" if what == "accuracy" else "Fréchet distance")
            panel.set_ylim(0, 1.3 * max(f[f"{what} of {kind}"] for f in found for kind in ("copies", "samples")))
            panel.legend(fontsize=8, ncols=2, loc="upper center")
        for i, f in enumerate(found):
            shown = figure.add_subplot(grid[1, 2 * i : 2 * i + 2])
            x_0 = np.asarray(f["images"], np.float32) / 127.5 - 1
            shown.imshow(plot.grid(x_0, 5)[..., 0], cmap="gray", interpolation="nearest")
            shown.set_title(f"samples, f = {f['factor']}", fontsize=9)
            shown.axis("off")
    return figure
