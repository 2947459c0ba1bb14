"""Posterior collapse is water filling: how the two terms of a VAE are scaled decides how many codes it uses.

A VAE whose codes are ignored is the most reported trouble of VAEs. For a linear one the whole story is known (Lucas et
al. 2019): with decoder variance r² and weight B on the KL, the best one uses the direction with variance λ_j of the
data if and only if λ_j > B r². A loss that takes the mean over the pixels and the sum over the codes is B r² = 392 for
28 × 28 pixels; the largest variance of Fashion-MNIST is 79.2, so the best such VAE has KL = 0 for every image: nothing
is wrong with the training. The exact column is the formula in NumPy. Ours trains linear VAEs from small random weights
on the exact expectation of each loss, until nothing moves. Both agree to the number of active codes. The figure has
λ_j as the ground of a basin and B r² as the level of the water: only what rises above the water is coded. What does not
carry over: with a nonlinear decoder the level is not a sharp border, and codes can collapse for lack of training too.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from ddpm import data, plot
from ddpm.datasets import sources
from ddpm.generators import LinearVAE, expected_terms, log_likelihood
from experiments.lab.runner import Result, Row, Unavailable, float64

PAPER = "Lucas et al. 2019, Don't Blame the ELBO!; Kingma and Welling 2014"
MINUTES = 1.0
UNCHECKED = "The number of active codes of a training is that of codes with more than .005 nats; it is an estimate."


@dataclass(frozen=True)
class Config:
    """The data set, steps of Adam and their size, and the seed of the first weights."""

    data: str = "fashion_mnist"
    steps: int = 3000
    rate: float = 0.02
    seed: int = 0


QUICK = {"data": "digits", "steps": 1500}


def scalings(D: int) -> list[tuple[str, float | None, int]]:
    """How people write the loss, the level B r² that this is, and the number of codes."""
    return [
        ("mean over pixels + sum of KL", D / 2, 20),
        ("mean over pixels + mean over codes", D / 40, 20),
        ("½ sum over pixels + sum of KL", 1.0, min(50, D // 2)),
        ("sum over pixels + sum of KL", 0.5, min(50, D // 2)),
        ("r² learned", None, 20),
    ]


def closed_form(var: np.ndarray, level: float | None, k: int) -> tuple[float, int, float]:
    """Level, active codes and KL of the optimum, in NumPy."""
    if level is None:
        level = float(var[k:].mean())
    top = var[:k][var[:k] > level]
    return level, len(top), float(0.5 * np.log(top / level).sum())


def train(var: np.ndarray, level: float | None, k: int, config: Config) -> tuple[float, np.ndarray]:
    """KL of each code, and r², after Adam on the expected loss; data N(0, diag λ), whose basis a VAE does not know."""
    D, rng = len(var), np.random.default_rng(config.seed)
    first = [rng.normal(size=s) * 0.1 / np.sqrt(D) for s in ((D, k), (k,), (D, k))]
    vae = LinearVAE(jnp.zeros(D), *(jnp.asarray(a) for a in first))
    cov = jnp.diag(jnp.asarray(var))
    optimiser = optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))

    def loss(state: tuple[LinearVAE, jax.Array]) -> jax.Array:
        vae, log_r2 = state
        error, kl = expected_terms(vae, cov)
        if level is None:
            return error / (2 * jnp.exp(log_r2)) + D / 2 * log_r2 + kl
        return error / (2 * level) + kl

    def step(carry: tuple, _: None) -> tuple:
        state, memory = carry
        update, memory = optimiser.update(jax.grad(loss)(state), memory)
        return (optax.apply_updates(state, update), memory), None

    state = (vae, jnp.zeros(()))
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, None, config.steps)[0])
    (vae, log_r2), _ = run((state, optimiser.init(state)))
    code = jnp.einsum("dk,d,dk->k", vae.encoder, jnp.asarray(var), vae.encoder)
    each = 0.5 * (code + jnp.exp(vae.log_var) - 1 - vae.log_var)
    return float(jnp.exp(log_r2)) if level is None else level, np.asarray(each)


def run(config: Config) -> Result:
    """Train under each scaling, and compare with the formula."""
    try:
        x = data.to_float(sources.load(config.data).x_train)
    except FileNotFoundError as error:
        raise Unavailable(f"this needs {config.data}, which is not here: {error}") from None
    flat = x.reshape(len(x), -1).astype(np.float64)
    var = np.linalg.eigvalsh(np.cov(flat, rowvar=False, bias=True))[::-1]
    var = var[var > 1e-6]
    D, rows, found = flat.shape[1], [], []
    with float64():
        for name, level, k in scalings(D):
            exact = closed_form(var, level, k)
            r2, each = train(var, level, k, config)
            active = int((each > 0.005).sum())
            what = f"{name}, k = {k}"
            rows += [
                Row(f"{what}: KL in nats", None, exact[2], float(each.sum()), within=0.02, near=1.0),
                Row(f"{what}: active codes", None, float(exact[1]), float(active)),
            ]
            if level is None:
                rows.append(Row(f"{what}: r²", None, exact[0], r2, within=0.02))
            found.append({"name": name, "level": exact[0], "k": k, "active": active, "kl": float(each.sum())})
        bits = {k: -log_likelihood(var, k) / D / np.log(2) for k in (10, 20, 50) if k < len(var)}
    return Result(rows, None, {"var": var, "found": found, "D": D, "bits_per_dim_unscaled": bits})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the basin with its levels, and KL and active codes against the level."""
    var, found = np.array(numbers["var"]), numbers["found"]
    colours = ["C3", "C1", "C2", "C4", "C0"]
    with plot.style():
        figure = plot.new_figure(10.2, 3.5)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        j = np.arange(1, len(var) + 1)
        left.fill_between(j, 1e-3, var, step="mid", color="0.85", lw=0)
        left.step(j, var, where="mid", color="0.3", ls="-", lw=1.2)
        for f, colour in zip(found, colours, strict=True):
            left.axhline(f["level"], color=colour, ls="-", lw=1.2)
            text = f"{f['name']}: $B r^2$ = {f['level']:.3g}, {f['active']} active"
            left.text(len(var) * 0.9, f["level"] * 1.12, text, color=colour, fontsize=7, ha="right")
        left.set(xscale="log", yscale="log", ylim=(min(f["level"] for f in found) / 4, numbers["D"] * 1.3))
        left.set(
            xlabel="direction j",
            ylabel=r"variance $\lambda_j$ of the data, and the level $B r^2$",
            xlim=(0.9, len(var)),
        )
        levels = np.geomspace(0.05, numbers["D"], 300)
        kl = [(0.5 * np.log(np.maximum(var / level, 1))).sum() for level in levels]
        right.plot(levels, kl, color="0.3", ls="-", label="KL, all codes allowed")
        for f, colour in zip(found, colours, strict=True):
            right.plot(f["level"], f["kl"], "o", color=colour, label=f"{f['name']}, k = {f['k']}")
        right.axvline(var[0], color="0.6", lw=0.8, ls=":")
        right.text(var[0] * 1.15, 12, r"$\lambda_1$", fontsize=9, color="0.4")
        right.set(xscale="log", xlabel=r"level $B r^2$", ylabel="KL in nats an image", ylim=(-3, 90))
        right.legend(fontsize=7, facecolor="white", framealpha=1, loc="upper right")
    return figure
