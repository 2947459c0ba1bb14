"""Functional maps on shapes whose map is known: one graph, and the same graph with its points renumbered."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ddpm.distillation import functional_maps as fm
from ddpm.schedule import linear

K = 12


@cache
def pair(n=120):
    """A closed surface without symmetry and its renumbered copy, with masses that differ from point to point."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(n, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    place = u * (1, 0.7, 0.5) * (1 + 0.3 * u[:, :1] + 0.2 * u[:, 1:2] * u[:, 2:])
    weight = np.exp(-((cdist(place, place) / 0.25) ** 2))
    np.fill_diagonal(weight, 0)
    weight[weight < 1e-9] = 0
    mass, points = rng.uniform(0.5, 2, n), rng.permutation(n)
    L = fm.laplacian(weight)
    X, Y = fm.eigenbasis(L, K, mass), fm.eigenbasis(L[np.ix_(points, points)], K, mass[points])
    return SimpleNamespace(place=place, weight=weight, L=L, X=X, Y=Y, points=points)


def test_the_laplacian_measures_how_functions_vary():
    p, f = pair(), np.random.default_rng(1).normal(size=120)
    assert f @ p.L @ f == pytest.approx(0.5 * np.sum(p.weight * (f[:, None] - f[None]) ** 2))
    lam, phi, m = p.X
    np.testing.assert_allclose(p.L @ phi, m[:, None] * phi * lam, atol=1e-9)
    np.testing.assert_allclose(phi.T @ (m[:, None] * phi), np.eye(K), atol=1e-9)
    assert lam[0] < 1e-9 and np.all(np.diff(lam) > 1e-4)


def test_the_map_of_an_isometry_is_a_diagonal_of_signs():
    p = pair()
    C = fm.from_points(p.X, p.Y, p.points)
    np.testing.assert_allclose(np.abs(C), np.eye(K), atol=1e-9)
    f = np.random.default_rng(2).normal(size=(K, 3))  # a function of X, carried to Y point by point
    np.testing.assert_allclose(fm.coefficients(p.Y, (p.X.vectors @ f)[p.points]), C @ f, atol=1e-9)
    np.testing.assert_array_equal(fm.to_points(C, p.X, p.Y), p.points)
    assert np.mean(fm.to_points(np.eye(K), p.X, p.Y) == p.points) < 0.5  # signs left open


def test_a_map_between_shapes_that_differ_is_no_square():
    """With C (k_Y, k_X) of all functions, the map of points is found though the sizes differ."""
    p = pair()
    few = np.arange(0, 120, 2)
    X = fm.eigenbasis(p.L, K)
    Y = fm.Basis(X.values[:8], np.linalg.qr(X.vectors[few, :8])[0], np.ones(60))
    C = fm.from_points(X, Y, few)
    assert C.shape == (8, K)
    for i in (0, 7):
        assert C[i] == pytest.approx(Y.vectors[:, i] @ X.vectors[few])


def test_least_squares_is_the_minimum_of_its_sum():
    p, rng = pair(), np.random.default_rng(3)
    A, B = rng.normal(size=(2, K, 20))
    gap = (p.X.values[None] - p.Y.values[:, None]) ** 2
    loss = lambda C: np.sum((C @ A - B) ** 2) + 0.3 * np.sum(C**2 * gap)  # noqa: E731
    C = fm.least_squares(A, B, p.X, p.Y, 0.3)
    slope = 2 * (C @ A - B) @ A.T + 0.6 * C * gap
    np.testing.assert_allclose(slope, 0, atol=1e-8)
    assert all(loss(C) < loss(C + 1e-3 * rng.normal(size=C.shape)) for _ in range(5))


def test_signatures_of_heat_find_the_map():
    """They agree at points that correspond, whatever the signs; at τ = 0 they sum the squares, at ∞ the constant's.

    A little noise on them spoils the map, unless C is asked to commute with the Laplacians.
    """
    p = pair()
    heat = [fm.heat_signatures(s, np.geomspace(0.05, 20, 30)) for s in (p.X, p.Y)]
    np.testing.assert_allclose(heat[0][p.points], heat[1], atol=1e-9)
    np.testing.assert_allclose(fm.heat_signatures(p.X, [0.0])[:, 0], (p.X.vectors**2).sum(1))
    np.testing.assert_allclose(fm.heat_signatures(p.X, [1e6])[:, 0], 1 / p.X.mass.sum(), rtol=1e-6)
    noisy = heat[1] + 0.01 * heat[1].std(0) * np.random.default_rng(6).normal(size=heat[1].shape)
    share = {}
    for name, of_y, alpha in (("exact", heat[1], 0.0), ("noisy", noisy, 0.0), ("commutes", noisy, 1e-2)):
        A, B = fm.coefficients(p.X, heat[0]), fm.coefficients(p.Y, of_y)
        share[name] = np.mean(fm.to_points(fm.least_squares(A, B, p.X, p.Y, alpha), p.X, p.Y) == p.points)
    assert share["exact"] == 1 and share["noisy"] < 0.5 and share["commutes"] > 0.9, share


def test_zoomout_repairs_a_small_map():
    p = pair()
    C = fm.from_points(p.X, p.Y, p.points)
    broken = C[:6, :6] + 0.05 * np.random.default_rng(4).normal(size=(6, 6))
    assert np.mean(fm.to_points(broken, p.X, p.Y) == p.points) < 0.7
    np.testing.assert_allclose(fm.zoomed(broken, p.X, p.Y), C, atol=1e-6)


def test_the_prior_is_that_of_each_entry(x64):
    """ε* by hand: on the diagonal tanh between both signs, elsewhere a Gaussian."""
    schedule, s, t = linear(), 0.1, 300
    C_t = jax.random.normal(jax.random.key(0), (2, 4, 4))
    eps = fm.isometry_prior(schedule, 4, s)(C_t, jnp.full(2, t))
    a = float(schedule.alpha_bar[t])
    v = a * s**2 + 1 - a
    off = np.sqrt(1 - a) * C_t / v
    on = np.sqrt(1 - a) * (C_t - np.sqrt(a) * np.tanh(np.sqrt(a) * C_t / v)) / v
    np.testing.assert_allclose(eps, np.where(np.eye(4), on, off), rtol=1e-7)


def test_without_noise_of_data_the_prior_only_picks_the_signs():
    """Functions of one sign pattern, all of them right: SDS ends at that pattern."""
    schedule, rng = linear(), np.random.default_rng(0)
    signs, A = rng.choice([-1.0, 1.0], K), rng.normal(size=(K, 20))
    C = fm.distilled(jax.random.key(0), fm.isometry_prior(schedule, K), schedule, A, signs[:, None] * A)
    np.testing.assert_allclose(C, np.diag(signs), atol=0.1)


def test_of_landmarks_some_of_which_are_wrong_the_prior_makes_a_map():
    """And with times that do not fall it is pulled to 0, between both signs."""
    p, schedule, rng = pair(), linear(), np.random.default_rng(5)
    y = rng.choice(120, 20, replace=False)
    x = p.points[y]
    x[:6] = rng.integers(0, 120, 6)
    A, B = (np.sqrt(s.mass.sum()) * s.vectors[at].T for s, at in ((p.X, x), (p.Y, y)))
    error = lambda C: np.linalg.norm(p.place[fm.to_points(C, p.X, p.Y)] - p.place[p.points], axis=1).mean()  # noqa: E731
    eps = fm.isometry_prior(schedule, K)
    falling, uniform = (
        fm.distilled(jax.random.key(0), eps, schedule, A, B, tops, strength=5.0, rate=0.1)
        for tops in (fm.FALLING, [0.98] * 24)
    )
    alone = error(fm.least_squares(A, B, p.X, p.Y))
    assert error(falling) < 0.5 * alone and error(falling) < error(uniform)
    assert np.abs(falling.diagonal()).mean() > 0.9 > np.abs(uniform.diagonal()).mean()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: fm.laplacian(np.ones((3, 2))), "symmetric"),
        (lambda p: fm.laplacian(np.eye(3)), "0 on the diagonal"),
        (lambda p: fm.eigenbasis(fm.laplacian(np.zeros((4, 4))), 2), "falls apart"),
        (lambda p: fm.eigenbasis(p.L, 121), "k is 121"),
        (lambda p: fm.eigenbasis(p.L, 3, np.zeros(120)), "mass has shape"),
        (lambda p: fm.from_points(p.X, p.Y, np.full(120, 120)), r"0\.\.119"),
        (lambda p: fm.to_points(np.ones((13, 2)), p.X, p.Y), "functions are known"),
        (lambda p: fm.heat_signatures(p.X, [-1.0]), "times is"),
        (lambda p: fm.least_squares(np.ones((3, 2)), np.ones((3, 2)), p.X, p.Y), r"give \(12, d\)"),
        (lambda p: fm.isometry_prior(linear(), 3, 0.0), "std is 0"),
        (lambda p: fm.data_and_prior(1, 1, lambda k, C: C, -1.0), "strength is -1"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(pair())
