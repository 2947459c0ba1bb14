"""Tilted distributions and values, against Bayes at t = 0 and against quadrature at t > 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ddpm import oracle
from ddpm.guides import by_value, misfit, plug_in
from ddpm.oracles.cell_grid import cells
from ddpm.oracles.rewards import tilt_classes, tilt_linear, tilt_measured, tilt_seen, value_above, value_of
from ddpm.schedule import linear

SCHEDULE = linear()
MEAN = np.array([[0.5, -0.2], [-1.0, 0.3], [0.1, 0.8]])
COV = np.array([[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.9]], [[0.4, -0.3], [-0.3, 0.5]]])
B, A, Y, VAR = np.array([0.7, -1.2]), np.array([[1.0, 2.0]]), np.array([0.4]), 0.3
R = np.array([0.3, -0.8])


def data():
    return oracle.mixture(MEAN, COV, [0.2, 0.5, 0.3], [0, 1, 1])


def tilts():
    m = data()
    gap = lambda x: Y - x @ A.T  # noqa: E731
    normal = lambda x: -0.5 * (gap(x) ** 2).sum(1) / VAR - 0.5 * np.log(2 * np.pi * VAR)  # noqa: E731
    return [
        (tilt_linear(m, B), lambda x: x @ B),
        (tilt_measured(m, A, Y, VAR), normal),
        (tilt_classes(m, R), None),
    ]


def test_the_tilted_density_is_the_density_times_the_reward(x64):
    x = np.random.default_rng(0).normal(0, 1, (6, 2))
    for (tilted, log_Z), r in tilts():
        log_p = data().log_prob(SCHEDULE, jnp.asarray(x))
        if r is None:  # a reward of the class: p(x) Σ_c p(c | x) e^{r_c}
            gain = np.log(np.asarray(data().class_posterior(SCHEDULE, jnp.asarray(x))) @ np.exp(R))
        else:
            gain = r(x)
        np.testing.assert_allclose(tilted.log_prob(SCHEDULE, jnp.asarray(x)), log_p + gain - log_Z, rtol=1e-9)


@pytest.mark.parametrize("t", [50, 400, 900])
def test_the_value_is_the_log_mean_of_the_reward(x64, t):
    """By quadrature over x0: log Σ p(x0) q(x_t | x0) e^r / Σ p(x0) q(x_t | x0), in one dimension"""
    m = oracle.mixture([[1.0], [-0.7]], 0.25, [0.6, 0.4], [0, 1])
    grid, x_t = np.linspace(-5, 5, 40_001), jnp.array([[-1.1], [0.2], [1.6]])
    root, noise = np.sqrt(float(SCHEDULE.alpha_bar[t])), 1 - float(SCHEDULE.alpha_bar[t])
    log_w = np.asarray(m.log_prob(SCHEDULE, jnp.asarray(grid)[:, None]))
    log_w = log_w - 0.5 * (np.asarray(x_t) - root * grid) ** 2 / noise
    mean_of = lambda r: logsumexp(log_w + r, axis=1) - logsumexp(log_w, axis=1)  # noqa: E731
    for (tilted, log_Z), r in ((tilt_linear(m, [1.3]), 1.3 * grid), (tilt_measured(m, [[2.0]], [0.5], 0.4), None)):
        r = -0.5 * (0.5 - 2 * grid) ** 2 / 0.4 - 0.5 * np.log(2 * np.pi * 0.4) if r is None else r
        np.testing.assert_allclose(value_of(tilted, m, SCHEDULE, log_Z)(x_t, t), mean_of(r), rtol=1e-6)
    above = value_above(data=m, schedule=SCHEDULE, b=jnp.ones(1), level=0.4, reward=2.0)
    np.testing.assert_allclose(above(x_t, t), mean_of(2.0 * (grid > 0.4)), atol=2e-3)


def test_the_value_at_t_0_is_the_reward(x64):
    m, x = data(), jnp.array([[0.3, 0.1], [-1.0, 2.0]])
    above = value_above(data=m, schedule=SCHEDULE, b=jnp.asarray(B), level=0.0, reward=3.0)
    np.testing.assert_allclose(above(x, 0), 3.0 * (np.asarray(x) @ B > 0), atol=1e-12)
    tilted, log_Z = tilt_linear(m, B)
    np.testing.assert_allclose(value_of(tilted, m, SCHEDULE, log_Z)(x, 0), x @ B, rtol=1e-9)
    np.testing.assert_allclose(plug_in(reward=lambda x: x @ B, eps=m.eps(SCHEDULE), schedule=SCHEDULE)(x, 0), x @ B)


def test_the_score_plus_the_gradient_of_the_value_is_the_score_of_the_tilted(x64):
    x_t, t = jax.random.normal(jax.random.key(0), (4, 2)), jnp.array([20, 200, 600, 950])
    for (tilted, log_Z), _ in tilts():
        value = value_of(tilted, data(), SCHEDULE, log_Z)
        guided = by_value(eps=data().eps(SCHEDULE), schedule=SCHEDULE, value=value)
        np.testing.assert_allclose(guided(x_t, t), tilted.eps(SCHEDULE)(x_t, t), atol=1e-9)


def test_cells_too_have_a_value(x64):
    rng = np.random.default_rng(1)
    m = cells(rng.uniform(-1, 1, (2, 3, 1, 1, 1)), rng.dirichlet(np.ones(3), (2, 4)))
    tilted, log_Z = m.tilted([1.0, 0.0, -2.0])
    x_t, t, c = jax.random.normal(jax.random.key(0), (3, 2, 2, 1)), 300, jnp.array([0, 1, 2])
    guided = by_value(eps=m.eps(SCHEDULE), schedule=SCHEDULE, value=value_of(tilted, m, SCHEDULE, log_Z))
    np.testing.assert_allclose(guided(x_t, t, c), tilted.eps(SCHEDULE)(x_t, t, c), atol=1e-7)


def test_a_gaussian_plug_in_errs_by_half_the_variance(x64):
    """Linear reward b on N(μ, Σ): V_t - r(x̂0) = ½ bᵀ Cov[x0 | x_t] b, whatever x_t (Jensen)."""
    m, x_t, t = oracle.gaussian([0.3, -0.1], COV[0]), jax.random.normal(jax.random.key(0), (3, 2)), 300
    exact = value_of(*tilt_linear(m, B)[:1], m, SCHEDULE, tilt_linear(m, B)[1])(x_t, t)
    guess = plug_in(reward=lambda x: x @ B, eps=m.eps(SCHEDULE), schedule=SCHEDULE)(x_t, t)
    a = float(SCHEDULE.alpha_bar[t])
    left = COV[0] - a * COV[0] @ np.linalg.solve(a * COV[0] + (1 - a) * np.eye(2), COV[0])
    np.testing.assert_allclose(exact - guess, 0.5 * B @ left @ B, rtol=1e-6)


def test_the_misfit_is_the_log_likelihood_of_the_measurement(x64):
    """And at t = 0 its value is that of `tilt_measured`, up to the normal density's constant."""
    x = np.random.default_rng(0).normal(0, 1, (4, 1, 2, 1))
    tilted, log_Z = tilt_measured(data(), A, Y, VAR)
    exact = value_of(tilted, data(), SCHEDULE, log_Z)(jnp.asarray(x.reshape(4, 2)), 0)
    ours = misfit(A, Y, 1 / VAR)(jnp.asarray(x)) - 0.5 * np.log(2 * np.pi * VAR)
    np.testing.assert_allclose(ours, exact, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tilt_linear(data(), [1.0]), "b has 1 numbers; give 2"),
        (lambda: tilt_linear(data(), [1.0, np.nan]), "b has 2 numbers; give 2 that are finite"),
        (lambda: tilt_classes(data(), [1.0]), "reward has 1 numbers; give 2"),
        (lambda: tilt_classes(data(), [0.0, -2000.0]), "leaves component 1 no weight"),
        (lambda: tilt_measured(data(), np.eye(3), np.zeros(3), 1.0), r"A has shape \(3, 3\); give \(measurements, 2\)"),
        (lambda: tilt_measured(data(), A, [1.0, 2.0], 1.0), "y has 2 numbers; give 1"),
        (lambda: tilt_measured(data(), A, Y, -1.0), "var"),
        (lambda: misfit(A, np.zeros(2), 1.0), r"A has shape \(1, 2\) and y \(2,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_series_with_gaps_anywhere_is_kriged():
    """AR(1), φ = .8: only the nearest points seen on either side count; outside, φ^h of the last."""
    phi, D = 0.8, 9
    m = oracle.gaussian(np.zeros(D), phi ** np.abs(np.subtract.outer(np.arange(D), np.arange(D))))
    y = np.array([np.nan, np.nan, 1.0, -0.5, np.nan, 0.7, 2.0, np.nan, np.nan])
    given, log_p = tilt_seen(m, y)
    basis, var = np.asarray(given.basis[0]), np.asarray(given.var[0])
    mean, cov = np.asarray(given.mean[0]), (basis * var) @ basis.T
    np.testing.assert_allclose(mean[[0, 1, 7, 8]], [phi**2, phi, 2 * phi, 2 * phi**2], atol=1e-6)
    np.testing.assert_allclose(np.diag(cov)[[0, 1, 7, 8]], 1 - phi ** np.array([4, 2, 2, 4]), atol=1e-6)
    np.testing.assert_allclose(mean[4], phi / (1 + phi**2) * (-0.5 + 0.7), atol=1e-6)
    np.testing.assert_allclose(np.diag(cov)[[2, 3, 5, 6]], 0, atol=1e-6)
    steps = [(1.0, 0, 1), (-0.5, phi * 1.0, 1 - phi**2), (0.7, -0.5 * phi**2, 1 - phi**4), (2.0, 0.7 * phi, 1 - phi**2)]
    by_chain = sum(-0.5 * (v - a) ** 2 / b - 0.5 * np.log(2 * np.pi * b) for v, a, b in steps)
    assert log_p == pytest.approx(by_chain, rel=1e-5)
    for wrong, why in (
        (np.full(D, np.nan), "of which 0 were seen"),
        (y[:5], "y has 5 numbers"),
        (y + np.inf, "finite"),
    ):
        with pytest.raises(ValueError, match=why):
            tilt_seen(m, wrong)
