"""DDIM at even times of the cosine schedule, of a network of ε trained with L_simple."""

import itertools

import jax

from ddpm import schedule
from ddpm.config import unet_config
from ddpm.guide import clip_x0
from ddpm.loss import simple_loss
from ddpm.network import build
from ddpm.sample import ddim_step
from ddpm.training.timed import fit

CHAIN = schedule.cosine(1000)
INIT, APPLY = build(unet_config("nano", num_classes=10))


def network(params, x, t, c):
    """ε̂(x_t, t, c)"""
    return APPLY(params, x, t, c)


def loss(params, key, x0, c):
    """L_simple"""
    return simple_loss(lambda x, t, c: network(params, x, t, c), CHAIN, key, x0, c)


def train(images, labels, seed, left):
    """Adam, until the time is up."""
    return fit(loss, INIT(jax.random.key(seed)), images, labels, seed + 1, left)


def sample(net, noise, labels, calls, seed):
    """DDIM, t = 1000 to 0 in even steps."""
    times = schedule.make_times(1000, calls)
    step, x = ddim_step(clip_x0(net, CHAIN), CHAIN, labels), noise
    for t, s in itertools.pairwise(times):
        x = step(None, x, t, s)
    return x
