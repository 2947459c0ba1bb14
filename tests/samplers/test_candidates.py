"""Candidates: how one of several steps is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from ddpm import oracle
from ddpm.contracts import Partial
from ddpm.forward import q_sample
from ddpm.sample import walk
from ddpm.samplers import choose, exact_step
from ddpm.schedule import linear
from ddpm.tools import keys


def coin(key, x_t, t, s):
    return jnp.where(keys.normal_like(key, x_t) > 0, 1.0, -1.0)


def value(x_s, s, c=None):
    return 1.5 * x_s[:, 0]


@pytest.mark.parametrize("many", [1, 2, 3])
def test_a_candidate_is_kept_in_proportion_to_its_exponential_value(many):
    """P(+1) = Σ_k P(k of M are +1) k e^v/(k e^v + (M-k) e^-v), for a fair coin"""
    n = 40_000
    x = choose(coin, value, many)(jax.random.key(0), jnp.zeros((n, 1)), jnp.asarray(2), jnp.asarray(1))
    up, ways = np.exp(1.5), [1, *np.cumprod([(many - k) / (k + 1) for k in range(many)])]
    p = sum(w * 0.5**many * k * up / (k * up + (many - k) / up) for k, w in enumerate(ways))
    assert abs(np.mean(np.asarray(x) > 0) - p) < 4 * np.sqrt(0.25 / n)


def test_with_a_large_scale_it_is_the_best_and_images_do_not_depend_on_their_batch():
    step = Partial(lambda key, x_t, t, s: x_t + keys.normal_like(key, x_t))
    key, x = keys.of_images(jax.random.key(3), np.arange(5)), jnp.zeros((5, 1))
    best = choose(step, value, 6, scale=1e6)(key, x, jnp.asarray(2), jnp.asarray(1))
    key_step, _ = keys.split(key)
    all_six = jnp.stack([step(keys.fold_in(key_step, i), x, 2, 1) for i in range(6)])
    np.testing.assert_array_equal(best, all_six.max(0))
    alone = choose(step, value, 6, scale=1e6)(key[2:3], x[:1], jnp.asarray(2), jnp.asarray(1))
    np.testing.assert_array_equal(alone, best[2:3])
    with pytest.raises(ValueError, match="many is 0"):
        choose(step, value, 0)


def test_three_exact_steps_give_the_data_and_one_gives_its_conditional_moments():
    """From x_T ~ p_T: mean and covariance of the mixture, its share on the right; nothing is lost by large steps."""
    n, schedule = 40_000, linear()
    cov = np.array([[0.5, 0.3], [0.3, 0.4]])
    data = oracle.mixture([[1.0, 0.5], [-1.0, 0.0]], [cov, 0.1 * np.eye(2)], [0.3, 0.7])
    x0, _ = data.sample(jax.random.key(0), n)
    x_T = q_sample(schedule, x0, 800, jax.random.normal(jax.random.key(1), x0.shape))
    x = np.asarray(walk(exact_step(data, schedule), jax.random.key(2), x_T, [800, 400, 100, 0]))
    mean = 0.3 * np.array([1.0, 0.5]) + 0.7 * np.array([-1.0, 0.0])
    second = 0.3 * (cov + np.outer([1, 0.5], [1, 0.5])) + 0.7 * (0.1 * np.eye(2) + np.outer([-1, 0], [-1, 0]))
    np.testing.assert_allclose(x.mean(0), mean, atol=4 * np.sqrt(1.4 / n))
    np.testing.assert_allclose(x.T @ x / n, second, atol=4 * 1.6 / np.sqrt(n))
    right = x[:, 0] > 0.35
    exact = 0.3 * norm.sf(0.35, 1, np.sqrt(0.5)) + 0.7 * norm.sf(0.35, -1, np.sqrt(0.1))
    assert abs(right.mean() - exact) < 4 * np.sqrt(exact / n)
