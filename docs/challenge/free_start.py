"""DDIM at searched times with a free start: the noise is declared to be x_t of a smaller t. Nothing is trained."""

import itertools

import numpy as np

SIGMAS = {  # σ = b/a, found by `ddpm.samplers.best_times.searched` on a fine chain
    1: (6.865,),
    2: (10.61, 1.18),
    4: (22.7, 6.24, 1.79, 0.345),
    8: (57.9, 16.2, 8.14, 4.39, 2.23, 1.01, 0.41, 0.132),
}


def sample(eps, noise, calls):
    """x/a moves by (σ_s - σ_t) ε̂."""
    sigmas = np.array([*SIGMAS[calls], 0.0])
    x = noise
    for t, s in itertools.pairwise(sigmas):
        a_t, a_s = 1 / np.sqrt(1 + t**2), 1 / np.sqrt(1 + s**2)
        x = a_s * (x / a_t + (s - t) * eps(x, a_t**2))
    return x
