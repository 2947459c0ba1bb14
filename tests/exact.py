"""What a step does to Gaussian data, exactly: with a linear denoiser a step is x_s = a x_t + b + σ z."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import oracle
from experiments.lab.linear_denoisers import affine
from experiments.lab.linear_denoisers import by_steps as output_var_by_direction

__all__ = ["affine", "output_var", "output_var_by_direction"]


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
