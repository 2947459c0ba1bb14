"""Codes without their scale: another chain than the schedule says, and samples that begin at the wrong place.

Stable Diffusion multiplies the codes of its autoencoder by .18215, one over their standard deviation. Programs that
leave this out, use the factor of another decoder, or take a variance for a deviation are reported again and again. All
of it is one number: codes with the deviation σ have σ² times the SNR at every t, so log SNR moves by 2 log σ. For
Gaussian codes everything follows in closed form. On Stable Diffusion's schedule unscaled codes are left with an SNR of
.14 at T in place of .0047: the training never sees pure noise, and samples that begin with it end at .938 of the
codes' deviation. The least loss rises from .37 to .78, so a loss cannot be compared either. The exact column is NumPy;
ours takes the scale from draws as the library's codecs do, walks DDIM with the exact denoiser, and draws the loss.

The linear schedule forgives it, since ᾱ_T is a hundred times smaller there, and the cosine schedule does not notice.
The last rows are about a scale taken from the first batch, as in the released code: for codes with the covariance of
Fashion-MNIST eight images are off by a tenth, one standard error, which moves log SNR by .2; a codec here stores the
scale of the whole training set. What does not carry over: real codes are not Gaussian, and a network that is trained on
the moved chain makes up for some of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import data, oracle, plot
from ddpm.datasets import sources
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.latents import with_scale
from ddpm.sample import ddim_step
from ddpm.schedule import Schedule, cosine, from_beta, linear, log_snr, make_times
from experiments.lab.linear_denoisers import by_steps, variances
from experiments.lab.runner import Result, Row, Unavailable, float64

PAPER = "Rombach et al. 2022, Sec. D.1, and the released code of Stable Diffusion"
MINUTES = 0.5
FACTOR = 0.18215  # Stable Diffusion's scale
BETA = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000) ** 2  # its schedule: √β is linear


@dataclass(frozen=True)
class Config:
    """Deviations of the codes, draws, the data whose covariance the last rows take, batches of them, and the seed."""

    sigmas: tuple[float, ...] = (0.2, 1.0, 1 / FACTOR)
    n: int = 200_000
    data: str = "fashion_mnist"
    batch: tuple[int, ...] = (8, 64)
    repeats: int = 400
    seed: int = 0


QUICK = {"n": 20_000, "data": "digits", "repeats": 300}


def started_at_noise(alpha_bar_T: float, sigma: Any) -> Any:
    """The deviation of samples that begin at N(0, 1), in that of the codes, with very many steps.

    The flow multiplies by σ/√(ᾱ_T σ² + 1-ᾱ_T), as from x_T's true deviation to σ.
    """
    return 1 / np.sqrt(1 + alpha_bar_T * (np.asarray(sigma) ** 2 - 1))


def measured_start(schedule: Schedule, sigma: float) -> float:
    """The same by DDIM's thousand steps with the exact denoiser, which are not quite the flow."""
    made = by_steps(ddim_step, schedule, jnp.array([sigma**2]), make_times(1000, 1000))
    return float(np.sqrt(made[0]) / sigma)


def in_float64(config: Config) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the schedule: the move of log SNR, and where samples end that begin at N(0, 1)."""
    rows, alpha_bar = [Row("Stable Diffusion's factor, one over the codes' deviation", FACTOR)], np.cumprod(1 - BETA)
    sigma = 1 / FACTOR
    with float64():
        sd = from_beta(BETA)
        codes = sigma * np.random.default_rng(config.seed).standard_normal((config.n, 4))
        codec = with_scale(lambda x: x, lambda z: z, codes, batch=10_000)
        rows += [
            Row("unscaled codes: log SNR moves by", None, -2 * np.log(FACTOR), 2 * np.log(codec.std), within=0.01),
            Row(
                "scaled codes: SNR at T",
                None,
                alpha_bar[-1] / (1 - alpha_bar[-1]),
                float(np.exp(log_snr(sd)[-1])),
                within=1e-9,
            ),
            Row(
                "unscaled codes: SNR at T",
                None,
                alpha_bar[-1] / (1 - alpha_bar[-1]) / FACTOR**2,
                float(np.exp(log_snr(sd)[-1])) * codec.std**2,
                within=0.01,
            ),
        ]
        chains = {"Stable Diffusion": sd, "linear": linear(), "cosine": cosine()}
        for name, schedule in chains.items():
            end = float(schedule.alpha_bar[-1])
            exact, ours = float(started_at_noise(end, sigma)), measured_start(schedule, sigma)
            rows.append(Row(f"unscaled codes, {name} schedule: deviation of samples", None, exact, ours, within=5e-3))
        rows.append(
            Row(
                "scaled codes, the same on Stable Diffusion's",
                None,
                float(started_at_noise(alpha_bar[-1], 1.0)),
                measured_start(sd, 1.0),
                within=2e-3,
            )
        )
        z = (codes - codec.mean) / codec.std  # decoded as they are, by a program that forgets to multiply
        rows.append(
            Row("scale not undone before decoding: deviation", None, FACTOR, float(z.std() / codes.std()), within=0.01)
        )
    numbers = {"alpha_bar": {k: np.asarray(s.alpha_bar)[::10] for k, s in chains.items()}}
    return rows, numbers | {"end": {k: float(s.alpha_bar[-1]) for k, s in chains.items()}}


def floors(config: Config) -> list[Row]:
    """The least ε-MSE of Gaussian codes: E_t ᾱσ²/(ᾱσ² + 1-ᾱ), and the loss of ε* on draws."""
    alpha_bar, sd, rows = np.cumprod(1 - BETA), from_beta(BETA), []
    for sigma in config.sigmas:
        signal = alpha_bar * sigma**2
        x0 = sigma * np.random.default_rng(config.seed).standard_normal((config.n // 10, 10)).astype(np.float32)
        eps = oracle.gaussian(np.zeros(10), sigma**2).eps(sd)
        found = eps_mse(eps, sd, x0, key=jax.random.key(config.seed), batch=2000)
        exact = float((signal / (signal + 1 - alpha_bar)).mean())
        rows.append(
            Row(
                f"codes of deviation {sigma:.3g}: the least ε-MSE", None, exact, found.value, found.standard_error, 0.02
            )
        )
    return rows


def first_batch(config: Config, lam: np.ndarray) -> list[Row]:
    """The relative standard error of a deviation that is taken from one batch: ½ √(2 Σλ²/B)/Σλ, to first order."""
    rng, rows = np.random.default_rng(config.seed), []
    for B in config.batch:
        exact = 0.5 * np.sqrt(2 * (lam**2).sum() / B) / lam.sum()
        x = rng.standard_normal((config.repeats, B, len(lam)), dtype=np.float32) * np.sqrt(lam, dtype=np.float32)
        found = np.sqrt((x**2).mean((1, 2)) / lam.mean()).std()
        rows.append(
            Row(
                f"scale from the first {B} images: relative error",
                None,
                exact,
                float(found),
                found / np.sqrt(2 * config.repeats),
                0.2,
            )
        )
    return rows


def run(config: Config) -> Result:
    """Compare every consequence of a missing scale with its closed form."""
    try:
        lam = variances(data.to_float(sources.load(config.data).x_train))
    except FileNotFoundError as error:
        raise Unavailable(f"this needs {config.data}, which is not here: {error}") from None
    rows, numbers = in_float64(config)
    return Result([*rows, *floors(config), *first_batch(config, lam)], None, numbers | {"sigmas": config.sigmas})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw log SNR for three deviations, the floor at each t, and where samples end that begin at N(0, 1)."""
    alpha_bar = np.array(numbers["alpha_bar"]["Stable Diffusion"])[1:]
    t = 10 * np.arange(1, len(alpha_bar) + 1)
    with plot.style():
        figure = plot.new_figure(9.6, 3.0)
        left, middle, right = figure.subplots(1, 3)
        for sigma in numbers["sigmas"]:
            label = f"σ = {sigma:.3g}"
            left.plot(t, np.log(alpha_bar / (1 - alpha_bar)) + 2 * np.log(sigma), label=label)
            middle.plot(t, alpha_bar * sigma**2 / (alpha_bar * sigma**2 + 1 - alpha_bar), label=label)
        left.set(xlabel="t", ylabel="log SNR", title="moved by 2 log σ")
        left.axhline(0, color="0.7", lw=0.8)
        left.legend(fontsize=8)
        middle.set(xlabel="t", ylabel=r"least error of $\hat\varepsilon$", title="the least loss at each t")
        wide = np.geomspace(0.1, 30, 100)
        for name, end in numbers["end"].items():
            right.semilogx(wide, started_at_noise(end, wide), label=name)
        right.plot(1 / FACTOR, started_at_noise(numbers["end"]["Stable Diffusion"], 1 / FACTOR), "o", color="0.2", ms=5)
        right.set(
            xlabel="deviation σ of the codes",
            ylabel="deviation of samples, in σ",
            title=r"begun at $\mathcal{N}(0, 1)$",
        )
        right.legend(fontsize=8, title="schedule", title_fontsize=8)
    return figure
