"""GANs: the losses at the best discriminator, and what AC-GAN's classifier does to the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from ddpm import generators as gen

GRID = np.linspace(-12, 14, 20_001)
DX = GRID[1] - GRID[0]
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(150)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def shifted(theta):
    """Between p = N(0, 1) and q = N(θ, 1)"""
    return gen.divergences(norm.logpdf(GRID), norm.logpdf(GRID, theta), DX)


def test_divergences_of_gaussians():
    d = shifted(1.5)
    assert d.forward == pytest.approx(1.125, rel=1e-8) and d.reverse == pytest.approx(1.125, rel=1e-8)
    m = lambda x: 0.5 * (norm.pdf(x) + norm.pdf(x, 1.5))  # noqa: E731
    half = quad(lambda x: norm.pdf(x) * np.log(norm.pdf(x) / m(x)), -10, 10)[0]
    assert d.jsd == pytest.approx(half, rel=1e-8)  # by symmetry both halves are equal
    two = gen.divergences(np.log([1.0, 1e-300]), np.log([1e-300, 1.0]), 1.0)
    assert two.jsd == pytest.approx(np.log(2), rel=1e-12)


def test_the_best_discriminator_is_worth_the_jsd(x64):
    """The least loss of all discriminators is 2 log 2 - 2 JSD, at the logit log p - log q."""
    theta = 1.5
    p, q = norm.pdf(GRID), norm.pdf(GRID, theta)

    def loss(a):  # the expectation over both, by weights at the grid
        one = lambda x: gen.discriminator_loss(x[None], -50.0 + 0 * x[None])  # noqa: E731
        other = lambda x: gen.discriminator_loss(50.0 + 0 * x[None], x[None])  # noqa: E731
        a = jnp.asarray(a)
        return float((jnp.asarray(p) * jax.vmap(one)(a) + jnp.asarray(q) * jax.vmap(other)(a)).sum() * DX)

    best = norm.logpdf(GRID) - norm.logpdf(GRID, theta)
    assert loss(best) == pytest.approx(2 * np.log(2) - 2 * shifted(theta).jsd, rel=1e-8)
    for seed in range(5):
        assert loss(best + np.random.default_rng(seed).normal(size=len(GRID))) > loss(best)


@pytest.mark.parametrize("theta", [0.5, 1.0, 4.0])
def test_gradients_through_a_fixed_best_discriminator(theta, x64):
    """d/dθ of the losses at x = θ + z with a* held fixed: of 2 JSD, and of KL(q ‖ p) - 2 JSD; their sum is θ."""
    logit = lambda x: -theta * x + theta**2 / 2  # noqa: E731

    def slope(kind):
        mean = lambda th: (WEIGHTS * gen.generator_loss(logit(th + NODES), kind)).sum()  # noqa: E731
        return float(jax.grad(mean)(theta))

    up, down = shifted(theta + 1e-3), shifted(theta - 1e-3)
    assert slope("saturating") == pytest.approx(2 * (up.jsd - down.jsd) / 2e-3, rel=1e-4)
    assert slope("non_saturating") == pytest.approx((up.non_saturating - down.non_saturating) / 2e-3, rel=1e-4)
    assert slope("saturating") + slope("non_saturating") == pytest.approx(theta, rel=1e-8)


def test_slopes_in_the_logit():
    logit = jnp.log(jnp.array([0.01 / 0.99]))
    slopes = [float(jax.grad(lambda a, k=k: gen.generator_loss(a, k).sum())(logit)[0]) for k in gen.adversarial.KINDS]
    np.testing.assert_allclose(slopes, [-0.01, -0.99], rtol=1e-5)


def test_r1_is_half_the_square_of_the_slope():
    x = jax.random.normal(jax.random.key(0), (5, 2, 3, 1))
    w = jnp.arange(6.0).reshape(1, 2, 3, 1)
    np.testing.assert_allclose(gen.r1(lambda x: (w * x).sum((1, 2, 3)), x), 0.5 * 55, rtol=1e-6)
    np.testing.assert_allclose(gen.r1(lambda x: (x**2).sum((1, 2, 3)), x), 2 * (x**2).sum((1, 2, 3)), rtol=1e-5)


def test_dirac_gan_circles_and_r1_damps_it(x64):
    """p = δ_0, q = δ_θ, a = ψ x: the linearised flow of the two losses at (0, 0).   [Mescheder et al. 2018]"""

    def flow(state, gamma):
        theta, psi = state
        disc = lambda psi: lambda x: psi * x[:, 0]  # noqa: E731
        real, fake = jnp.zeros((1, 1)), theta.reshape(1, 1)
        loss_d = lambda psi: (  # noqa: E731
            gen.discriminator_loss(disc(psi)(real), disc(psi)(fake)) + gamma * gen.r1(disc(psi), real)[0]
        )
        loss_g = lambda theta: gen.generator_loss(disc(psi)(theta.reshape(1, 1)))[0]  # noqa: E731
        return -jnp.stack([jax.grad(loss_g)(theta), jax.grad(loss_d)(psi)])

    jacobian = jax.jit(jax.jacobian(flow))
    for gamma, expected in ((0.0, (-0.5j, 0.5j)), (1.0, (-0.5, -0.5)), (2.0, (-1 - 0.75**0.5, -1 + 0.75**0.5))):
        found = np.linalg.eigvals(np.asarray(jacobian(jnp.zeros(2), gamma)))
        np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(np.array(expected, complex)), atol=1e-6)


# --- AC-GAN -----------------------------------------------------------------------------------------------------------


POINTS = np.linspace(-8, 8, 801)


def two_classes():
    """N(±1, 1) as masses on a grid"""
    joint = np.stack([norm.pdf(POINTS, 1), norm.pdf(POINTS, -1)])
    return joint / joint.sum()


def test_acgan_without_weight_cuts_the_marginal_in_halves():
    p = two_classes()
    q = gen.acgan(p, 1e-9)
    np.testing.assert_allclose(q.sum(0), p.sum(0), atol=1e-11)
    mean = (q[0] * POINTS).sum() / q[0].sum()
    assert mean == pytest.approx(2 * norm.pdf(1) + 2 * norm.cdf(1) - 1, abs=1e-4)  # E|x| of the marginal
    assert q[0][POINTS < 0].sum() == 0


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_acgan_is_the_least_objective(weight):
    """Against random changes of q, and against labels moved, on a small set of points with three classes."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(15)).reshape(3, 5)
    log_c = np.log(p / p.sum(0))

    def objective(q):
        m = 0.5 * (p.sum(0) + q.sum(0))
        jsd = 0.5 * sum((a.sum(0) * np.log(np.maximum(a.sum(0), 1e-300) / m)).sum() for a in (p, q))
        return 2 * jsd - weight * (q * log_c).sum()

    q = gen.acgan(p, weight)
    assert q.sum() == pytest.approx(1, abs=1e-12)
    for scale in (0.3, 0.01):
        for _ in range(60):
            other = q * np.exp(scale * rng.normal(size=q.shape)) + scale * rng.dirichlet(np.ones(15)).reshape(3, 5) / 9
            assert objective(other / other.sum()) >= objective(q) - 1e-12


@pytest.mark.parametrize("classifier", ["real", "both"])
def test_acgan_has_the_same_slope_at_all_points(classifier):
    """With C held, of p(c | x) or of (p + q)(c | x), no mass can be moved to advantage: q is the best for that C."""
    p, weight = two_classes(), 2.0
    q = gen.acgan(p, weight, classifier)
    seen = p if classifier == "real" else p + q
    c = (seen / seen.sum(0))[0][POINTS > 0.005]
    r = (q.sum(0) / p.sum(0))[POINTS > 0.005]
    assert np.ptp(np.log(2 * r / (1 + r)) - weight * np.log(c)) < 1e-6


def test_a_classifier_that_learns_from_both_is_less_biased():
    p = two_classes()
    real, both = ((gen.acgan(p, 2.0, k)[0] * POINTS).sum() * 2 for k in ("real", "both"))
    assert 1 < both < real


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gen.generator_loss(jnp.ones(2), "wasserstein"), "kind 'wasserstein' is not known"),
        (lambda: gen.r1(lambda x: x.sum(), jnp.ones((2, 3))), "one logit for each"),
        (lambda: gen.divergences(np.zeros(3), np.zeros(2), 1.0), "same points"),
        (lambda: gen.divergences(np.log([0.5, 0.4]), np.log([0.5, 0.5]), 1.0), "log_p sums to 0.9"),
        (lambda: gen.acgan(np.ones((2, 3)), 1.0), "sum to 1"),
        (lambda: gen.acgan(np.full((2, 2), 0.25), 0.0), "weight is 0"),
        (lambda: gen.acgan(np.full((2, 2), 0.25), 1.0, "fake"), "classifier 'fake'"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
