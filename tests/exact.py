"""What a step does to Gaussian data, exactly: with a linear denoiser a step is x_s = a x_t + b + σ z."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle


def affine(step, t, s, D=1):
    """Gain a and noise σ of a step whose denoiser is linear and diagonal, for each direction: (D,) each."""
    key = jax.random.key(0)
    at0, at1 = (step(key, jnp.full((1, D), x), t, s)[0] for x in (0.0, 1.0))
    return at1 - at0, at0 / jax.random.normal(key, (1, D), at0.dtype)[0]


def output_var(make_step, schedule, lam, times, start=1.0):
    """The variance that a sampler gives data N(0, diag(lam)), direction by direction, from x_T ~ N(0, start)."""
    lam = np.atleast_1d(np.asarray(lam, dtype=np.float64))
    step = make_step(oracle.gaussian(np.zeros(len(lam)), np.diag(lam)).eps(schedule), schedule)
    var = np.broadcast_to(start, lam.shape)
    one = jax.jit(lambda t, s: affine(step, t, s, len(lam)))
    for t, s in pairwise(times):
        a, sigma = one(jnp.asarray(t), jnp.asarray(s))
        var = np.asarray(a) ** 2 * var + np.asarray(sigma) ** 2
    return var


def output_var_by_direction(make_step, schedule, lam, times, start=1.0):
    """As `output_var`, for many directions: the denoiser is written out, ε* = √(1-ᾱ) x/(ᾱ λ + 1-ᾱ)."""
    lam = np.asarray(lam)

    def eps(x_t, t, c):
        a = schedule.alpha_bar[t][:, None]
        return jnp.sqrt(1 - a) * x_t / (a * lam[None] + 1 - a)

    step, var = make_step(eps, schedule), np.broadcast_to(start, lam.shape)
    one = jax.jit(lambda t, s: affine(step, t, s, len(lam)))
    for t, s in pairwise(times):
        a, sigma = one(jnp.asarray(t), jnp.asarray(s))
        var = np.asarray(a) ** 2 * var + np.asarray(sigma) ** 2
    return var
