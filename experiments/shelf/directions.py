"""Attribute directions: one direction among the conditions turns an attribute, exactly where the denoiser is affine.

The claim: δ = e₊ - e₋, or a δ that is learned, can be added s times to any condition and turns one attribute, at no
further call. It is learned from the guidance that it replaces, ‖ε̂(e + sδ) - [ε̂(e) + s (ε̂(e₊) - ε̂(e₋))]‖². Exact case:
x0 ~ N(M e, Σ). The best denoiser is affine in e: the loss is 0 for δ = e₊ - e₋, and wᵀx0 grows by s wᵀM δ. Garments: δ
is Pullover less T-shirt, given to Dresses: the rows' difference leaves what was trained, and images break at s = 2; a
learned δ makes sleeves and keeps the Dress, if less than guidance. What does not carry over: words, which are not rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import ddpm
from ddpm import oracle, plot
from ddpm.forward import q_sample
from ddpm.guide import clip_x0
from ddpm.guides import compose, given
from ddpm.networks.dit import build, eps_fn
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from experiments.lab.runner import Result, Row, float64

PAPER = "Baumann et al. 2024, Continuous, Subject-Specific Attribute Control by Identifying Semantic Directions"
MINUTES = 2
LESS, MORE, BASE = 0, 2, 3  # T-shirt, Pullover, Dress


@dataclass(frozen=True)
class Config:
    """Strengths; images and DDIM steps of the garments; steps of the training of δ, and images of each."""

    strengths: tuple[float, ...] = (-0.5, 0.0, 0.5, 1.0, 2.0)
    n: int = 16
    steps: int = 20
    training: int = 150
    batch: int = 8
    seed: int = 0


QUICK = {"strengths": (0.0, 1.0), "n": 4, "steps": 4, "training": 2, "batch": 2}


def affine(config: Config) -> list[Row]:
    """x0 ~ N(M e, Σ): the loss of δ = e₊ - e₋, the fitted M δ, and the mean of an attribute by s."""
    rng, rows = np.random.default_rng(config.seed), list[Row]()
    M, root, w = rng.normal(size=(6, 4)), rng.normal(size=(6, 6)) / 2, rng.normal(size=6)
    (e, plus, delta), cov = rng.normal(size=(3, 4)), root @ root.T
    with float64():
        schedule = linear()
        of = lambda c: oracle.gaussian(M @ c, cov).eps(schedule)  # noqa: E731
        x = jnp.asarray(rng.normal(size=(200, 6)))
        for t in (1, 300, 1000):
            target = compose(of(e), [of(plus), of(plus - delta)], [1.5, -1.5])(x, t, None)
            gap = float(jnp.abs(of(e + 1.5 * delta)(x, t) - target).max())
            rows.append(Row(f"affine, t = {t}: guidance less ε̂(e + 1.5 δ)", exact=0.0, ours=gap, within=1e-9, near=1.0))
        # The least-squares δ, from guidance at t = 300: ε̂ moves by J δ, with J measured column by column
        J = np.stack([np.asarray(of(e + u)(x, 300) - of(e)(x, 300)).ravel() for u in np.eye(4)], 1)
        moved = np.asarray(of(plus)(x, 300) - of(plus - delta)(x, 300)).ravel()
        fitted, slope = np.linalg.lstsq(J, moved, rcond=None)[0], w @ M
        rows.append(Row("affine: fitted slope wᵀM δ", None, float(slope @ delta), float(slope @ fitted), within=1e-8))
        for s in config.strengths:
            eps = compose(of(e), [of(plus), of(plus - delta)], [s, -s])
            end = walk(ddim_step(eps, schedule), jax.random.key(0), jnp.zeros((1, 6)), make_times(1000, 1000))
            what, right, ours = (
                f"affine, s = {s:g}: mean attribute",
                float(slope @ (e + s * delta)),
                float((end @ w)[0]),
            )
            rows.append(Row(what, None, right, ours, within=0.05, near=1.0))
    return rows


def learned(m: Any, x0: jax.Array, config: Config) -> tuple[jax.Array, Any]:
    """δ of 128 numbers, from 0, by Adam; and δ -> its loss over the squared size of the guidance, on other draws."""
    table, adam, B, apply = m.params["class_embedding"], optax.adam(0.03), config.batch, build(m.unet)[1]

    @jax.jit
    def update(params: dict, delta: jax.Array, state: Any, key: jax.Array) -> tuple:
        ks, kt, ke, ki = jax.random.split(key, 4)
        x, t = x0[jax.random.randint(ki, (B,), 0, len(x0))], jax.random.randint(kt, (B,), 1, m.schedule.T + 1)
        x_t = q_sample(m.schedule, x, t, jax.random.normal(ke, x.shape))
        s = jax.random.uniform(ks, (), minval=-0.5, maxval=2.0)
        of = lambda e: apply(params | {"class_embedding": table.at[BASE].set(e)}, x_t, t, jnp.full(B, BASE))  # noqa: E731
        plain, guidance = of(table[BASE]), s * (of(table[MORE]) - of(table[LESS]))
        loss, slope = jax.value_and_grad(lambda d: jnp.mean((of(table[BASE] + s * d) - plain - guidance) ** 2))(delta)
        change, state = adam.update(slope, state)
        return optax.apply_updates(delta, change), state, jnp.stack([loss, jnp.mean(guidance**2)])

    delta, state = jnp.zeros_like(table[0]), adam.init(table[0])
    for key in jax.random.split(jax.random.key(config.seed), config.training):
        delta, state, _ = update(m.params, delta, state, key)
    test = jax.random.split(jax.random.key(1), 20)
    return delta, lambda d: float(np.divide(*np.sum([update(m.params, d, state, key)[2] for key in test], 0)))


def run(config: Config) -> Result:
    """The affine case, then Dresses of the shipped model with each kind of direction."""
    rows, m = affine(config), ddpm.load_model("fashion_mnist")
    table, times = m.params["class_embedding"], make_times(m.schedule.T, config.steps)
    x_T = jax.random.normal(jax.random.key(7), (config.n, *m.image_shape))
    with_row = lambda k, e: eps_fn(m.unet, m.params | {"class_embedding": table.at[k].set(e)})  # noqa: E731
    of = lambda k, eps=m.eps: given(eps, jnp.full(config.n, k))  # noqa: E731
    draw = lambda e: walk(ddim_step(clip_x0(e, m.schedule), m.schedule), jax.random.key(0), x_T, times)  # noqa: E731
    step = table[MORE] - table[LESS]
    delta, loss = learned(m, draw(of(BASE)), config)
    ways = {
        "difference of rows": lambda s: of(BASE, with_row(BASE, table[BASE] + s * step)),
        "learned": lambda s: of(BASE, with_row(BASE, table[BASE] + s * delta)),
        "guidance": lambda s: compose(of(BASE), [of(MORE), of(LESS)], [s, -s]),
    }
    curves, shown = dict[str, list](), {}
    for name, way in ways.items():
        x = [np.asarray(draw(way(s))) for s in config.strengths]
        sleeves = [np.concatenate([i[:, 8:22, 2:7], i[:, 8:22, 21:26]], 2).mean((1, 2, 3)) for i in x]
        for s, a in zip(config.strengths, sleeves, strict=True):
            what, error = f"Dress, {name}, s = {s:g}: brightness of the sleeves", float(a.std() / np.sqrt(config.n))
            rows.append(Row(what, ours=float(a.mean()), spread=error))
        curves[name] = [float(a.mean()) for a in sleeves]
        shown[name] = plot.grid(np.concatenate([i[:2] for i in x]), 2 * len(x))[..., 0]
    for name, d in (("difference of rows", step), ("learned", delta)):
        rows.append(Row(f"loss over the size of the guidance, {name}", ours=loss(d)))
    # From T-shirt the difference of rows leads to Pullover's row at s = 1: the same denoiser
    gap = float(jnp.abs(of(LESS, with_row(LESS, table[LESS] + step))(x_T, 500) - of(MORE)(x_T, 500)).max())
    rows.append(Row("T-shirt, s = 1, less Pullover", exact=0.0, ours=gap, within=1e-4, near=1.0))
    return Result(rows, None, {"strengths": config.strengths, "curves": curves, "shown": shown})


def redraw(rows: list[dict], numbers: dict) -> Figure:
    """Draw the attribute by s, and two Dresses at each s."""
    with plot.style():
        figure = plot.new_figure(9.6, 2.9)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.5))  # type: ignore[misc]
        ax = left.subplots()
        for name, y in numbers["curves"].items():
            ax.plot(numbers["strengths"], y, "o-", ms=3, label=name)
        ax.set(xlabel="strength s", ylabel="brightness of the sleeves")
        ax.legend(fontsize=7)
        for ax, (name, grid) in zip(right.subplots(3, 1), numbers["shown"].items(), strict=True):
            ax.imshow(np.array(grid), cmap="gray")
            ax.set_title(f"two Dresses, {name}: s = {', '.join(f'{s:g}' for s in numbers['strengths'])}", fontsize=7)
            ax.axis("off")
    return figure
