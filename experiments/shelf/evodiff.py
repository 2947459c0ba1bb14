"""EVODiff: x̂0 or ε̂ in the step of a solver, and how a rule that mixes them does on an exact Gaussian.

The claim: the conditional variance of a step tells how the predictions of two times should be combined; so a solver
that extrapolates x̂0, with weights found from these predictions, draws better images with few calls than one of ε̂
(CIFAR-10, ten calls: FID 5.10 → 2.78). On N(0, λ) every such solver is a number, the gain, and the flow's is known.

What we see: of two-step solvers on an even list of log-SNR that of x̂0 is nearer to the flow at ten calls and fewer,
for each λ. From twenty calls on the two errors are nearly equal and opposite, so a step that takes half of each, still
one call, is 6 to 16 times as good (3 to 8 times at λ = .01). On EDM's list the order is turned round: ε̂ is better than
x̂0 at every number of calls. So a form of prediction is good for a list of times, not by itself. The rule of the
released code, as we read it, is further off than x̂0 without it, on both lists. What does not carry over: its constants
are tuned for networks, whose errors at few calls are not only those of the solver; an exact denoiser of a Gaussian has
no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit

from ddpm import oracle, plot
from ddpm.sample import walk
from ddpm.samplers import edm_sigmas, from_sigma, multistep
from ddpm.samplers.solvers import begin
from experiments.lab.runner import Result, Row, float64

PAPER = "Li et al. 2025, EVODiff: entropy-aware variance optimized diffusion inference"
MINUTES = 0.2
UNCHECKED = "The exact column of a solver is the flow; how far each solver is from it is the finding."
FORMS = {"ε̂": 0.0, "x̂0": 1.0, "half of each": 0.5}  # the weight of x̂0


@dataclass(frozen=True)
class Config:
    """Calls, variances of the single Gaussians, directions of the large one, and images."""

    calls: tuple[int, ...] = (5, 10, 20, 40)
    var: tuple[float, ...] = (0.01, 0.25, 1.0, 4.0)
    dims: int = 64
    n: int = 256
    seed: int = 0


QUICK = {"calls": (10,), "var": (1.0,), "n": 32}


def two_step(weight: float, sigma: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """The gain of a two-step solver on N(0, λ), x = x0 + σε: `weight` of the step with x̂0, the rest of that with ε̂"""
    x, last, h_last = np.ones_like(lam), None, None
    for s, s_next in pairwise(sigma):
        h, now = np.log(s / s_next), np.stack([lam, np.full_like(lam, s)]) * x / (lam + s * s)  # x̂0, and ε̂
        x0, eps = now if last is None else now + (now - last) * h / h_last / 2
        x = weight * (s_next / s * x + (1 - s_next / s) * x0) + (1 - weight) * (x + (s_next - s) * eps)
        last, h_last = now, h
    return x


def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """⟨a, b⟩/⟨b, b⟩ for each image, clipped to ±2"""
    return np.clip((a * b).sum(1, keepdims=True) / (b * b).sum(1, keepdims=True), -2, 2)


def released(x: np.ndarray, sigma: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """The step of the released code, up to 20 calls, as we read it: two predictions are balanced, then corrected"""
    before = now = sigma[0]
    m1 = m0 = lam * x / (lam + now * now)
    for k, s in enumerate(sigma[1:], 1):
        q, euler = s / now, s / now * x + (1 - s / now) * m0
        if k == 1:
            x, m = euler, lam * euler / (lam + s * s)
        elif k == len(sigma) - 1:  # the last step
            r = 1 - 0.5 * np.sqrt(q if q < 0.5 else q - 0.5)
            x = (1 - np.sqrt(s * now)) * euler + 0.5 * (1 - q) * (m0 - r * m1)
        else:
            r_log, h = np.log(before / now) / np.log(now / s), 1 / s - 1 / now
            w = 0.5 * (1 - ((s + sigma[-1]) / (sigma[0] + sigma[-1])) ** 2)
            base = (1 - w) * np.sqrt(q * before / now)
            r = base + w * share(m0, m1)
            d1, r_i = m0 - r * m1, r_log * np.clip(expit(0.25 * np.abs(r)), 0.25, 1.5)
            x = euler + 0.5 * (1 - q) / r_i * d1
            m = lam * x / (lam + s * s)
            d2 = m - (base + w * share(m, m0)) * m0
            b1, b2 = d1 / r_log / h, r_log / h * d2
            eta = 0.5 * expit(np.abs(0.5 * share(b2 + b1, b2 - b1)))
            B = -eta / r_log * d1 + r_log * (1 - eta) * d2
            zeta = expit(np.abs(share(x - euler - 0.5 * (1 - q) / r_i * B, d1) / (1 - q)) - 0.5)
            x = euler + 0.5 * (1 - q) / zeta * B
        m1, m0, before, now = m0, m, now, s
    return x


def run(config: Config) -> Result:
    """Measure gains on single Gaussians, and the distance from the flow on one of many directions."""
    rows, curves = list[Row](), dict[str, list[tuple]]()
    ends = [np.sqrt(np.exp(0.1 * t + 9.95 * t * t) - 1) for t in (1.0, 1e-3)]  # of the VP SDE, β from .1 to 20
    for calls in config.calls:
        sigma = np.geomspace(ends[0], ends[1], calls + 1)
        for lam in config.var:
            flow = np.sqrt((lam + sigma[-1] ** 2) / (lam + sigma[0] ** 2))
            for name, weight in FORMS.items():
                gain = float(two_step(weight, sigma, np.array([lam]))[0] / flow)
                rows.append(Row(f"λ = {lam:g}, {calls} calls, {name}: gain over the flow's", None, 1.0, gain))
                if lam == 1:
                    curves.setdefault(name, []).append((calls, gain - 1))
    with float64():  # the library's multistep is that of x̂0
        x_T, schedule = np.ones((1, 1)) / np.sqrt(1 + sigma[0] ** 2), from_sigma(sigma)
        step = multistep(oracle.gaussian(np.zeros(1), lam).eps(schedule), schedule)
        x = walk(step, jax.random.key(0), begin(jnp.asarray(x_T)), np.arange(calls + 1, 0, -1)).x
        ours, exact = float(x[0, 0] * np.sqrt(1 + sigma[-1] ** 2)), float(two_step(1.0, sigma, np.array([lam]))[0])
        rows.append(Row(f"λ = {lam:g}, {calls} calls: gain of the library's multistep", None, exact, ours, within=1e-9))
    many = np.geomspace(4, 1e-3, config.dims)
    noise = np.random.default_rng(config.seed).normal(size=(config.n, config.dims))
    for which in ("even log-SNR", "EDM"):
        for calls in config.calls:
            sigma = np.geomspace(80, 0.002, calls + 1) if which != "EDM" else edm_sigmas(calls + 1)
            flow = noise * sigma[0] * np.sqrt((many + sigma[-1] ** 2) / (many + sigma[0] ** 2))
            made = {name: two_step(weight, sigma, many) * noise * sigma[0] for name, weight in FORMS.items()}
            if calls <= 20:
                made["released rule"] = released(noise * sigma[0], sigma, many)
            for name, x in made.items():
                off = float(np.sqrt(((x - flow) ** 2).sum(1).mean()))
                rows.append(Row(f"{config.dims} directions, {which}, {calls} calls, {name}: off the flow", ours=off))
                curves.setdefault(f"{which}: {name}", []).append((calls, off))
    return Result(rows, None, {"curves": curves})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the error of the gain on N(0, 1), and the distance from the flow for both lists."""
    with plot.style():
        figure = plot.new_figure(9.4, 3.0)
        axes = figure.subplots(1, 3)
        for name, points in numbers["curves"].items():
            ax = axes[("even" in name) + 2 * ("EDM" in name)]
            ax.plot(*np.array(points).T, "o-", ms=4, label=name.split(": ")[-1])
        axes[0].axhline(0, color="0.6", lw=0.8, ls=":")
        axes[0].set(title="N(0, 1), even log-SNR", ylabel="error of the gain")
        axes[1].set(title="many directions, even log-SNR", ylabel="rms from the flow", yscale="log")
        axes[2].set(title="many directions, EDM's list", yscale="log")
        for ax in axes:
            ax.set_xscale("log", base=2)
            ax.set_xticks([5, 10, 20, 40], ["5", "10", "20", "40 calls"])
            ax.title.set_fontsize(9)
        axes[1].legend(fontsize=7)
    return figure
