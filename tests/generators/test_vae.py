"""VAEs: the bound and what lies above it, the linear VAE's optimum, and collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from ddpm import generators as gen


def data(D=6, seed=0):
    """A covariance, its eigenvalues (falling) and eigenvectors"""
    root = np.random.default_rng(seed).normal(size=(D, D)) * np.arange(1, D + 1)[:, None]
    var, basis = np.linalg.eigh(root @ root.T / D)
    return root @ root.T / D, var[::-1].copy(), basis[:, ::-1]


def test_kl_is_the_integral_and_0_at_the_prior_only(x64):
    m, v = 0.7, 0.3
    kl = quad(lambda z: norm.pdf(z, m, np.sqrt(v)) * (norm.logpdf(z, m, np.sqrt(v)) - norm.logpdf(z)), -9, 9)[0]
    two = gen.kl_normal(jnp.array([[m, 0.0]]), jnp.log(jnp.array([[v, 1.0]])))
    assert float(two[0]) == pytest.approx(kl, rel=1e-8)
    other = gen.kl_normal(*np.random.default_rng(0).normal(size=(2, 50, 3)))
    assert np.all(other > 0) and float(gen.kl_normal(jnp.zeros((1, 3)), jnp.zeros((1, 3)))[0]) == 0


def test_expected_terms_are_the_mean_of_the_bound(x64):
    """Of any linear VAE, not only of the best one."""
    cov, _, _ = data(4)
    rng = np.random.default_rng(1)
    vae = gen.LinearVAE(*(jnp.asarray(rng.normal(size=s) * 0.5) for s in ((4,), (4, 2), (2,), (4, 2))))
    x = jnp.asarray(rng.multivariate_normal(vae.mean, cov, size=20_000))
    terms = gen.elbo(jax.random.key(0), x, vae.encode, vae.decode, 0.7)
    error, kl = gen.expected_terms(vae, jnp.asarray(cov))
    squared = -1.4 * (terms.fit + 2 * np.log(2 * np.pi * 0.7))
    for found, expected in ((squared, error), (terms.kl, kl)):
        assert float(found.mean()) == pytest.approx(float(expected), abs=4 * float(found.std()) / np.sqrt(len(x)))


def test_the_optimum_has_gradient_0_and_the_terms_of_water_filling(x64):
    cov, var, basis = data()
    level = float(np.sqrt(var[2] * var[3]))  # three directions above it
    vae, _ = gen.best_linear_vae(basis, var, 5, level=level)

    @jax.jit
    def loss(vae):
        error, kl = gen.expected_terms(vae, jnp.asarray(cov))
        return error / (2 * level) + kl

    slope = jax.grad(loss)(vae)
    assert max(float(jnp.abs(a).max()) for a in slope[1:]) < 1e-9
    error, kl = gen.expected_terms(vae, jnp.asarray(cov))
    codes = gen.water_filling(var, level, 5)
    assert codes.active == 3
    assert float(kl) == pytest.approx(codes.kl.sum(), rel=1e-10)
    assert float(error) == pytest.approx(codes.error.sum(), rel=1e-10)
    # No other linear VAE is better
    for seed in range(20):
        noise = [jnp.asarray(np.random.default_rng(seed).normal(size=a.shape)) for a in vae]
        assert loss(gen.LinearVAE(*(a + 0.1 * z for a, z in zip(vae, noise, strict=True)))) >= loss(vae)


@pytest.mark.slow
def test_training_reaches_it_from_anywhere_or_collapses(x64):
    """Gradient descent on the two terms: KL is 0 where B r² is above λ_1, and water filling else."""
    cov, var, _ = data(5)
    for level in (1.1 * var[0], 0.5 * var[1]):
        rng = np.random.default_rng(2)
        vae = gen.LinearVAE(*(jnp.asarray(rng.normal(size=s) * 0.1) for s in ((5,), (5, 3), (3,), (5, 3))))

        def loss(vae, level=level):
            error, kl = gen.expected_terms(vae, jnp.asarray(cov))
            return error / (2 * level) + kl

        def step(vae, _, loss=loss):
            return jax.tree.map(lambda a, g: a - 0.02 * g, vae, jax.grad(loss)(vae)), None

        vae, _ = jax.lax.scan(step, vae, None, length=20_000)
        found = gen.expected_terms(vae, jnp.asarray(cov))[1]
        assert float(found) == pytest.approx(gen.water_filling(var, level, 3).kl.sum(), rel=1e-3, abs=1e-4)


def test_with_its_variance_learned_the_bound_is_the_likelihood(x64):
    """The gap is 0: probabilistic PCA, whose density is known; and this r² is the best one."""
    cov, var, basis = data()
    mean = np.arange(6.0)
    vae, r2 = gen.best_linear_vae(basis, var, 2, mean)
    x = np.random.default_rng(3).multivariate_normal(mean, cov, size=50)
    W = np.asarray(vae.decoder)
    log_p = multivariate_normal(mean, W @ W.T + r2 * np.eye(6)).logpdf(x)
    many = jnp.asarray(np.repeat(x, 400, 0))
    terms = gen.elbo(jax.random.key(0), many, vae.encode, vae.decode, r2)
    bound = np.asarray(terms.fit - terms.kl).reshape(50, 400)
    np.testing.assert_allclose(bound.mean(1), log_p, atol=5 * bound.std(1).max() / np.sqrt(400))
    # With the true posterior every draw of IWAE is log p, to the last digit
    exact = gen.iwae(jax.random.key(0), jnp.asarray(x), vae.encode, vae.decode, r2, 3)
    np.testing.assert_allclose(exact, log_p, rtol=1e-10)
    error, kl = (float(a) for a in gen.expected_terms(vae, jnp.asarray(cov)))
    expected = -error / (2 * r2) - 3 * np.log(2 * np.pi * r2) - kl
    assert expected == pytest.approx(gen.log_likelihood(var, 2), rel=1e-12)
    near = [gen.log_likelihood(var, 2, level) for level in (0.9 * r2, r2, 1.1 * r2)]
    assert near[1] == pytest.approx(gen.log_likelihood(var, 2), rel=1e-12) and near[1] > max(near[0], near[2])


def test_iwae_rises_from_the_bound_to_the_likelihood(x64):
    """p(z) = N(0, 1), p(x | z) = N(z, 1), q = the prior, x = 1: the gap of the bound is ½ + x²/4 - ½ log 2."""
    x = jnp.ones((20_000, 1))
    encode = lambda x: (jnp.zeros_like(x), jnp.zeros_like(x))  # noqa: E731
    log_p = norm.logpdf(1, 0, np.sqrt(2))
    bound = gen.elbo(jax.random.key(1), x, encode, lambda z: z, 1.0)
    values = [np.asarray(bound.fit - bound.kl)]
    values += [np.asarray(gen.iwae(jax.random.key(2), x, encode, lambda z: z, 1.0, K)) for K in (1, 10)]
    gaps = [log_p - v.mean() for v in values]
    tolerance = [4 * v.std() / np.sqrt(len(v)) for v in values]
    assert gaps[0] == pytest.approx(0.5 + 0.25 - 0.5 * np.log(2), abs=tolerance[0])
    assert gaps[1] == pytest.approx(gaps[0], abs=tolerance[0] + tolerance[1])
    assert gaps[0] > gaps[2] > 0
    # Var(w)/(2 K E[w]²) for large K: w = N(1; z, 1), z ~ N(0, 1)
    second = np.exp(-1 / 3) / (2 * np.pi * np.sqrt(3))  # E w²
    assert gaps[2] == pytest.approx((second / np.exp(2 * log_p) - 1) / 20, rel=0.15)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: gen.water_filling([1.0, 2.0], 0.5), "does not fall"),
        (lambda: gen.water_filling([2.0, 1.0], 0.0), "level is 0"),
        (lambda: gen.water_filling([2.0, 1.0], 0.5, 3), r"k is 3; give a whole number in 0\.\.2"),
        (lambda: gen.best_linear_vae(np.eye(2), [2.0, 1.0], 2), r"in 1\.\.1"),
        (lambda: gen.best_linear_vae(np.eye(3), [2.0, 1.0], 1), "all eigenvectors"),
        (lambda: gen.log_likelihood([2.0, 1.0], 2), r"in 0\.\.1"),
        (lambda: gen.kl_normal(jnp.ones((2, 3)), jnp.ones((2, 1))), "log_var has shape"),
        (lambda: gen.elbo(jax.random.key(0), jnp.ones((2, 3)), lambda x: (x, x[:, :1]), lambda z: z, 1.0), "encode"),
        (lambda: gen.elbo(jax.random.key(0), jnp.ones((2, 3)), lambda x: (x, x), lambda z: z[:, :1], 1.0), "the mean"),
        (lambda: gen.elbo(jax.random.key(0), jnp.ones((2, 3)), lambda x: (x, x), lambda z: z, 0.0), "r2 is 0"),
        (lambda: gen.iwae(jax.random.key(0), jnp.ones((2, 3)), lambda x: (x, x), lambda z: z, 1.0, 0), "K is 0"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
