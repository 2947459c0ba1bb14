"""What words are worth by noise level: the tools, where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from ddpm.datasets.wardrobe import drawing
from experiments import fine_detail as fine
from experiments.lab import text_readings
from experiments.lab import wardrobe_exact as exact

ALPHA_BAR = np.asarray(exact.SCHEDULE.alpha_bar, np.float64)
VALUES = drawing.values_of(drawing.draw_attributes(6, 2))


def test_information_of_a_gaussian_is_half_the_logarithm_of_its_snr():
    """x0 ~ N(0, 1), all or nothing told: the gain of ‖x0 - x̂0‖² is 1/(1 + SNR), and ½ ∫ of it dSNR ½ log(1 + SNR)."""
    snr = np.exp(fine.log_snr(np.array(fine.TIMES)))
    gain, truth = snr / (1 + snr), np.log1p(snr[0]) / 2
    assert fine.nats(gain) == pytest.approx(truth, rel=0.02)
    assert fine.density(gain).sum() / fine.T == pytest.approx(truth, rel=0.02)


def test_four_fifths_lie_in_the_span_and_a_tenth_below_it():
    snr = np.exp(fine.log_snr(np.array(fine.TIMES)))
    gain = snr / (1 + snr)
    low, high = fine.span(gain)
    below, inside, above = (fine.gained(gain, *t) for t in ((fine.TIMES[0], low), (low, high), (high, fine.T)))
    total = fine.density(gain).sum() / fine.T
    np.testing.assert_allclose([below / total, inside / total, above / total], [0.1, 0.8, 0.1], atol=5e-3)


def test_a_gain_of_v_that_is_1_everywhere_takes_1_off_the_loss():
    t = np.array(fine.TIMES)
    for name in text_readings.TIMES:
        P = np.asarray(text_readings.cumulative(exact.SCHEDULE, name), np.float64)
        assert fine.in_loss(ALPHA_BAR[t], name) == pytest.approx(1 - P[fine.TIMES[0] - 1], rel=5e-3)


def test_middle_times_are_a_narrow_logit_normal():
    P = np.asarray(text_readings.cumulative(exact.SCHEDULE, "middle"), np.float64)
    tau = np.arange(1, fine.T) / fine.T
    np.testing.assert_allclose(P[1:-1], stats.norm.cdf(np.log(tau / (1 - tau)), scale=0.5), atol=1e-5)
    assert P[0] == 0 and P[-1] == 1


def test_a_denoiser_that_hears_nothing_gains_nothing():
    found = fine.gains_by_time(lambda x_t, t, c: 0.5 * x_t, lambda v: v, exact.pictures(6, 2)[0], VALUES)
    for a, gain in found.items():
        there = ~np.isnan(gain)
        assert (gain[there] == 0).all() and there.any(), a


def test_a_word_is_silenced_and_no_other():
    for names, values in fine.silenced(VALUES).items():
        told = [a not in names for a in fine.NAMES]
        np.testing.assert_array_equal(values[:, told], VALUES[:, told])
        assert (values[:, np.logical_not(told)] == -1).all()


def test_where_errors_add_up_each_word_gains_its_own_and_the_pattern_without_its_ink():
    worth = {a: np.array([1.0, 0.1]) * 2**k for k, a in enumerate(fine.NAMES)}
    found = fine.gains({names: sum((worth[a] for a in names), np.zeros(2)) for names in fine.silenced(VALUES)})
    assert found.keys() == worth.keys()
    for a, gain in found.items():
        np.testing.assert_allclose(gain, worth[a])
