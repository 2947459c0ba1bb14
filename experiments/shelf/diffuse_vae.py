"""DiffuseVAE: after a draft from a VAE fewer steps are enough, since the residual has little variance left to make.

The claim: a VAE draws a blurred draft, and a diffusion model draws the image given the draft; at ten steps this halves
the Fréchet distance of diffusion alone. With Gaussian data the VAE is probabilistic PCA, and everything is exact: its
draft has the variance λ_j - r² along the first k directions, and the residual, which is independent of the code, has r²
there and λ_j along the others. Diffusion of x0 around the draft (the paper's second form) is diffusion of the residual,
and the error of few steps is that of the residual's variances.

What we see, with the covariance of Fashion-MNIST: with ten codes the distance falls by 45 % at 5 steps, by 37 % at 10
and by 28 % at 50, and further with fifty. DDIM's error in a direction grows with its variance, and the draft takes the
largest ones, without an error of its own. More codes are always better here. The first form, where the draft is given
to a chain that begins at noise as before, is as good. What does not carry over: a real VAE draws drafts that no image
has, which the exact one does not, and that is the price of many codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.generators import best_linear_vae
from ddpm.sample import ddim_step
from ddpm.schedule import linear, make_times
from experiments.lab.linear_denoisers import by_steps, frechet, variances
from experiments.lab.runner import Result, Row, Unavailable, float64

PAPER = "Pandey et al. 2022, DiffuseVAE"
MINUTES = 0.3
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])


@dataclass(frozen=True)
class Config:
    """The data, steps of DDIM, codes, and images drawn for the residual."""

    data: str = "fashion_mnist"
    steps: tuple[int, ...] = (2, 5, 10, 20, 50)
    codes: tuple[int, ...] = (0, 10, 50)
    n: int = 20_000
    seed: int = 0


QUICK = {"data": "digits", "steps": (5,), "codes": (0, 10), "n": 4000}


def exact(lam: np.ndarray, k: int, steps: int, form: int) -> float:
    """The Fréchet distance of draft and residual after these steps, in NumPy"""
    level = lam[k:].mean()
    left = np.append(np.full(k, level), lam[k:])  # the residual's variances
    gain = np.ones_like(lam)
    for t, s in pairwise(np.append(np.round(1000 - np.arange(steps) * 1000 / steps).astype(int), 0)):
        a, b = ALPHA_BAR[t], ALPHA_BAR[s]
        c = np.sqrt(1 - a) / (a * left + 1 - a)  # ε* = c x
        gain *= np.sqrt(b / a) * (1 - np.sqrt(1 - a) * c) + np.sqrt(1 - b) * c
    kept = 1 - gain * np.sqrt(ALPHA_BAR[1000]) if form == 1 else 1.0  # form 1 begins the residual at ε - √ᾱ_T x̂
    out = (lam - left) * kept**2 + gain**2
    return float(((np.sqrt(lam) - np.sqrt(out)) ** 2).sum())


def run(config: Config) -> Result:
    """Compare the distances with the library's steps, and the residual with that of images through the VAE."""
    try:
        d = sources.load(config.data)
    except FileNotFoundError as error:
        raise Unavailable(f"this needs {config.data}, which is not here: {error}") from None
    lam = variances(data.to_float(d.x_train))[::-1]
    lam = lam[lam > 1e-9 * lam[0]]
    rows = [Row("CelebA-HQ-128, 10 steps, FID: alone", 34.36), Row("CelebA-HQ-128, 10 steps, FID: with a draft", 16.47)]
    curves, spectra = dict[str, list[tuple]](), {"data": lam}
    with float64():
        for k in config.codes:
            vae = best_linear_vae(np.eye(len(lam)), lam, k)[0] if k else None
            draft = np.asarray((vae.decoder**2).sum(1)) if vae else np.zeros_like(lam)
            left = lam - draft
            spectra[f"{k} codes"] = left
            for steps in config.steps:
                made = by_steps(ddim_step, linear(), jnp.asarray(left), make_times(1000, steps))
                what = f"{steps} steps, {k} codes" if k else f"{steps} steps, without a draft"
                ours = frechet(lam, draft + made)
                rows.append(Row(what, None, exact(lam, k, steps, 2), ours, within=1e-6))
                if k:
                    rows.append(Row(f"{what}: form 1", None, exact(lam, k, steps, 1)))
                curves.setdefault(f"{k}", []).append((steps, ours))
        if vae is not None:  # what is left of images that go through the VAE
            key, k = jax.random.key(config.seed), config.codes[-1]
            z, noise = (
                jax.random.normal(key, (config.n, len(lam))),
                jax.random.normal(jax.random.fold_in(key, 1), (config.n, k)),
            )
            x = z * np.sqrt(lam)[None]
            mean, log_var = vae.encode(x)
            code = mean + jnp.exp(log_var / 2) * noise
            residual = np.asarray(x - vae.decode(code))
            found = float((residual[:, :k] ** 2).mean())
            rows.append(Row(f"residual's variance along the {k} codes", None, lam[k:].mean(), found, within=0.02))
            between = np.corrcoef(np.asarray(code).T, residual.T)[:k, k:]
            rows.append(
                Row(
                    "correlation of codes and residual, rms",
                    None,
                    0.0,
                    float(np.sqrt((between**2).mean())),
                    None,
                    3 / np.sqrt(config.n),
                    1.0,
                )
            )
    return Result(rows, None, {"curves": curves, "spectra": spectra})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the variances that are left for diffusion, and the distance by steps."""
    with plot.style():
        figure = plot.new_figure(8.4, 3.0)
        left, right = figure.subplots(1, 2)
        for name, lam in numbers["spectra"].items():
            if name != "0 codes":
                left.loglog(range(1, len(lam) + 1), lam, label=name if name == "data" else f"residual, {name}")
        left.set(xlabel="direction", ylabel="variance", title="what is left for diffusion")
        left.legend(fontsize=8)
        for name, found in numbers["curves"].items():
            right.loglog(*np.array(found).T, "o-", label=f"draft of {name} codes" if name != "0" else "diffusion alone")
        right.set_xticks(ticks := [steps for steps, _ in found], map(str, ticks))
        right.minorticks_off()
        right.set(xlabel="steps of DDIM", ylabel="Fréchet distance in pixels")
        right.legend(fontsize=8)
    return figure
