"""Flow matching on the linear path, and Euler's method at even times."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import unet_config
from ddpm.network import build
from ddpm.training.timed import fit

INIT, APPLY = build(unet_config("nano", num_classes=10))


def network(params, x, tau, c):
    """û(x, τ, c) of the state scaled to unit variance."""
    return APPLY(params, x / jnp.hypot(1 - tau, tau)[:, None, None, None], 1000 * tau, c)


def loss(params, key, x0, c):
    """E ‖û(x_τ, τ, c) - (ε - x0)‖²"""
    key_tau, key_noise = jax.random.split(key)
    tau = (jax.random.uniform(key_tau) + jnp.arange(len(x0)) / len(x0)) % 1
    noise, of = jax.random.normal(key_noise, x0.shape), tau[:, None, None, None]
    return ((network(params, (1 - of) * x0 + of * noise, tau, c) - (noise - x0)) ** 2).mean()


def train(images, labels, seed, left):
    """Adam, until the time is up."""
    return fit(loss, INIT(jax.random.key(seed)), images, labels, seed + 1, left)


def sample(net, noise, labels, calls, seed):
    """Euler's method at even times."""
    x = noise
    for t, s in itertools.pairwise(np.linspace(1, 0, calls + 1)):
        x = x + (s - t) * net(x, np.full(len(x), t, np.float32), labels)
    return x
