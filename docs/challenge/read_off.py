"""The optimum: one call of a Gaussian's denoiser tells its variance and mean, and so its flow map."""

import numpy as np


def sample(eps, noise, calls):
    """ε* = b (x - a μ)/(a² λ + b²) is a line in x, for each axis; its slope and its zero are λ and μ."""
    a_bar = 0.5
    e = eps(noise, a_bar)
    high, low = noise.argmax(0), noise.argmin(0)
    at = np.arange(noise.shape[1])
    slope = (e[high, at] - e[low, at]) / (noise[high, at] - noise[low, at])
    var = (np.sqrt(1 - a_bar) / slope - (1 - a_bar)) / a_bar
    mean = (noise[0] - e[0] / slope) / np.sqrt(a_bar)
    return mean + np.sqrt(np.maximum(var, 0)) * noise
