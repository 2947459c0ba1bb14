"""The captioned world `wardrobe` summed by brute force in NumPy: exact columns of experiments with conditions.

All 288 geometries, both lights and every colour of every region are weighed in float64, apart from the library: for one
picture, whose pixels have a given log-likelihood of each colour. `drawn` walks with the library's ε*, the other column.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpm import data
from ddpm.contracts import Eps
from ddpm.datasets.wardrobe import drawing, law
from ddpm.datasets.wardrobe.silhouettes import shapes
from ddpm.datasets.wardrobe.words import Attributes, palette
from ddpm.sample import ddim_step, walk
from ddpm.schedule import cosine, make_times

SCHEDULE = cosine(1000)
ROLES = ("ground", "colour", "ink", "badge")
LUMA = np.array([0.299, 0.587, 0.114])


class Known(NamedTuple):
    """What is known of one picture."""

    log_geometry_light: np.ndarray  # (288, 2) log p(g, l | y)
    entropy: float  # of the picture, nats
    mean: np.ndarray  # (784, 3)  E[x0 | y]
    variance: float  # mean over the 2352 numbers of Var(x0 | y)


@lru_cache(maxsize=1)
def masks() -> dict[str, np.ndarray]:
    """The pixels of each region, (288, 784) for each role; of the badge (288, 16, 784)."""
    region = shapes().region.reshape(288, -1)
    cells = np.stack([region == 3 + j for j in range(16)], 1)
    return {
        "ground": (region == 0).astype(float),
        "colour": (region == 1).astype(float),
        "ink": (region == 2).astype(float),
        "badge": cells.astype(float),
    }


def colours(role: str) -> np.ndarray:
    """m_kl in [-1, 1]: (2 lights, K, 3)"""
    return np.asarray(data.to_float(palette(role)), np.float64)


def posterior(log_likelihood: Callable[[np.ndarray], np.ndarray]) -> Known:
    """Weigh all pictures, each as probable as the world draws it, by Π_i exp log_likelihood of the pixels' colours.

    log_likelihood: colours (K, 3) -> (K, 784) of each pixel, were it of this colour.
    """
    log_gl = np.zeros((288, 2))
    parts = []
    for light in range(2):
        for role, mask in masks().items():
            fit = mask @ log_likelihood(colours(role)[light]).T  # (288, …, K)
            top = fit.max(-1, keepdims=True)
            total = top[..., 0] + np.log(np.exp(fit - top).mean(-1))
            log_gl[:, light] += total.reshape(288, -1).sum(1)
            p = np.exp(fit - top)
            parts.append((light, role, mask, p / p.sum(-1, keepdims=True)))
    log_gl -= log_gl.max()
    log_gl -= np.log(np.exp(log_gl).sum())
    weight = np.exp(log_gl)
    entropy = -float((weight * log_gl).sum())
    mean, square = np.zeros((784, 3)), np.zeros(784)
    for light, role, mask, p in parts:
        some = mask.any(-1)  # regions that are empty in a geometry have no colour
        H = -(p * np.log(np.maximum(p, 1e-300))).sum(-1) * some
        entropy += float(weight[:, light] @ H.reshape(288, -1).sum(1))
        m, w = colours(role)[light], weight[:, light].reshape(-1, *(1,) * (p.ndim - 1)) * p
        share = mask.reshape(-1, 784).T @ w.reshape(-1, p.shape[-1])  # (784, K)
        mean += share @ m
        square += share @ (m**2).sum(-1)
    return Known(log_gl, entropy, mean, float((square - (mean**2).sum(-1)).sum() / mean.size))


def of_pixels(x0: np.ndarray, mask: np.ndarray, sigma: float) -> Known:
    """What the pixels of x0 (28, 28, 3) tell where mask (28, 28) is 1, up to noise of σ."""
    y, seen = x0.reshape(784, 3).astype(np.float64), mask.reshape(784)
    return posterior(lambda m: -((m[:, None] - y[None]) ** 2).sum(-1) * seen / (2 * sigma**2))


def of_grey(x0: np.ndarray, sigma: float) -> Known:
    """What the grey values of x0 (28, 28, 3) tell, up to noise of σ."""
    y = x0.reshape(784, 3).astype(np.float64) @ LUMA
    return posterior(lambda m: -(((m @ LUMA)[:, None] - y[None]) ** 2) / (2 * sigma**2))


def drawn(eps: Eps, c: Any, n: int, steps: int = 50, seed: int = 0) -> np.ndarray:
    """n pictures by DDIM under the condition c, (n, 28, 28, 3) in [-1, 1], not clipped."""
    x_T = jax.random.normal(jax.random.key(seed), (n, 28, 28, 3))
    times = make_times(SCHEDULE.T, steps)
    return np.asarray(walk(ddim_step(eps, SCHEDULE, c), jax.random.key(seed), x_T, times))


def pictures(n: int, seed: int) -> tuple[np.ndarray, Attributes]:
    """n pictures in [-1, 1] with their attributes."""
    x, z = drawing.draw(n, seed)
    return data.to_float(x), z


def of_world(x: np.ndarray) -> np.ndarray:
    """True where x (n, 28, 28, 3) is a picture of the world, but for an error of about .03 a number: (n,)"""
    x = np.nan_to_num(x)
    least = law.read(pictures(256, 1)[0]).log_prob.min()  # of true pictures
    inside = np.abs(x).max((1, 2, 3)) < 1.1
    return (law.read(np.clip(x, -1, 1)).log_prob > least - 50) & inside
