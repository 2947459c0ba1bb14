"""Exact velocities, flow maps and likelihoods, judged by an adaptive solver at 1e-10 and by formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import flows, oracle
from ddpm.contracts import Partial
from ddpm.flows import paths
from ddpm.guides.rules import autoguidance
from ddpm.oracles.finite_set import finite

PATHS = {name: paths.make_path(name) for name in paths.PATHS}
each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
MIX = [[-1.0, 0.5], [1.0, 0.0]]
COV = [[[0.3, 0.1], [0.1, 0.2]], [[0.05, 0.0], [0.0, 0.6]]]
X = np.random.default_rng(1).normal(size=(4, 2))


def by_hand(path, x, tau, weight, mean, cov):
    """Σ_k p(k | x) (ȧ μ_k + ½ v̇_k v_k⁻¹ (x - a μ_k)) with v = a²Σ + b² I, in NumPy."""
    p, D = path.table(tau), x.shape[1]
    log_joint, parts = [], []
    for w, m, S in zip(weight, np.asarray(mean), np.asarray(cov), strict=True):
        v, half_dv = p.a**2 * S + p.b**2 * np.eye(D), p.a * p.da * S + p.bdb * np.eye(D)
        y = x - p.a * m
        solved = np.linalg.solve(v, y.T).T
        log_joint.append(np.log(w) - 0.5 * (y * solved).sum(1) - 0.5 * np.linalg.slogdet(v)[1])
        parts.append(p.da * m + solved @ half_dv.T)
    r = np.exp(np.array(log_joint) - np.logaddexp.reduce(log_joint))
    return (r[:, :, None] * np.array(parts)).sum(0)


@each_path
def test_velocity_of_a_mixture_is_the_weighted_velocity_of_its_components(path, x64):
    m = oracle.mixture(MIX, COV, [0.3, 0.7])
    velocity = flows.exact_velocity(m, path)
    for tau in (0.2, 0.7, 1.0):
        np.testing.assert_allclose(
            velocity(jnp.asarray(X), tau), by_hand(path, X, tau, [0.3, 0.7], MIX, COV), rtol=1e-9
        )
    each = velocity(jnp.asarray(X), jnp.asarray([0.2, 0.7, 0.7, 1.0]))  # a time for each image
    np.testing.assert_allclose(each[2], velocity(jnp.asarray(X), 0.7)[2], rtol=1e-12)
    of_class = velocity(jnp.asarray(X), 0.5, jnp.ones(4, int))
    np.testing.assert_allclose(of_class, by_hand(path, X, 0.5, [1], MIX[1:], COV[1:]), rtol=1e-9)


def test_velocity_of_a_finite_set_is_that_of_very_narrow_gaussians(x64):
    path = PATHS["linear"]
    x = jnp.asarray(X)
    set_, narrow = finite(np.asarray(MIX)), oracle.mixture(MIX, 1e-10)
    for tau in (0.3, 1.0):
        ours = flows.exact_velocity(set_, path)(x, tau)
        np.testing.assert_allclose(ours, flows.exact_velocity(narrow, path)(x, tau), rtol=1e-7)
    end = flows.integrate(flows.exact_velocity(set_, path), x, 1.0, 1e-6, rtol=1e-8)
    distance = np.linalg.norm(end[:, None] - np.asarray(MIX), axis=2).min(1)
    assert distance.max() < 1e-5  # the end points are the images


@each_path
def test_gaussian_map_is_the_solution_of_the_flow(path, x64):
    m = oracle.gaussian(MIX[0], COV[0])
    solved = flows.integrate(flows.exact_velocity(m, path), jnp.asarray(X), 0.9, 0.1)
    np.testing.assert_allclose(flows.gaussian_map(m, path, jnp.asarray(X), 0.9, 0.1), solved, rtol=1e-8)


def test_gaussian_map_is_a_semigroup_and_equal_on_all_paths_that_end_in_noise(x64):
    m, x = oracle.gaussian(MIX[0], COV[0]), jnp.asarray(X)
    whole = [flows.gaussian_map(m, PATHS[name], x, 1.0, 0.0) for name in ("linear", "trigonometric", "cosine")]
    np.testing.assert_allclose(whole[1:], [whole[0]] * 2, rtol=1e-9)
    half = flows.gaussian_map(m, PATHS["vp"], x, 0.8, 0.5)
    there = flows.gaussian_map(m, PATHS["vp"], half, 0.5, 0.2)
    np.testing.assert_allclose(there, flows.gaussian_map(m, PATHS["vp"], x, 0.8, 0.2), rtol=1e-10)


@pytest.mark.parametrize("name", ["linear", "vp"])
def test_quantile_map_is_the_solution_of_the_flow_on_a_line(name, x64):
    path, m = PATHS[name], oracle.mixture([[-1.0], [1.0]], 0.25)
    x = jnp.asarray([[-6.0], [0.1], [0.5], [2.0]])
    solved = flows.integrate(flows.exact_velocity(m, path), x, 1.0, 0.01, rtol=1e-11)
    np.testing.assert_allclose(flows.quantile_map(m, path, x, 1.0, 0.01), solved, rtol=2e-9)


def test_likelihood_by_the_flow_is_that_of_the_mixture(x64):
    path, m, x = PATHS["linear"], oracle.mixture(MIX, COV, [0.3, 0.7]), jnp.asarray(X)
    ours = flows.log_prob(flows.exact_velocity(m, path), path, x)
    np.testing.assert_allclose(ours, m.log_prob(paths.chain(path, 1, 0.5), x), rtol=1e-8)


def test_one_step_of_euler_is_exact_after_reflow(x64):
    path, m, x = PATHS["linear"], oracle.gaussian(MIX[0], COV[0]), jnp.asarray(X)
    velocity = flows.reflowed(m, path)
    end = x - velocity(x, 1.0)
    np.testing.assert_allclose(end, flows.gaussian_map(m, path, x, 1.0, 0.0), rtol=1e-9)
    halfway = x - 0.5 * velocity(x, 1.0)  # the same velocity along the line
    np.testing.assert_allclose(velocity(halfway, jnp.full(4, 0.5)), velocity(x, 1.0), rtol=1e-9)


def test_autoguidance_multiplies_powers_of_the_deviations(x64):
    """Variances .30 and .40 at scale s end in σ^s σ_bad^(1-s): not in the tilted density, whose precision is linear."""
    path, mean, s = PATHS["linear"], np.array([0.4, -0.2]), 2.0
    good, bad = (flows.exact_velocity(oracle.gaussian(mean, lam), path) for lam in (0.3, 0.4))
    guided = flows.integrate(autoguidance(good, bad, s), jnp.asarray(X), 1.0, 0.0)
    np.testing.assert_allclose(guided, mean + np.sqrt(0.3**s * 0.4 ** (1 - s)) * X, rtol=1e-8)
    alone = flows.integrate(autoguidance(good, bad, 1.0), jnp.asarray(X), 1.0, 0.0)
    np.testing.assert_allclose(alone, mean + np.sqrt(0.3) * X, rtol=1e-8)


def test_bad_input_is_refused(x64):
    path, m, two = PATHS["linear"], oracle.mixture(MIX, COV), oracle.mixture([[-1.0], [1.0]], 0.25)
    still = Partial(lambda x, tau, c: 0 * x)
    for call, message in (
        (lambda: flows.quantile_map(m, path, X, 1.0, 0.0), "2 dimensions"),
        (lambda: flows.integrate(still, jnp.asarray(X), 1.5, 0.0), "t is 1.5"),
        (lambda: flows.reflowed(two, path), "2 components"),
        (lambda: flows.integrate(flows.exact_velocity(m, PATHS["vp"]), X, 0.5, 0.0), "not finite at τ = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with jax.enable_x64(False), pytest.raises(ValueError, match="enable_x64"):
        flows.integrate(still, jnp.asarray(X), 1.0, 0.0)
