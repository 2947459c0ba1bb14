"""Score distillation is neither a sampler nor a mode finder: where it ends, exactly.

DreamFusion moves an image along E[w (ε̂ - ε)] until nothing moves, with guidance 100. In the exact case the end is
known. On two classes N(±1, ¼) it is the class's mean at s = 1, and 3.45 and 15.9 at s = 7.5 and 100. The data end at
about 2.5: what is called over-saturated is thirty standard deviations away. Without a class it is 0, between the modes,
where data are rare: at large t both classes are one heap. Small t alone end near a mode, and keep guidance in bounds.
Many images that are moved this way all end at one point. VSD subtracts the score of the images themselves and ends with
the covariance of the data; DDS subtracts that of a reference and moves it by the difference of the classes' means. The
exact column is NumPy: a quadrature over t and ε, and closed forms. Ours are the library's fixed points, and the ends of
drawn gradients. What does not carry over: a real denoiser far outside of the data is a guess, and 15.9 is more than any
network was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import brentq

from ddpm import distillation, oracle, plot
from ddpm.guide import cfg
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Poole et al. 2023, Sec. 3; Wang et al. 2023 (VSD); Hertz et al. 2023 (DDS)"
MINUTES = 0.8
WINDOWS = ((0.02, 0.98), (0.02, 0.5), (0.02, 0.2))
COV, MEAN = np.array([[1.0, 0.6], [0.6, 0.5]]), np.array([0.5, -0.5])


@dataclass(frozen=True)
class Config:
    """Guidance scales, particles, steps, and the seed."""

    scales: tuple[float, ...] = (1.0, 2.0, 4.0, 7.5, 20.0, 50.0, 100.0)
    particles: int = 512
    steps: int = 4000
    seed: int = 0


QUICK = {"scales": (1.0, 7.5), "particles": 256, "steps": 3000}


def exact_point(s: float, window: tuple[float, float], low: float, high: float) -> float:
    """The root of mean_t w E ε̂ for the class at +1, in NumPy: ε̂_∅ + s (ε̂_c - ε̂_∅), w = 1-ᾱ."""
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[round(window[0] * 1000) : round(window[1] * 1000), None]
    z, weight = np.polynomial.hermite_e.hermegauss(100)
    weight = weight / weight.sum()
    v = 0.25 * a + 1 - a

    def field(x: float) -> float:
        x_t = np.sqrt(a) * x + np.sqrt(1 - a) * z
        other = 1 / (1 + np.exp(np.clip(2 * np.sqrt(a) * x_t / v, -700, 700)))  # p(class -1 | x_t)
        of_class = np.sqrt(1 - a) * (x_t - np.sqrt(a)) / v
        of_all = of_class + np.sqrt(1 - a) * 2 * np.sqrt(a) * other / v
        return float(((1 - a) * (of_all + s * (of_class - of_all)) * weight).sum(1).mean())

    return brentq(field, low, high, xtol=1e-9)


def fixed_points(config: Config) -> tuple[list[Row], dict[str, list[float]]]:
    """Rows and curves of the fixed points by scale and window."""
    rows: list[Row] = []
    curves: dict[str, list[float]] = {}
    schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
    for window in WINDOWS:
        top = f"t ≤ {window[1] * 1000:.0f}"
        curves[top] = []
        for s in config.scales:
            exact = exact_point(s, window, 0.5, 60.0)
            ours = distillation.fixed_point(cfg(m.eps(schedule), s), schedule, 0.5, 60.0, 0, window)
            rows.append(Row(f"{top}, guidance {s:g}: fixed point", None, exact, ours, within=1e-4))
            curves[top].append(ours)
        low = 0.2 if window[1] < 0.3 else -0.3
        exact = exact_point(0.0, window, low, 3.0)
        ours = distillation.fixed_point(m.eps(schedule), schedule, low, 3.0, None, window)
        rows.append(Row(f"{top}, no class: fixed point", None, exact, ours, within=1e-4, near=1.0))
    return rows, curves


def particles(config: Config) -> tuple[list[Row], dict[str, Any]]:
    """Rows and end points of SDS, VSD and DDS from the same particles."""
    schedule, key = linear(), jax.random.key(config.seed)
    eps = oracle.gaussian(MEAN, COV).eps(schedule)
    x = 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (config.particles, 2))

    def vsd(key: jax.Array, x: jax.Array) -> jax.Array:
        return distillation.vsd(eps, distillation.own_gaussian(x).eps(schedule), schedule)(key, x)

    ends = {
        "SDS": distillation.descend(distillation.sds(eps, schedule), key, x, config.steps, 0.05),
        "VSD": distillation.descend(vsd, key, x, config.steps, 0.1),
    }
    rows, exact = [], {"SDS": np.zeros((2, 2)), "VSD": COV}
    for name, end in ends.items():
        cov = np.cov(np.asarray(end).T, bias=True)
        for i, j in ((0, 0), (1, 1), (0, 1)):
            what = f"{name}: covariance of the particles, {'xy'[i]}{'xy'[j]}"
            rows.append(Row(what, None, exact[name][i, j], float(cov[i, j]), within=0.03, near=1.0))
    # DDS: a reference of one class, edited to the other; both have the covariance COV
    means = np.stack([MEAN, MEAN + np.array([1.5, -1.5])])
    pair = oracle.mixture(means, np.stack([COV, COV])).eps(schedule)
    c = jnp.zeros(config.particles, int)
    reference = jnp.asarray(ends["VSD"])
    edit = distillation.dds(pair, schedule, c + 1, reference, c)
    moved = distillation.descend(edit, key, reference, config.steps, 0.1)
    shift = np.asarray(moved - reference)
    for i in range(2):
        rows += [
            Row(
                f"DDS: mean move in {'xy'[i]}", None, means[1, i] - means[0, i], float(shift[:, i].mean()), within=0.02
            ),
            Row(f"DDS: spread of the moves in {'xy'[i]}", None, 0.0, float(shift[:, i].std()), within=0.02, near=1.0),
        ]
    some = slice(0, 200)
    return rows, {"start": x[some], **{k: v[some] for k, v in ends.items()}, "DDS": moved[some]}


def run(config: Config) -> Result:
    """Find the fixed points, and move particles."""
    with float64():
        rows, curves = fixed_points(config)
    more, points = particles(config)
    return Result([*rows, *more], None, {"scales": config.scales, "curves": curves, "points": points})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the fixed points by guidance scale, and where particles end."""
    with plot.style():
        figure = plot.new_figure(10.4, 3.5)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        for (name, points), colour in zip(numbers["curves"].items(), ("C3", "C1", "C0"), strict=True):
            left.plot(numbers["scales"], points, "o-", ms=4, color=colour, label=name)
        left.axhspan(0.01, 2.5, color="0.88", lw=0)
        left.text(100, 0.78, "the data of the class reach 2.5,\nits mean + 3 deviations", fontsize=7, ha="right")
        left.set(xscale="log", yscale="log", ylim=(0.7, 30), xlabel="guidance scale s", ylabel="where SDS ends")
        left.set_xticks(ticks := [1, 2, 7.5, 20, 100], map(str, ticks))
        left.set_yticks(ticks := [1, 2.5, 5, 10, 20], map(str, ticks))
        left.minorticks_off()
        left.legend(fontsize=7, title="times", title_fontsize=7, loc="upper left")
        angle = np.linspace(0, 2 * np.pi, 200)
        circle = 2 * np.linalg.cholesky(COV) @ np.stack([np.cos(angle), np.sin(angle)])
        p = {k: np.array(v) for k, v in numbers["points"].items()}
        for ax, shown in ((middle, ("start", "VSD", "SDS")), (right, ("VSD", "DDS"))):
            ax.plot(*(circle + MEAN[:, None]), color="0.5", ls="-", lw=1)
            for name in shown:
                colour = {"start": "0.75", "SDS": "C3", "VSD": "C0", "DDS": "C2"}[name]
                label = "reference" if ax is right and name == "VSD" else name
                ax.plot(*p[name].T, ".", ms=4, color=colour, label=label)
            ax.set_aspect("equal", adjustable="datalim")
            ax.legend(fontsize=7, loc="lower left")
        right.plot(*(circle + (MEAN + np.array([1.5, -1.5]))[:, None]), color="0.5", ls="-", lw=1)
        middle.set_title("particles: SDS collapses, VSD does not", fontsize=8)
        right.set_title("DDS: the reference, moved", fontsize=8)
    return figure
