"""Distillation of guided models: first the guidance, then the steps go into a student, and neither adds an error.

The claim: a student that is told the scale s learns ε̂_∅ + s (ε̂_c - ε̂_∅) in one call; then it learns to make in one
step what it made in two, and again, until 1 to 4 calls are left of hundreds. On one Gaussian a class both stages have
an exact student. The first is linear in (x, 1, s, sx): a student to which the scale is only added keeps an error. The
second ends with one step whose gain is that of sixteen. On a mixture of two Gaussians the guided denoiser is not linear
and the student is a table, and we see the same: one step draws what sixteen guided steps (32 calls) draw, at every
scale, and has their distance from the guided flow, about .1, which no halving removes. One step of the teacher is off
by .7 to 2.3. What does not carry over: a network is no table; the first halvings cost it little, the last ones more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.contracts import Eps, Partial
from ddpm.flows.progressive import halved, progressive_target
from ddpm.forward import eps_from_x0
from ddpm.guide import cfg
from ddpm.losses.distillation import distillation_loss
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Meng et al. 2023, On distillation of guided diffusion models"
MINUTES = 0.3
MEAN, VAR = 1.0, 0.25
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])


@dataclass(frozen=True)
class Config:
    """Steps of the first teacher, guidance scales, and nodes of the student's table."""

    steps: int = 16
    scales: tuple[float, ...] = (1.0, 2.0, 4.0)
    nodes: int = 2001


QUICK = {"steps": 4, "scales": (2.0,), "nodes": 801}


def by_table(x_t: jax.Array, t: jax.Array, c: Any = None, *, table: tuple, schedule: Schedule) -> jax.Array:
    """ε̂ of a student that is a table: the nodes, and x̂0 there, a row for each time"""
    nodes, x0 = table
    return eps_from_x0(schedule, x_t, t, jnp.interp(x_t[:, 0], nodes, x0[jnp.ravel(t)[0]])[:, None])


def distil(teacher: Eps, schedule: Schedule, times: np.ndarray, x: jax.Array) -> dict[int, Eps]:
    """The students of N/2, N/4 … 1 steps, each from the one before"""
    students = {len(times) - 1: teacher}
    target = jax.jit(lambda teacher, t, m, s: progressive_target(teacher, schedule, x[:, None], t, m, s)[:, 0])
    while len(times) > 2:
        table = jnp.zeros((schedule.T + 1, len(x)))
        for t, m, s in zip(times[:-2:2], times[1:-1:2], times[2::2], strict=True):
            table = table.at[t].set(target(teacher, *map(jnp.asarray, (t, m, s))))
        teacher, times = Partial(by_table, table=(x, table), schedule=schedule), halved(times)
        students[len(times) - 1] = teacher
    return students


def guided(x: np.ndarray, times: np.ndarray, scale: float) -> np.ndarray:
    """DDIM with guidance towards the class at 1 of two at ±1, in NumPy"""
    for t, s in pairwise(times):
        a, b, a_s = np.sqrt(ALPHA_BAR[t]), np.sqrt(1 - ALPHA_BAR[t]), np.sqrt(ALPHA_BAR[s])
        v = a * a * VAR + b * b
        eps_c, eps_0 = (b / v * (x - a * MEAN * w) for w in (1, np.tanh(a * MEAN * x / v)))
        x = a_s * (x - b * (eps := eps_0 + scale * (eps_c - eps_0))) / a + np.sqrt(1 - a_s * a_s) * eps
    return x


def first_stage(schedule: Schedule) -> list[Row]:
    """The loss of the best student that is linear in the features, where each denoiser is that of one Gaussian"""
    pair = oracle.mixture(np.array([[0.0], [MEAN]]), np.array([VAR + 1, VAR])).eps(schedule)  # ∅, and a class
    rng, rows, n = np.random.default_rng(0), [], 500
    teacher = Partial(lambda x, t, c=None: pair(x, t, jnp.full(len(x), 0 if c is None else 1)))
    x, s, t = jnp.asarray(rng.normal(size=(n, 1))), jnp.asarray(rng.uniform(0, 8, n)), jnp.full(n, 300)

    def student(x: jax.Array, t: jax.Array, c: tuple, w: jax.Array) -> jax.Array:
        return jnp.stack([x[:, 0], jnp.ones(len(x)), c[1], c[1] * x[:, 0]], 1)[:, : len(w)] @ w

    for k, name, exact in ((3, "x, 1, s", {}), (4, "x, 1, s, sx", {"exact": 0.0, "within": 1e-12, "near": 1.0})):
        target = cfg(teacher, s)(x, t, jnp.ones(n, int))
        best = jnp.linalg.lstsq(student(x, t, (None, s), jnp.eye(k)), target[:, 0])[0][:, None]
        loss = distillation_loss(partial(student, w=best), teacher, x, t, jnp.ones(n, int), s)
        rows.append(Row(f"stage 1, student of ({name}): loss", ours=float(loss.mean()), **exact))
    return rows


def run(config: Config) -> Result:
    """Distil the guidance, then the steps, and compare with the steps of the teacher."""
    with float64():
        schedule, times, grid = linear(), make_times(1000, config.steps), jnp.linspace(-8, 8, config.nodes)
        rows = first_stage(schedule)
        key, theta = jax.random.key(0), np.arctan(np.sqrt((1 - ALPHA_BAR) / ALPHA_BAR / VAR))
        students = distil(oracle.gaussian(np.zeros(1), VAR).eps(schedule), schedule, times, grid)
        for of, path, n in (("student", times, 1), ("teacher", times[[0, -1]], config.steps)):
            one = float(ddim_step(students[n], schedule)(key, jnp.ones((1, 1)), 1000, 0)[0, 0])
            gain = np.cos(np.diff(theta[path])).prod() * np.sqrt(VAR / (ALPHA_BAR[1000] * VAR + 1 - ALPHA_BAR[1000]))
            rows.append(Row(f"stage 2, N(0, .25), one step of the {of}: gain", None, gain, one, within=1e-9))
        m, x_T = oracle.mixture(np.array([[-MEAN], [MEAN]]), VAR), np.linspace(-2.5, 2.5, 101)
        curves, maps = dict[str, list[tuple]](), {"x": x_T}
        for scale in config.scales:
            teacher = Partial(lambda x, t, c=None, s=scale: cfg(m.eps(schedule), s)(x, t, jnp.ones(len(x), int)))
            truth, exact = guided(x_T, np.arange(1000, -1, -1), scale), guided(x_T, times, scale)
            for steps, student in distil(teacher, schedule, times, grid).items():
                path = make_times(1000, steps)
                ours = np.asarray(walk(ddim_step(student, schedule), key, jnp.asarray(x_T)[:, None], path))[:, 0]
                pairs = (ours, exact), (ours, truth), (guided(x_T, path, scale), truth)
                off, error, plain = (float(np.sqrt(np.mean((a - b) ** 2))) for a, b in pairs)
                rows.append(Row(f"scale {scale:g}, {steps} steps: off the teacher", None, 0.0, off, None, 1e-4, 1.0))
                curves.setdefault(f"{scale:g}", []).append((steps, error, plain))
        maps |= {"guided flow": truth, "teacher, all steps": exact, "student, one step": ours}
        maps["teacher, one step"] = guided(x_T, path, scale)
    return Result(rows, None, {"curves": curves, "maps": maps})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw where each noise ends at the largest scale, and the distance from the guided flow by calls."""
    with plot.style():
        figure = plot.new_figure(8.8, 3.1)
        left, right = figure.subplots(1, 2)
        maps, curves = numbers["maps"], numbers["curves"]
        for name in list(maps)[1:]:
            left.plot(maps["x"], maps[name], label=name)
        left.set(xlabel="noise x_T", ylabel="x_0", title=f"scale {list(curves)[-1]}")
        left.legend(fontsize=8)
        for color, (name, found) in zip(("#1b4f72", "#c0392b", "#d68910"), curves.items(), strict=False):
            steps, error, plain = np.array(found).T
            right.plot(2 * steps, plain, "o-", color=color, label=f"scale {name}: DDIM, 2 calls a step")
            right.plot(steps[1:], error[1:], "s:", color=color, label="students, 1 call a step")
        right.set_xscale("log", base=2)
        right.set(yscale="log", xlabel="network calls", ylabel="rms from the guided flow", ylim=(0.07, 30))
        right.xaxis.set_major_formatter("{x:g}")
        right.legend(fontsize=7, ncols=2)
    return figure
