"""The ODE–SDE gap: one wrong score, two samplers, two distributions, and what their agreement does not prove.

The claim: with a learned score the probability-flow ODE and the reverse SDE draw from different distributions, and a
penalty on the residual of the score's Fokker–Planck equation brings them together. Here the data are N(0, λ) and the
score is κ times the true one, so that all of it is in closed form. With w = λᾱ_T/v_T and v_t = ᾱ_tλ + 1 - ᾱ_t,

    Var_ODE = λ w^(κ-1)      Var_SDE = λ (w^(2κ-1) + (1 - w^(2κ-1))/(2κ-1))      residual = κβ(1-κ)x/v_t²

What we see: the same error of the score moves the logarithm of the ODE's variance about six times as far as the SDE's
(log w = -11.5 for a unit of κ, against -2), because the SDE forgets early errors and the ODE carries all of them to the
end: the pattern of the paper's plain training, where the SDE is near the data and the ODE is not. And the gap does not
measure the truth. The exact score of other data, N(0, λ'), has residual 0, both samplers agree, and both are wrong: the
pattern of the paper's strongest penalty (.035 from each other, .11 from the data). What does not carry over: a
network's error is no constant factor; it depends on x and t, and is largest near the data. The paper's numbers are
computed from its released histograms; they are compared with the Gaussian that has the same distance of the ODE to the
data.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.stats import norm

from ddpm import ddim_step, ddpm_step, oracle, plot, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Deveney et al. 2023, Closing the ODE–SDE gap in score-based diffusion models"
MINUTES = 0.5
WHAT = ("ODE–SDE", "ODE–truth", "SDE–truth")  # total variation on nine blobs, without the penalty and with weight 10
PLAIN, STRONG = (0.259, 0.260, 0.019), (0.035, 0.109, 0.106)


@dataclass(frozen=True)
class Config:
    """The cases (λ, κ), and the samples of the chain."""

    cases: tuple[tuple[float, float], ...] = ((0.25, 1.1), (0.25, 0.98), (0.25, 0.9), (4.0, 1.1))
    n: int = 20_000
    seed: int = 0


QUICK = {"n": 2_000, "cases": ((0.25, 1.1),)}


def variances(lam: float, kappa: float, alpha_bar: float) -> tuple[float, float]:
    """Var_ODE and Var_SDE in closed form, for walks that start from N(0, v_T) at ᾱ_T"""
    w = lam * alpha_bar / (lam * alpha_bar + 1 - alpha_bar)
    p = 2 * kappa - 1
    return lam * w ** (kappa - 1), lam * (w**p + (1 - w**p) / p)


def integrated(lam: float, kappa: float, alpha_bar: float) -> tuple[float, float]:
    """Both variances by integrating the equations of the moments over ℓ = -log ᾱ, from noise to data"""
    v = lambda l: np.exp(-l) * lam + 1 - np.exp(-l)  # noqa: E731
    right = lambda l, V: [-V[0] * (1 - kappa / v(l)), -V[1] * (1 - 2 * kappa / v(l)) - 1]  # noqa: E731
    l_T = -np.log(alpha_bar)
    end = solve_ivp(right, (l_T, 0), [v(l_T)] * 2, rtol=1e-11, atol=1e-13, method="LSODA").y[:, -1]
    return float(end[0]), float(end[1])


def distance(var: float, other: float) -> float:
    """Total variation between N(0, var) and N(0, other): the densities cross at ±x"""
    if np.isclose(var, other, rtol=1e-12):
        return 0.0
    x = np.sqrt(np.log(var / other) / (1 / other - 1 / var))
    return float(2 * abs(norm.cdf(x / np.sqrt(var)) - norm.cdf(x / np.sqrt(other))))


def residual(lam: float, kappa: float, x: float, alpha_bar: float) -> float:
    """∂_t s - ½β ∂_x(x s + s' + s²) by automatic differentiation, over β; 0 for the score of any noised density"""
    v = lambda l: jnp.exp(-l) * lam + 1 - jnp.exp(-l)  # noqa: E731
    s = lambda x, l: -kappa * x / v(l)  # noqa: E731
    inside = lambda x, l: x * s(x, l) + jax.grad(s)(x, l) + s(x, l) ** 2  # noqa: E731
    at = (x, -np.log(alpha_bar))
    return float(jax.grad(s, argnums=1)(*at) - 0.5 * jax.grad(inside)(*at))  # dℓ = β dt


def run(config: Config) -> Result:
    """Compare closed forms, integrals and chains of a thousand steps; then the distances of the paper's pattern."""
    schedule = linear()
    a_T = float(schedule.alpha_bar[-1])
    rows: list[Row] = []
    key_x, key = jax.random.split(jax.random.key(config.seed))
    z = jax.random.normal(key_x, (config.n, 1))
    # The formulas, against the moments' equations and against chains
    for lam, kappa in config.cases:
        name = f"λ = {lam:g}, κ = {kappa:g}"
        exact_var, moments = variances(lam, kappa, a_T), integrated(lam, kappa, a_T)
        eps = oracle.mixture([[0.0]], lam).eps(schedule)
        wrong = lambda x_t, t, c, eps=eps, kappa=kappa: kappa * eps(x_t, t, c)  # noqa: E731
        start = jnp.sqrt(lam * a_T + 1 - a_T)
        for i, (which, make, begin) in enumerate((("ODE", ddim_step, jnp.ones((1, 1))), ("SDE", ddpm_step, z))):
            V = exact_var[i]
            rows.append(Row(f"{name}: Var_{which}, moments' equations", None, V, moments[i], within=1e-6))
            x = np.asarray(walk(make(wrong, schedule), key, start * begin, make_times(schedule.T, schedule.T)))
            ours, error = float(np.mean(x**2)), float(np.sqrt(2 / config.n)) if which == "SDE" else 0.0
            what, within = f"{name}: Var_{which}, 1,000 steps", 0.02 + 4 * error  # of the steps, and of the samples
            rows.append(Row(what, None, V, ours, V * error, within=within))
    with float64():
        lam, kappa = config.cases[-1]
        exact = kappa * (1 - kappa) / (0.3 * lam + 0.7) ** 2
        found = residual(lam, kappa, 1.0, 0.3), residual(1.3, 1.0, 1.0, 0.3)
    rows.append(Row("Fokker–Planck residual over β, x = 1, ᾱ = .3", None, exact, found[0], within=1e-10))
    rows.append(Row("the same for the score of N(0, λ')", None, 0.0, found[1], within=1e-10, near=1.0))
    # The paper's two patterns, in one Gaussian: a factor κ; and the exact score of other data
    lam, a = 0.25, a_T
    kappa = brentq(lambda k: distance(variances(lam, k, a)[0], lam) - PLAIN[1], 1.0, 1.3)
    ode, sde = variances(lam, kappa, a)
    other = brentq(lambda r: distance(r * lam, lam) - STRONG[1], 1.0, 2.0) * lam
    pairs = {"factor": (ode, sde), "other": integrated(other, 1.0, a)}
    for which, paper, (o, s) in zip(("no penalty", "penalty 10"), (PLAIN, STRONG), pairs.values(), strict=True):
        case = "a factor κ" if which == "no penalty" else "the score of N(0, λ')"
        for what, p, pair in zip(WHAT, paper, ((o, s), (o, lam), (s, lam)), strict=True):
            rows.append(Row(f"TV {what}: {which} on blobs (paper), {case} (exact)", p, distance(*pair)))
    grid = np.linspace(0.85, 1.15, 61)
    curve = np.array([variances(lam, k, a) for k in grid]) / lam
    return Result(rows, None, {"kappa": grid, "curve": curve, "at": kappa, "var": pairs, "lam": lam})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw both variances by the factor, and the densities of the two patterns."""
    with plot.style():
        figure = plot.new_figure(9.4, 2.9)
        axes = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
        axes[0].plot(numbers["kappa"], [c[0] for c in numbers["curve"]], label="ODE")
        axes[0].plot(numbers["kappa"], [c[1] for c in numbers["curve"]], label="SDE")
        axes[0].axhline(1, color="0.6", lw=0.8)
        axes[0].set(
            yscale="log", xlabel="score = κ · true score", ylabel="variance / true variance", yticks=[0.3, 1, 3]
        )
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].minorticks_off()
        axes[0].legend(fontsize=8)
        x = np.linspace(-2, 2, 201)
        titles = (f"κ = {numbers['at']:.3f}: they disagree", "score of other data: they agree")
        for ax, (ode, sde), title in zip(axes[1:], numbers["var"].values(), titles, strict=True):
            ax.fill_between(x, norm.pdf(x, 0, numbers["lam"] ** 0.5), color="0.87", label="truth")
            for var, name in ((ode, "ODE"), (sde, "SDE")):
                ax.plot(x, norm.pdf(x, 0, var**0.5), label=name)
            ax.set(title=title, xlabel="x", yticks=[])
            ax.legend(fontsize=7)
    return figure
