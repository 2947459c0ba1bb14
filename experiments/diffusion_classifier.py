"""Diffusion Classifier: accuracy against draws and t, adaptive elimination, and the sign of typicality.

Li et al. classify with a text-to-image model: the predicted class is the one whose prompt denoises best, with the same
noise for all. They report 88.5 % on CIFAR-10 (zero-shot, Stable Diffusion 2), find that t drawn evenly over the whole
range is better than any single t and the middle the best single one, and drop most classes after a few draws. The exact
column is the same rule with the best Gaussian of each class and infinitely many draws, without a network or sampling,
on all test images. Ours is the shipped network, which has seen the labels in training (so its accuracy should not be
compared with a zero-shot one). The last row is another reading of the same losses: how often the label helps to denoise
at all.

What carries over: a few draws do most of the work (8 of each class: .86), elimination spends a third of the calls at no
visible loss, and for the network, as in the paper, the whole range is better than its middle. What does not: the exact
classifier is best at the middle and worse on the whole range; and the network's single best t is late, where the cosine
schedule has the noise that other schedules have in the middle. At little noise it is below the Gaussians: there the
label tells hardly anything and a single draw is noisy, while the Gaussians' column is the expected loss.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ddpm import data, plot, typicality
from ddpm.classifiers.by_denoising import draw_losses, even_times, planned_calls
from ddpm.contracts import Eps
from ddpm.datasets import sources
from ddpm.evaluation import statistics
from ddpm.oracles import gaussian
from ddpm.oracles.gaussian import gaussian_losses
from ddpm.schedule import Schedule, cosine, linear
from ddpm.tools.files import write_atomic
from ddpm.zoo import model
from experiments.lab.runner import Result, Row

PAPER = "Li et al. 2023, Table 1 and Sec. 6"
MINUTES = 20
UNCHECKED = "The exact column is the classifier by the best linear denoisers; the network may be better or worse."
WINDOWS = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0))
RANGES = ((0.0, 1.0), (0.1, 0.7), (0.2, 0.8))


@dataclass(frozen=True)
class Config:
    """The network ("" for the Gaussians themselves), the first n test images, and the numbers of draws."""

    data: str = "fashion_mnist"
    model: str = "fashion_mnist"
    n: int = 1000
    draws: int = 64  # of the last two classes
    all_draws: int = 24  # of every class: the curves are made of these
    first: int = 8  # after which the best four classes stay
    typicality_draws: int = 60
    ridge: float = 0.0  # added to the covariances of the exact classifier
    seed: int = 0
    chunk: int = 50  # images measured and kept at a time


QUICK = {"data": "digits", "model": "", "n": 40, "draws": 24, "all_draws": 16, "first": 4, "typicality_draws": 20}


# --- measuring, in chunks on the disk ---------------------------------------------------------------------------------


def survivors(losses: np.ndarray, first: int) -> np.ndarray:
    """The best two of the four classes that lead after `first` draws: (n, 2). losses: (n, K, all draws)"""
    four = np.argsort(losses[..., :first].mean(2), axis=1, kind="stable")[:, :4]
    mean = np.take_along_axis(losses.mean(2), four, 1)
    return np.take_along_axis(four, np.argsort(mean, axis=1, kind="stable")[:, :2], 1)


def measure(config: Config, eps: Eps, schedule: Schedule, x: np.ndarray, y: np.ndarray, K: int) -> dict[str, Any]:
    """Measure one chunk: the losses of all classes, those of the two survivors, and T(x|c)."""
    key = jax.random.key(config.seed)
    times = even_times(schedule.T, config.draws)
    every = np.broadcast_to(np.arange(K), (len(x), K))
    losses = draw_losses(eps, schedule, x, every, key, times, (0, config.all_draws))[..., : config.all_draws]
    two = survivors(losses, config.first)
    rest = draw_losses(eps, schedule, x, two, key, times, (config.all_draws, config.draws))[..., config.all_draws :]
    key_T, draws = jax.random.fold_in(key, 2**20), typicality.Draws(config.typicality_draws)
    T = typicality.measure(eps, schedule, x, y, key_T, draws)
    return {"losses": losses, "two": two, "rest": rest, "typicality": T.value, "stderr": T.stderr}


def measured(config: Config, eps: Eps, schedule: Schedule, x: np.ndarray, y: np.ndarray, K: int) -> dict[str, Any]:
    """All chunks; those that an earlier run has kept are read from the disk."""
    what = {**asdict(config), "ridge": 0.0, "n": 0}
    for leaf in jax.tree.leaves((eps, schedule)):
        what[f"sha{len(what)}"] = hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
    mark = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    folder, parts = Path("out/cache") / f"diffusion_classifier-{mark}", []
    for i in tqdm(range(0, len(x), config.chunk), desc=f"chunks of {config.chunk} images"):
        end = min(i + config.chunk, len(x))
        file = folder / f"{i}-{end}.npz"
        if not file.exists():
            out = io.BytesIO()
            np.savez(out, **measure(config, eps, schedule, x[i:end], y[i:end], K))
            write_atomic(file, out.getvalue())
        parts.append(dict(np.load(file)))
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


# --- reading ----------------------------------------------------------------------------------------------------------


def share(right: Any) -> dict[str, Any]:
    """The share of correct answers with its Wilson interval."""
    p, n = float(np.mean(right)), len(right)
    return {"value": p, "interval": statistics.wilson(p, n), "n": n}


def exact_accuracy(config: Config, d: data.Dataset, schedule: Schedule, windows: list[Any]) -> np.ndarray:
    """Accuracy of the best Gaussian of each class on all test images, for each window of times."""
    m = gaussian.fit(data.to_float(d.x_train), d.y_train)
    m = m._replace(var=m.var + config.ridge)
    losses = gaussian_losses(m, schedule, data.to_float(d.x_test), windows)
    return (losses.argmin(1) == d.y_test[:, None]).mean(0)


def span(T: int, low: float, high: float) -> np.ndarray:
    """The times in (low·T, high·T]."""
    return np.arange(round(low * T) + 1, round(high * T) + 1)


def name(low: float, high: float) -> str:
    """The name of a range of times."""
    return "t over all of 1…T" if (low, high) == (0, 1) else f"t in ({low:g}T, {high:g}T]"


def run(config: Config) -> Result:
    """Measure the table, and the curves against draws and t."""
    d = sources.load(config.data)
    x, y = data.to_float(d.x_test[: config.n]), d.y_test[: config.n]
    net = model.load(config.model) if config.model else None
    schedule = net.schedule if net else cosine(1000)
    K, T = d.num_classes, schedule.T
    eps = net.eps if net else gaussian.fit(data.to_float(d.x_train), d.y_train).eps(schedule)
    got = measured(config, eps, schedule, x, y, K)
    losses, two, rest = got["losses"], got["two"], got["rest"]
    times = even_times(T, config.draws)[: config.all_draws]

    def accuracy(which: Any) -> dict[str, Any]:
        return share(losses[:, :, which].mean(2).argmin(1) == y)

    windows = [span(T, *w) for w in (*RANGES, *WINDOWS)]
    exact = exact_accuracy(config, d, schedule, windows)
    rows: list[Row] = []
    numbers: dict[str, Any] = {}
    for (low, high), value in zip((*RANGES, *WINDOWS), exact, strict=True):
        which = (times > low * T) & (times <= high * T)
        if not which.any():
            continue
        a = accuracy(which)
        what = f"accuracy, {name(low, high)} ({which.sum()} draws of every class)"
        spread = math.sqrt(a["value"] * (1 - a["value"]) / a["n"])
        rows.append(Row(what, 0.885 if (low, high) == (0, 1) else None, float(value), a["value"], spread))
        numbers[name(low, high)] = a | {"draws": int(which.sum()), "exact": float(value), "exact_n": len(d.y_test)}

    by_draws = {n: accuracy(np.arange(n)) for n in (1, 2, 4, 8, 16, 32, 64) if n <= config.all_draws}
    pair = np.take_along_axis(losses, two[..., None], 1)
    final = np.concatenate([pair, rest], 2).mean(2).argmin(1)
    adaptive = share(two[np.arange(len(two)), final] == y)
    stages = ((config.first, 4), (config.all_draws, 2), (config.draws, 1))
    calls = planned_calls(1, K, stages)
    adaptive |= {"stages": stages, "calls_an_image": calls, "calls_without_elimination": K * config.draws}
    spread = math.sqrt(adaptive["value"] * (1 - adaptive["value"]) / len(y))
    rows.append(Row(f"accuracy, adaptive {stages}, {calls} calls an image", None, None, adaptive["value"], spread))

    positive = share(got["typicality"] > 0)
    spread = math.sqrt(positive["value"] * (1 - positive["value"]) / len(y))
    what = f"share of images with T(x|true class) > 0, {config.typicality_draws} draws in (.1T, .7T]"
    rows.append(Row(what, None, None, positive["value"], spread))
    clear = got["typicality"] > 1.96 * got["stderr"]
    numbers |= {
        "n": len(y),
        "split": f"the first {len(y)} test images of {config.data}",
        "by_draws": by_draws,
        "adaptive": adaptive,
        "typicality": positive
        | {
            "mean": got["typicality"].mean(),
            "median_stderr": np.median(got["stderr"]),
            "clearly_positive": clear.mean(),
            "clearly_negative": (got["typicality"] < -1.96 * got["stderr"]).mean(),
            "positive_by_class": {d.class_names[k]: (got["typicality"][y == k] > 0).mean() for k in np.unique(y)},
        },
        "exact_linear_schedule": c7(config, d) if config.data == "fashion_mnist" else None,
    }
    return Result(rows, None, numbers)


def c7(config: Config, d: data.Dataset) -> dict[str, Any]:
    """The exact classifier on the linear schedule, with and without a ridge of .01 on the covariances."""
    singles = (1, 10, 50, 100, 200, 300, 500, 700, 900)
    windows = [span(1000, 0, 1), span(1000, 0.1, 0.7), *([t] for t in singles)]
    names = ["uniform t", "t in (100, 700]", *(f"t = {t}" for t in singles)]
    out = {}
    for ridge in (0.0, 0.01):
        value = exact_accuracy(Config(data=config.data, ridge=ridge), d, linear(1000), windows)
        out[f"ridge {ridge:g}"] = dict(zip(names, value, strict=True))
    return out


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw accuracy against the calls of ε̂ for each image, and in windows of t."""
    everywhere, adaptive, by_draws = numbers[name(0, 1)], numbers["adaptive"], numbers["by_draws"]
    K = adaptive["calls_without_elimination"] // adaptive["stages"][-1][0]

    def bars(found: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        value = np.array([a["value"] for a in found])
        low, high = np.array([a["interval"] for a in found]).T
        return value, np.abs([value - low, high - value])

    with plot.style():
        figure = plot.new_figure(8.6, 3.4)
        left, right = figure.subplots(1, 2)
        calls = [K * int(n) for n in by_draws]
        left.errorbar(calls, *bars(list(by_draws.values())), marker="o", markersize=4, label="network, all classes")
        at = [adaptive["calls_an_image"]]
        left.errorbar(at, *bars([adaptive]), marker="s", markersize=5, linestyle="", label="network, adaptive")
        left.axhline(everywhere["exact"], color="#7f8c8d", linestyle=":", label="exact Gaussians, expected loss")
        left.axhline(0.885, color="#7f8c8d", linestyle="-", linewidth=0.8, label="paper: CIFAR-10, Stable Diffusion")
        left.set(xlabel="calls of ε̂ an image", ylabel="accuracy", xscale="log", ylim=(0.3, 1))
        left.legend(fontsize=7, loc="lower right")
        found = [numbers[name(*w)] for w in WINDOWS if name(*w) in numbers]
        middles = [(low + high) / 2 for low, high in WINDOWS if name(low, high) in numbers]
        right.errorbar(middles, *bars(found), marker="o", markersize=4, label="network")
        right.plot(middles, [a["exact"] for a in found], marker="^", label="exact Gaussians, expected loss")
        for x, a in zip(middles, found, strict=True):
            place = (0, -14)
            right.annotate(f"{a['draws']} draws", (x, a["interval"][0]), place, textcoords="offset points", fontsize=7,
                           ha="center")  # fmt: skip
        right.set(xlabel="middle of a window of .2 T, as a share of T", ylabel="accuracy with this window alone")
        right.set(xlim=(0, 1), ylim=(0.3, 1))
        right.legend(fontsize=7, loc="lower right")
    return figure
