"""The budget of latent diffusion, the networks it compares, and where samples of unscaled codes end."""

import itertools

import numpy as np
import pytest

from ddpm.latents import rearranged
from ddpm.training.auto import operations
from experiments import latent_scale
from experiments.lab import latent_trainings
from experiments.lab.latent_trainings import Budget
from experiments.lab.linear_denoisers import by_formula


def test_the_clock_counts_processor_minutes_from_the_second_call(monkeypatch):
    """The first step compiles; three seconds a step are 20 a minute."""
    seconds = itertools.count(100, 3)
    monkeypatch.setattr(latent_trainings.time, "process_time", lambda: next(seconds))
    taken = []
    left = latent_trainings.clock(0.5, taken)
    shares = list(itertools.takewhile(lambda share: share > 0, iter(left, None)))
    np.testing.assert_allclose(shares, [1, *(1 - 3 * i / 30 for i in range(1, 10))], atol=1e-9)
    assert len(taken) == 11  # the last call found no time left


def test_a_countdown_ends_at_nothing():
    assert [*itertools.islice(iter(latent_trainings.countdown(4), None), 5)] == [1, 0.75, 0.5, 0.25, 0]


def test_networks_differ_by_the_size_of_their_input_only():
    """The same channels; operations fall with the positions, a fourth for each halving (but for padding 7 to 8)."""
    x, cost = np.random.default_rng(0).uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32), []
    for factor in (1, 2):
        unet = latent_trainings.network_of(Budget(factor=factor), rearranged(x, factor), (28, 28, 1), 10)
        assert (unet.image_shape, unet.channels, unet.num_classes) == ((28 // factor, 28 // factor, factor**2), 32, 10)
        cost.append(operations(unet))
    assert 3.8 < cost[0] / cost[1] < 4.6  # attention costs the square


def test_samples_begun_at_noise_end_where_the_closed_form_says():
    """Against a walk of many steps in NumPy; with the scale, or without signal at T, they are right."""
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - latent_scale.BETA)])
    for sigma in (1.0, 3.0, 5.49):
        made = by_formula(alpha_bar, [sigma**2], np.arange(1000, -1, -1), 0.0)
        assert latent_scale.started_at_noise(alpha_bar[-1], sigma) == pytest.approx(np.sqrt(made[0]) / sigma, rel=4e-3)
    assert latent_scale.started_at_noise(0.3, 1.0) == latent_scale.started_at_noise(0.0, 7.0) == 1
