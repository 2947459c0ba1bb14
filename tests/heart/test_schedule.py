"""Schedules and lists of times, against the numbers of the papers and against each other."""

import numpy as np
import pytest

from ddpm import schedule as S
from ddpm.samplers import respacing
from ddpm.samplers.edm import edm_sigmas, from_sigma
from ddpm.samplers.solvers import sigma_bar


def alpha_bar(name, T=1000):
    return np.asarray(S.make_schedule(name, T).alpha_bar, dtype=np.float64)


def test_linear_has_the_published_levels(x64):
    a = alpha_bar("linear")
    published = {1: 0.9999, 100: 0.897018, 250: 0.524085, 500: 0.0785872, 750: 0.00335055, 1000: 4.03583e-5}
    for t, value in published.items():
        assert a[t] == pytest.approx(value, rel=1e-5)
    assert a[0] == 1 and len(a) == 1001
    assert a[1:].mean() == pytest.approx(0.275513, rel=1e-5)
    assert np.argmax(a < 0.5) == 260
    assert (a[1:] < 0.01).mean() == pytest.approx(0.327)


def test_cosine_has_the_published_levels(x64):
    schedule = S.cosine()
    a, beta = np.asarray(schedule.alpha_bar), np.asarray(schedule.beta)
    for t, value in {250: 0.847012, 500: 0.493844, 750: 0.144272, 900: 0.0240917}.items():
        assert a[t] == pytest.approx(value, rel=1e-5)
    assert beta[1] == pytest.approx(4.128e-5, rel=2e-4) and (beta == 0.999).sum() == 1
    assert a[999] == pytest.approx(2.42877e-6, rel=1e-3) and a[1000] == pytest.approx(2.4288e-9, rel=1e-3)
    assert np.argmax(a < 0.5) == 497
    assert S.cosine(4000).beta[1] == pytest.approx(9.866e-6, rel=1e-3)


def test_linear_ho_does_not_scale_and_linear_does(x64):
    assert alpha_bar("linear_ho", 100)[-1] == pytest.approx(0.364, abs=1e-3)  # not noise
    assert alpha_bar("linear", 100)[-1] < 1e-4
    np.testing.assert_array_equal(alpha_bar("linear"), alpha_bar("linear_ho"))  # equal at T = 1000


def test_sigmoid_is_jabris_on_alpha_bar(x64):
    a = alpha_bar("sigmoid")
    assert a[500] == pytest.approx(0.5, abs=1e-12)  # σ is odd about the middle
    np.testing.assert_allclose(a[1:-1] + a[-2:0:-1], 1, atol=1e-12)  # ᾱ_t + ᾱ_{T-t} = 1
    logit = np.log(a[300] * (1 / (1 + np.exp(-3)) - 1 / (1 + np.exp(3))) + 1 / (1 + np.exp(3)))  # log σ(-u)
    assert logit == pytest.approx(-np.log1p(np.exp(-3 + 6 * 0.3)), abs=1e-12)
    lopsided = np.asarray(S.sigmoid(1000, start=0.0).alpha_bar)  # (σ(3) - σ(1.5))/(σ(3) - σ(0))
    sigma = lambda u: 1 / (1 + np.exp(-u))  # noqa: E731
    assert lopsided[500] == pytest.approx((sigma(3) - sigma(1.5)) / (sigma(3) - sigma(0)), rel=1e-12)
    sharp = np.asarray(S.sigmoid(1000, tau=0.3).alpha_bar)
    assert sharp[250] > a[250] and sharp[750] < a[750]  # a smaller temperature is steeper in the middle


@pytest.mark.parametrize("name", S.SCHEDULES)
@pytest.mark.parametrize("T", [21, 100, 1000])
def test_every_schedule_falls_and_agrees_with_its_betas(x64, name, T):
    schedule = S.make_schedule(name, T)
    a, beta = np.asarray(schedule.alpha_bar), np.asarray(schedule.beta)
    assert a[0] == 1 and beta[0] == 0 and schedule.T == T
    assert np.all(np.diff(a) < 0) and a[-1] > 0
    np.testing.assert_allclose(np.cumprod(1 - beta), a, rtol=1e-12)
    again = S.from_alpha_bar(a[1:])
    np.testing.assert_allclose(again.beta, beta, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_float32_is_the_float64_schedule_rounded_once(name):
    """ᾱ is right to half an ulp of itself; a float32 product of 1,000 factors would be 100 times worse."""
    import jax

    single = np.asarray(S.make_schedule(name).alpha_bar)
    with jax.enable_x64(True):
        double = alpha_bar(name)
    np.testing.assert_allclose(single, double, rtol=6e-8)
    # 1-ᾱ_1 = 1e-4 comes from a number near 1, whose spacing is 6e-8: up to 6e-4 of it is lost, 1.7e-4 for `linear`.
    np.testing.assert_allclose((1 - single)[1:], (1 - double)[1:], rtol=1e-3)


def test_small_noise_levels_keep_their_digits():
    """1/(1+σ²) at σ = .002 is .999996, whose last digit in float32 is worth 1 % of σ²; √(1-ᾱ) is kept beside it."""
    sigma = edm_sigmas(18)
    schedule = from_sigma(sigma)
    assert schedule.alpha_bar.dtype == np.float32
    np.testing.assert_allclose(sigma_bar(schedule, np.arange(1, 19)), sigma[::-1], rtol=3e-7)
    np.testing.assert_allclose(1 / np.sqrt(S.snr(schedule)[1:]), sigma[::-1], rtol=5e-7)
    np.testing.assert_allclose(S.log_snr(schedule)[1:], -2 * np.log(sigma[::-1]), rtol=1e-6, atol=1e-6)
    every_third = respacing.respace(schedule, np.append(np.arange(18, 0, -3), 0))
    np.testing.assert_allclose(sigma_bar(every_third, np.arange(1, 7)), sigma[::-1][2::3], rtol=3e-7)


def test_respacing_keeps_alpha_bar(x64):
    schedule = S.linear()
    times = S.make_times(1000, 10, "leading")
    short = respacing.respace(schedule, times)
    assert short.T == 10
    np.testing.assert_allclose(short.alpha_bar[1:], np.asarray(schedule.alpha_bar)[times[:-1]][::-1], rtol=1e-15)
    whole = respacing.respace(schedule, np.arange(1000, -1, -1))
    np.testing.assert_allclose(whole.beta, schedule.beta, rtol=1e-9)


def test_snr_and_its_logarithm(x64):
    schedule = S.linear()
    snr, log_snr = np.asarray(S.snr(schedule)), np.asarray(S.log_snr(schedule))
    np.testing.assert_allclose(np.exp(log_snr[1:]), snr[1:], rtol=1e-12)
    assert np.isinf(snr[0]) and np.isinf(log_snr[0])
    assert snr[260] < 1 < snr[259]  # SNR = 1 where ᾱ = 1/2
    np.testing.assert_allclose(1 / (1 + np.exp(-log_snr)), schedule.alpha_bar, rtol=1e-12)  # ᾱ = σ(log SNR)


def test_zero_terminal_snr(x64):
    schedule = S.linear()
    zero = respacing.zero_terminal_snr(schedule)
    root, old = np.sqrt(np.asarray(zero.alpha_bar)), np.sqrt(np.asarray(schedule.alpha_bar))
    assert root[-1] == 0 and zero.beta[-1] == 1 and root[1] == pytest.approx(old[1], abs=1e-15)
    slope = np.diff(root[1:]) / np.diff(old[1:])  # an affine map of √ᾱ
    np.testing.assert_allclose(slope, slope[0], rtol=1e-8)
    assert np.all(np.diff(root) < 0)


@pytest.mark.parametrize(
    ("rule", "published"),  # counted from 0, as printed; ours count from 1
    [
        ("linspace", [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]),
        ("leading", [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]),
        ("stride", [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]),
        ("quad", [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]),
        ("trailing", [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]),
    ],
)
def test_ten_times_of_a_thousand(rule, published):
    assert S.make_times(1000, 10, rule).tolist() == [t + 1 for t in published[::-1]] + [0]


def test_rules_differ_where_n_does_not_divide(x64):
    for N in (2, 4, 8, 10, 20, 50):  # where it divides T
        np.testing.assert_array_equal(S.make_times(1000, N, "stride"), S.make_times(1000, N, "leading"))
    assert S.make_times(1000, 30, "stride")[0] == 987 and S.make_times(1000, 30, "leading")[0] == 958
    assert len(S.make_times(1000, 50, "quad")) == 49 + 1  # one of the fifty times repeats
    with pytest.raises(ValueError, match="no whole stride"):
        S.make_times(1000, 300, "stride")


@pytest.mark.parametrize("rule", S.TIME_RULES)
def test_lists_of_times_fall_to_zero_inside_the_chain(rule):
    for T, N in [(1000, 1000), (1000, 50), (1000, 2), (100, 7), (13, 13), (5, 2)]:
        try:
            times = S.make_times(T, N, rule)
        except ValueError as error:
            assert rule == "stride" and "no whole stride" in str(error)
            continue
        assert times[-1] == 0 and times[0] <= T and np.all(np.diff(times) < 0)
        assert len(times) == N + 1 or rule == "quad"
        assert times[0] == T or rule in ("leading", "quad", "stride")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: S.linear(20), "T >= 21"),
        (lambda: S.from_beta([0.1, 1.0]), "t = 2"),
        (lambda: S.from_beta([0.1, float("nan")]), "t = 2"),
        (lambda: S.from_beta([[0.1]]), "one row"),
        (lambda: S.from_alpha_bar([0.9, 0.9]), "t = 2 is 0.9 after 0.9"),
        (lambda: S.from_alpha_bar([0.9, 0.0]), "above 0"),
        (lambda: S.make_schedule("cosinus"), "Did you mean 'cosine'"),
        (lambda: S.make_schedule("linear", 0), "T is 0"),
        (lambda: S.sigmoid(10, start=1, end=0), "start < end"),
        (lambda: S.sigmoid(10, tau=0), "tau"),
        (lambda: S.make_times(10, 11), "1..10 steps"),
        (lambda: S.make_times(10, 0), "steps is 0"),
        (lambda: S.make_times(10, 2, "trailling"), "Did you mean 'trailing'"),
        (lambda: S.make_times(10, 1, "leading"), "trailing"),
        (lambda: respacing.respace(S.linear_ho(10), [5, 3]), "fall to 0"),
        (lambda: respacing.respace(S.linear_ho(10), [11, 3, 0]), "0..10"),
        (lambda: respacing.zero_terminal_snr(S.linear_ho(1)), "T >= 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
