"""Gaussian paths, the chain that all of them pass through, and the velocity as one more name of a prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.flows import conversions, paths
from ddpm.forward import eps_from_x0, q_sample, score_from_eps, x0_and_eps
from ddpm.guide import cfg
from ddpm.networks import heads
from ddpm.sample import ddim_step, walk
from ddpm.schedule import cosine

PATHS = {name: paths.make_path(name) for name in paths.PATHS}
each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
X, N = np.random.default_rng(0).normal(size=(2, 3, 2))


@each_path
def test_derivatives_are_those_of_automatic_differentiation(path, x64):
    for tau in (0.03, 0.5, 0.97):
        (a, b), (da, db) = jax.jvp(lambda u: (path.at(u).a, path.at(u).b), (jnp.asarray(tau),), (jnp.ones(()),))
        p = path.table(tau)
        np.testing.assert_allclose([p.da, p.db, p.bdb, p.a, p.b], [da, db, b * db, a, b], rtol=1e-12)
        dc = (a * da + b * db) / jnp.sqrt(a**2 + b**2)
        np.testing.assert_allclose(
            [p.W, p.dc, p.c], [a * db - b * da, dc, jnp.sqrt(a * a + b * b)], rtol=1e-9, atol=1e-12
        )


@each_path
def test_all_names_of_one_prediction_agree(path, x64):
    """From x0 and ε: each conversion gives ȧ x0 + ḃ ε, and each inverse its argument."""
    tau = jnp.asarray([0.1, 0.5, 0.9])
    p = conversions.level_for(path, tau, X)
    x, u = p.a * X + p.b * N, p.da * X + p.db * N
    names = {"eps": N, "x0": X, "score": -N / p.b, "v": (p.a * N - p.b * X) / p.c}
    for name, value in names.items():
        there, back = (getattr(conversions, f) for f in (f"velocity_from_{name}", f"{name}_from_velocity"))
        np.testing.assert_allclose(there(path, x, tau, value), u, rtol=1e-9)
        np.testing.assert_allclose(back(path, x, tau, u), value, rtol=1e-9)


@each_path
def test_a_path_is_the_chain_in_other_units(path, x64):
    """x_τ/c is q(x_t | x0) of the path's chain, and x0, ε, v, score are those of the chain."""
    schedule, tau = paths.chain(path, 20, 0.98), jnp.asarray([1, 7, 20]) * 0.98 / 20
    t, p = jnp.asarray([1, 7, 20]), conversions.level_for(path, tau, X)
    x = p.a * X + p.b * N
    np.testing.assert_allclose(x / p.c, q_sample(schedule, X, t, N), rtol=1e-9)
    u = p.da * X + p.db * N
    np.testing.assert_allclose(
        conversions.v_from_velocity(path, x, tau, u), heads.velocity(schedule, X, t, N), rtol=1e-7
    )
    np.testing.assert_allclose(  # ∇ of x_τ is that of x_τ/c, divided by c
        conversions.score_from_velocity(path, x, tau, u), score_from_eps(schedule, t, N) / p.c, rtol=1e-7
    )
    np.testing.assert_allclose(path.time(schedule.alpha_bar[t]), tau, rtol=1e-9)
    levels = paths.levels(path, tau)
    np.testing.assert_allclose(levels.alpha_bar[1:], schedule.alpha_bar[t], rtol=1e-9)
    np.testing.assert_allclose(levels.beta[1:], 1 - levels.alpha_bar[1:], atol=1e-12)  # each one step from the data
    assert paths.make_chain(f"{path.name}_path", 20).alpha_bar[7] == paths.chain(path, 20).alpha_bar[7]


def test_flow_time_of_a_chain_is_std_over_the_sum():
    """τ = √(1-ᾱ)/(√ᾱ + √(1-ᾱ)), for example 1/4 at ᾱ = .9 and 3/4 at .1"""
    np.testing.assert_allclose(PATHS["linear"].time([1.0, 0.9, 0.5, 0.1]), [0, 0.25, 0.5, 0.75], atol=1e-12)


def test_ddim_on_the_chain_of_the_linear_path_is_euler(x64):
    """With any denoiser: here a nonlinear one. A step of Euler's method in τ, x_τ = c x_t."""
    path, T = PATHS["linear"], 8
    schedule = paths.chain(path, T)
    m = oracle.mixture([[-1.0, 0.5], [1.0, 0.0]], 0.1)
    eps = m.eps(schedule)
    out = walk(ddim_step(eps, schedule), jax.random.key(0), jnp.asarray(X), np.arange(T, -1, -1))
    tau = 0.999 * np.arange(T + 1) / T
    x = path.at(tau[T]).c * X
    for t in range(T, 0, -1):
        eps_hat = eps(x / path.at(tau[t]).c, jnp.full(3, t), None)
        x = x + (tau[t - 1] - tau[t]) * conversions.velocity_from_eps(path, x, tau[t], eps_hat)
    np.testing.assert_allclose(out, x, rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "vp"])
def test_guidance_of_velocities_is_guidance_of_noises(name, x64):
    path, tau, c, s = PATHS[name], jnp.asarray(0.4), jnp.asarray([0, 1, 1]), 2.5
    p = path.at(tau)
    m = oracle.mixture([[-1.0, 0.5], [1.0, 0.0]], 0.1)
    schedule = paths.levels(path, tau)
    eps = m.eps(schedule)
    velocity = lambda x, tau, c: conversions.velocity_from_eps(path, x, tau, eps(x / p.c, jnp.asarray(1), c))  # noqa: E731
    guided = cfg(eps, s)(X / p.c, jnp.asarray(1), c)
    np.testing.assert_allclose(cfg(velocity, s)(X, tau, c), conversions.velocity_from_eps(path, X, tau, guided))


def test_a_network_for_the_velocity_is_a_denoiser_on_any_chain(x64):
    """û = ε - x0 on the library's own cosine chain: head, ε, x0, v, and its form in v agree."""
    schedule, t = cosine(50), jnp.asarray([1, 25, 49])
    x_t, u = q_sample(schedule, X, t, N), N - X
    eps_hat = heads.head(lambda x, t, c: u, schedule, "flow")
    np.testing.assert_allclose(eps_hat(x_t, t, None), N, rtol=1e-9)
    np.testing.assert_allclose(eps_from_x0(schedule, x_t, t, heads.x0_from_u(schedule, x_t, t, u)), N, rtol=1e-9)
    np.testing.assert_allclose(heads.v_from_u(schedule, x_t, t, u), heads.velocity(schedule, X, t, N), rtol=1e-9)
    np.testing.assert_allclose(heads.u_from_eps(schedule, x_t, t, N), u, rtol=1e-9)
    x0, eps = x0_and_eps(eps_hat, schedule, x_t, t)
    np.testing.assert_allclose((x0, eps), (X, N), rtol=1e-9)
    c = jnp.asarray([0, 0, 0])
    guided_u = cfg(lambda x, t, c: u if c is not None else x, 2.0)
    of_eps = cfg(heads.head(lambda x, t, c: u if c is not None else x, schedule, "flow"), 2.0)(x_t, t, c)
    np.testing.assert_allclose(heads.head(guided_u, schedule, "flow")(x_t, t, c), of_eps, rtol=1e-9)


def _level(a, b, da, db):
    return lambda tau, xp: paths.Level(a(tau), b(tau), da(tau), db(tau), b(tau) * db(tau))


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (
            _level(lambda u: 1 - u, lambda u: u * (1 - u), lambda u: 0 * u - 1, lambda u: 0 * u),
            "at or below 0 at τ = 1",
        ),
        (_level(lambda u: 1 - u, lambda u: u + 1, lambda u: 0 * u - 1, lambda u: 0 * u), "give a = 1 and b = 0"),
        (_level(lambda u: 1 - u, lambda u: u, lambda u: 0 * u + 1, lambda u: 0 * u + 1), "derivatives"),
        (_level(lambda u: 1 + u, lambda u: np.sin(2 * u), lambda u: 0 * u + 1, lambda u: 0 * u), "must rise"),
    ],
)
def test_a_path_that_is_none_is_refused(level, message):
    with pytest.raises(ValueError, match=message):
        paths.Path("mine", level)


def test_bad_times_and_names_are_refused():
    linear = PATHS["linear"]
    for call, message in (
        (lambda: paths.make_path("linaer"), "Did you mean 'linear'"),
        (lambda: linear.at(1.2), "tau is 1.2"),
        (lambda: conversions.x0_from_velocity(linear, X, jnp.zeros(2), X), "one for each of the 3 images"),
        (lambda: paths.chain(linear, 10, 1.0), "last is 1.0"),
        (lambda: PATHS["vp"].time(1e-9), "ends at"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
