"""The scores of forecasts against their closed forms, and what they do with gaps."""

import numpy as np
import pytest

from ddpm.evaluation import coverage, crps

RNG = np.random.default_rng(0)


def test_a_right_gaussian_forecast_has_the_crps_sigma_over_root_pi_and_no_other_has_less():
    y, sigma = RNG.normal(0, 2, 4000), 2.0
    right = crps(sigma * RNG.normal(size=(100, len(y))), y)
    assert right.mean() == pytest.approx(sigma / np.sqrt(np.pi), abs=5 * right.std() / np.sqrt(len(y)))
    for other in (0.7 * sigma, 1.5 * sigma):  # E|X - Y| - ½ E|X - X'| of centred Gaussians
        exact = np.sqrt(2 / np.pi) * (np.hypot(other, sigma) - other / np.sqrt(2))
        ours = crps(other * RNG.normal(size=(100, len(y))), y)
        assert ours.mean() == pytest.approx(exact, abs=5 * ours.std() / np.sqrt(len(y)))
        assert exact > sigma / np.sqrt(np.pi) + 0.02


def test_the_crps_of_a_few_draws_is_the_mean_over_all_pairs():
    x, y = RNG.normal(size=(5, 3)), RNG.normal(size=3)
    pairs = np.mean([np.abs(x[i] - x[j]) for i in range(5) for j in range(5) if i != j], axis=0)
    np.testing.assert_allclose(crps(x, y), np.abs(x - y).mean(0) - pairs / 2, rtol=1e-12)
    np.testing.assert_allclose(crps(np.ones((4, 3)), y), np.abs(1 - y))  # a forecast that is a point: its error


def test_bands_hold_as_often_as_they_promise_and_gaps_are_left_out():
    y = RNG.normal(size=(3000, 10))
    x = RNG.normal(size=(19, 3000, 10))
    for level in (0.5, 0.9):  # also with few draws; the usual quantiles of 19 would hold 81 %
        assert coverage(x, y, level) == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) / y.size))
    with pytest.raises(ValueError, match=r"a band of 0\.95 needs 39 draws or more; there are 19"):
        coverage(x, y, 0.95)
    gaps = y.copy()
    gaps[:, :2] = gaps[:, -3:] = np.nan  # at both ends
    assert coverage(x, gaps) == coverage(x[:, :, 2:7], y[:, 2:7])
    np.testing.assert_array_equal(np.isnan(crps(x[:20], gaps)), np.isnan(gaps))


def test_what_cannot_be_scored_is_refused():
    y = np.zeros(3)
    for draws, value, why in (
        (np.zeros((1, 3)), y, "at least two draws"),
        (np.zeros((4, 2)), y, r"draws has shape \(4, 2\) and y \(3,\)"),
        (np.full((4, 3), np.inf), y, "may diverge"),
        (np.zeros((4, 3)), y + np.nan, "0 known numbers"),
        (np.zeros((4, 3)), y + np.inf, "3 infinite"),
    ):
        for score in (crps, lambda *a: coverage(*a, level=0.3)):
            with pytest.raises(ValueError, match=why):
                score(draws, value)
