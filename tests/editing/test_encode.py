"""DDIM inversion's exact error on Gaussians, and the geometry of slerp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.editing.inversion import decode, encode, slerp
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times

ROUND_TRIPS = [(10, 0.09504), (20, 0.02798), (50, 0.004977), (100, 0.001294), (200, 3.313e-4), (1000, 1.405e-5)]


@pytest.mark.parametrize(("S", "mse"), ROUND_TRIPS)
def test_encode_and_decode_error(x64, S, mse):
    """On N(0, 1) each step multiplies by cos Δθ, up and down: MSE = (1 - ∏ cos²)².   [DDIM, Table 2]"""
    schedule, times = linear(), make_times(1000, S, "leading")
    eps, x0 = oracle.gaussian([0.0], 1.0).eps(schedule), jnp.ones((1, 1))
    code = walk(ddim_step(eps, schedule), jax.random.key(0), x0, times[::-1])  # the oracle can be evaluated at t = 0
    ours = float(((decode(eps, schedule, code, times) - x0) ** 2)[0, 0])
    assert ours == pytest.approx(mse, rel=2e-3)
    angle = np.arccos(np.sqrt(np.asarray(schedule.alpha_bar)))[times]
    assert ours == pytest.approx((1 - np.prod(np.cos(np.diff(angle))) ** 2) ** 2, rel=1e-7)
    # `encode` asks at t = 1 in its place, as a network wants it: sin²θ_1 = 1e-4 in one step's gain
    assert jnp.abs(code - encode(eps, schedule, x0, times))[0, 0] == pytest.approx(1e-4, rel=0.3)


def test_constant_noise_round_trips_exactly(x64):
    """With a constant ε every step up is undone by the step down."""
    schedule, times = linear(), make_times(1000, 10)
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 4))
    eps = lambda x, t, c: noise  # noqa: E731
    code = encode(eps, schedule, x0, times)
    np.testing.assert_allclose(decode(eps, schedule, code, times), x0, atol=1e-9)
    a = schedule.alpha_bar[1000]
    np.testing.assert_allclose(code, jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise, atol=1e-9)


def test_codes_of_a_gaussian_are_its_quantiles(x64):
    """With all 1,000 steps a code is (x0 - μ)/σ: data N(.2, .25) become N(0, 1)."""
    schedule = linear()
    eps, x0 = oracle.gaussian([0.2], 0.25).eps(schedule), jnp.array([[0.2], [0.7], [-0.8]])
    code = encode(eps, schedule, x0, make_times(1000, 1000))
    np.testing.assert_allclose(code.ravel(), [0, 1, -2], atol=0.02)


def test_the_label_is_used(x64):
    schedule, times = linear(), make_times(1000, 50)
    eps, x0 = oracle.mixture([[1.0], [-1.0]], 0.1).eps(schedule), jnp.zeros((2, 1))
    code = encode(eps, schedule, x0, times, jnp.array([0, 1]))
    assert code[0, 0] < -1 and code[1, 0] > 1  # 0 lies below the one mean and above the other


@pytest.mark.parametrize("d", [784, 3072])
def test_slerp_keeps_the_length_of_codes(d):
    """rms 1.000 half way, .7071 on the straight line; the angle of two codes is 90° with deviation 1/√d."""
    a, b = jax.random.normal(jax.random.key(0), (2, 300, d))
    middle = slerp(a, b, 0.5)
    assert jnp.sqrt((middle**2).mean()) == pytest.approx(1.0, abs=2e-3)
    assert jnp.sqrt(((0.5 * (a + b)) ** 2).mean()) == pytest.approx(0.7071, abs=2e-3)
    cos = (a * b).sum(1) / jnp.sqrt((a**2).sum(1) * (b**2).sum(1))
    assert jnp.arccos(cos).std() == pytest.approx(1 / np.sqrt(d), rel=0.2)


def test_slerp_walks_the_arc_evenly(x64):
    a, b = jnp.array([[1.0, 0.0, 0.0]]), jnp.array([[0.0, 1.0, 0.0]])
    for u in (0.0, 0.25, 1.0):
        np.testing.assert_allclose(slerp(a, b, u), [[np.cos(u * np.pi / 2), np.sin(u * np.pi / 2), 0]], atol=1e-12)
    np.testing.assert_allclose(slerp(a, a, 0.3), a, atol=1e-12)
    each = slerp(a.repeat(2, 0), b.repeat(2, 0), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(each, jnp.concatenate([a, b]), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode(lambda x, t, c: x, linear(), jnp.ones((1, 1)), [0, 5]), "falling to 0"),
        (lambda: decode(lambda x, t, c: x, linear(), jnp.ones((1, 1)), [1001, 0]), "0..1000"),
        (lambda: slerp(jnp.ones((1, 2)), jnp.ones((2, 2)), 0.5), "must be equal"),
        (lambda: slerp(jnp.ones((1, 2)), jnp.ones((1, 2)), 1.5), "u is 1.5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
