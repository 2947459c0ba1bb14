"""Averages of the parameters: geometric sums, the power function's closed form, and widths made afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import train
from ddpm.tools import files
from ddpm.training import averages
from ddpm.training.config import TrainConfig


def run(decay, values, start=0.0, first=0):
    """The average after each step, by the recursion."""

    def body(average, n_value):
        n, value = n_value
        average = train.update(average, value, decay(n))
        return average, average

    n = first + jnp.arange(len(values), dtype=float)
    return jax.lax.scan(body, jnp.asarray(start), (n, jnp.asarray(values)))[1]


def test_a_fixed_decay_is_a_geometric_sum(x64):
    """From n = 90,000 on min(.9999, (1+n)/(10+n)) is .9999: of the start .9999^N is left, and a step that lies k back
    has the weight (1-d) d^k."""
    left = np.asarray(run(lambda n: train.ema_decay(n, 0.9999), np.zeros(20_000), start=1.0, first=90_000))
    np.testing.assert_allclose(left[[4999, 9999, 19_999]], [0.6065, 0.3679, 0.1353], atol=5e-5)
    values = np.random.default_rng(0).normal(size=50)
    want = 0.0001 * np.sum(values * 0.9999 ** np.arange(49, -1, -1))
    np.testing.assert_allclose(run(lambda n: train.ema_decay(n, 0.9999), values, first=90_000)[-1], want, rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_the_power_function_average_is_an_integral_over_its_profile(sigma, x64):
    """Step i has the weight (i^(γ+1) - (i-1)^(γ+1)) / N^(γ+1), the initialisation none."""
    gamma, N = averages.gamma_of(sigma), 400
    values = np.random.default_rng(1).normal(size=N)
    i = np.arange(1, N + 1)
    weight = (i / N) ** (gamma + 1) - ((i - 1) / N) ** (gamma + 1)
    got = run(lambda n: averages.power_decay(n, gamma), values, start=1e6)
    np.testing.assert_allclose(got[-1], weight @ values, rtol=1e-9)


def test_the_width_is_the_standard_deviation_of_the_profile():
    tau = (np.arange(200_000) + 0.5) / 200_000
    for sigma in (0.03, 0.1, 0.25):
        p = tau ** averages.gamma_of(sigma)
        p /= p.sum()
        assert np.sqrt(p @ tau**2 - (p @ tau) ** 2) == pytest.approx(sigma, rel=1e-3)
    with pytest.raises(ValueError, match=r"sigma is 0\.3"):
        averages.gamma_of(0.3)


def test_inner_products_of_profiles():
    tau = (np.arange(400_000) + 0.5) / 400_000 * 7
    profile = lambda t, g: np.where(tau < t, (g + 1) * tau**g / t ** (g + 1), 0)  # noqa: E731
    for a, b in (((7.0, 3.0), (7.0, 3.0)), ((3.0, 2.0), (7.0, 5.0)), ((6.0, 9.0), (2.0, 1.0))):
        assert averages.inner(*a, *b) == pytest.approx((profile(*a) * profile(*b)).mean() * 7, rel=1e-3)


def test_a_kept_profile_is_combined_from_itself_alone():
    times, gammas = [10, 20, 20], [averages.gamma_of(s) for s in (0.1, 0.1, 0.05)]
    np.testing.assert_allclose(averages.weights(times, gammas, 20, gammas[1]), [0, 1, 0], atol=1e-6)


def test_a_width_that_was_not_kept_is_made_afterwards(tmp_path):
    """θ moves along a curve; the averages of width .05 and .1 were kept eight times; .07 comes from them to 1 %."""
    N, widths = 800, (0.05, 0.1)
    theta = np.sin(np.arange(1, N + 1) / 60) + np.arange(1, N + 1) / 300
    runs = {
        s: np.asarray(run(lambda n, s=s: averages.power_decay(n, averages.gamma_of(s)), theta)) for s in (*widths, 0.07)
    }
    for step in range(100, N + 1, 100):
        kept = {f"power_{s:g}": {"w": jnp.asarray([runs[s][step - 1]])} for s in widths}
        averages.save_snapshot(tmp_path, step, {**kept, "decay_0.9": {"w": jnp.zeros(1)}})
    assert set(files.load(tmp_path / "ema" / "step_00000800")[0]) == {"power_0.05", "power_0.1"}
    for step in (N, 400):
        got, want = averages.combine(tmp_path, 0.07, step)["w"][0], runs[0.07][step - 1]
        assert abs(got - want) < 0.01 * abs(runs[0.05][step - 1] - runs[0.1][step - 1])
    with pytest.raises(ValueError, match="holds no snapshots"):
        averages.combine(tmp_path / "x", 0.07)


def test_the_names_of_the_averages_of_a_run():
    config = TrainConfig(more_ema=(0.99, 0.9999), power_ema=(0.05,))
    found = averages.decays(config)
    assert list(found) == ["decay_0.99", "decay_0.9999", "power_0.05"]
    assert float(found["decay_0.99"](jnp.float32(1e6))) == pytest.approx(0.99)
    assert float(found["power_0.05"](jnp.float32(0))) == 0
