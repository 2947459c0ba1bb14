"""EDM, Table 1: the preconditioning and the noise levels.

Karras et al. scale what goes into the network and what comes out so that input and training target have variance 1 at
every noise level. All of it is formulas. The exact column writes them in NumPy; ours are the library's functions. A
network that returns zero everywhere then has a loss of 1 at every noise level; this is measured with the same denoiser
that the samplers take, and it shows that scalings and weight fit together.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import plot
from ddpm.forward import q_sample, x0_from_eps
from ddpm.samplers.edm import edm_sigmas, edm_weight, from_sigma, preconditioned, preconditioning
from experiments.lab.runner import Result, Row, float64

PAPER = "Karras et al. 2022, Table 1"
MINUTES = 0.1


@dataclass(frozen=True)
class Config:
    """The number of noise levels, and how many draws for the zero network's loss."""

    N: int = 18
    n: int = 200_000


QUICK = {"n": 20_000}


def run(config: Config) -> Result:
    """Evaluate the scalings at σ = .5, the levels, and the loss of a zero network."""
    rows, losses = [], []
    with float64():
        sigma, d = 0.5, 0.5
        exact = [d**2 / (sigma**2 + d**2), sigma * d / np.hypot(sigma, d), 1 / np.hypot(sigma, d), np.log(sigma) / 4]
        for name, e, o in zip(("c_skip", "c_out", "c_in", "c_noise"), exact, preconditioning(sigma), strict=True):
            rows.append(Row(f"{name}(.5)", None, float(e), float(o), within=1e-9))
        rho, i = 7.0, np.arange(config.N) / (config.N - 1)
        levels = (80 ** (1 / rho) + i * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
        ours = edm_sigmas(config.N)[: config.N]
        for k in dict.fromkeys((0, 1, config.N // 2, config.N - 1)):
            rows.append(Row(f"σ_{k} of {config.N}", None, float(levels[k]), float(ours[k]), within=1e-9))
        schedule = from_sigma(edm_sigmas(config.N))
        eps = preconditioned(lambda x, t, c: jnp.zeros_like(x), schedule)
        key_x, key_e = jax.random.split(jax.random.key(0))
        x0, noise = d * jax.random.normal(key_x, (config.n, 1)), jax.random.normal(key_e, (config.n, 1))
        sigmas = np.sort(levels)
        for t in range(1, schedule.T + 1):
            x_t = q_sample(schedule, x0, t, noise)
            x0_hat = x0_from_eps(schedule, x_t, t, eps(x_t, jnp.full(config.n, t), None))
            losses.append(float(edm_weight(sigmas[t - 1]) * ((x0 - x0_hat) ** 2).mean()))
        worst = float(losses[int(np.argmax(np.abs(np.array(losses) - 1)))])
        rows.append(
            Row(
                "loss of a zero network, at the worst σ",
                None,
                1.0,
                worst,
                np.sqrt(2 / config.n),
                6 * np.sqrt(2 / config.n),
            )
        )
    with plot.style():
        figure = plot.new_figure(7.2, 3.0)
        left, right = figure.subplots(1, 2)
        s = np.geomspace(0.002, 80, 200)
        for name, y in zip(
            (r"$c_{skip}$", r"$c_{out}$", r"$c_{in}$"), preconditioning(jnp.asarray(s))[:3], strict=True
        ):
            left.plot(s, y, label=name)
        left.set(xlabel="σ", ylabel="coefficient", xscale="log", yscale="log", ylim=(1e-3, 3))
        left.legend()
        right.plot(np.arange(config.N), levels, marker="o", markersize=3)
        right.set(xlabel="step i", ylabel=r"noise level $σ_i$", yscale="log")
    return Result(rows, figure, {"n": config.n, "loss of a zero network by level": losses})
