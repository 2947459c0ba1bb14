"""Solver errors, straightness, losses and couplings of Gaussian data: closed forms against what they describe."""

from itertools import pairwise, permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from ddpm import flows, oracle
from ddpm.flows import paths

PATHS = {name: paths.make_path(name) for name in paths.PATHS}
LINEAR, ANGLE = PATHS["linear"], PATHS["trigonometric"]
each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
LAM = np.array([0.01, 0.25, 1.0])


@each_path
@pytest.mark.parametrize("method", ["euler", "heun", "midpoint"])
def test_closed_form_of_a_solver_is_the_solver_with_the_exact_velocity(path, method, x64):
    mean = np.array([1.0, -0.5, 2.0])
    velocity = flows.exact_velocity(oracle.gaussian(mean, np.diag(LAM)), path)
    x = jnp.asarray([[0.3, -1.0, 2.0]])
    tau = np.array([1.0, 0.6, 0.3, 0.05])
    out = x
    for t, s in pairwise(tau):
        first = velocity(out, t)
        if method == "euler":
            slope = first
        elif method == "heun":
            slope = (first + velocity(out + (s - t) * first, s)) / 2
        else:
            slope = velocity(out + (s - t) / 2 * first, (s + t) / 2)
        out = out + (s - t) * slope
    gain, shift = flows.linear_solution(path, LAM, tau, method)
    np.testing.assert_allclose(out[0], gain * x[0] + shift * mean, rtol=1e-9)


def test_euler_on_the_linear_path_loses_the_cosines_of_its_angles():
    tau = np.array([1.0, 0.8, 0.35, 0.1, 0.0])
    theta = np.arctan2(tau, (1 - tau) * np.sqrt(LAM[:, None]))
    gain, shift = flows.linear_solution(LINEAR, LAM, tau)
    np.testing.assert_allclose(gain, np.sqrt(LAM) * np.cos(np.diff(theta)).prod(1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(shift, 1, rtol=1e-12)  # the mean moves on a line


@each_path
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_order_of_a_solver(path, method, order):
    def error(n):
        gain, _ = flows.linear_solution(path, 0.25, np.linspace(1, 0.3, n + 1), method)
        v = lambda tau: path.table(tau).a ** 2 * 0.25 + path.table(tau).b ** 2  # noqa: E731
        return abs(gain[0] - np.sqrt(v(0.3) / v(1.0)))

    order += method == "midpoint" and path is LINEAR  # there the error of second order happens to cancel
    assert np.log2(error(200) / error(400)) == pytest.approx(order, abs=0.05)


def test_straightness_has_closed_forms():
    np.testing.assert_allclose(flows.straightness(LINEAR, LAM), (2 - np.pi / 2) * np.sqrt(LAM), rtol=1e-9)
    assert flows.straightness(ANGLE, 1.0)[0] == pytest.approx(0, abs=1e-12)  # N(0, I) stands still
    # the mean alone: (π/2)² ∫ sin² - 1
    mean_only = flows.straightness(ANGLE, 1.0, mean=2.0)[0]
    assert mean_only == pytest.approx(4 * (np.pi**2 / 8 - 1), rel=1e-9)


def test_straightness_is_the_mean_over_trajectories(x64):
    """Along x_τ = a_τ μ + √v_τ z, with velocities of the oracle, by the trapezium rule."""
    path, lam, mu = PATHS["cosine"], 0.3, 0.7
    z, tau = np.array([-1.0, 1.0]), np.linspace(1e-4, 1, 2001)  # two points of mean 0 and variance 1
    p = path.table(tau)
    x = p.a[:, None] * mu + np.sqrt(p.a**2 * lam + p.b**2)[:, None] * z
    velocity = flows.exact_velocity(oracle.gaussian([mu], lam), path)
    of_each = [np.asarray(velocity(jnp.asarray(x[:, [i]]), jnp.asarray(tau)))[:, 0] for i in (0, 1)]
    sums = [np.trapezoid((x[-1, i] - x[0, i] - of_each[i]) ** 2, tau) for i in (0, 1)]
    assert np.mean(sums) == pytest.approx(flows.straightness(path, lam, mu)[0], rel=1e-3)


def test_the_floor_has_closed_forms():
    assert flows.loss_floor(LINEAR, LAM) == pytest.approx(np.pi / 2 * np.sqrt(LAM).mean(), rel=1e-9)
    assert flows.loss_floor(ANGLE, LAM) == pytest.approx(np.pi**2 / 4 * np.sqrt(LAM).mean(), rel=1e-9)
    density = lambda u: np.exp(-0.5 * np.log(u / (1 - u)) ** 2) / np.sqrt(2 * np.pi) / (u * (1 - u))  # noqa: E731
    by_quad = quad(lambda u: density(u) * 0.25 / (0.25 * (1 - u) ** 2 + u**2), 0, 1)[0]
    assert flows.loss_floor(LINEAR, 0.25, "logit_normal") == pytest.approx(by_quad, rel=1e-6)
    assert flows.loss_at_zero(LINEAR, LAM, mean=0.5) == pytest.approx(1 + LAM.mean() + 0.25, rel=1e-9)
    assert flows.loss_at_zero(ANGLE, 1.0) == pytest.approx(np.pi**2 / 4, rel=1e-9)


@pytest.mark.parametrize(("name", "times"), [("linear", "uniform"), ("vp", "logit_normal")])
def test_the_loss_of_the_exact_velocity_is_the_floor(name, times):
    path, lam = PATHS[name], 0.3
    k_t, k_x, k_n = jax.random.split(jax.random.key(0), 3)
    B = 40_000
    x0, noise = 0.5 + np.sqrt(lam) * jax.random.normal(k_x, (B, 1)), jax.random.normal(k_n, (B, 1))
    tau = flows.draw_tau(k_t, B, times)
    exact = flows.exact_velocity(oracle.gaussian([0.5], lam), path)
    for velocity, wanted in (
        (exact, flows.loss_floor(path, lam, times)),
        (lambda x, tau, c: 0 * x, flows.loss_at_zero(path, lam, 0.5, times)),
    ):
        terms = np.asarray(flows.flow_matching_loss(velocity, path, x0, tau, noise))
        assert abs(terms.mean() - wanted) < 4 * terms.std() / np.sqrt(B)


def test_transport_pairs_have_the_least_cost_of_all_pairings():
    rng = np.random.default_rng(0)
    noise, x0 = rng.normal(size=(2, 5, 2, 3))
    cost = lambda order: ((noise - x0[list(order)]) ** 2).sum()  # noqa: E731
    order = flows.pair_by_transport(noise, x0)
    assert cost(order) == pytest.approx(min(map(cost, permutations(range(5)))))
    line = flows.pair_by_transport(noise[:, 0, :1], x0[:, 0, :1])  # on a line, the order of the noise
    np.testing.assert_array_equal(np.argsort(noise[:, 0, 0]), np.argsort(x0[line, 0, 0]))


def test_transport_within_labels_is_the_best_of_each_label():
    rng = np.random.default_rng(1)
    (noise, x0), c = rng.normal(size=(2, 6, 3)), np.array([0, 1, 0, 1, 0, 1])
    order = flows.pair_by_transport(noise, x0, c)
    np.testing.assert_array_equal(c[order], c)
    for k in (0, 1):
        rows = np.flatnonzero(c == k)
        np.testing.assert_array_equal(order[rows], rows[flows.pair_by_transport(noise[rows], x0[rows])])


def test_bad_input_is_refused():
    for call, message in (
        (lambda: flows.loss_floor(PATHS["vp"], 0.5), "give first above 0"),
        (lambda: flows.linear_solution(LINEAR, 0.5, [1.0, 0.2, 0.4]), "that fall, or rise"),
        (lambda: flows.linear_solution(LINEAR, 0.5, [1.0, 0.0], "heum"), "Did you mean 'heun'"),
        (lambda: flows.draw_tau(jax.random.key(0), 2, "logit"), "Known: uniform, logit_normal"),
        (lambda: flows.pair_by_transport(np.ones((2, 3)), np.ones((3, 3))), "two equal batches"),
        (lambda: flows.pair_by_transport(np.full((2, 3), np.nan), np.ones((2, 3))), "not finite"),
        (lambda: flows.flow_matching_loss(None, LINEAR, jnp.ones((2, 1)), 0.5, jnp.ones((2, 2))), "must be equal"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_straightness_along_a_flow_is_that_of_the_closed_form(x64):
    """(2 - π/2) √λ of a Gaussian's velocity, and 0 after reflow."""
    linear, data = paths.make_path("linear"), oracle.gaussian([0.0], 0.25)
    x = jnp.asarray([[-1.0], [1.0]])  # the mean square of N(0, 1), by which a linear flow's is exact
    found = flows.measured_straightness(flows.exact_velocity(data, linear), x, steps=1000)
    assert found == pytest.approx(flows.straightness(linear, 0.25).item(), rel=5e-3)
    assert flows.measured_straightness(lambda x, tau, c: x - x / (2 - tau[:, None]), x) > 0.001
    straight = lambda x, tau, c: 0.5 * x / ((1 - tau[:, None]) * 0.5 + tau[:, None])  # noqa: E731
    assert flows.measured_straightness(straight, x) < 1e-20
