"""Typicality against its closed form on mixtures, and the properties that make it a measure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import typicality
from ddpm.contracts import Partial
from ddpm.losses.weighting import vlb
from ddpm.oracle import mixture
from ddpm.schedule import linear
from ddpm.typicality import Draws, draws_for, time_window

SCHEDULE = linear(1000)
TWO = mixture([[1.0], [-1.0]], 0.25)
EPS = TWO.eps(SCHEDULE)


def exact(x0, t_range):
    """T(x0 | +1) of two Gaussians ±1 with variance .25, by Gauss-Hermite quadrature over ε in float64."""
    z, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    ab = np.asarray(SCHEDULE.alpha_bar, np.float64)[slice(*time_window(1000, t_range))][:, None]
    x_t = np.sqrt(ab) * x0 + np.sqrt(1 - ab) * z
    var = ab * 0.25 + 1 - ab
    eps_of = {m: np.sqrt(1 - ab) * (x_t - np.sqrt(ab) * m) / var for m in (1, -1)}
    r = 1 / (1 + np.exp(-2 * np.sqrt(ab) * x_t / var))  # p(+1 | x_t)
    eps_null = r * eps_of[1] + (1 - r) * eps_of[-1]
    return float((((z - eps_null) ** 2 - (z - eps_of[1]) ** 2) @ w).mean())


@pytest.mark.parametrize(
    "t_range, values",
    [
        ((0.0, 1.0), [-0.911113, -0.047150, 0.088724, 0.119299, 0.130225]),
        ((0.1, 0.7), [-1.252258, -0.107642, 0.126811, 0.195315, 0.214800]),
    ],
)
def test_mixture_of_two(t_range, values):
    x0 = np.array([[-1.0], [0.0], [0.5], [1.0], [2.0]], np.float32)
    np.testing.assert_allclose([exact(x, t_range) for x in x0[:, 0]], values, atol=1e-4)
    T = typicality.measure(EPS, SCHEDULE, x0, 0, jax.random.key(0), Draws(20_000, t_range))
    assert np.all(np.abs(T.value - values) < 4 * T.stderr)
    assert np.all(T.stderr < 0.02) and np.all(T.stderr > 0)


def test_sign_and_contrast():
    """Typical of its own class, not of the other; the contrast of two classes changes sign with their order."""
    x0, key = np.array([[1.0], [-1.0]], np.float32), jax.random.key(1)
    own = typicality.measure(EPS, SCHEDULE, x0, np.array([0, 1]), key)
    other = typicality.measure(EPS, SCHEDULE, x0, np.array([1, 0]), key)
    assert np.all(own.value > 0) and np.all(other.value < 0)
    a = typicality.measure(EPS, SCHEDULE, x0, 0, key, null=1)
    b = typicality.measure(EPS, SCHEDULE, x0, 1, key, null=0)
    np.testing.assert_allclose(a.value, -b.value, rtol=1e-5)
    np.testing.assert_allclose(a.value, [own.value[0] - other.value[0], other.value[1] - own.value[1]], rtol=1e-3)


def test_a_class_that_says_nothing_has_measure_zero():
    same = mixture([[0.3], [0.3]], 0.25).eps(SCHEDULE)
    T = typicality.measure(same, SCHEDULE, np.array([[0.1], [0.9]], np.float32), 0, jax.random.key(0))
    np.testing.assert_allclose(T.value, 0, atol=1e-6)


@pytest.mark.slow
def test_shared_noise_is_what_makes_it_quiet():
    """Two Gaussians in 784 dimensions, var .348, squared distance 24.7: 25.7 times the variance unpaired at t = 300."""
    D, m = 784, np.zeros((2, 784))
    m[0, 0] = np.sqrt(24.7)
    far = mixture(m, 0.348).eps(SCHEDULE)
    x0 = m[:1].astype(np.float32) + np.random.default_rng(0).normal(0, 0.348**0.5, (64, D)).astype(np.float32)
    args = (far, SCHEDULE, x0, 0, jax.random.key(0))
    apart, paired = (
        typicality.measure(*args, Draws(200, (0.3, 0.301), paired=paired), null=1).stderr for paired in (False, True)
    )
    ratio = (apart**2 / paired**2).mean()
    assert ratio == pytest.approx(25.7, rel=0.25)


def test_an_image_does_not_depend_on_its_neighbours():
    x0 = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    whole = typicality.measure(EPS, SCHEDULE, x0, 0, jax.random.key(3), Draws(20))
    parts = typicality.measure(EPS, SCHEDULE, x0, 0, jax.random.key(3), Draws(20), batch=3)
    np.testing.assert_allclose(whole.value, parts.value, rtol=1e-4)
    assert whole.value.shape == parts.map.shape[:1] == (7,)


def pixel_eps(x_t, t, c):
    """Knows the class only in the left half: predicts 0 without it and a bit of the noise with it."""
    known = jnp.zeros_like(x_t).at[:, :, :2].set(0.5 * x_t[:, :, :2])
    return known if c is not None else jnp.zeros_like(x_t)


def test_the_map_says_where_and_its_mean_is_the_value():
    x0 = np.zeros((2, 4, 4, 3), np.float32)
    T = typicality.measure(Partial(pixel_eps), SCHEDULE, x0, 0, jax.random.key(0), Draws(t_range=(0.6, 1.0)))
    np.testing.assert_allclose(T.map.mean((1, 2)), T.value, rtol=1e-4)
    assert np.all(T.map[:, :, :2] > 0) and np.all(np.abs(T.map[:, :, 2:]) < 1e-6)


def test_weights_multiply():
    x0, key = np.array([[0.4]], np.float32), jax.random.key(0)
    once = typicality.measure(EPS, SCHEDULE, x0, 0, key)
    thrice = typicality.measure(EPS, SCHEDULE, x0, 0, key, Draws(weight=np.full(1001, 3.0)))
    np.testing.assert_allclose(thrice.value, 3 * once.value, rtol=1e-5)


def test_the_planner_hits_its_standard_error():
    x0, key = np.linspace(-1, 1, 9, dtype=np.float32)[:, None], jax.random.key(0)
    pilot = typicality.measure(EPS, SCHEDULE, x0, 0, key, Draws(400))
    wanted = float(np.median(pilot.stderr)) / 2
    n = draws_for(pilot, 400, wanted)
    assert n == pytest.approx(1600, abs=1)
    assert np.median(typicality.measure(EPS, SCHEDULE, x0, 0, key, Draws(n)).stderr) == pytest.approx(wanted, rel=0.2)


def test_changing_weights_and_schedule_does_not_compile_again():
    from ddpm.schedule import cosine
    from ddpm.typicality import _measure

    x0, key = np.zeros((3, 1), np.float32), jax.random.key(0)
    typicality.measure(EPS, SCHEDULE, x0, 0, key, Draws(3))
    before = _measure._cache_size()
    other = cosine(1000)
    typicality.measure(mixture([[2.0], [-2.0]], 0.5).eps(other), other, x0, 1, jax.random.key(9), Draws(3, (0.2, 0.9)))
    assert _measure._cache_size() == before


@pytest.mark.parametrize(
    "change, words",
    [
        ({"draws": Draws(t_range=(0.5, 0.5))}, "t_range"),
        ({"draws": Draws(t_range=(0.5, 0.5001))}, "holds no time"),
        ({"draws": Draws(t_range=(-0.1, 0.5))}, "t_range"),
        ({"draws": Draws(1)}, "draws"),
        ({"c": -1}, "c is"),
        ({"c": np.array([0, 1, 0])}, "one for each"),
        ({"draws": Draws(weight=np.ones(3))}, "weight has shape"),
        ({"x0": np.full((1, 4, 4, 1), 200.0)}, r"outside \[-1, 1\]"),
        ({"x0": np.zeros((0, 4, 4, 1), np.float32)}, "give a batch of images"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_refusals(change, words):
    args = {"x0": np.zeros((2, 1), np.float32), "c": 0} | change
    with pytest.raises(ValueError, match=words):
        typicality.measure(EPS, SCHEDULE, args.pop("x0"), args.pop("c"), jax.random.key(0), **args)


@pytest.mark.parametrize("x0, log_ratio, discrete", [(0.5, 0.674997, 0.684064), (1.0, 0.692812, 0.697803)])
def test_with_the_weights_of_the_bound_it_is_the_log_likelihood_ratio(x0, log_ratio, discrete):
    """½ Σ_t (SNR_{t-1}/SNR_t - 1) (L_∅ - L_c) is log p(x|c) - log p(x), but for the steps' length; t = 1 apart."""
    ab = np.asarray(SCHEDULE.alpha_bar, np.float64)
    snr = ab[1:] / (1 - ab[1:])  # t = 1…T
    weight = 1000 * vlb(SCHEDULE)  # times T: `typicality` takes the mean over t
    np.testing.assert_allclose(weight[2:], 500 * (snr[:-1] / snr[1:] - 1), rtol=2e-3)
    p = np.exp(-2 * (x0 - np.array([1.0, -1.0])) ** 2)
    assert np.log(p[0] / p.mean()) == pytest.approx(log_ratio, abs=1e-6)
    x = np.full((1, 1), x0, np.float32)
    T = typicality.measure(EPS, SCHEDULE, x, 0, jax.random.key(5), Draws(40_000, (0, 1), weight))
    assert abs(T.value[0] - discrete) < 4 * T.stderr[0] and T.stderr[0] < 0.04
    assert discrete == pytest.approx(log_ratio, rel=0.02)


def test_contrast_maps_are_differences_of_maps():
    """T(x|a) - T(x|b) in each pixel: the ∅ terms of the two maps, of the same draws, cancel."""

    def labelled(x_t, t, c):
        gain = 0.1 if c is None else 0.2 + 0.1 * c.astype(jnp.float32)[:, None, None, None]
        return gain * x_t

    x0 = np.random.default_rng(0).uniform(-1, 1, (3, 4, 4, 2)).astype(np.float32)
    a, b, contrast = (
        typicality.measure(Partial(labelled), SCHEDULE, x0, c, jax.random.key(0), Draws(10), null=null).map
        for c, null in ((2, None), (1, None), (2, 1))
    )
    np.testing.assert_allclose(contrast, a - b, atol=1e-6)
    assert np.abs(contrast).max() > 1e-3
