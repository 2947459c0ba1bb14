"""Gauge freedom: what can be added to the score without changing any marginal, and what it costs.

The claim: a field s + r samples exactly as the score s does if ∇·(p_t r) = 0, so that a network need not be the
gradient of anything; but whoever reads the shape of the data from the field should want a gradient. Both are exact
here. With J the rotation by 90°, r = ωJΣ_t⁻¹x is such a gauge for Gaussian data, and r = ωJx, a rotation too, is not.

What we see: along the flow the gauge leaves the covariance as it is, while the plain rotation turns mass from the wide
axis to the narrow one. On a line the score points straight at the line; with the gauge it points past it, at an angle
of atan ω, for ever: the samples are right and the geometry read from the field is wrong. The dimension can be read from
the exact flow: distances along a circle stay, distances across it shrink like (1 - ᾱ_t)^½. Our garments network is
free, and yet the antisymmetric part of its Jacobian is at most a fifth of a percent: it has nearly learned a gradient.
What does not carry over: on images nobody knows a gauge; a network's antisymmetric part is error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.integrate import solve_ivp

from ddpm import ddim_step, oracle, plot, q_sample, walk
from ddpm.data import to_float
from ddpm.datasets import load
from ddpm.schedule import Schedule, linear, make_times
from ddpm.zoo import model
from experiments.lab.runner import Result, Row, float64

PAPER = "Horvat and Pfister 2024, On gauge freedom, conservativity and intrinsic dimensionality estimation"
MINUTES = 1.5
VAR, OMEGA = np.array([1.0, 0.25]), 0.5
J = np.array([[0.0, -1.0], [1.0, 0.0]])


@dataclass(frozen=True)
class Config:
    """The network, its images, probes of an image, and times."""

    model: str = "fashion_mnist"
    n: int = 24
    probes: int = 4
    times: tuple[int, ...] = (100, 300, 500, 700, 900)
    seed: int = 0


QUICK = {"n": 4, "probes": 2, "times": (500,)}


def end_covariance(field: Any, alpha_bar_T: float) -> np.ndarray:
    """Covariance at t = 0 of dx/dℓ = -½(x + s + r), ℓ = -log ᾱ, for a linear s + r = F(Σ_t) x, from the noised data"""

    def right(ell: float, V: np.ndarray) -> np.ndarray:
        A = -0.5 * (np.eye(2) + field(np.diag(np.exp(-ell) * VAR + 1 - np.exp(-ell))))
        half = A @ V.reshape(2, 2)
        return (half + half.T).ravel()

    start = np.diag(alpha_bar_T * VAR + 1 - alpha_bar_T).ravel()
    found = solve_ivp(right, (-np.log(alpha_bar_T), 0), start, rtol=1e-11, atol=1e-13, method="LSODA")
    return found.y[:, -1].reshape(2, 2)


def circle_stretch(schedule: Schedule, times: np.ndarray) -> np.ndarray:
    """Singular values of the flow map from T to each later time, (n, 2): x̂0 = I₁/I₀(√ᾱ r/(1-ᾱ)) x/r on a circle"""

    def eps(x_t: jax.Array, t: Any, c: Any = None) -> jax.Array:
        a, r = schedule.alpha_bar[t][:, None], jnp.linalg.norm(x_t, axis=1, keepdims=True)
        k = jnp.sqrt(a) * r / (1 - a)
        return (x_t - jnp.sqrt(a) * i1e(k) / i0e(k) * x_t / r) / jnp.sqrt(1 - a)

    path = lambda x: walk(ddim_step(eps, schedule), jax.random.key(0), x[None], times, path=True)[1][:, 0]  # noqa: E731
    return np.linalg.svd(np.asarray(jax.jacfwd(path)(jnp.array([0.6, 0.8]))), compute_uv=False)


def antisymmetric(eps: Any, x_t: jax.Array, t: Any, u: jax.Array) -> jax.Array:
    """‖(J - Jᵀ)/2‖² and ‖J‖² of each image's Jacobian, from uᵢᵀJuⱼ of pairs of random signs u (P, B, …): (2, B)"""
    pulled = jax.vjp(lambda x: eps(x, t, None), x_t)[1]
    M = jnp.stack([jnp.einsum("b...,pb...->bp", pulled(one)[0], u) for one in u], 1)  # (B, P, P), uᵢᵀJuⱼ
    i, j = np.triu_indices(len(u), 1)
    a, b = M[:, i, j], M[:, j, i]
    return jnp.stack([((a - b) ** 2).mean(1) / 4, (a**2 + b**2).mean(1) / 2])


def run(config: Config) -> Result:
    """Check the gauge, the flow on the circle and the oracle's Jacobian; measure the network's."""
    with float64():
        rows, schedule, times = list[Row](), linear(), make_times(1000, 1000)
        fields: dict[str, Any] = {
            "score": lambda S: -np.linalg.inv(S),
            "with the gauge ωJΣ⁻¹x": lambda S: (OMEGA * J - np.eye(2)) @ np.linalg.inv(S),
            "with the rotation ωJx": lambda S: OMEGA * J - np.linalg.inv(S),
        }
        ends = {k: end_covariance(F, float(schedule.alpha_bar[-1])) for k, F in fields.items()}
        for name, V in ends.items():
            tight = 1e-6 if "rotation" not in name else None
            for axis, i, j, x in (("wide", 0, 0, 1.0), ("narrow", 1, 1, 0.25), ("shared", 0, 1, 0.0)):
                what, exact = f"{name}: {axis} variance", x if tight else None
                rows.append(Row(what, None, exact, float(V[i, j]), within=tight, near=1.0))
        field = fields["with the gauge ωJΣ⁻¹x"](np.diag([0.5, 1e-3]))
        exact, angle = (float(np.degrees(np.arctan(x))) for x in (OMEGA, abs(field[0, 1] / field[1, 1])))
        rows.append(Row("angle of the field to a line's normal, degrees", None, exact, angle, within=1e-9))
        # The circle: slopes of the flow's singular values in log(1 - ᾱ_t) over the last times
        values, noise = circle_stretch(schedule, times)[:-1], 1 - np.asarray(schedule.alpha_bar)[times[1:-1]]
        late = (noise < 0.01) & (noise > 0.0005)
        along, across = map(float, np.polyfit(np.log(noise[late]), np.log(values[late]), 1)[0])
        rows.append(Row("circle: slope along it", None, 0.0, along, within=0.03, near=0.5))
        rows.append(Row("circle: slope across it", None, 0.5, across, within=0.03))
        mixed = oracle.mixture([[1.0, 0.0], [-0.5, 1.0], [0.0, -1.0]], 0.1).eps(schedule)
        slope = jax.jacrev(lambda x: mixed(x[None], jnp.array([300]), None)[0])(jnp.array([0.3, 0.2]))
        off = float(jnp.abs(slope - slope.T).max())
        rows.append(Row("antisymmetric part of a mixture's ε*", None, 0.0, off, within=1e-12, near=1.0))
    # The network
    m, x0 = model.load(config.model), to_float(load(config.model).x_test[: config.n])
    key_e, key_u = jax.random.split(jax.random.key(config.seed))
    u = jax.random.rademacher(key_u, (config.probes, *x0.shape), float)
    measure = jax.jit(lambda x_t, t: antisymmetric(m.eps, x_t, t, u))
    for t in config.times:
        at = jnp.full(config.n, t)
        anti, whole = measure(q_sample(m.schedule, x0, at, jax.random.normal(key_e, x0.shape)), at)
        each, name = anti / whole.mean(), f"{config.model}, t = {t}: antisymmetric share of ‖∂ε̂/∂x‖²"
        spread = float(each.std() / np.sqrt(config.n))
        rows.append(Row(name, None, 0.0, float(each.mean()), spread, within=0.02, near=1.0))
    return Result(rows, None, {"ends": ends, "noise": noise[::20], "values": values[::20], "times": config.times})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the covariances, the flow on the circle, and the network's antisymmetric share."""
    with plot.style():
        axes = (figure := plot.new_figure(9.4, 3)).subplots(1, 3)
        for (name, V), color, line in zip(numbers["ends"].items(), ("0.75", "#1b4f72", "#c0392b"), "-:-", strict=True):
            lam, U = np.linalg.eigh(V)
            angle = np.degrees(np.arctan2(U[1, 1], U[0, 1]))
            axes[0].add_patch(
                Ellipse((0, 0), *4 * np.sqrt(lam[::-1]), angle=angle, fc="none", ec=color, lw=2, ls=line, label=name)
            )
        axes[0].set(xlim=(-2.4, 2.4), ylim=(-1.6, 2.6), aspect="equal", title="covariance at the end")
        axes[0].legend(fontsize=7, loc="upper left")
        for k, name in enumerate(("along the circle", "across it")):
            axes[1].loglog(numbers["noise"], [v[k] for v in numbers["values"]], label=name)
        axes[1].set(xlabel=r"$1-\bar\alpha_t$", ylabel="flow's stretch from T", title="the flow on a circle")
        axes[1].legend(fontsize=7)
        shares = [100 * r["ours"] for r in rows if "antisymmetric share" in r["what"]]
        axes[2].bar(list(map(str, numbers["times"])), shares, color="#1b4f72")
        axes[2].set(xlabel="t", ylabel="antisymmetric share, %", title="garments network")
    return figure
