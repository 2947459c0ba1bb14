"""The likelihood by the ODE against the density that the oracle knows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.evaluation import bits, ode_likelihood
from ddpm.schedule import cosine, linear


@pytest.mark.parametrize("make", [linear, cosine])
def test_log_prob_of_a_mixture(x64, make):
    """Two classes in the plane with full covariances: within 2e-2 nats of the exact density of x_1, given c or not.

    The last step of the cosine schedule is a factor of 30 in σ̄.
    """
    cov = np.array([[[0.5, 0.2], [0.2, 0.3]], [[0.3, -0.1], [-0.1, 0.2]]])
    m, schedule = oracle.mixture([[0.5, 0.3], [-0.6, 0.0]], cov, [0.6, 0.4]), make()
    x = jax.random.normal(jax.random.key(0), (5, 2)) * 0.8
    for c in (None, jnp.array([0, 1, 0, 1, 1])):
        ours = ode_likelihood.ode_log_prob(m.eps(schedule), schedule, x, c)
        np.testing.assert_allclose(ours, m.log_prob(schedule, x, 1, c), atol=2e-2)


@pytest.mark.slow
def test_the_error_falls_with_the_square_of_the_step(x64):
    m, x = oracle.gaussian([0.0], 0.25), jnp.array([[0.4]])
    errors = []
    for T in (100, 200, 400):
        schedule = linear(T)
        exact = m.log_prob(schedule, x, 1)
        # p_T is taken for N(0, 1): its own error, known and the same for every T, is removed
        a = schedule.alpha_bar[-1]
        x_T = float(x[0, 0] * jnp.sqrt((a * 0.25 + 1 - a) / (schedule.alpha_bar[1] * 0.25 + 1 - schedule.alpha_bar[1])))
        var = float(a * 0.25 + 1 - a)
        gap = -0.5 * x_T**2 + 0.5 * x_T**2 / var + 0.5 * np.log(var)
        errors.append(abs(float(ode_likelihood.ode_log_prob(m.eps(schedule), schedule, x)[0] - exact[0]) - gap))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.5)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("make", [linear, cosine])
def test_few_steps_are_enough(x64, make):
    """50 times, even in log σ̄, on 12 dimensions whose variances go over three decades: within .02 nats each."""
    var = np.logspace(-3, 0, 12)
    m, schedule = oracle.gaussian(np.zeros(12), np.diag(var)), make()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 12)) * np.sqrt(var)[None])
    ours = ode_likelihood.ode_log_prob(m.eps(schedule), schedule, x, times=bits.even_times(schedule, 50))
    np.testing.assert_allclose(ours / 12, m.log_prob(schedule, x, 1) / 12, atol=0.02)


def test_hutchinson_is_unbiased_and_images_keep_their_shape():
    m = oracle.gaussian(np.zeros((2, 2, 1)), np.diag([0.1, 0.2, 0.5, 1.0]) + 0.05)
    schedule, x = cosine(100), 0.3 * jnp.ones((1, 2, 2, 1))
    exact = ode_likelihood.ode_log_prob(m.eps(schedule), schedule, x)
    many = ode_likelihood.ode_log_prob(m.eps(schedule), schedule, x, key=jax.random.key(1), probes=400)
    assert exact.shape == (1,)
    assert many[0] == pytest.approx(float(exact[0]), abs=0.15)


def test_bits_of_dequantised_bytes(x64):
    """Uniform bytes under their own density, 1/2 on [-1, 1): exactly 8 bits."""
    assert ode_likelihood.density_bits_per_dim(jnp.log(0.5) * 12, 12) == pytest.approx(8)
    x = ode_likelihood.dequantise(jax.random.key(0), jnp.array([[0, 127, 255]], jnp.uint8))
    np.testing.assert_array_equal(jnp.floor((x + 1) * 128), [[0, 127, 255]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s, x: ode_likelihood.ode_log_prob(lambda x, t, c: x, s, x, times=[5, 3]), ValueError, "that rise"),
        (lambda s, x: ode_likelihood.ode_log_prob(lambda x, t, c: x, s, x, times=[0, 3]), ValueError, "1..1000"),
        (lambda s, x: ode_likelihood.ode_log_prob(lambda x, t, c: x, s, x, probes=0), ValueError, "probes"),
        (lambda s, x: ode_likelihood.dequantise(jax.random.key(0), x), TypeError, "uint8"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(linear(), jnp.ones((1, 1)))
