"""DDIM at even times of the cosine schedule, of a network of ε trained with L_simple."""

import itertools

import jax
import numpy as np
import optax

from ddpm import schedule
from ddpm.config import unet_config
from ddpm.loss import simple_loss
from ddpm.network import build
from ddpm.train import ema_decay, update

CHAIN = schedule.cosine(1000)
INIT, APPLY = build(unet_config("nano", num_classes=10))
ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
BATCH, RATE = 32, 2e-3


def network(params, x, t, c):
    """ε̂(x_t, t, c)"""
    return APPLY(params, x, t, c)


def loss(params, key, x0, c):
    """L_simple"""
    return simple_loss(lambda x, t, c: network(params, x, t, c), CHAIN, key, x0, c)


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
    """DDIM, t = 1000 to 0 in even steps."""
    times = np.round(np.linspace(1000, 0, calls + 1)).astype(int)
    x, alpha_bar = noise, np.asarray(CHAIN.alpha_bar, np.float64)
    for t, s in itertools.pairwise(times):
        (a, b), (a_s, b_s) = ((np.sqrt(p), np.sqrt(1 - p)) for p in (alpha_bar[t], alpha_bar[s]))
        x0 = np.clip((x - b * net(x, np.full(len(x), t), labels)) / a, -1, 1)
        x = a_s * x0 + b_s * (x - a * x0) / b
    return x0
