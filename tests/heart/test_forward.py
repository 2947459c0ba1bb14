"""The forward process against the chain of single steps, Bayes' rule, and the cycles of the four parameterisations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import forward as F
from ddpm.networks import heads
from ddpm.schedule import cosine, linear


def draws(seed, shape=(3, 2, 2, 1)):
    keys = jax.random.split(jax.random.key(seed), 3)
    return [jax.random.normal(key, shape, dtype=float) for key in keys]


def test_composed_single_steps_have_the_law_of_one_jump(x64):
    """x_t = a x_s + (noise of variance v), accumulated from s to t with β alone, is q_step's a and v."""
    schedule, x, z = linear(), jnp.ones((1, 1)), jnp.zeros((1, 1))
    for s, t in [(0, 1), (0, 1000), (100, 400)]:
        a, v = 1.0, 0.0
        for beta in np.asarray(schedule.beta)[s + 1 : t + 1]:
            a, v = a * np.sqrt(1 - beta), (1 - beta) * v + beta
        assert F.q_step(schedule, x, s, t, z)[0, 0] == pytest.approx(a, rel=1e-10)
        assert F.q_step(schedule, z, s, t, x)[0, 0] ** 2 == pytest.approx(v, rel=1e-9)
    np.testing.assert_allclose(F.q_sample(schedule, x, 700, x), F.q_step(schedule, x, 0, 700, x), rtol=1e-12)


def test_posterior_is_bayes_rule(x64):
    """q(x_s | x_t, x0) ∝ q(x_t | x_s) q(x_s | x0): precisions add, and so do precision-weighted means."""
    schedule, (x_t, x0, _) = cosine(), draws(0)
    for s, t in [(1, 2), (99, 100), (300, 800), (499, 500)]:
        a_s, a_t = float(schedule.alpha_bar[s]), float(schedule.alpha_bar[t])
        precision = (a_t / a_s) / (1 - a_t / a_s) + 1 / (1 - a_s)
        mean = (np.sqrt(a_t / a_s) / (1 - a_t / a_s) * x_t + np.sqrt(a_s) / (1 - a_s) * x0) / precision
        ours, var = F.q_posterior(schedule, x_t, x0, t, s)
        np.testing.assert_allclose(ours, mean, rtol=1e-9, atol=1e-12)
        assert var == pytest.approx(1 / precision, rel=1e-9)


def test_posterior_at_the_last_step_is_x0(x64):
    schedule, (x_t, x0, _) = linear(), draws(1)
    mean, var = F.q_posterior(schedule, x_t, x0, jnp.array([1, 5, 1000]), jnp.array([0, 0, 0]))
    np.testing.assert_allclose(mean, x0, atol=1e-15)
    np.testing.assert_array_equal(var, 0)


def test_the_two_variances_of_ho(x64):
    """β̃/β of single steps.   [Nichol and Dhariwal 2021, Fig. 2]"""

    def ratio(schedule):
        x = jnp.zeros((schedule.T, 1))
        t = jnp.arange(1, schedule.T + 1)
        return np.append(0, F.q_posterior(schedule, x, x, t, t - 1)[1].ravel()) / np.maximum(schedule.beta, 1e-300)

    r = ratio(linear())
    assert r[1] == 0 and r[2] == pytest.approx(0.454736, rel=1e-5) and r[10] == pytest.approx(0.852845, rel=1e-5)
    assert np.argmax(r > 0.99) == 168
    r = ratio(cosine())
    assert r[2] == pytest.approx(0.472229, rel=1e-5) and np.argmax(r > 0.99) == 186
    assert ratio(cosine(100))[2] == pytest.approx(0.361246, rel=1e-5)
    r = ratio(cosine(4000))
    assert r[2] == pytest.approx(0.492426, rel=1e-5) and r[10] == pytest.approx(0.887842, rel=1e-5)


@pytest.mark.parametrize("t", [1, 10, 500, 990])
def test_all_names_of_one_prediction_agree(x64, t):
    """From the truth (x0, ε), every conversion gives back the others, in every order."""
    schedule, (x0, eps, _) = cosine(), draws(2)
    x_t = F.q_sample(schedule, x0, t, eps)
    alpha, sigma = np.sqrt(schedule.alpha_bar[t]), np.sqrt(1 - schedule.alpha_bar[t])
    truth = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "score": -(x_t - alpha * x0) / sigma**2}
    for a, b in itertools.permutations(truth, 2):
        convert = getattr(F, f"{b}_from_{a}", None) or getattr(heads, f"{b}_from_{a}", None)
        if convert is None:  # v <-> score goes by way of ε
            assert {a, b} == {"v", "score"} or (a, b) == ("x0", "score")
            continue
        args = (schedule, t, truth[a]) if "score" in (a, b) and "x0" not in (a, b) else (schedule, x_t, t, truth[a])
        np.testing.assert_allclose(convert(*args), truth[b], rtol=1e-7, atol=1e-9)


def test_v_is_the_angle_derivative(x64):
    """x_φ = cos φ x0 + sin φ ε; v = dx_φ/dφ.   [Salimans and Ho 2022, App. D]"""
    schedule, (x0, eps, _) = linear(), draws(3)
    phi = float(jnp.arccos(jnp.sqrt(schedule.alpha_bar[400])))
    _, v = jax.jvp(lambda p: jnp.cos(p) * x0 + jnp.sin(p) * eps, (phi,), (1.0,))
    x_t = F.q_sample(schedule, x0, 400, eps)
    np.testing.assert_allclose(heads.v_from_eps(schedule, x_t, 400, eps), v, atol=1e-12)


def test_one_time_for_each_image():
    schedule, (x0, eps, _) = linear(), draws(4)
    t = jnp.array([1, 500, 1000])
    together = F.q_sample(schedule, x0, t, eps)
    for i in range(3):
        np.testing.assert_array_equal(together[i], F.q_sample(schedule, x0[i : i + 1], int(t[i]), eps[i : i + 1])[0])


def test_float32_stays_near_float64():
    """1-ᾱ_t/ᾱ_s of neighbours is a difference of numbers near 1: 6e-8 / β, so 1.2e-3 of β at t = 2 and 1e-5 late."""
    schedule, (x_t, x0, _) = linear(), draws(5)
    with jax.enable_x64(True):
        schedule64 = linear()
        exact = {t: F.q_posterior(schedule64, jnp.float64(x_t), jnp.float64(x0), t, t - 1) for t in (2, 100, 1000)}
    for (t, (mean, var)), tolerance in zip(exact.items(), (4e-3, 1e-4, 1e-5), strict=True):
        ours, our_var = F.q_posterior(schedule, x_t, x0, t, t - 1)
        np.testing.assert_allclose(our_var, var, rtol=tolerance)
        np.testing.assert_allclose(ours, mean, atol=tolerance)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s, x: F.q_sample(s, x, 1001, x), ValueError, "1001"),
        (lambda s, x: F.q_sample(s, x, -1, x), ValueError, "-1"),
        (lambda s, x: F.q_sample(s, x, 0.5, x), TypeError, "integers"),
        (lambda s, x: F.q_sample(s, x, jnp.array([1, 2]), x), ValueError, "3 images"),
        (lambda s, x: F.q_sample(s, x, 1, x[:1]), ValueError, "must be equal"),
        (lambda s, x: F.q_step(s, x, 5, 4, x), ValueError, "s <= t"),
        (lambda s, x: F.q_posterior(s, x, x, 5, 5), ValueError, "s < t"),
        (lambda s, x: F.q_posterior(s, x, x[:2], 5, 4), ValueError, "must be equal"),
        (lambda s, x: F.x0_from_eps(s, x, 1001, x), ValueError, "1001"),
        (lambda s, x: F.score_from_eps(s, -1, x), ValueError, "-1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(linear(), jnp.zeros((3, 2, 2, 1)))
