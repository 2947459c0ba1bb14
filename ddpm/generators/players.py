"""Two players: a step of the discriminator, then one of the generator.   [Goodfellow et al. 2014, Alg. 1]

    θ_D ← θ_D - η ∇ L_D(θ_D; θ_G),      θ_G ← θ_G - η ∇ L_G(θ_G; θ_D),   with the new θ_D

Each loss is differentiated by the parameters of its own player only. In turns, and not at the same time: near the
equilibrium of the simplest GAN simultaneous steps spiral outwards, and steps in turn stay on their circle
(`tests/generators`).   [Mescheder et al. 2018]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddpm.train import TrainState, descend


class Players(NamedTuple):
    """The state of both."""

    disc: TrainState
    gen: TrainState


def begin(disc: Any, gen: Any, optimiser: Any) -> Players:
    """The first state, from the parameters of each."""
    return Players(alone(disc, optimiser), alone(gen, optimiser))


def alone(params: Any, optimiser: Any) -> TrainState:
    """The first state of one set of parameters."""
    return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimiser.init(params))


def adam(rate: float) -> optax.GradientTransformation:
    """Adam without momentum, β = (0, .99): what the other player does changes the gradient at each step."""
    return optax.adam(rate, b1=0.0, b2=0.99)


def make_step(
    loss_disc: Callable[..., jax.Array], loss_gen: Callable[..., jax.Array], optimiser: Any, decay: float = 0.999
) -> Callable[..., Any]:
    """The compiled step (state, key, *batch) -> (state, (L_D, L_G)).

    loss_disc: (θ_D, θ_G, step, key, *batch) -> (), whose `step` counts from 0;  loss_gen: (θ_G, θ_D, key, *batch) -> ()
    """

    def step(state: Players, key: jax.Array, *batch: Any) -> tuple[Players, tuple[jax.Array, jax.Array]]:
        disc, gen = state
        keys = jax.random.split(key)
        of_disc, grad = jax.value_and_grad(loss_disc)(disc.params, gen.params, disc.step, keys[0], *batch)
        disc = descend(disc, grad, optimiser, decay)
        of_gen, grad = jax.value_and_grad(loss_gen)(gen.params, disc.params, keys[1], *batch)
        return Players(disc, descend(gen, grad, optimiser, decay)), (of_disc, of_gen)

    return jax.jit(step)
