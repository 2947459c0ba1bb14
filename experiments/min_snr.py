"""Min-SNR, small: does a loss that weights the easy times less converge faster?

Hang et al. weight the loss by min(SNR, γ)/SNR, γ = 5 (for an ε-network), so that times with little noise no longer pull
against the others, and reach a given FID 3.4 times sooner on ImageNet. We train a small network with and without the
weight, with two seeds each, cosine schedule, on Fashion-MNIST, at an equal, small budget (`lab.small_trainings`), and
at a quarter, a half and three quarters of it; we measure the power-function average of the parameters whose width is a
tenth of the training. ε-MSE weights all times alike, as the plain loss does; the Fréchet distance does not. The
speed-up is the factor in steps by which the weighted loss reaches the plain one's distance, along lines between the
points; it is at most 4 here, and there is none where the weighted loss never reaches it. Two numbers are exact: the
first time at which the weight is 1, and its mean over t, from ᾱ in NumPy. What we see is the same order. The weighted
network is better from t = .2T on (a third less error at the noisy end) and worse below, its ε-MSE over all times is
higher, and its distance is lower all the way: it reaches the plain one's last distance 2.0 and 2.9 times sooner, the
paper's factor being 3.4. Good images do not carry over. After so short a training garments have their outlines, but
under a grid of noise that the classifier has never seen. It names one in three correctly (of the plain ones one in
five), and distances are hundreds of times the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ddpm import plot
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.losses import weighting
from ddpm.schedule import cosine
from experiments.lab.runner import Result, Row, float64
from experiments.lab.small_trainings import Small, family
from experiments.lab.training_scores import budget, error, held_out, judge_of, mean_range, scores, shares

PAPER = "Hang et al. 2023, Figure 1 (ImageNet 256 x 256)"
MINUTES = 9
RUNS = {"cosine": "plain, w = 1", "min_snr": "min-SNR, γ = 5"}


@dataclass(frozen=True)
class Config(Small):
    """The trainings' budget, images drawn from each, steps of DDIM, test images of ε-MSE."""

    n: int = 500
    draw_steps: int = 20
    n_test: int = 500


QUICK = {"data": "digits", "preset": "digits", "steps": 4, "batch": 8, "seeds": 1, "n": 40, "draw_steps": 2}
QUICK |= {"n_test": 20}


def exact_weight() -> np.ndarray:
    """min(SNR, 5)/SNR of the cosine schedule, t = 1…1000, in NumPy."""
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    return np.minimum(1, 5 * (1 - alpha_bar) / alpha_bar)


def speed_up(steps: np.ndarray, plain: np.ndarray, weighted: np.ndarray) -> float | None:
    """last step / the step at which the weighted curve reaches the plain one's last value (linear between points)."""
    goal = plain[-1]
    if weighted[0] <= goal:
        return float(steps[-1] / steps[0])
    for i in range(1, len(steps)):
        if weighted[i] <= goal:
            part = (weighted[i - 1] - goal) / (weighted[i - 1] - weighted[i])
            return float(steps[-1] / (steps[i - 1] + part * (steps[i] - steps[i - 1])))
    return None


def run(config: Config) -> Result:
    """Measure both losses along the training."""
    judge, runs = judge_of(config.data), family(config, RUNS)
    x, c = held_out(config.data, config.n_test)
    quarter = max(1, config.steps // 4)
    steps = [*range(quarter, config.steps, quarter)][:3]
    steps.append(config.steps)
    with float64():
        w = np.asarray(weighting.min_snr(cosine(), 5.0))[1:]
    exact = exact_weight()
    rows = [
        Row(f"Fréchet distance, floor: {config.n} test images", None, None, judge.floor(config.n)),
        Row("first t with weight 1", None, 1 + int(np.argmax(exact >= 1)), 1 + int(np.argmax(w >= 1)), within=0),
        Row("mean weight over t", None, float(exact.mean()), float(w.mean()), within=1e-9),
    ]
    curves: dict[str, dict[str, list[list[float]]]] = {}
    tenths: dict[str, list[list[float]]] = {}
    for recipe, name in RUNS.items():
        of: dict[str, list[list[float]]] = {"distance": [], "accuracy": [], "mse": []}
        for step in steps:
            models = [r.model(step=step) for r in runs[recipe]]
            drawn = [scores(judge, m, config.n, config.draw_steps) for m in models]
            of["distance"].append([s.frechet for s in drawn])
            of["accuracy"].append([s.accuracy for s in drawn])
            of["mse"].append([error(m, x, c) for m in models])
            rows += [
                Row(f"{name}, {step:,} steps: Fréchet distance", None, None, *mean_range(of["distance"][-1])),
                Row(f"{name}, {step:,} steps: class accuracy", None, None, *mean_range(of["accuracy"][-1])),
                Row(f"{name}, {step:,} steps: ε-MSE", None, None, *mean_range(of["mse"][-1])),
            ]
        curves[name] = of
        by_t = [eps_mse(m.eps, m.schedule, x, c, jax.random.key(0), repeats=2).detail["by_t"] for m in models]
        tenths[name] = [[row["value"] for row in rows_t] for rows_t in by_t]
    plain, weighted = (np.array(curves[name]["distance"]) for name in RUNS.values())
    factors = [speed_up(np.array(steps), plain[:, k], weighted[:, k]) for k in range(config.seeds)]
    reached = [f for f in factors if f is not None]
    rows += [
        Row("speed-up: factor in steps", 3.4, None, *(mean_range(reached) if reached else (None, None))),
        Row("speed-up: share of seeds that reach the distance", None, None, len(reached) / config.seeds),
        Row("order: a better distance at the end, share of seeds", 1.0, None, shares(weighted[-1], plain[-1])),
    ]
    numbers = {"steps": steps, "curves": curves, "by_t": tenths, "factors": factors, "budget": budget(config)}
    return Result(rows, None, numbers | {"n": config.n, "n_test": config.n_test})


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Any:
    """Draw distance and ε-MSE along the training, and the error by t at the end, as a ratio."""
    steps = numbers["steps"]
    with plot.style():
        figure = plot.new_figure(11.0, 3.2)
        axes = figure.subplots(1, 3)
        labels = (f"Fréchet distance, features ({numbers['n']} images)", f"test ε-MSE ({numbers['n_test']} images)")
        for ax, key, label in zip(axes, ("distance", "mse"), labels, strict=False):
            for (name, of), mark in zip(numbers["curves"].items(), "os", strict=True):
                a = np.array(of[key])
                middle = a.mean(1)
                ax.errorbar(steps, middle, [middle - a.min(1), a.max(1) - middle], marker=mark, capsize=3, label=name)
            ax.set(xlabel="steps", ylabel=label)
        axes[0].set_title(f"test images: {rows[0]['ours']:.2g}", fontsize=8)
        axes[0].legend()
        plain, weighted = (np.array(v) for v in numbers["by_t"].values())
        ratio = weighted / plain  # (seeds, tenths)
        tenth = (np.arange(ratio.shape[1]) + 0.5) / ratio.shape[1]
        for k, values in enumerate(ratio):
            axes[2].plot(tenth, values, "os^D"[k % 4], linestyle="-", color="#1b4f72", markersize=4, label=f"seed {k}")
        axes[2].axhline(1, color="#95a5a6", linestyle="-", linewidth=0.8)
        axes[2].set(xlabel="t / T", ylabel="ε-MSE, min-SNR / plain")
        axes[2].legend(fontsize=7)
        figure.suptitle(f"{numbers['budget']}; bars: range over seeds", fontsize=9)
    return figure
