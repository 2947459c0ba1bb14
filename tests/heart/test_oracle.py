"""The exact denoiser, against brute force: Bayes' rule on a grid, automatic differentiation, linear algebra."""

import os
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact import output_var_by_direction
from scipy import integrate, stats

from ddpm import oracle
from ddpm.forward import q_sample
from ddpm.oracles import gaussian
from ddpm.sample import ddim_step, ddpm_step
from ddpm.schedule import from_alpha_bar, linear, make_times


def two_classes():
    """Three components in the plane, the first two of class 0, with full covariances."""
    cov = np.array([[[0.5, 0.2], [0.2, 0.3]], [[0.1, 0.0], [0.0, 0.4]], [[0.3, -0.25], [-0.25, 0.4]]])
    return oracle.mixture([[1.0, 0.5], [-0.5, 0.2], [-1.0, -1.0]], cov, [0.5, 0.2, 0.3], [0, 0, 1]), cov


def test_log_prob_is_that_of_scipy(x64):
    m, cov = two_classes()
    schedule, x = linear(), np.random.default_rng(0).normal(size=(5, 2))
    for t in (0, 1, 300, 1000):
        a = float(schedule.alpha_bar[t])
        p = [
            stats.multivariate_normal(np.sqrt(a) * m.mean[k], a * cov[k] + (1 - a) * np.eye(2)).pdf(x) for k in range(3)
        ]
        np.testing.assert_allclose(
            m.log_prob(schedule, jnp.asarray(x), t), np.log(np.dot([0.5, 0.2, 0.3], p)), rtol=1e-9
        )
        of_class = np.log((5 * p[0] + 2 * p[1]) / 7)
        np.testing.assert_allclose(m.log_prob(schedule, jnp.asarray(x), t, jnp.zeros(5, int)), of_class, rtol=1e-9)


def test_score_is_the_gradient_and_eps_the_scaled_score(x64):
    m, _ = two_classes()
    schedule, x = linear(), jax.random.normal(jax.random.key(0), (6, 2))
    t, c = jnp.array([1, 10, 100, 300, 600, 1000]), jnp.array([0, 1, 2, 0, 1, 2])  # 2 is the null label
    grad = jax.grad(lambda x: m.log_prob(schedule, x, t, c).sum())(x)
    np.testing.assert_allclose(m.score(schedule)(x, t, c), grad, rtol=1e-8, atol=1e-10)
    std = np.sqrt(1 - np.asarray(schedule.alpha_bar)[np.asarray(t)])[:, None]
    np.testing.assert_allclose(m.eps(schedule)(x, t, c), -std * grad, rtol=1e-8, atol=1e-10)


def test_eps_is_the_conditional_mean_of_the_noise(x64):
    """E[ε | x_t] by numerical integration over x0 in one dimension."""
    m, schedule = oracle.mixture([[1.0], [-1.0]], 0.25, [0.7, 0.3]), linear()
    prior = lambda x: 0.7 * stats.norm(1, 0.5).pdf(x) + 0.3 * stats.norm(-1, 0.5).pdf(x)  # noqa: E731
    for t, x_t in [(50, 0.3), (300, 0.3), (800, -1.5)]:
        alpha, sigma = float(jnp.sqrt(schedule.alpha_bar[t])), float(jnp.sqrt(1 - schedule.alpha_bar[t]))
        joint = lambda x0, x_t=x_t, a=alpha, s=sigma: prior(x0) * stats.norm(a * x0, s).pdf(x_t)  # noqa: E731
        noise = lambda x0, x_t=x_t, a=alpha, s=sigma, q=joint: (x_t - a * x0) / s * q(x0)  # noqa: E731
        brute = integrate.quad(noise, -6, 6, limit=500)[0] / integrate.quad(joint, -6, 6, limit=500)[0]
        assert m.eps(schedule)(jnp.array([[x_t]]), t)[0, 0] == pytest.approx(brute, abs=1e-7)


def test_class_posterior_and_the_identity_of_classifier_guidance(x64):
    """Bayes; ε_∅ - √(1-ᾱ) ∇ log p(c | x_t) = ε_c; Σ_c p(c | x_t) ε_c = ε_∅.   [Dhariwal and Nichol 2021, Eq. 14]"""
    m, _ = two_classes()
    schedule, x, t = linear(), jax.random.normal(jax.random.key(1), (4, 2)), jnp.array([5, 100, 400, 900])
    posterior = m.class_posterior(schedule, x, t)
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-12)
    eps = m.eps(schedule)
    by_class = jnp.stack([eps(x, t, jnp.full(4, k)) for k in (0, 1)])
    np.testing.assert_allclose(jnp.einsum("bc,cbd->bd", posterior, by_class), eps(x, t, None), atol=1e-12)
    for k in (0, 1):
        grad = jax.grad(lambda x, k=k: jnp.log(m.class_posterior(schedule, x, t)[:, k]).sum())(x)
        std = jnp.sqrt(1 - schedule.alpha_bar[t])[:, None]
        np.testing.assert_allclose(eps(x, t, None) - std * grad, by_class[k], atol=1e-9)


def test_posterior_of_the_components(x64):
    """Bayes from the single components' densities; a class keeps its own components and renormalises."""
    m, cov = two_classes()
    schedule, x, t = linear(), jax.random.normal(jax.random.key(2), (4, 2)), 200
    alone = [oracle.gaussian(m.mean[k], cov[k]).log_prob(schedule, x, t) for k in range(3)]
    joint = np.exp(np.stack(alone, 1)) * [0.5, 0.2, 0.3]
    np.testing.assert_allclose(m.posterior(schedule, x, t), joint / joint.sum(1, keepdims=True), rtol=1e-9)
    of_class = m.posterior(schedule, x, t, jnp.zeros(4, int))
    np.testing.assert_allclose(of_class[:, :2], joint[:, :2] / joint[:, :2].sum(1, keepdims=True), rtol=1e-9)
    np.testing.assert_array_equal(of_class[:, 2], 0)


def test_the_null_label_and_none_are_the_same(x64):
    m, _ = two_classes()
    schedule, x = linear(), jnp.ones((3, 2))
    np.testing.assert_array_equal(m.eps(schedule)(x, 7, None), m.eps(schedule)(x, 7, jnp.full(3, m.num_classes)))


def test_two_points_are_a_tanh(x64):
    """x0 ∈ {-1, +1}: E[x0 | x_t] = tanh(√ᾱ x_t / (1-ᾱ))."""
    m, schedule = oracle.mixture([[1.0], [-1.0]], 0.0), linear()
    a = schedule.alpha_bar[300]
    x0 = (0.5 - jnp.sqrt(1 - a) * m.eps(schedule)(jnp.array([[0.5]]), 300)[0, 0]) / jnp.sqrt(a)
    assert x0 == pytest.approx(0.47891086, abs=1e-8)
    assert x0 == pytest.approx(float(jnp.tanh(jnp.sqrt(a) * 0.5 / (1 - a))), abs=1e-12)


def test_fit_is_the_best_linear_denoiser(x64):
    """ε*(x_t) of the fitted Gaussian equals the least-squares answer from the joint covariance of (x_t, ε)."""
    x = np.random.default_rng(1).normal(size=(50, 3)) @ np.array([[1, 0.5, 0], [0, 0.4, 0.3], [0, 0, 0.2]]) + 0.3
    schedule, t = linear(), 200
    a = float(schedule.alpha_bar[t])
    centred = x - x.mean(0)
    cov_t = a * centred.T @ centred / 50 + (1 - a) * np.eye(3)
    x_t = np.random.default_rng(2).normal(size=(4, 3))
    expected = np.sqrt(1 - a) * np.linalg.solve(cov_t, (x_t - np.sqrt(a) * x.mean(0)).T).T
    np.testing.assert_allclose(gaussian.fit(x).eps(schedule)(jnp.asarray(x_t), t), expected, rtol=1e-9)


def test_a_fit_copies_one_class_at_a_time():
    """A copy of all images in float64 would be twice their size, the float32 of a data set."""
    x, c = np.random.default_rng(0).normal(size=(20000, 64)).astype(np.float32), np.arange(20000) % 10
    tracemalloc.start()
    try:
        m = gaussian.fit(x, c)
        gaussian.linear_loss(m, linear(), x, c)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < x.nbytes


@pytest.mark.parametrize("conditional", [False, True])
def test_linear_loss_is_the_loss(x64, conditional):
    """The closed form against a quadrature that is exact for squares: ε = ±√3, 0 with weights 1/6, 1/6, 2/3."""
    rng = np.random.default_rng(3)
    x, label = rng.normal(size=(40, 2)) @ np.array([[1, 0.3], [0, 0.5]]), rng.integers(0, 2, 40)
    test, test_label = rng.normal(size=(7, 2)), rng.integers(0, 2, 7)
    m = gaussian.fit(x, label if conditional else None)
    schedule = linear(50)
    closed = gaussian.linear_loss(m, schedule, test, test_label if conditional else None)
    nodes, weights = np.array([-np.sqrt(3), 0, np.sqrt(3)]), np.array([1, 4, 1]) / 6
    for t in (1, 20, 50):
        loss = 0.0
        for i, j in np.ndindex(3, 3):
            noise = jnp.broadcast_to(jnp.array([nodes[i], nodes[j]]), (7, 2))
            c = jnp.asarray(test_label) if conditional else None
            error = noise - m.eps(schedule)(q_sample(schedule, jnp.asarray(test), t, noise), t, c)
            loss += weights[i] * weights[j] * float((error**2).mean())
        assert closed[t] == pytest.approx(loss, rel=1e-9)
    assert closed[0] == 1


@pytest.mark.parametrize(("lam", "floor"), [(1, 0.275513), (0.25, 0.173053), (0.1, 0.120542), (0.01, 0.041431)])
def test_the_loss_floor_of_a_gaussian(x64, lam, floor):
    """mean_t ᾱλ/(ᾱλ+1-ᾱ): what a perfect network reaches on N(0, λ)."""
    x0 = np.sqrt(lam) * np.array([[1.0], [-1.0]])  # second moment λ
    loss = gaussian.linear_loss(oracle.gaussian([0.0], lam), linear(), x0)
    assert loss[1:].mean() == pytest.approx(floor, rel=2e-5)


def test_samples_have_the_mixtures_moments():
    m, cov = two_classes()
    x, c = m.sample(jax.random.key(0), 40_000)
    w = np.array([0.5, 0.2, 0.3])
    mean = w @ np.asarray(m.mean)
    second = np.einsum("k,kde->de", w, cov + np.einsum("kd,ke->kde", m.mean, m.mean))
    np.testing.assert_allclose(x.mean(0), mean, atol=4 * np.sqrt(2 / 40_000))
    np.testing.assert_allclose(np.einsum("bd,be->de", x, x) / len(x), second, atol=0.04)
    assert (np.asarray(c) == 0).mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / 40_000))
    assert m.sample(jax.random.key(0), 3, (2, 1, 1))[0].shape == (3, 2, 1, 1)


def test_images_keep_their_shape():
    m = oracle.gaussian(np.zeros((2, 2, 1)), 0.5)
    assert m.eps(linear())(jnp.ones((3, 2, 2, 1)), jnp.array([1, 2, 3])).shape == (3, 2, 2, 1)


REAL = pytest.mark.skipif("DDPM_DATA_DIR" not in os.environ, reason="needs Fashion-MNIST; set DDPM_DATA_DIR")


@pytest.fixture(scope="module")
def fashion():
    data = np.load(os.path.join(os.environ["DDPM_DATA_DIR"], "fashion_mnist.npz"))
    return {k: v / 127.5 - 1 if k[0] == "x" else v.astype(int) for k, v in data.items()}


@pytest.mark.slow
@REAL
def test_the_best_linear_denoiser_of_fashion_mnist(x64, fashion):
    """L_simple .0870 (train) and .0873 (test), with the label .0644; L_t .978, .271, .0581, .00203 at four times."""
    m, schedule = gaussian.fit(fashion["x_train"]), linear()
    train = gaussian.linear_loss(m, schedule, fashion["x_train"])
    test = gaussian.linear_loss(m, schedule, fashion["x_test"])
    assert train[1:].mean() == pytest.approx(0.0870, abs=6e-5) and test[1:].mean() == pytest.approx(0.0873, abs=6e-5)
    np.testing.assert_allclose(train[[1, 100, 300, 700]], [0.978, 0.271, 0.0581, 0.00203], rtol=5e-3)
    by_class = gaussian.fit(fashion["x_train"], fashion["y_train"])
    assert gaussian.linear_loss(by_class, schedule, fashion["x_train"], fashion["y_train"])[1:].mean() == pytest.approx(
        0.0644, abs=6e-5
    )


FRECHET = {  # exact Fréchet distance of samples, S = 10, 20, 50, 100, 1000   [DDIM, Table 1, without a network]
    "eta 0": (ddim_step, [11.007, 3.3996, 0.6426, 0.1764, 0.0036]),
    "eta .2": (lambda e, s: ddim_step(e, s, eta=0.2), [11.215, 3.4984, 0.6707, 0.1857, 0.0036]),
    "eta .5": (lambda e, s: ddim_step(e, s, eta=0.5), [12.471, 4.0941, 0.8445, 0.2459, 0.0044]),
    "eta 1": (lambda e, s: ddim_step(e, s, eta=1.0), [21.182, 7.8639, 1.9466, 0.6443, 0.0127]),
    "sigma-hat": (lambda e, s: ddpm_step(e, s, variance="fixed_large"), [34.096, 7.0900, 0.9694, 0.2266, 0.0017]),
}


@pytest.fixture(scope="module")
def variances(fashion):
    """The eigenvalues of the covariance of the training images."""
    x = fashion["x_train"].reshape(len(fashion["x_train"]), -1)
    return np.maximum(np.linalg.eigvalsh(np.cov(x, rowvar=False)), 0)


@pytest.mark.slow
@REAL
@pytest.mark.parametrize("row", FRECHET)
def test_table_1_of_ddim_on_the_covariance_of_fashion_mnist(x64, variances, row):
    """A linear sampler treats each eigenvector by itself: Σ_d (√λ_d - √v_d)², v_d what comes out for variance λ_d."""
    lam, (make, distances) = variances, FRECHET[row]
    for S, distance in zip((10, 20, 50, 100, 1000), distances, strict=True):
        v = output_var_by_direction(make, linear(), lam, make_times(1000, S, "leading"))
        assert ((np.sqrt(lam) - np.sqrt(v)) ** 2).sum() == pytest.approx(distance, rel=2e-3, abs=6e-5)


GAP = oracle.mixture([[0.0], [1.0]], 1.0, label=[0, 2])
SINGULAR = oracle.gaussian([0.0, 0.0], np.diag([1.0, 0.0]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: oracle.gaussian([0.0, 0.0], np.diag([1.0, -0.1])), ValueError, "negative eigenvalue"),
        (lambda: oracle.gaussian([0.0, 0.0], np.array([[1.0, 0.5], [0.2, 1.0]])), ValueError, "symmetric"),
        (lambda: oracle.gaussian([0.0], -1.0), ValueError, "negative"),
        (lambda: oracle.gaussian([0.0], float("nan")), ValueError, "not finite"),
        (lambda: oracle.gaussian([float("nan")], 1.0), ValueError, "finite means"),
        (lambda: oracle.mixture([[0.0], [1.0]], np.ones(3)), ValueError, "cov has shape"),
        (lambda: oracle.mixture([[0.0], [1.0]], 1.0, [0.5, 0.6]), ValueError, "sum to 1"),
        (lambda: oracle.mixture([[0.0], [1.0]], 1.0, [float("nan"), 1.0]), ValueError, "sum to 1"),
        (lambda: oracle.mixture([[0.0], [1.0]], 1.0, label=[0, -1]), ValueError, "label"),
        (lambda: gaussian.fit(np.zeros((3, 2)), np.zeros(2, int)), ValueError, "one label for each"),
        (lambda: SINGULAR.log_prob(linear(), jnp.zeros((1, 2)), 0), ValueError, "no density"),
        (lambda: SINGULAR.eps(linear())(jnp.zeros((1, 3)), 1), ValueError, "3 numbers an image"),
        (lambda: SINGULAR.eps(linear())(jnp.zeros((1, 2)), 1001), ValueError, "1001"),
        (lambda: SINGULAR.eps(linear())(jnp.zeros((1, 2)), 1, jnp.array([2])), ValueError, "outside 0..1"),
        (lambda: SINGULAR.eps(linear())(jnp.zeros((2, 2)), 1, jnp.array([0])), ValueError, "2 images"),
        (lambda: SINGULAR.eps(linear())(jnp.zeros((1, 2)), 1, jnp.array([0.0])), TypeError, "integers"),
        (
            lambda: oracle.mixture([[0.0], [1.0]], 1.0, label=[0, 2]).eps(linear())(
                jnp.zeros((1, 1)), 1, jnp.array([1])
            ),
            ValueError,
            "class 1",
        ),
        (lambda: gaussian.linear_loss(oracle.mixture([[0.0], [1.0]], 1.0), linear(), [[0.0]]), ValueError, "labels c"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_oracle_takes_any_schedule(x64):
    """Noise levels of one's own: the posterior of N(0, 1) is x̂0 = √ᾱ x_t whatever ᾱ is."""
    schedule = from_alpha_bar([0.9, 0.4, 0.123])
    eps = oracle.gaussian([0.0], 1.0).eps(schedule)(jnp.ones((3, 1)), jnp.array([1, 2, 3]))
    np.testing.assert_allclose(eps.ravel(), np.sqrt(1 - np.array([0.9, 0.4, 0.123])), rtol=1e-12)
