"""SDA: adapting a classifier to synthetic data gains nothing if the diffusion model is exact.

The claim: test data are noised to t and denoised again, so that corruption is washed off; what comes out belongs to the
synthetic domain of the diffusion model, and a classifier that is adapted to this domain is better on it. Two classes at
±1 on a line, a model that draws x0 from p(x0 | x_t), everything by quadrature. If the model is exact, what comes out is
distributed like the data: the synthetic domain is the real one, the best classifier of both is the same, and the gain
of the adaptation is 0 at any t and for any corruption: the claim fails. If the model is wrong (it believes the classes
to be .8 to .2), the adaptation gains up to .02. So what it repairs is the model's error, not a gap between domains. And
noising itself costs: without corruption every t loses accuracy, with a shift of ½ too, since two classes on a line
share the one direction in which the corruption lies. What does not carry over: images are corrupted in directions that
the class does not need, and there noising helps.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from ddpm import oracle, plot, q_sample
from ddpm.samplers import exact_step
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row

PAPER = "Guo et al. 2024, Everything to the Synthetic: Diffusion-driven Test-time Adaptation (SDA)"
MINUTES = 0.2
LAM = 0.3  # variance of a class, at ±1


@dataclass(frozen=True)
class Config:
    """Samples, times to which is noised, shifts of the test data, and the model's belief in class +1."""

    n: int = 100_000
    times: tuple[int, ...] = (100, 200, 300, 400, 500)
    shifts: tuple[float, ...] = (0.0, 0.5)
    priors: tuple[float, ...] = (0.5, 0.8)
    seed: int = 0


QUICK = {"n": 10_000, "times": (200, 400)}


def joint(a: float, prior: float, shift: float, x: np.ndarray) -> np.ndarray:
    """p(x̂ | y) on a grid, (2, len(x)), for y = +1 and -1: x0 + shift is noised to ᾱ = a, and x̂ ~ p(x0 | x_t)."""
    v, x_t = a * LAM + 1 - a, np.linspace(-7, 7, 1401)
    weight = np.array([prior, 1 - prior])[:, None] * norm.pdf(x_t, np.sqrt(a) * np.array([[1], [-1]]), np.sqrt(v))
    weight /= weight.sum(0)  # p(k | x_t) of the model
    back = np.zeros((len(x), len(x_t)))
    for k, mu in enumerate((1.0, -1.0)):  # p(x̂ | x_t, k)
        mean = mu + np.sqrt(a) * LAM / v * (x_t - np.sqrt(a) * mu)
        back = back + weight[k] * norm.pdf(x[:, None], mean, np.sqrt(LAM * (1 - a) / v))
    seen = norm.pdf(x_t, np.sqrt(a) * (np.array([[1], [-1]]) + shift), np.sqrt(v))  # p(x_t | y)
    return seen @ back.T * (x_t[1] - x_t[0])


def run(config: Config) -> Result:
    """Accuracy of the classifier of the data and of the adapted one, exact and by samples."""
    schedule, x, rows = linear(), np.linspace(-6, 6, 1201), list[Row]()
    truth, curves = oracle.mixture([[1.0], [-1.0]], LAM), dict[str, list[float]]()
    for prior in config.priors:
        step = exact_step(oracle.mixture([[1.0], [-1.0]], LAM, [prior, 1 - prior]), schedule)
        for t in config.times:
            clean = joint(float(schedule.alpha_bar[t]), prior, 0.0, x)  # the adapted classifier learns from this
            adapted = clean[0] > clean[1]
            for shift in config.shifts:
                p = joint(float(schedule.alpha_bar[t]), prior, shift, x)
                exact = [0.5 * float(np.where(rule, p[0], p[1]).sum()) * (x[1] - x[0]) for rule in (x > 0, adapted)]
                keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), t), 3)
                x0, y = truth.sample(keys[0], config.n)
                x_t = q_sample(schedule, x0 + shift, t, jax.random.normal(keys[1], x0.shape))
                new = np.asarray(step(keys[2], x_t, t, 0)).ravel()
                level = x[np.argmax(adapted)]  # it decides for +1 above a level
                ours = [float(np.mean((new > cut) == (np.asarray(y) == 0))) for cut in (0.0, level)]
                name = f"model's prior {prior:g}, t = {t}, shift {shift:g}"
                for what, right, got in zip(("data's classifier", "adapted"), exact, ours, strict=True):
                    se = float(np.sqrt(got * (1 - got) / config.n))
                    rows.append(Row(f"{name}: accuracy, {what}", None, right, got, se, within=5 * se / right + 2e-3))
                    curves.setdefault(f"{prior:g} {shift:g} {what}", []).append(right)
                if prior == 0.5:
                    gain = ours[1] - ours[0]
                    rows.append(Row(f"{name}: gain of the adapted", exact=0.0, ours=gain, within=5e-3, near=1.0))
    before = {f"{s:g}": 0.5 * float(norm.cdf((1 + s) / LAM**0.5) + norm.cdf((1 - s) / LAM**0.5)) for s in config.shifts}
    return Result(rows, None, {"times": config.times, "curves": curves, "before": before})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the accuracy of both classifiers by t, for each model and shift."""
    with plot.style():
        figure = plot.new_figure(8.6, 2.9)
        for ax, shift in zip(figure.subplots(1, 2, sharey=True), numbers["before"], strict=True):
            for name, y in numbers["curves"].items():
                prior, of, what = name.split(" ", 2)
                if of == shift:
                    kind = dict(color="#1b4f72" if prior == "0.5" else "#c0392b", ls="-" if what == "adapted" else "--")
                    model = "exact model" if prior == "0.5" else f"model believes {prior}"
                    ax.plot(numbers["times"], y, **kind, label=f"{model}, {what}")
            ax.axhline(numbers["before"][shift], color="0.6", lw=1, ls=":", label="not noised at all")
            ax.set(ylim=(0.5, 1.02), xlabel="t to which is noised", title=f"test data shifted by {shift}")
        figure.axes[0].set_ylabel("accuracy")
        figure.axes[0].legend(
            *figure.axes[1].get_legend_handles_labels(), fontsize=7, bbox_to_anchor=(1, 0.92), loc="upper right"
        )
    return figure
