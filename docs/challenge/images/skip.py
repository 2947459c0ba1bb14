"""A network that corrects the Gaussians of the classes, drawn by DDIM at searched times with a free start."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import schedule
from ddpm.config import unet_config
from ddpm.guide import clip_x0
from ddpm.loss import weighted_loss
from ddpm.network import build
from ddpm.networks import skip
from ddpm.oracles import low_rank
from ddpm.sample import ddim_step
from ddpm.training.timed import fit

CHAIN = schedule.cosine(1000)
INIT, APPLY = build(unet_config("nano", num_classes=10, extra_channels=1))


def network(params, x, t, c):
    """ε̂ = ε_G(x_t, t, c) + s_t net(x_t, t, c)"""
    prior = skip.Prior(low_rank.LowRank(**params["gaussian"]), params["scale"])
    return skip.skip_head(lambda x, t, c: APPLY(params["net"], x, t, c), prior, CHAIN)(x, t, c)


def loss(net, key, x0, c, prior):
    """E_t ‖ε - ε̂‖²/s_t²: what the Gaussian leaves has unit size at each t."""
    eps = lambda x, t, c: network(prior | {"net": net}, x, t, c)  # noqa: E731
    return weighted_loss(eps, CHAIN, key, x0, c, 1 / jnp.maximum(prior["scale"], 1e-3) ** 2)


def gaussians(x, c, rank=48):
    """Mean, directions and variances of each class, and of all images for no class.

    `low_rank.fit` would do so with scikit-learn, which opens files, and no entry may.
    """
    rows = []
    for of in (*(x[c == k] for k in range(10)), x):
        of = of.reshape(len(of), -1)
        var, directions = np.linalg.eigh(np.cov(of, rowvar=False))
        rows.append((of.mean(0), directions[:, -rank:], var[-rank:], var[:-rank].mean()))
    return low_rank.LowRank(*(jnp.asarray(np.stack(a), jnp.float32) for a in zip(*rows, strict=True)))


def train(images, labels, seed, left):
    """Fit the Gaussians, then the network, until the time is up."""
    gaussian = gaussians(images / np.float32(127.5) - 1, labels)
    prior = {"gaussian": gaussian._asdict(), "scale": skip.skip_scale(gaussian, CHAIN)}
    return prior | {"net": fit(loss, INIT(jax.random.key(seed)), images, labels, seed + 1, left, prior)}


def sample(net, noise, labels, calls, seed):
    """DDIM at the times of `ddpm.samplers.best_times.searched`."""
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
