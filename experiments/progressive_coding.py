"""DDPM, Table 4 and Figure 5: progressive coding, for a Gaussian with the data's covariance.

Ho et al. send an image as the terms of the bound, noisiest first, and report for a number of bits per pixel how far off
the receiver's guess x̂0 is. Most of the bits describe what no eye can see: on CIFAR-10, 1.78 bits/dim bring the error
down to 0.95, but .12 of them already bring it to 12 of 255. For Gaussian data with the exact denoiser and the best
variances both are sums: the rate up to time t is the mutual information of x_t and x_0 that the steps have revealed, ½
Σ_d log(1 + λ_d SNR_t) over the directions, minus that of x_T; the error is mean_d λ_d/(1 + λ_d SNR_t). The exact column
is these closed forms; ours is the library's terms of the bound summed over the steps (all directions as one batch). The
shape of the published curve, steep first and flat later, is that of a spectrum. A Gaussian knows nothing but the
covariance: at equal error it needs many times the bits that the paper's network needs. (The data differ, so only the
shape can be compared.)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from ddpm import plot
from ddpm.contracts import Partial
from ddpm.losses import bound
from ddpm.samplers.variance import optimal
from ddpm.schedule import Schedule, linear
from experiments.ddim_table1 import spectra
from experiments.lab.runner import Result, Row, float64

PAPER = "Ho et al. 2020, Table 4 (CIFAR-10 test)"
MINUTES = 1.5
TABLE = {1000: (1.77581, 0.95136),
         900: (0.11994, 12.02277), 800: (0.05415, 18.47482), 700: (0.02866, 24.43656), 600: (0.01507, 30.80948),
         500: (0.00716, 38.03236), 400: (0.00282, 46.12765), 300: (0.00081, 54.18826), 200: (0.00013, 60.97170),
         100: (0.0, 67.60125)}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The data set whose covariance is used in addition to 1/f²; "" for none."""

    data: str = "fashion_mnist"


QUICK = {"data": ""}


def rate_and_error(a: np.ndarray, lam: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each t: bits/dim sent once x_t is known, and root mean square error of x̂0 in grey levels of 255."""
    snr = (a / (1 - a))[:, None]
    share = seen / seen.sum()
    rate = 0.5 * np.log2((1 + lam * snr) / (1 + lam * snr[-1])) @ share
    return rate, 127.5 * np.sqrt((lam / (1 + lam * snr)) @ share)


def rate_by_terms(schedule: Schedule, lam: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The library's KL terms t+1 → t, summed from T down: entry t is the rate once x_t is known, t = 1…T."""
    a = schedule.alpha_bar
    total = np.zeros(schedule.T + 1)
    nodes = np.array([(x, z) for x in (-1, 0, 1) for z in (-1, 0, 1)]) * np.sqrt(3.0)
    weights = np.array([p * q for p in (1, 4, 1) for q in (1, 4, 1)]) / 36
    t = jnp.repeat(jnp.arange(2, schedule.T + 1), 9)
    x0, noise = (jnp.asarray(np.tile(nodes[:, i], schedule.T - 1))[:, None] for i in (0, 1))
    for value, share in zip(lam, seen / seen.sum(), strict=True):
        eps = Partial(_linear_eps, a, value)
        var = optimal((1 - a) / (a * value + 1 - a))
        term = bound.bound_term(eps, schedule, var, bound.gaussian_nll)
        terms = term(np.sqrt(value) * x0, t, t - 1, noise)
        total[1:-1] += share * (np.asarray(terms).reshape(-1, 9) @ weights)
    return np.cumsum(total[::-1])[::-1]


def _linear_eps(a: jnp.ndarray, lam: float, x_t: jnp.ndarray, t: jnp.ndarray, c: object = None) -> jnp.ndarray:
    return jnp.sqrt(1 - a[t])[:, None] * x_t / (a[t] * lam + 1 - a[t])[:, None]


def run(config: Config) -> Result:
    """Compute rate and error for each row of the table."""
    rows, curves = [], {}
    with float64():
        schedule = linear()
        a = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])[1:]
        for name, (lam, seen) in spectra(config.data).items():
            lam = np.maximum(lam, 1e-12)
            rate, error = rate_and_error(a, lam, seen)
            keep = (
                np.arange(len(lam))
                if len(lam) <= 200
                else np.unique(np.round(np.linspace(0, len(lam) - 1, 60)).astype(int))
            )
            ours = rate_by_terms(schedule, lam[keep], seen[keep])
            exact_kept, _ = rate_and_error(a, lam[keep], seen[keep])
            which = "" if len(keep) == len(lam) else f" ({len(keep)} of its {len(lam)} directions)"
            for n, (paper_rate, paper_error) in TABLE.items():
                t = 1001 - n  # the row T - t + 1 = n: the receiver knows x_t
                rows.append(
                    Row(f"{name}, T - t + 1 = {n}: error in grey levels", paper_error, float(error[t - 1]), None)
                )
                rows.append(Row(f"{name}, T - t + 1 = {n}: bits/dim", paper_rate, float(rate[t - 1]), None))
                if n in (900, 500):
                    rows.append(
                        Row(
                            f"… by terms of the bound{which}",
                            None,
                            float(exact_kept[t - 1]),
                            float(ours[t]),
                            within=1e-6,
                            near=1e-3,
                        )
                    )
            curves[name] = (rate, error)
    with plot.style():
        figure = plot.new_figure(4.8, 3.4)
        axes = figure.add_subplot()
        axes.plot(*zip(*TABLE.values(), strict=True), marker="s", label="paper: CIFAR-10")
        for name, (rate, error) in curves.items():
            axes.plot(rate[10:], error[10:], label=f"Gaussian, {name}")
        axes.set(xlabel="rate, bits/dim", ylabel="root mean square error of x̂0, of 255", xlim=(0, 0.5), ylim=(0, 80))
        axes.legend()
    return Result(rows, figure)
