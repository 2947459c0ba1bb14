"""The bound on Gaussian data, where the best model's bound is the entropy, and its parts one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpm import oracle
from ddpm.loss import squared_error
from ddpm.losses import bound as B
from ddpm.losses import weighting
from ddpm.losses.importance import draw_times, loss_history, probabilities, remember
from ddpm.samplers.respacing import respace
from ddpm.samplers.variance import optimal
from ddpm.schedule import linear, make_times

ROOT3 = np.sqrt(3.0)
NODES = [(x, z) for x in (-ROOT3, 0, ROOT3) for z in (-ROOT3, 0, ROOT3)]  # exact for polynomials of degree 5
WEIGHTS = np.array([a * b for a in (1, 4, 1) for b in (1, 4, 1)]) / 36


def expected_terms(schedule, lam, variance):
    """E over N(0, λ) and the noise of every term, exactly: (T,) nats, that of t = 1 first."""
    T = schedule.T
    x0 = jnp.asarray([np.sqrt(lam) * x for x, _ in NODES] * T)[:, None]
    noise = jnp.asarray([z for _, z in NODES] * T)[:, None]
    t = jnp.repeat(jnp.arange(1, T + 1), 9)
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    terms = B.bound_term(eps, schedule, variance, B.gaussian_nll)(x0, t, t - 1, noise)
    return np.asarray(terms).reshape(T, 9) @ WEIGHTS / B.BITS


def gamma(schedule, lam):
    a = schedule.alpha_bar
    return (1 - a) / (a * lam + 1 - a)


@pytest.mark.parametrize("lam", [0.05, 0.25, 1.0])
@pytest.mark.parametrize("steps", [1000, 10])
def test_the_best_bound_is_the_entropy(x64, lam, steps):
    """With ε* and σ*: L = H(x0) + KL(q(x_T) ‖ N(0, 1)), for all times and for ten of them."""
    schedule = respace(linear(), make_times(1000, steps))
    terms = expected_terms(schedule, lam, optimal(gamma(schedule, lam)))
    prior = float(B.prior_bits(schedule, jnp.full((1, 1), np.sqrt(lam)))[0]) / B.BITS
    var_T = float(schedule.alpha_bar[-1]) * lam + 1 - float(schedule.alpha_bar[-1])
    entropy = 0.5 * np.log(2 * np.pi * np.e * lam)
    assert terms.sum() + prior == pytest.approx(entropy + 0.5 * (var_T - 1 - np.log(var_T)), abs=1e-9)


@pytest.mark.parametrize(
    ("steps", "large", "small", "tolerance"),
    [(1000, 0.1654, 0.8222, 1e-4), (100, 0.0165, 13.8, 0.05), (10, 0.1475, 656, 0.5)],
)
def test_the_price_of_the_wrong_variance(x64, steps, large, small, tolerance):
    """N(0, .25), bits/dim above the best: `fixed_small` explodes when strided, which is why IDDPM learns Σ."""
    schedule, lam = respace(linear(), make_times(1000, steps, "linspace")), 0.25
    best = expected_terms(schedule, lam, optimal(gamma(schedule, lam))).sum()
    price = [(expected_terms(schedule, lam, v).sum() - best) * B.BITS for v in ("fixed_large", "fixed_small")]
    assert price[0] == pytest.approx(large, abs=min(tolerance, 1e-3))
    assert price[1] == pytest.approx(small, abs=tolerance)


def test_prior_bits(x64):
    """½(ᾱ_T (E x² - 1) - log(1-ᾱ_T)): 7.279e-6, 2.911e-5 and, with Fashion-MNIST's E x² = .68162, 1.984e-5."""
    for square, bits in [(0.25, 7.279e-6), (1.0, 2.911e-5), (0.68162, 1.984e-5)]:
        assert B.prior_bits(linear(), jnp.full((1, 4), np.sqrt(square)))[0] == pytest.approx(bits, rel=1e-3)


def test_prior_bits_in_float32():
    assert B.prior_bits(linear(), jnp.full((1, 4), 0.5))[0] == pytest.approx(7.279e-6, rel=1e-2)


def test_normal_kl_is_the_integral(x64):
    grid = np.linspace(-12, 12, 200_001)
    p, q = stats.norm(0.3, 0.7), stats.norm(-0.2, 1.1)
    brute = np.trapezoid(p.pdf(grid) * (p.logpdf(grid) - q.logpdf(grid)), grid)
    assert B.normal_kl(0.3, jnp.float64(0.49), -0.2, jnp.float64(1.21)) == pytest.approx(brute, abs=1e-9)


def test_the_decoder_is_a_distribution_over_bytes(x64):
    """The 256 bins cover the line: probabilities sum to 1 wherever the mean lies and however narrow it is."""
    bytes_ = jnp.arange(256) / 127.5 - 1
    for mean in (-1.3, -1.0, 0.0, 0.001, 0.5, 0.9999):
        for std in (1e-3, 0.01, 0.3, 2.0):
            nll = B.decoder_nll(bytes_, jnp.full(256, mean), jnp.float64(std**2))
            assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-9)


def test_the_decoder_is_scipys_normal_mass(x64):
    x0, mean, std = jnp.array([-1.0, 20 / 127.5 - 1, 200 / 127.5 - 1, 1.0]), jnp.array([-0.9, -0.8, 0.5, 0.7]), 0.1
    normal = stats.norm(np.asarray(mean), std)
    edges = np.asarray(x0)[:, None] + np.array([[-1, 1]]) / 255
    edges[0, 0], edges[-1, 1] = -np.inf, np.inf
    np.testing.assert_allclose(
        B.decoder_nll(x0, mean, jnp.float64(std**2)),
        -np.log(normal.cdf(edges[:, 1]) - normal.cdf(edges[:, 0])),
        rtol=1e-9,
    )


@pytest.mark.parametrize("side", [1, -1])
def test_the_decoder_far_from_its_mean(side):
    """40 standard deviations away, in float32: finite, with a finite gradient, and right (the tanh form gives up)."""
    x0, mean, var = jnp.array([0.0]), jnp.array([0.4 * side]), jnp.float32(1e-4)
    nll, grad = jax.value_and_grad(lambda m: B.decoder_nll(x0, m, var)[0])(mean)
    edge = (0.4 - 1 / 255) / 0.01
    assert nll == pytest.approx(-stats.norm.logsf(edge), rel=1e-3)
    assert side * grad[0] == pytest.approx(edge / 0.01, rel=0.02)


def test_a_term_is_the_weighted_squared_error(x64):
    """For t ≥ 2 and σ² = β̃ the KL is w_t ‖ε - ε̂‖².   [Ho et al. 2020, Eq. 12]"""
    schedule, (x0, noise) = linear(), jax.random.normal(jax.random.key(0), (2, 4, 5))
    t, eps = jnp.array([2, 10, 500, 1000]), lambda x, t, c: 0.9 * x
    ours = B.bound_term(eps, schedule)(x0, t, t - 1, noise)
    expected = weighting.vlb(schedule)[t] * squared_error(eps, schedule, x0, t, noise).mean(1) * B.BITS
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.slow
def test_bits_per_dim_adds_its_parts():
    """The Monte-Carlo bound of bytes: prior and terms add up; a step list is the bound of the respaced chain."""
    schedule = linear(50)
    x0 = jnp.round(jax.random.uniform(jax.random.key(0), (300, 2, 2, 1)) * 255) / 127.5 - 1
    m = oracle.gaussian(np.zeros((2, 2, 1)), 1 / 3)  # the moments of uniform bytes
    key = jax.random.key(1)
    out = B.bits_per_dim(m.eps(schedule), schedule, key, x0, variance="fixed_large")
    np.testing.assert_allclose(out.total, out.prior + out.terms.sum(0), rtol=1e-5)
    assert out.terms.shape == out.x0_error.shape == (50, 300)
    assert 8 <= out.total.mean() < 9.5  # 8 bits is the entropy of uniform bytes; a Gaussian model cannot know it
    assert np.all(np.diff(np.asarray(out.x0_error.mean(1))[::10]) < 0)  # x̂0 gets better towards t = 1
    short = B.bits_per_dim(m.eps(schedule), schedule, key, x0, times=[50, 20, 5, 0], variance="fixed_large")
    assert short.terms.shape == (3, 300) and short.total.mean() > out.total.mean() - 0.2


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_bits_of_a_chain_that_skips_times(x64, variance):
    """Ten trailing times on 20,000 draws of N(0, .25): the exact expectation on the respaced chain, to 4 errors."""
    times = make_times(1000, 10)
    x0 = 0.5 * jax.random.normal(jax.random.key(0), (20_000, 1))
    eps = oracle.gaussian([0.0], 0.25).eps(linear())
    options = {"times": times, "variance": variance, "decoder": B.gaussian_nll}
    out = B.bits_per_dim(eps, linear(), jax.random.key(1), x0, **options)
    exact = expected_terms(respace(linear(), times), 0.25, variance).sum() * B.BITS
    terms = out.total - out.prior
    assert terms.mean() == pytest.approx(exact, abs=4 * float(terms.std()) / np.sqrt(20_000))


def test_hybrid_trains_the_variance_by_the_bound_and_the_mean_by_l_simple(x64):
    schedule, x0, key = linear(20 * 2), jnp.full((8, 1), 0.3), jax.random.key(0)

    def loss(a, b, weight):
        eps, v = (lambda x, t, c: a * x), (lambda x, t, c: jnp.full_like(x, b))
        return B.hybrid_loss(eps, v, schedule, key, x0, weight=weight)

    grad = jax.jit(jax.grad(loss, argnums=(0, 1)))
    only_simple, both = grad(0.9, 0.2, 0.0), grad(0.9, 0.2, 0.001)
    assert both[0] == only_simple[0] and only_simple[1] == 0 and both[1] != 0  # the stop-gradient


def test_the_hybrids_bound_is_the_sum_over_all_times(x64):
    """A denoiser that knows x0 leaves only the variances' KL, ½(log r - 1 + 1/r) with r = σ²/β̃: a sum in closed form.

    40 stratified times of 40 meet each time once, so the draw has no sampling error.
    """
    schedule, x0, f = linear(40), jnp.full((40, 1), 33 / 127.5 - 1), 0.6

    def knows(x_t, t, c):
        a = schedule.alpha_bar[t][:, None]
        return (x_t - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a)

    v = lambda x, t, c: jnp.full_like(x, 2 * f - 1)  # noqa: E731
    ours = jax.jit(lambda key: B.hybrid_loss(knows, v, schedule, key, x0, weight=1.0))(jax.random.key(0))
    a, beta = np.asarray(schedule.alpha_bar), np.asarray(schedule.beta)
    small = beta[1:] * (1 - a[:-1]) / (1 - a[1:])
    small[0] = small[1]
    ratio = (beta[1:] / small) ** f
    kl = 0.5 * (np.log(ratio[1:]) - 1 + 1 / ratio[1:]).sum()
    std = np.sqrt(small[0] * ratio[0])
    last = -np.log(stats.norm(0, std).cdf(1 / 255) - stats.norm(0, std).cdf(-1 / 255))
    assert ours == pytest.approx((kl + last) / np.log(2), rel=1e-6)


# --- importance sampling ----------------------------------------------------------------------------------------------


def test_importance_sampling_saves_a_factor_of_25(x64):
    """T Σ L²/(Σ L)² over the KL terms of N(0, .25); the first 10 of 999 carry 39.4 %, the first 100 85.4 %."""
    schedule, lam = linear(), 0.25
    terms = expected_terms(schedule, lam, optimal(gamma(schedule, lam)))[1:]
    assert 999 * (terms**2).sum() / terms.sum() ** 2 == pytest.approx(24.97, rel=2e-3)
    assert terms[:10].sum() / terms.sum() == pytest.approx(0.394, abs=1e-3)
    assert terms[:100].sum() / terms.sum() == pytest.approx(0.854, abs=1e-3)


def test_probabilities_follow_the_losses(x64):
    h = loss_history(4, n=3)
    np.testing.assert_allclose(probabilities(h), [0, 0.25, 0.25, 0.25, 0.25])
    loss = jnp.array([1.0, 2.0, 3.0, 4.0])
    for k in range(3):
        h = remember(h, jnp.arange(1, 5), loss)
        if k < 2:
            np.testing.assert_allclose(probabilities(h)[1:], 0.25)  # not warm yet
    np.testing.assert_allclose(probabilities(h, 0.0)[1:], loss / 10, rtol=1e-12)
    np.testing.assert_allclose(probabilities(h, 0.5)[1:], 0.5 * loss / 10 + 0.125, rtol=1e-12)


def test_the_oldest_losses_make_room(x64):
    h = loss_history(2, n=2)
    h = remember(h, jnp.array([1, 1, 1, 2]), jnp.array([5.0, 6.0, 7.0, 8.0]))  # one batch, one time thrice
    np.testing.assert_array_equal(h.loss[1], [6, 7])
    np.testing.assert_array_equal(h.loss[2], [0, 8])
    np.testing.assert_array_equal(h.seen, [0, 2, 1])


def test_importance_sampling_keeps_the_mean(x64):
    h, loss = loss_history(5, n=1), jnp.array([0.0, 10.0, 1.0, 2.0, 0.5, 0.1])
    h = remember(h, jnp.arange(1, 6), loss[1:])
    t, w = draw_times(h, jax.random.key(0), 50_000)
    weighted = w * loss[t]
    assert weighted.mean() == pytest.approx(float(loss[1:].mean()), rel=0.01)
    assert weighted.std() < 0.1 * loss[1:].std()  # L_t/p_t is nearly constant: that is the point


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, s, x: B.bound_term(e, s)(x, 5, 5, x), "s < t"),
        (lambda e, s, x: B.bound_term(e, s)(x, 5, 4, x[:1]), "must be equal"),
        (lambda e, s, x: B.bound_term(e, s, "small"), "Known: fixed_small"),
        (lambda e, s, x: B.bits_per_dim(e, s, jax.random.key(0), x, times=[5, 9, 0]), "fall to 0"),
        (lambda e, s, x: loss_history(0), "T is 0"),
        (lambda e, s, x: remember(loss_history(3), jnp.array([4]), jnp.array([1.0])), "outside 1..3"),
        (lambda e, s, x: remember(loss_history(3), jnp.array([1, 2]), jnp.array([1.0])), "must be equal"),
        (lambda e, s, x: probabilities(loss_history(3), 2.0), "uniform"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(lambda x, t, c: x, linear(), jnp.ones((2, 1)))
