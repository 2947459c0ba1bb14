"""IDDPM, Figures 2 and 5: where the two variances differ, and how linear and cosine schedules forget.

Nichol and Dhariwal draw β̃_t/β_t, the ratio of the two variances that Ho et al. choose between, to show that they
differ only in the first few steps, where most of the bound lies; and ᾱ_t of the linear and the cosine schedule, to show
that the linear one destroys an image too early. Both are formulas. The exact column writes them out in NumPy, and ours
reads the library's schedule; the paper prints curves and no table, so there is no paper column. With the linear
schedule a third of all steps have less than 1 % of the image's power left, and with the cosine schedule a fifteenth.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from ddpm import plot
from ddpm.sample import beta_tilde_clipped
from ddpm.schedule import cosine, linear
from experiments.lab.runner import Result, Row, float64

PAPER = "Nichol and Dhariwal 2021, Figs. 2 and 5"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """The number of noise levels of the second figure."""

    T: int = 1000


QUICK: dict = {}


def alpha_bar_by_hand(name: str, T: int) -> np.ndarray:
    """ᾱ_0…ᾱ_T in NumPy."""
    if name == "linear":
        return np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, T) * 1000 / T)])
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.concatenate([[1.0], np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))])


def run(config: Config) -> Result:
    """Compute the curves of the two figures."""
    with float64():
        rows, curves = [], {}
        for T in dict.fromkeys((100, config.T, 4000)):
            schedule, alpha_bar = cosine(T), alpha_bar_by_hand("cosine", T)
            t = np.arange(2, T + 1)
            exact = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
            tilde = np.asarray(beta_tilde_clipped(schedule, jnp.zeros(T - 1), jnp.asarray(t), jnp.asarray(t - 1)))
            ours = tilde / np.asarray(schedule.beta)[t]
            curves[T] = (t / T, ours)
            rows += [
                Row(f"β̃/β, cosine, T = {T}, t = {k}", None, exact[k - 2], ours[k - 2], within=1e-7) for k in (2, 10)
            ]
            first, first_ours = (float(t[np.argmax(r > 0.99)]) for r in (exact, ours))
            rows.append(Row(f"first t with β̃/β > .99, T = {T}", None, first, first_ours, within=0))
        for name, make in (("linear", linear), ("cosine", cosine)):
            exact, ours = alpha_bar_by_hand(name, config.T), np.asarray(make(config.T).alpha_bar)
            share, share_ours = (float((a[1:] < 0.01).mean()) for a in (exact, ours))
            rows.append(Row(f"share of steps with ᾱ < .01, {name}", None, share, share_ours, within=1e-9))
            half, half_ours = (float(np.argmax(a < 0.5)) for a in (exact, ours))
            rows.append(Row(f"first t with ᾱ < ½, {name}", None, half, half_ours, within=0))
    with plot.style():
        figure = plot.new_figure(7.6, 3.0)
        left, right = figure.subplots(1, 2)
        for T, (x, y) in curves.items():
            left.plot(x, y, label=f"T = {T:,}")
        left.set(xlabel="t/T", ylabel="β̃ / β", xscale="log", xlim=(2e-4, 1))
        left.legend()
        for name, make in (("linear", linear), ("cosine", cosine)):
            right.plot(np.arange(config.T + 1) / config.T, np.asarray(make(config.T).alpha_bar), label=name)
        right.set(xlabel="t/T", ylabel="ᾱ")
        right.legend()
    return Result(rows, figure)
