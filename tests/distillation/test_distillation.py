"""Score distillation where its end is known: one Gaussian, two classes, a linear renderer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import distillation as dis
from ddpm import oracle
from ddpm.contracts import Partial
from ddpm.guide import cfg
from ddpm.schedule import linear


def draws(gradient, x, n):
    """Mean and standard error of n draws of the gradient at one image x (D,)"""
    g = np.asarray(gradient(jax.random.key(0), jnp.broadcast_to(x, (n, *x.shape))), np.float64)
    return g.mean(0), g.std(0) / np.sqrt(n)


def test_on_one_gaussian_draws_quadrature_and_closed_form_agree(x64):
    schedule, m = linear(), oracle.gaussian([1.0], 0.25)
    x = jnp.array([[-0.5], [2.0]])
    exact = dis.gaussian_sds(m, schedule, x)
    np.testing.assert_allclose(dis.expected_sds(m.eps(schedule), schedule, x, nodes=8), exact, rtol=1e-9)
    mean, error = draws(dis.sds(m.eps(schedule), schedule), x[0], 20_000)
    assert abs(mean - exact[0]) < 4 * error
    # w = 1 by hand, from ε* = √(1-ᾱ) (x_t - √ᾱ μ)/(ᾱλ + 1-ᾱ)
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[20:980]
    slope = np.sqrt(a * (1 - a)) / (0.25 * a + 1 - a)
    assert dis.gaussian_sds(m, schedule, x[:1], weight=np.ones(1001))[0, 0] == pytest.approx(
        -1.5 * slope.mean(), rel=1e-9
    )
    assert exact[0, 0] == pytest.approx(-1.5 * ((1 - a) * slope).mean(), rel=1e-9)  # w = 1-ᾱ


def test_minus_eps_is_a_control_variate(x64):
    """At the mode of N(0, λ): the variance is that of w ᾱλ/v, and without -ε that of w (1-ᾱ)/v."""
    schedule, x, lam = linear(), jnp.zeros((20_000, 1)), 0.01
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    one = np.ones(1001)
    with_eps = dis.sds(eps, schedule, weight=one)(jax.random.key(1), x)
    without = dis.vsd(eps, Partial(lambda x_t, t, c: 0 * x_t), schedule, weight=one)(jax.random.key(1), x)
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[20:980]
    v = a * lam + 1 - a
    assert float(with_eps.var()) == pytest.approx(((a * lam / v) ** 2).mean(), rel=0.15)
    assert float(without.var()) == pytest.approx((((1 - a) / v) ** 2).mean(), rel=0.05)


def test_sds_collapses_and_vsd_spreads_as_the_data_do():
    cov = np.array([[1.0, 0.6], [0.6, 0.5]])
    schedule, data = linear(), oracle.gaussian([0.5, -1.0], cov)
    eps = data.eps(schedule)
    x = jax.random.normal(jax.random.key(0), (128, 2))
    one = dis.descend(dis.sds(eps, schedule), jax.random.key(1), x, 1500, 0.05)
    assert np.asarray(one).var(0).max() < 0.01
    np.testing.assert_allclose(np.asarray(one).mean(0), [0.5, -1.0], atol=0.02)

    def particles(key, x):
        return dis.vsd(eps, dis.own_gaussian(x).eps(schedule), schedule)(key, x)

    many = np.asarray(dis.descend(particles, jax.random.key(1), x, 1500, 0.1))
    np.testing.assert_allclose(np.cov(many.T, bias=True), cov, atol=0.02)
    np.testing.assert_allclose(many.mean(0), [0.5, -1.0], atol=0.02)


def test_dds_moves_the_reference_by_the_difference_of_the_means():
    schedule = linear()
    m = oracle.mixture([[1.0, 0.0], [-1.0, 2.0]], 0.25)
    reference, ones = jnp.array([[0.4, -0.7], [3.0, 1.0]]), jnp.ones(2, int)
    make = partial(dis.dds, m.eps(schedule), schedule, x_ref=reference, c_ref=0 * ones)
    assert not np.any(make(c=0 * ones)(jax.random.key(0), reference))
    x = dis.descend(make(c=ones), jax.random.key(0), reference, 700, 0.2)
    np.testing.assert_allclose(x, reference + jnp.array([[-2.0, 2.0]]), atol=1e-3)


def test_fixed_points_of_guidance():
    """s = 1: the class's mean; s = 0 between the modes for all times, and near a mode for small times only."""
    with jax.enable_x64(True):
        schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
        at = lambda s, **how: dis.fixed_point(cfg(m.eps(schedule), s), schedule, -0.3, 40.0, 0, **how)  # noqa: E731
        assert at(1.0) == pytest.approx(1, abs=1e-6) and at(0.0) == pytest.approx(0, abs=1e-5)
        small = dis.fixed_point(m.eps(schedule), schedule, 0.1, 3.0, t_range=(0.02, 0.2))
        assert 0.5 < small < 1
        far = at(7.5)
        assert far > 2
        # At a fixed point the draws are 0 on average
        eps = cfg(m.eps(schedule), 7.5)
        x = jnp.full((4000, 1), far)
        g = dis.sds(eps, schedule, jnp.zeros(4000, int))(jax.random.key(0), x)
        assert abs(float(g.mean())) < 4 * float(g.std()) / np.sqrt(4000)


# --- voxels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directions", "gamma", "rank"),
    [
        (["+x"], 0.7, 36),
        (["+x", "-x"], 1.0, 36),
        (["+x", "-x"], 0.7, 72),
        (["+x", "+y", "+z"], 0.7, 91),
        (dis.voxels.DIRECTIONS, 1.0, 91),
        (dis.voxels.DIRECTIONS, 0.7, 152),
    ],
)
def test_rank_of_the_views(directions, gamma, rank):
    """Of 216 voxels; three X-rays share 6 + 6 + 6 - 1 sums over planes: 108 - 17 = 91."""
    rows = np.concatenate([dis.view(6, d, gamma) for d in directions])
    assert np.linalg.matrix_rank(rows) == rank


def test_a_view_looks_along_its_axis():
    cube = np.zeros((4, 4, 4))
    cube[1, 2, 3] = 1.0
    for direction, pixel, depth in (("+x", (2, 3), 1), ("-x", (2, 3), 2), ("+y", (1, 3), 2), ("-z", (1, 2), 0)):
        picture = (dis.view(4, direction, 0.7) @ cube.ravel()).reshape(4, 4)
        assert picture[pixel] == pytest.approx(0.7**depth) and np.count_nonzero(picture) == 1


def test_distillation_into_voxels_ends_at_the_projection():
    """Pictures of every view N(A_v μ, .01): what the rows do not reach stays as it was."""
    rng, schedule = np.random.default_rng(0), linear()
    views = [dis.view(3, d) for d in ("+x", "-y")]
    mu, psi_0 = rng.normal(size=27), rng.normal(size=27)
    target = np.stack([A @ mu for A in views])
    m = oracle.mixture(target, 0.01, label=np.arange(2))
    pull = dis.pulled_back(dis.sds(m.eps(schedule), schedule, jnp.arange(2)), dis.renderer(views))
    psi = dis.descend(pull, jax.random.key(0), jnp.asarray(psi_0, jnp.float32), 4000, 0.1)
    psi = dis.descend(pull, jax.random.key(1), psi, 4000, 0.01)
    end = dis.settled(views, target, psi_0)
    np.testing.assert_allclose(psi, end, atol=0.02)
    rows = np.concatenate(views)
    P = np.linalg.pinv(rows) @ rows
    np.testing.assert_allclose(end, psi_0 + P @ (mu - psi_0), atol=1e-9)
    assert np.abs(end - psi_0).max() > 0.5 and np.abs(end - mu).max() > 0.5


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s, eps: dis.sds(eps, s, t_range=(0.9, 0.1)), "t_range"),
        (lambda s, eps: dis.sds(eps, s, weight=np.ones(7)), "weight has shape"),
        (
            lambda s, eps: dis.dds(eps, s, 0, jnp.ones((1, 2)), 0)(jax.random.key(0), jnp.ones((1, 3))),
            "x_ref has shape",
        ),
        (lambda s, eps: dis.expected_sds(eps, s, np.ones((2, 2))), r"numbers \(B, 1\)"),
        (lambda s, eps: dis.fixed_point(eps, s, 1.0, 2.0), "widen the range"),
        (lambda s, eps: dis.gaussian_sds(oracle.mixture([[0.0], [1.0]], 1.0), s, np.ones((1, 1))), "2 components"),
        (lambda s, eps: dis.descend(dis.sds(eps, s), jax.random.key(0), jnp.ones((1, 1)), 0, 0.1), "steps is 0"),
        (lambda s, eps: dis.view(6, "x"), "direction 'x' is not known"),
        (lambda s, eps: dis.renderer([np.ones((4, 8)), np.ones((9, 27))]), "of one size"),
        (lambda s, eps: dis.settled([np.ones((4, 8))], np.ones((1, 3)), np.ones(8)), r"give \(1, 4\)"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(linear(), oracle.gaussian([0.0], 1.0).eps(linear()))
