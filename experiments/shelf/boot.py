"""BOOT: bootstrapping along the signal is DDIM exactly, and a student that is too simple passes its errors on.

The claim: one network call can do what a sampler's whole walk does, and be learned without data. Along DDIM the part of
x_t without its noise, y_t = (x_t - √(1-ᾱ_t) ε)/√ᾱ_t with the ε of the start, obeys

    y_s = x̂0(x_t) + √(SNR_t/SNR_s) (y_t - x̂0(x_t)):

the noise cancels. So a student g(ε, t) ≈ y_t has a smooth target, which it makes itself from its own y_t and one call
of the teacher, beginning at g(ε, T) = x̂0(ε, T).

What we see on a line: a student that can be any function ends where DDIM with the same times ends, to the last digit,
so BOOT is as good as its list of times; the paper's beginning moves the end by less than .00001. What becomes of an
error on the way? On N(0, .25) it is forgotten, by a product in closed form: of one at t = 484 a seventh is left. On two
narrow Gaussians that holds until t = 600; from there to t = 100 it grows, to 3.7 times in the mean, since in the middle
a small shift decides which of the two is drawn. Still, students that are too simple end near the best they can be:
polynomials of the noise, which make each target with the polynomial before, differ from the polynomial fitted to the
ends of DDIM's walks by less than .01, where both are off by .24 to .46. What does not carry over: a network has no
degree, and in images there are many such decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import oracle, plot
from ddpm.contracts import Eps
from ddpm.forward import x0_and_eps
from ddpm.schedule import linear, make_times, snr
from experiments.lab.runner import Result, Row, float64

PAPER = "Gu et al. 2023, BOOT: data-free distillation of denoising diffusion models with bootstrapping"
MINUTES = 0.2
UNCHECKED = "The exact column of a polynomial is the best one of its degree; that BOOT's is another is the finding."
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
DATA = {"N(0, .25)": ([0.0], 0.25), "½N(±1, .04)": ([-1.0, 1.0], 0.04)}  # means, and the variance


@dataclass(frozen=True)
class Config:
    """Numbers of steps, degrees of the student (with the last number), and nodes of the noise."""

    steps: tuple[int, ...] = (4, 16, 64)
    degrees: tuple[int, ...] = (1, 5, 13)
    nodes: int = 1201


QUICK = {"steps": (4,), "degrees": (1, 5), "nodes": 201}


def bootstrap(teacher: Eps, eps: jax.Array, times: np.ndarray, learn: Callable, paper: bool = False) -> np.ndarray:
    """g(ε, 0) of a student that learns y_s from its own y_t.   learn: (target, s) -> what it learns of it"""
    schedule, eps = linear(), eps[:, None]
    a, b = jnp.sqrt(schedule.alpha_bar), schedule.std
    x0 = x0_and_eps(teacher, schedule, eps, times[0])[0]
    y = learn(x0 if paper else (1 - b[times[0]]) / a[times[0]] * eps, times[0])  # y_T of x_T = ε, or the paper's
    for t, s in pairwise(times):
        x0 = x0_and_eps(teacher, schedule, eps if t == times[0] else a[t] * y + b[t] * eps, t)[0]
        y = learn(x0 + (jnp.sqrt(snr(schedule)[t] / snr(schedule)[s]) if s else 0.0) * (y - x0), s)
    return np.asarray(y)[:, 0]


def ddim(x: np.ndarray, times: np.ndarray, mean: list[float], var: float) -> np.ndarray:
    """The end of DDIM on a mixture with equal weights, in NumPy"""
    for t, s in pairwise(times):
        a, b, a_s = np.sqrt(ALPHA_BAR[t]), np.sqrt(1 - ALPHA_BAR[t]), np.sqrt(ALPHA_BAR[s])
        v, gap = a * a * var + b * b, x[:, None] - a * np.array(mean)
        w = np.exp((np.min(gap**2, axis=1, keepdims=True) - gap**2) / 2 / v)
        eps = b / v * (w * gap).sum(1) / w.sum(1)
        x = a_s * (x - b * eps) / a + np.sqrt(1 - a_s * a_s) * eps
    return x


def gains(times: np.ndarray, var: float) -> np.ndarray:
    """How much of an error of y_t is left at the end on N(0, λ): ∏ [r + (1 - r) ᾱλ/v] over the steps from t on"""
    a = ALPHA_BAR[times[:-1]]
    snr = np.append(a / (1 - a), np.inf)
    r = np.sqrt(snr[:-1] / snr[1:])
    return np.cumprod((r + (1 - r) * a * var / (a * var + 1 - a))[::-1])[::-1]


def run(config: Config) -> Result:
    """Bootstrap free students, students with one error and polynomials; compare with DDIM and the best polynomials."""
    z, rows = np.linspace(-6, 6, config.nodes), list[Row]()
    w = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    curves, maps, delta = dict[str, list[tuple]](), {"z": z}, 1e-6

    def rms(a: np.ndarray, b: Any = 0.0) -> float:
        return float(np.sqrt(w @ (a - b) ** 2))

    with float64():
        eps = jnp.asarray(z)
        for name, (mean, var) in DATA.items():
            teacher = oracle.mixture(np.array(mean)[:, None], var).eps(linear())
            for steps in config.steps:
                times = make_times(1000, steps)
                end, ours = ddim(z, times, mean, var), bootstrap(teacher, eps, times, lambda y, s: y)
                rows.append(Row(f"{name}, {steps} steps: deviation", None, rms(end), rms(ours), within=1e-9))
            off = rms(bootstrap(teacher, eps, times, lambda y, s: y, paper=True), end)
            rows.append(Row(f"{name}, {steps} steps: moved by the paper's beginning", None, 0.0, off, None, 1e-4, 1.0))
            exact = gains(times, var)
            for i in range(1, steps, max(1, steps // 16)):
                wrong = bootstrap(teacher, eps, times, lambda y, s, at=times[i]: y + delta * (s == at))
                curves.setdefault(name, []).append((int(times[i]), gain := float(w @ np.abs(wrong - end)) / delta))
                if len(mean) == 1 and i in (1, 1 + steps // 2):
                    what = f"{name}: left at the end of an error at t = {times[i]}"
                    rows.append(Row(what, None, exact[i], gain, within=1e-4))
        maps["DDIM"] = end
        for degree in config.degrees:
            Q = np.linalg.qr(np.sqrt(w)[:, None] * np.polynomial.hermite_e.hermevander(z, degree))[0]
            P = Q / np.sqrt(w)[:, None] @ (Q.T * np.sqrt(w))  # the best polynomial of what it is multiplied with
            best, ours = P @ end, bootstrap(teacher, eps, times, lambda y, s, P=P: jnp.asarray(P) @ y)
            rows.append(Row(f"{name}, degree {degree}: distance from DDIM", None, rms(best, end), rms(ours, end)))
            rows.append(Row(f"{name}, degree {degree}: distance from the best", None, None, rms(ours, best)))
            maps[f"BOOT, degree {degree}"] = ours
    return Result(rows, None, {"curves": curves, "maps": maps})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw where each noise ends, and what an error at t leaves at the end."""
    with plot.style():
        figure = plot.new_figure(8.8, 3.0)
        left, right = figure.subplots(1, 2)
        z = np.array(numbers["maps"]["z"])
        near = np.abs(z) < 3
        for name in list(numbers["maps"])[1:]:
            left.plot(z[near], np.array(numbers["maps"][name])[near], label=name)
        left.set(xlabel="noise ε", ylabel="end", title=list(DATA)[-1])
        left.legend(fontsize=8)
        for name, found in numbers["curves"].items():
            right.plot(*np.array(found).T, "o-", ms=3, label=name)
        right.set(xlabel="time of the error", ylabel="share left at the end, mean", ylim=(0, None))
        right.legend(fontsize=8)
    return figure
