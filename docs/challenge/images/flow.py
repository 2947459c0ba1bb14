"""Flow matching on the linear path, and Euler's method at even times."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm.config import unet_config
from ddpm.network import build
from ddpm.train import ema_decay, update

INIT, APPLY = build(unet_config("nano", num_classes=10))
ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
BATCH, RATE = 32, 2e-3


def network(params, x, tau, c):
    """û(x, τ, c) of the state scaled to unit variance."""
    return APPLY(params, x / jnp.hypot(1 - tau, tau)[:, None, None, None], 1000 * tau, c)


def loss(params, key, x0, c):
    """E ‖û(x_τ, τ, c) - (ε - x0)‖²"""
    key_tau, key_noise = jax.random.split(key)
    tau = (jax.random.uniform(key_tau) + jnp.arange(len(x0)) / len(x0)) % 1
    noise, of = jax.random.normal(key_noise, x0.shape), tau[:, None, None, None]
    return ((network(params, (1 - of) * x0 + of * noise, tau, c) - (noise - x0)) ** 2).mean()


@jax.jit
def step(params, average, adam, n, rate, key, images, c):
    """One step of Adam, and the moving average of the parameters."""
    grad = jax.grad(loss)(params, key, images / 127.5 - 1, c)
    updates, adam = ADAM.update(grad, adam)
    params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    return params, update(average, params, ema_decay(n, 0.995)), adam


def train(images, labels, seed, left):
    """The rate rises for a hundred steps and falls with the time that is left."""
    rng, n = np.random.default_rng(seed), 0
    params = average = INIT(jax.random.key(seed))
    adam = ADAM.init(params)
    while (rest := left()) > 0:
        i = rng.integers(len(images), size=BATCH)
        rate, key = RATE * rest * min(1.0, n / 100), jax.random.fold_in(jax.random.key(seed + 1), n)
        params, average, adam = step(params, average, adam, n, rate, key, images[i], labels[i])
        jax.block_until_ready(average)
        n += 1
    return average


def sample(net, noise, labels, calls, seed):
    """Euler's method at even times."""
    x = noise
    for t, s in itertools.pairwise(np.linspace(1, 0, calls + 1)):
        x = x + (s - t) * net(x, np.full(len(x), t, np.float32), labels)
    return x
