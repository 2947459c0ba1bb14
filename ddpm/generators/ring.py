"""Eight Gaussians on a ring: how many modes a generator finds, and how many of its points lie near one.

p = 1/8 Σ_k N((cos 2πk/8, sin 2πk/8), σ² I),     P(within 3σ of its mode) = 1 - e^{-9/2} = .98889
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.generators import players
from ddpm.generators.adversarial import discriminator_loss, generator_loss, r1
from ddpm.tools import check

MODES, STD = 8, 0.05
WITHIN = 1 - math.exp(-4.5)  # of a Gaussian in the plane, within three standard deviations


def centres(modes: int = MODES) -> np.ndarray:
    """The middles of the modes: (modes, 2)"""
    angle = 2 * np.pi * np.arange(modes) / modes
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def draw(key: jax.Array, n: int, modes: int = MODES, std: float = STD) -> jax.Array:
    """n points: (n, 2)"""
    key_mode, key = jax.random.split(key)
    k = jax.random.randint(key_mode, (n,), 0, modes)
    return jnp.asarray(centres(modes), jnp.float32)[k] + std * jax.random.normal(key, (n, 2))


class Covered(NamedTuple):
    """What `covered` finds."""

    hit: int  # modes with a twentieth of their due points within 3σ, or more
    near: float  # share of the points within 3σ of a mode; .98889 of the data
    share: np.ndarray  # (modes,) of the near points, by mode


def covered(x: Any, modes: int = MODES, std: float = STD) -> Covered:
    """Modes hit and share near one.   x: (n, 2)"""
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 2 or len(x) < 20 * modes:
        raise ValueError(f"x has shape {x.shape}; give (n, 2) with n of {20 * modes} or more, to count {modes} modes")
    distance = np.linalg.norm(x[:, None] - centres(modes)[None], axis=2)
    nearest, near = distance.argmin(1), distance.min(1) < 3 * std
    count = np.bincount(nearest[near], minlength=modes)
    return Covered(int((count >= 0.05 * len(x) / modes).sum()), float(near.mean()), count / max(count.sum(), 1))


def mlp(key: jax.Array, sizes: tuple[int, ...]) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of a small network, variance 2/n of the inputs."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (a, b)) * math.sqrt(2 / a), jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def apply_mlp(params: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    """Linear maps with max(h, h/5) between them: (B, sizes[0]) -> (B, sizes[-1])"""
    for i, (w, b) in enumerate(params):
        x = x @ w + b[None]
        x = jnp.maximum(x, 0.2 * x) if i < len(params) - 1 else x
    return x


class Recipe(NamedTuple):
    """A GAN on the ring; both players are networks of two hidden layers."""

    steps: int = 4000
    gamma: float = 0.1  # weight of R1
    kind: str = "non_saturating"
    batch: int = 256
    rate: float = 1e-3
    width: int = 64
    codes: int = 8  # k
    packed: int = 1  # points that D sees together; more let it see that they are too much alike   [PacGAN]


def fit(how: Recipe, seed: int = 0) -> list:
    """Train on fresh points of the ring, and return the average of the generator's parameters."""
    check.whole("steps", how.steps, 1)
    check.whole("batch", how.batch, 1)
    if how.batch % check.whole("packed", how.packed, 1):
        raise ValueError(f"packed is {how.packed}; give a divisor of the batch, {how.batch}")
    optimiser = players.adam(how.rate)
    step = players.make_step(partial(_loss_disc, how), partial(_loss_gen, how), optimiser, 0.99)
    key_d, key_g, key = jax.random.split(jax.random.key(seed), 3)
    disc, gen = mlp(key_d, (2 * how.packed, how.width, how.width, 1)), mlp(key_g, (how.codes, how.width, how.width, 2))

    def one(state: players.Players, key: jax.Array) -> tuple[players.Players, None]:
        key, key_x = jax.random.split(key)
        return step(state, key, draw(key_x, how.batch))[0], None

    run = jax.jit(lambda state, keys: jax.lax.scan(one, state, keys)[0])
    return run(players.begin(disc, gen, optimiser), jax.random.split(key, how.steps)).gen.ema


def made(gen: list, key: jax.Array, n: int) -> jax.Array:
    """n points of a generator: (n, 2)"""
    return apply_mlp(gen, jax.random.normal(key, (n, gen[0][0].shape[0])))


def _logit(how: Recipe, disc: list, x: jax.Array) -> jax.Array:
    return apply_mlp(disc, x.reshape(-1, 2 * how.packed))[:, 0]


def _loss_disc(how: Recipe, disc: list, gen: list, step: Any, key: jax.Array, x: jax.Array) -> jax.Array:
    loss = discriminator_loss(_logit(how, disc, x), _logit(how, disc, made(gen, key, len(x))))
    packs = x.reshape(-1, 2 * how.packed)
    return loss + how.gamma * r1(lambda x: apply_mlp(disc, x)[:, 0], packs).mean()


def _loss_gen(how: Recipe, gen: list, disc: list, key: jax.Array, x: jax.Array) -> jax.Array:
    return generator_loss(_logit(how, disc, made(gen, key, len(x))), how.kind).mean()
