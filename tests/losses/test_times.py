"""How often each time is drawn, against the distributions that the papers name."""

import jax
import numpy as np
import pytest
from scipy import stats

from ddpm.losses import times
from ddpm.schedule import cosine

SCHEDULE = cosine(200)


def test_times_are_drawn_as_often_as_their_frequency_says(x64):
    for name in ("uniform", "logit_normal", "log_normal"):
        p = np.asarray(times.frequency(SCHEDULE, name)) / 200
        assert p.sum() == pytest.approx(1) and p[0] == 0 and p.min() >= 0
        B = 100_000  # one shift of a grid: the number of draws of t differs from B p_t by at most 1
        t = times.draw(jax.random.key(1), B, SCHEDULE, name)
        np.testing.assert_allclose(np.bincount(t, minlength=201), B * p, atol=1.01)


def test_the_distributions_are_the_named_ones(x64):
    t = np.arange(201)
    logit = stats.norm.cdf(np.log(t[1:-1] / (200 - t[1:-1])))  # τ = t/T has logit τ ~ N(0, 1)
    np.testing.assert_allclose(times.cumulative(SCHEDULE, "logit_normal")[1:-1], logit, rtol=1e-9)
    np.testing.assert_allclose(times.frequency(SCHEDULE, "uniform")[1:], 1, rtol=1e-9)
    # draw ln σ and take the nearest level
    log_sigma = np.log(np.sqrt(1 / np.asarray(SCHEDULE.alpha_bar)[1:] - 1))
    z = np.random.default_rng(0).normal(-1.2, 1.2, 20_000)
    nearest = 1 + np.abs(z[:, None] - log_sigma).argmin(1)
    below = (nearest[:, None] <= t).mean(0)
    np.testing.assert_allclose(times.cumulative(SCHEDULE, "log_normal"), below, atol=0.015)


def test_unknown_times_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'logit_normal'"):
        times.cumulative(SCHEDULE, "logitnormal")
