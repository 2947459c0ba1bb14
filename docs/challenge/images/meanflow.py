"""MeanFlow: average velocities, so that one call jumps from noise to data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import unet_config
from ddpm.flows import meanflow
from ddpm.network import build
from ddpm.networks.numbers import with_number
from ddpm.training.timed import fit

INIT, APPLY = build(unet_config("nano", num_classes=10, extra_channels=4))


def network(params, x, r, t, c):
    """u(x, r, t, c): the average velocity between r and t, of a network that is told t and t - r."""
    return APPLY(params, with_number(x / jnp.hypot(1 - t, t)[:, None, None, None], t - r), t, c)


def loss(params, key, x0, c):
    """MeanFlow's, with its adaptive weight.   [Geng et al. 2025, Eq. 9]"""
    key_pairs, key_noise = jax.random.split(key)
    r, t = meanflow.draw_pairs(key_pairs, len(x0), 0.25)
    noise, of = jax.random.normal(key_noise, x0.shape), t[:, None, None, None]
    x, u = (1 - of) * x0 + of * noise, lambda x, r, t, c: network(params, x, r, t, c)
    target = meanflow.meanflow_target(u, x, r, t, noise - x0, c)
    error = ((u(x, r, t, c) - target) ** 2).reshape(len(x), -1).sum(1)
    return (meanflow.adaptive_weight(error) * error).mean()


def train(images, labels, seed, left):
    """Adam, until the time is up."""
    return fit(loss, INIT(jax.random.key(seed)), images, labels, seed + 1, left)


def sample(net, noise, labels, calls, seed):
    """x_s = x_t - (t - s) u(x_t, s, t) at even times."""
    x, ones = noise, np.ones(len(noise), np.float32)
    for t, s in itertools.pairwise(np.linspace(1, 0, calls + 1)):
        x = x - (t - s) * net(x, s * ones, t * ones, labels)
    return x
