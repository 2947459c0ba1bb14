"""Translation through the noise of DDIM, between Gaussians: what it costs beside optimal transport.

An image is encoded as class a by DDIM and decoded as class b (`translation` does so with garments). Su et al. call this
a dual diffusion bridge and prove that each half of the way solves a transport problem. The whole way does not. Between
N(0, Σ_a) and N(m, Σ_b) it is the linear map Σ_b^½ Σ_a^-½, and optimal transport is Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½.
Both arrive at the right distribution. They are one map if the covariances commute, as for classes that differ in
brightness only, and the further the axes are turned the more DDIM moves than it must. In return its maps compose: from
a by b to c is from a to c, for any three classes, and a round trip is the identity. Optimal transport does not do that.
The exact column is NumPy; ours is the library's `translate` with the exact denoiser of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import sqrtm

from ddpm import oracle, plot
from ddpm.editing.translation import translate
from ddpm.schedule import linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Su et al. 2023, Dual diffusion implicit bridges"
MINUTES = 0.3
VAR = np.diag([1.0, 0.1])  # the variances of every class, along its own axes


@dataclass(frozen=True)
class Config:
    """Angles by which the axes of b are turned, and steps of DDIM each way."""

    angles: tuple[float, ...] = (0.0, 0.15, 0.3, 0.6, 0.9, 1.2)
    steps: int = 1000


QUICK = {"angles": (0.0, 0.6), "steps": 250}


def turned(angle: float) -> np.ndarray:
    """The covariance with its axes turned."""
    R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return R @ VAR @ R.T


def through_noise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Σ_b^½ Σ_a^-½"""
    return np.real(sqrtm(b)) @ np.linalg.inv(np.real(sqrtm(a)))


def transport(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½, the map of optimal transport"""
    root = np.real(sqrtm(a))
    inverse = np.linalg.inv(root)
    return inverse @ np.real(sqrtm(root @ b @ root)) @ inverse


def cost(M: np.ndarray, a: np.ndarray) -> float:
    """E ‖x - M x‖², x ~ N(0, Σ_a)"""
    gap = np.eye(2) - M
    return float(np.trace(gap @ a @ gap.T))


def library_map(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """The matrix of `translate` from class 0 to class 1, from where it sends the two unit vectors."""
    with float64():
        m = oracle.mixture(np.zeros((2, 2)), np.stack([a, b]), label=[0, 1])
        x = translate(m.eps(linear()), linear(), np.eye(2), 0, 1, steps=steps, start=1.0).image
    return np.asarray(x, np.float64).T


def run(config: Config) -> Result:
    """Compare the maps and their costs by the angle, and a detour over a third class."""
    rows, curve, close = list[Row](), [], 15 / config.steps  # DDIM is of first order
    for angle in config.angles:
        a, b = VAR, turned(angle)
        M, best, ours = through_noise(a, b), transport(a, b), library_map(a, b, config.steps)
        exact, least, found = cost(M, a), cost(best, a), cost(ours, a)
        rows += [
            Row(f"turned by {angle:g}: cost through the noise", None, exact, found, within=close, near=0.5),
            Row(f"turned by {angle:g}: optimal transport", None, least, None),
            Row(f"turned by {angle:g}: it arrives, largest error of the covariance", None, 0.0,
                float(np.abs(ours @ a @ ours.T - b).max()), within=close, near=1.0),
        ]  # fmt: skip
        curve.append((angle, exact, found, least))
    a, b, c = VAR, turned(0.6), turned(1.2)
    detour = library_map(b, c, config.steps) @ library_map(a, b, config.steps) - library_map(a, c, config.steps)
    by_transport = transport(b, c) @ transport(a, b) - transport(a, c)
    rows += [
        Row(
            "over a third class: change of DDIM's map",
            None,
            0.0,
            float(np.abs(detour).max()),
            within=2 * close,
            near=1.0,
        ),
        Row("over a third class: change of optimal transport's map", None, float(np.abs(by_transport).max()), None),
    ]
    return Result(rows, None, {"curve": curve})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw both maps for one angle, and the cost by the angle."""
    with plot.style():
        figure = plot.new_figure(9.6, 3.1)
        first, second, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
        a, b, turn = VAR, turned(0.9), np.linspace(0, 2 * np.pi, 25)
        ring, fine = (
            np.real(sqrtm(a)) @ np.stack([np.cos(t), np.sin(t)]) for t in (turn, np.linspace(0, 2 * np.pi, 200))
        )
        for ax, M, name in ((first, through_noise(a, b), "DDIM"), (second, transport(a, b), "optimal transport")):
            end = M @ ring
            ax.plot(*fine, color="C0", lw=1, label="a")
            ax.plot(*(M @ fine), color="C1", lw=1, ls="-", label="b")
            ax.quiver(*ring, *(end - ring), angles="xy", scale_units="xy", scale=1, width=0.005, color="0.45")
            ax.set_aspect("equal", adjustable="datalim")
            ax.set_title(f"{name}: cost {cost(M, a):.3f}", fontsize=9)
        first.legend(fontsize=7)
        angle, _, found, _ = np.array(numbers["curve"]).T
        angles = np.linspace(0, angle.max(), 60)
        right.plot(
            angles,
            [cost(through_noise(a, turned(t)), a) for t in angles],
            color="C1",
            ls="-",
            label="through the noise",
        )
        right.plot(angles, [cost(transport(a, turned(t)), a) for t in angles], color="C0", label="optimal transport")
        right.plot(angle, found, "o", color="C1", ms=4, label="the library")
        right.set(xlabel="angle between the axes", ylabel="E ‖x - x'‖²")
        right.legend(fontsize=7)
    return figure
