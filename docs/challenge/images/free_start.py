"""DDIM at searched times with a free start, of the network of `ddim.py`: its training is the same."""

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
    """DDIM at the times of `ddpm.samplers.best_times.searched`: the noise is declared to be x_t of a t below 1000."""
    times = {
        1: [907, 0],
        2: [940, 551, 0],
        4: [972, 898, 674, 207, 0],
        8: [989, 960, 920, 853, 724, 493, 238, 74, 0],
    }[calls]
    step, x = ddim_step(clip_x0(net, CHAIN), CHAIN, labels), noise
    for t, s in itertools.pairwise(times):
        x = step(None, x, t, s)
    return x
