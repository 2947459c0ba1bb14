"""The four variances of the reverse step, on Gaussians where the right one is known."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact import affine, output_var

from ddpm import oracle
from ddpm.sample import ddim_step, ddpm_step, make_variance
from ddpm.samplers.variance import eps_half, learned, noise_power, optimal, v_half
from ddpm.schedule import cosine, linear, make_times

X = jnp.zeros((1, 1))


def gamma(schedule, lam):
    """E ε*² on N(0, λ): (1-ᾱ)/(ᾱλ+1-ᾱ)."""
    a = schedule.alpha_bar
    return (1 - a) / (a * lam + 1 - a)


@pytest.mark.parametrize("lam", [0.01, 0.25, 1.0, 3.0])
def test_optimal_keeps_every_gaussian(x64, lam):
    """a² Var(x_t) + σ*² = Var(x_s) for every λ, jump and even the last step: no other variance does that."""
    schedule = linear()
    eps, variance = oracle.gaussian([0.0], lam).eps(schedule), optimal(gamma(schedule, lam))
    step = ddpm_step(eps, schedule, variance=variance)
    for t, s in [(1000, 999), (1000, 100), (300, 20), (2, 1)]:
        a, sigma = affine(step, t, s)
        var_t, var_s = (float(schedule.alpha_bar[k]) * lam + 1 - float(schedule.alpha_bar[k]) for k in (t, s))
        assert a[0] ** 2 * var_t + sigma[0] ** 2 == pytest.approx(var_s, abs=1e-9)
    for t in (1, 400):  # s = 0: the gain is that of E[x0 | x_t], and σ*² the posterior variance of x0
        a, sigma = affine(step, t, 0)
        assert sigma[0] == 0  # a sampler leaves it away
        var_t = float(schedule.alpha_bar[t]) * lam + 1 - float(schedule.alpha_bar[t])
        assert a[0] ** 2 * var_t + variance(schedule, X, t, 0) == pytest.approx(lam, abs=1e-9)


def test_noise_power_of_a_gaussian():
    schedule, lam = linear(), 0.25
    x0 = 0.5 * jax.random.normal(jax.random.key(0), (40_000, 1))
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    measured = noise_power(eps, schedule, jax.random.key(1), x0, times=[1, 50, 300, 1000])
    exact = gamma(schedule, lam)
    for t in (1, 50, 300, 1000):  # the mean of 40,000 chi-squares of one degree
        assert measured[t] == pytest.approx(float(exact[t]), rel=4 * np.sqrt(2 / 40_000))
    assert measured[0] == 0 and measured.shape == (1001,)


def test_learned_lies_between_the_two(x64):
    """v = -1 is β̃, v = 1 is β, v = 0 their geometric mean, pixel by pixel.   [Nichol and Dhariwal 2021, Eq. 15]"""
    schedule, x = cosine(), jnp.zeros((2, 3))
    small, large = make_variance("fixed_small"), make_variance("fixed_large")
    v = jnp.array([-1.0, 0.0, 1.0])
    variance = learned(lambda x, t, c: jnp.broadcast_to(v, x.shape))
    for t, s in [(2, 1), (500, 400), (1000, 999)]:
        low, high = small(schedule, x, t, s), large(schedule, x, t, s)
        np.testing.assert_allclose(variance(schedule, x, t, s)[0], [low, jnp.sqrt(low * high), high], rtol=1e-10)
    step = ddpm_step(lambda x, t, c: x * 0, schedule, variance=variance)
    plain = ddpm_step(lambda x, t, c: x * 0, schedule, variance="fixed_large")
    key = jax.random.key(0)
    np.testing.assert_allclose(step(key, x, 500, 499)[:, 2], plain(key, x, 500, 499)[:, 2], rtol=1e-9)
    np.testing.assert_array_equal(step(key, x, 5, 0), step(jax.random.key(1), x, 5, 0))


def test_the_first_log_variance_is_the_second(x64):
    """At s = 0 β̃ of 2 → 1: log -9.817 (linear), -10.734 (cosine), as in the released code of Ho et al."""
    for schedule, log in [(linear(), -9.817), (cosine(), -10.734)]:
        for name in ("fixed_small", "fixed_large"):
            variance = make_variance(name)
            assert np.log(variance(schedule, X, 1, 0)) == pytest.approx(log, abs=1e-3)
        assert make_variance("fixed_small")(schedule, X, 1, 0) == make_variance("fixed_small")(schedule, X, 2, 1)
    both = make_variance("fixed_large")(schedule, jnp.zeros((2, 1)), jnp.array([1, 700]), jnp.array([0, 699]))
    assert both.shape == (2, 1) and both[1, 0] == pytest.approx(float(schedule.beta[700]), rel=1e-9)


def test_two_halves_of_a_network_are_one_call():
    """ε and v are two callables, and one network in the compiled program: as many matrix products as one call has."""
    w = jax.random.normal(jax.random.key(0), (4, 8))

    def net(x, t, c):
        return jnp.tanh(x @ w)

    x, t = jnp.ones((2, 4)), jnp.ones(2, jnp.int32)
    whole = net(x, t, None)
    np.testing.assert_array_equal(eps_half(net)(x, t, None), whole[:, :4])
    np.testing.assert_array_equal(v_half(net)(x, t, None), whole[:, 4:])
    step = jax.jit(ddpm_step(eps_half(net), linear(), variance=learned(v_half(net))))
    text = step.lower(jax.random.key(0), x, jnp.int32(5), jnp.int32(4)).compile().as_text()
    once = jax.jit(net).lower(x, t, None).compile().as_text()
    assert text.count("tanh(") == once.count("tanh(") and text.count(" dot(") == once.count(" dot(")


def test_noise_left_before_the_last_step(x64):
    """σ̂ (fixed_large with DDIM's list) leaves √(1 - ᾱ_τ2/ᾱ_τ1) at τ1: why FID is 367 at S = 10.   [DDIM, Table 1]"""
    for S, std in [(10, 0.3237), (20, 0.1731), (50, 0.0785), (100, 0.0458), (1000, 0.0110)]:
        t, s = (int(k) for k in make_times(1000, S, "leading")[-3:-1])
        assert np.sqrt(make_variance("fixed_large")(linear(), X, t, s)) == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize(("S", "std"), [(10, 0.58903), (20, 0.54406), (50, 0.51723)])
def test_sigma_hat_of_ddim(x64, S, std):
    """DDIM's σ̂ row: the mean of η = 1 with the larger noise; N(0, .25) comes out too wide."""
    schedule, times = linear(), make_times(1000, S, "leading")
    eps = oracle.gaussian([0.0], 0.25).eps(schedule)
    var = 1.0
    for t, s in pairwise(times):
        a, _ = affine(ddim_step(eps, schedule, eta=1.0), int(t), int(s))
        noise = 0 if s == 0 else float(make_variance("fixed_large")(schedule, X, int(t), int(s)))
        var = float(a[0]) ** 2 * var + noise
    assert np.sqrt(var) == pytest.approx(std, abs=1e-5)
    assert var == pytest.approx(
        float(output_var(lambda e, s: ddpm_step(e, s, variance="fixed_large"), schedule, 0.25, times)[0]), abs=1e-9
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: make_variance("learnt"), "Known: fixed_small"),
        (lambda s: optimal([-1.0]), "gamma"),
        (lambda s: optimal(jnp.ones(5))(s, X, 3, 2), "each time 0..1000"),
        (lambda s: eps_half(lambda x, t, c: x)(X, jnp.array([1]), None), "wants 2"),
        (lambda s: noise_power(lambda x, t, c: x, s, jax.random.key(0), X, times=[0, 5]), "outside 1..1000"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(linear())
