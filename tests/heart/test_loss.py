"""The training loss against the oracle's known floor, and the draws of times and labels against their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import loss as L
from ddpm import oracle
from ddpm.schedule import linear


def test_squared_error_is_that_of_the_noise_in_x_t(x64):
    """A denoiser that knows x0 makes no error; one that always predicts 0 makes ε²."""
    schedule, (x0, noise) = linear(), jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 1))
    t = jnp.array([1, 400, 1000])

    def knows(x_t, t, c):
        a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
        return (x_t - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a)

    np.testing.assert_allclose(L.squared_error(knows, schedule, x0, t, noise), 0, atol=1e-20)
    zero = L.squared_error(lambda x, t, c: jnp.zeros_like(x), schedule, x0, t, noise)
    np.testing.assert_allclose(zero, noise**2, rtol=1e-12)


def test_the_label_reaches_the_denoiser(x64):
    schedule, x = linear(), jnp.zeros((2, 1))
    says_c = L.squared_error(lambda x, t, c: c[:, None] * 1.0, schedule, x, jnp.array([3, 4]), x, jnp.array([2, 5]))
    np.testing.assert_array_equal(says_c.ravel(), [4, 25])


def test_simple_loss_of_the_oracle_is_the_floor():
    """On N(0, 1) the best loss is mean_t ᾱ_t = .2755 at T = 1000; within three standard errors."""
    schedule, m = linear(), oracle.gaussian([0.0], 1.0)
    x0 = jax.random.normal(jax.random.key(1), (200_000, 1))
    loss = L.simple_loss(m.eps(schedule), schedule, jax.random.key(2), x0)
    # The loss of one draw at t is ᾱ_t times a chi-square of one degree: variance 3 E ᾱ² - (E ᾱ)², below .6.
    assert loss == pytest.approx(0.275513, abs=3 * np.sqrt(0.6 / 200_000))


def test_two_classes_differ_by_the_likelihood_ratio(x64):
    """N(±1, .25): E over (t, ε) of L(x, -) - L(x, +) is .128801 times log p(x | +)/p(x | -): LDA."""
    schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
    nodes, weights = np.array([-np.sqrt(3), 0, np.sqrt(3)]), np.array([1, 4, 1]) / 6  # exact for squares
    t = jnp.tile(jnp.arange(1, 1001), 3)
    noise = jnp.repeat(jnp.asarray(nodes), 1000)[:, None]
    w = np.repeat(weights, 1000) / 1000
    eps = m.eps(schedule)
    for x in (-0.4, 0.3, 2.0):
        x0 = jnp.full((3000, 1), x)
        plus, minus = (L.squared_error(eps, schedule, x0, t, noise, jnp.full(3000, k)).ravel() for k in (0, 1))
        log_ratio = ((x + 1) ** 2 - (x - 1) ** 2) / (2 * 0.25)
        assert float(w @ (minus - plus)) / log_ratio == pytest.approx(0.128801, rel=1e-5)


TYPICALITY = [(-1, -0.911113, -1.252258), (0, -0.047150, -0.107642), (0.5, 0.088724, 0.126811), (1, 0.119299, 0.195315)]


def test_typicality_against_the_mixture(x64):
    """E[L(x, ∅) - L(x, c)] for N(±1, .25), by Gauss-Hermite quadrature of the noise; t in 1..T or in .1T < t <= .7T."""
    schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    t = jnp.repeat(jnp.arange(1, 1001), 60)
    noise = jnp.tile(jnp.asarray(nodes), 1000)[:, None]

    @jax.jit
    def difference(x0):
        of = [L.squared_error(m.eps(schedule), schedule, x0, t, noise, c) for c in (None, jnp.zeros(60_000, int))]
        return of[0] - of[1]

    for x, uniform, middle in TYPICALITY:
        by_time = difference(jnp.full((60_000, 1), float(x))).reshape(1000, 60) @ weights / weights.sum()
        assert by_time.mean() == pytest.approx(uniform, abs=1e-5)
        assert by_time[100:700].mean() == pytest.approx(middle, abs=1e-5)  # t = 101..700 of 1..1000


def test_uniform_times_cover_one_to_T():
    t = L.uniform_times(jax.random.key(0), 4000, 5)
    counts = np.bincount(t, minlength=6)
    assert counts[0] == 0 and len(counts) == 6
    np.testing.assert_allclose(counts[1:] / 4000, 0.2, atol=4 * np.sqrt(0.16 / 4000))


@pytest.mark.parametrize("B", [1, 7, 10, 64])
def test_stratified_times_are_uniform_and_evenly_spread(B):
    """Marginally uniform; within one draw, B = T times hit every time exactly once."""
    keys = jax.random.split(jax.random.key(0), 4000 // B)
    t = np.asarray(jax.vmap(lambda key: L.stratified_times(key, B, 10))(keys))
    counts = np.bincount(t.ravel(), minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    np.testing.assert_allclose(counts[1:] / t.size, 0.1, atol=4 * np.sqrt(0.09 / t.size))
    if B == 10:
        np.testing.assert_array_equal(np.sort(t, axis=1), np.tile(np.arange(1, 11), (len(t), 1)))


def test_stratified_times_make_the_mean_less_noisy():
    loss = 1.0 / np.arange(1, 1001)  # a loss that varies much with t
    keys = jax.random.split(jax.random.key(0), 300)
    means = [
        loss[np.asarray(jax.vmap(lambda key, f=f: f(key, 64, 1000))(keys)) - 1].mean(1)
        for f in (L.uniform_times, L.stratified_times)
    ]
    assert means[1].var() < 0.5 * means[0].var()
    assert means[1].mean() == pytest.approx(loss.mean(), abs=4 * means[1].std() / np.sqrt(300))


def test_labels_are_dropped_at_the_given_rate():
    c = jnp.arange(20_000) % 10
    dropped = L.drop_labels(jax.random.key(0), c, 10, 0.1)
    assert (dropped == 10).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 20_000))
    np.testing.assert_array_equal(dropped[dropped != 10], c[dropped != 10])
    np.testing.assert_array_equal(L.drop_labels(jax.random.key(0), c, 10, 0.0), c)
    assert (L.drop_labels(jax.random.key(0), c, 10, 1.0) == 10).all()


def test_per_image_is_the_mean_over_pixels():
    a = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    np.testing.assert_allclose(L.per_image(jnp.asarray(a)), a.mean((1, 2, 3)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(L.per_image(jnp.arange(3.0)), [0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, s, x: L.squared_error(e, s, x, jnp.array([0, 1]), x), ValueError, "outside 1..1000"),
        (lambda e, s, x: L.squared_error(e, s, x, jnp.array([1, 2, 3]), x), ValueError, "2 images"),
        (lambda e, s, x: L.squared_error(e, s, x, jnp.array([1, 2]), x[:1]), ValueError, "must be equal"),
        (lambda e, s, x: L.drop_labels(jax.random.key(0), jnp.array([1]), 2, 1.5), ValueError, "rate is 1.5"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(oracle.gaussian([0.0], 1.0).eps(linear()), linear(), jnp.zeros((2, 1)))
