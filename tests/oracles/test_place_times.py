"""The denoiser with a time for each place, against densities written apart, and its walks against conditioning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ddpm import oracle
from ddpm.oracles import eps_by_place, together
from ddpm.sample import walk
from ddpm.samplers import place_step
from ddpm.schedule import linear, make_times

COV = np.array([[[1.0, 0.7, 0.2], [0.7, 0.8, 0.1], [0.2, 0.1, 0.5]], np.diag([0.3, 0.2, 0.4])])
MEAN, WEIGHT = np.array([[0.5, -0.3, 1.0], [-1.0, 0.4, 0.0]]), np.array([0.3, 0.7])


def test_it_is_the_gradient_of_the_log_density(x64):
    m, schedule, rng = oracle.mixture(MEAN, COV, WEIGHT), linear(), np.random.default_rng(0)
    x, t = rng.normal(size=(3, 3)), np.array([[0, 300, 900], [500, 0, 1], [1000, 20, 600]])
    ours, h = np.asarray(eps_by_place(m, schedule)(jnp.asarray(x), t)), 1e-5
    for i in range(3):
        alpha_bar = np.asarray(schedule.alpha_bar)[t[i]]
        A, noise = np.diag(np.sqrt(alpha_bar)), np.diag(1 - alpha_bar)

        def log_p(y, A=A, noise=noise):
            parts = [multivariate_normal(A @ mu, A @ S @ A + noise).pdf(y) for mu, S in zip(MEAN, COV, strict=True)]
            return np.log(WEIGHT @ parts)

        slope = [(log_p(x[i] + h * e) - log_p(x[i] - h * e)) / (2 * h) for e in np.eye(3)]
        np.testing.assert_allclose(ours[i], -np.sqrt(1 - alpha_bar) * slope, atol=1e-7)
    one = np.full(3, 400)
    np.testing.assert_allclose(eps_by_place(m, schedule)(x, one), m.eps(schedule)(x, 400), atol=1e-10)
    c = jnp.array([0, 1, 2])  # the last is the null label
    np.testing.assert_allclose(eps_by_place(m, schedule)(x, one, c), m.eps(schedule)(x, 400, c), atol=1e-10)


def test_walks_end_at_the_conditional_the_joint_and_the_marginal_distribution(x64):
    m, schedule, n = oracle.gaussian(np.zeros(3), COV[0]), linear(), 500
    eps, down = eps_by_place(m, schedule), make_times(1000, n)
    start = jnp.concatenate([jnp.eye(3), jnp.zeros((1, 3))])  # a walk is affine: where the unit vectors go, and 0
    given = {"one known": (down, 0), "all": (down, down), "one absent": (down, 1000)}
    gain = COV[0][:2, 2] / COV[0][2, 2]
    for name, (first, last) in given.items():
        x = start if name != "one known" else start.at[:, 2].set(1.0)
        step = place_step(eps, schedule, together((first, 2), (last, 1)))
        ends = np.asarray(walk(step, jax.random.key(0), x, np.arange(n, -1, -1)))
        M = (ends[:3] - ends[3:]).T
        mean, cov = ends[3], M @ M.T
        if name == "one known":
            np.testing.assert_allclose(mean, [*gain, 1], atol=0.01)
            np.testing.assert_allclose(cov[:2, :2], COV[0][:2, :2] - np.outer(gain, COV[0][2, :2]), atol=0.01)
        elif name == "all":
            np.testing.assert_allclose(cov, COV[0], atol=0.01)
        else:
            np.testing.assert_allclose(cov[:2, :2], COV[0][:2, :2], atol=0.01)
            assert cov[2, 2] == pytest.approx(1, abs=1e-9)  # it stays noise


def test_times_and_places_that_do_not_fit_are_refused():
    m, schedule = oracle.mixture(np.zeros((2, 2)), np.stack([np.eye(2), np.diag([1.0, 0])])), linear()
    eps = eps_by_place(m, schedule)
    with pytest.raises(ValueError, match=r"t has shape \(3,\)"):
        eps(jnp.zeros((1, 2)), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match=r"t lies in 5..1001, outside 0..1000"):
        eps(jnp.zeros((1, 2)), np.array([5, 1001]))
    with pytest.raises(ValueError, match=r"t is 0 at a place without variance, one of \[1\]"):
        eps(jnp.zeros((1, 2)), np.array([5, 0]))
    with pytest.raises(ValueError, match=r"the lists have lengths \[3, 2\]"):
        together(([3, 2, 0], 1), ([3, 0], 1))
    with pytest.raises(ValueError, match="that fall or stay"):
        place_step(eps, schedule, np.array([[3, 3], [2, 4]]))
    with pytest.raises(ValueError, match="times has 1500 steps; a chain with T = 1000 takes at most 1000"):
        place_step(eps, schedule, np.zeros((1501, 2), int))
    with pytest.raises(
        ValueError, match=r"the walk counts from 5, and times has 2 steps; walk over np.arange\(2, -1, -1\)"
    ):
        walk(
            place_step(eps, schedule, np.array([[9, 9], [5, 5], [1, 1]])),
            jax.random.key(0),
            jnp.zeros((1, 2)),
            [5, 2, 0],
        )
