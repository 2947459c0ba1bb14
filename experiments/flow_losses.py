"""The loss of a flow in training: how often each time is drawn, and what MeanFlow's loss should be.

Esser et al. draw the times of a flow logit-normally, more often in the middle, and Geng et al. log a weighted loss of
MeanFlow that says 1 from the first step to the last. What should these losses be? The exact column is that of the best
model of Gaussian data with the covariance of the images: λ/v of flow matching in each direction, and λ v_r/v_t² of
MeanFlow, here with two uniform times and r = t for a quarter. A new network, whose output is 0, is at 1.68.

What we see: after 1,200 steps of 32 images all three are below the Gaussian's value, as a network must be that knows
more than the covariance: .321 and .264 for flow matching where the Gaussian has .428 and .362, and .649 for MeanFlow
where it has .995. MeanFlow's loss stands still from step 300 on, at about twice that of flow matching, and is noisy:
that is its own floor and no failure, since the conditional velocity is in the derivative too. The smaller loss of
logit-normal times is no better model: at uniform times its ε-MSE is .155 for .144, because the ends, which weigh most
there, are drawn less often. One seed; images drawn are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from ddpm import flows, plot
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.flows.paths import make_path
from ddpm.oracles.spectrum import Axes
from ddpm.training import tables
from ddpm.training.few_steps import EQUAL
from experiments.lab.few_trainings import Budget, config_of, folder_of, train
from experiments.lab.runner import Result, Row
from experiments.lab.training_scores import held_out

PAPER = "Esser et al. 2024, Sec. 3.1; Geng et al. 2025, Sec. 4.3"
MINUTES = 8
UNCHECKED = (
    "The exact column is the loss of the best model of Gaussian data with the covariance of the images: a network that "
    "knows more than the covariance goes below, and one that has just begun stands above."
)
NAMES = {"uniform": "teacher", "logit_normal": "flow, logit-normal times"}
MEANFLOW = "MeanFlow, no guidance"


@dataclass(frozen=True)
class Config:
    """The budget of the trainings, and the test images on which the denoisers are compared."""

    preset: str = "nano"
    steps: int = 2400
    batch: int = 32
    n: int = 1000


QUICK = {"preset": "cities", "steps": 8, "batch": 8, "n": 20}


def exact_losses(axes: Axes) -> dict[str, float]:
    """Floors on the Gaussian: of flow matching by each rule of times, and of MeanFlow with uniform pairs."""
    lam, number = np.asarray(axes.var), np.asarray(axes.number, np.float64)
    mean = lambda a: float((number * np.asarray(a)).sum() / number.sum())  # noqa: E731
    found = {}
    for times in NAMES:
        floors = [flows.loss_floor(make_path("linear"), v, times) for v in lam]
        found[times] = mean(floors)
    u = (np.arange(400) + 0.5) / 400
    r, t = (a[np.triu_indices(400, 1)] for a in np.meshgrid(u, u, indexing="ij"))  # r < t, evenly
    of_jump = mean([(v * ((1 - r) ** 2 * v + r**2) / ((1 - t) ** 2 * v + t**2) ** 2).mean() for v in lam])
    later = mean([(v / ((1 - t) ** 2 * v + t**2)).mean() for v in lam])  # r = t, the later of two uniform times
    return found | {"meanflow": EQUAL * later + (1 - EQUAL) * of_jump}


def run(config: Config) -> Result:
    """Train a flow by each rule of times and MeanFlow, and compare their losses with the floors."""
    budget, rows, curves = Budget(preset=config.preset, steps=config.steps, batch=config.batch), [], {}
    x, c = held_out(budget.data, config.n)
    floors: dict[str, float] = {}
    for times, name in {**NAMES, "meanflow": MEANFLOW}.items():
        m = train(budget, name)
        if not floors:
            assert m.axes is not None
            floors = exact_losses(m.axes)
        curve = tables.read_metrics(folder_of(budget, name))
        curves[name] = {k: np.round(curve[k], 5).tolist() for k in ("step", "loss")}
        last = len(curve["loss"]) // 5 + 1
        what = "MeanFlow" if times == "meanflow" else f"flow matching, {times.replace('_', '-')} times"
        rows.append(Row(f"training loss, {what}", None, floors[times], float(np.mean(curve["loss"][-last:]))))
        if times != "meanflow":
            value = eps_mse(m.eps, m.schedule, x, c, jax.random.key(0), repeats=2).value
            rows.append(Row(f"ε-MSE on test images at uniform times, {what}", None, None, value))
    return Result(
        rows, None, {"n": config.n, "curves": curves, "floors": floors, "steps": config_of(budget, MEANFLOW).steps}
    )


def redraw(rows: list[dict[str, Any]], numbers: dict[str, Any]) -> Figure:
    """Draw each training loss with the floor of its Gaussian."""
    with plot.style():
        figure = plot.new_figure(8.4, 3.2)
        axes = figure.subplots()
        keys = {**{v: k for k, v in NAMES.items()}, MEANFLOW: "meanflow"}
        for i, (name, curve) in enumerate(numbers["curves"].items()):
            label = {"teacher": "flow, uniform times"}.get(name, name)
            axes.plot(curve["step"], curve["loss"], color=f"C{i}", marker="", linestyle="-", label=label)
            axes.axhline(numbers["floors"][keys[name]], color=f"C{i}", linewidth=0.9, linestyle="--", marker="")
        axes.plot([], [], color="grey", linewidth=0.9, linestyle="--", marker="", label="its floor on the Gaussian")
        axes.set(xlabel="step", ylabel="training loss", yscale="log")
        axes.legend(fontsize=7)
    return figure
