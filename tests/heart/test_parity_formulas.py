"""The formulas of the original code bases, in float64 NumPy as they state them, against ours: 1e-12.

Their arrays count from 0 and carry a `prev` copy that is shifted by one; ours count from 1 and have ᾱ_0 = 1. Here i is
theirs and t = i + 1 ours.   [openai/improved-diffusion, hojonathanho/diffusion, ermongroup/ddim]
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpm import forward
from ddpm.losses import bound
from ddpm.sample import make_variance
from ddpm.samplers.variance import learned
from ddpm.schedule import cosine, linear, make_times


class Reference:
    """The tables that GaussianDiffusion of improved-diffusion holds."""

    def __init__(self, name, T=1000):
        if name == "linear":
            self.betas = np.linspace(1000 / T * 1e-4, 1000 / T * 0.02, T)
        else:
            f = lambda u: np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
            self.betas = np.array([min(1 - f((i + 1) / T) / f(i / T), 0.999) for i in range(T)])
        alphas = 1 - self.betas
        self.alphas_cumprod = np.cumprod(alphas)
        self.prev = np.append(1.0, self.alphas_cumprod[:-1])
        self.posterior_variance = self.betas * (1 - self.prev) / (1 - self.alphas_cumprod)
        self.log_variance_clipped = np.log(np.append(self.posterior_variance[1], self.posterior_variance[1:]))
        self.coef1 = self.betas * np.sqrt(self.prev) / (1 - self.alphas_cumprod)
        self.coef2 = (1 - self.prev) * np.sqrt(alphas) / (1 - self.alphas_cumprod)
        self.sqrt_recip = np.sqrt(1 / self.alphas_cumprod)
        self.sqrt_recipm1 = np.sqrt(1 / self.alphas_cumprod - 1)


PAIRS = [("linear", linear), ("cosine", cosine)]
ALL = jnp.arange(1, 1001)
ONE, ZERO = np.ones((1000, 1)), np.zeros((1000, 1))  # float64 whatever jax makes of arrays here


@pytest.mark.parametrize(("name", "ours"), PAIRS)
@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_tables(x64, name, ours, T):
    reference, schedule = Reference(name, T), ours(T)
    np.testing.assert_allclose(schedule.beta[1:], reference.betas, rtol=1e-12)
    np.testing.assert_allclose(schedule.alpha_bar[1:], reference.alphas_cumprod, rtol=1e-12)


@pytest.mark.parametrize(("name", "ours"), PAIRS)
def test_posterior_and_x0(x64, name, ours):
    """Each coefficient is read off by a one in its place; β as 1 - ᾱ_t/ᾱ_s is right to 1e-16, so all are to 1e-12."""
    reference, schedule = Reference(name), ours()
    of_x0, var = forward.q_posterior(schedule, ZERO, ONE, ALL, ALL - 1)
    of_x_t, _ = forward.q_posterior(schedule, ONE, ZERO, ALL, ALL - 1)
    np.testing.assert_allclose(of_x0.ravel(), reference.coef1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(of_x_t.ravel(), reference.coef2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(var.ravel(), reference.posterior_variance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(forward.x0_from_eps(schedule, ONE, ALL, ZERO).ravel(), reference.sqrt_recip, rtol=1e-12)
    np.testing.assert_allclose(
        -forward.x0_from_eps(schedule, ZERO, ALL, ONE).ravel(), reference.sqrt_recipm1, rtol=1e-11
    )


@pytest.mark.parametrize(("name", "ours"), PAIRS)
def test_log_variances(x64, name, ours):
    """The clipped posterior log-variance, the large one, and the learned one between them."""
    reference, schedule = Reference(name), ours()
    small = np.log(make_variance("fixed_small")(schedule, ZERO, ALL, ALL - 1)).ravel()
    np.testing.assert_allclose(small, reference.log_variance_clipped, rtol=1e-11)
    large = np.log(make_variance("fixed_large")(schedule, ZERO, ALL, ALL - 1)).ravel()
    np.testing.assert_allclose(
        large, np.log(np.append(reference.posterior_variance[1], reference.betas[1:])), rtol=1e-11
    )
    for v in (-1.0, -0.3, 1.0):
        frac = (v + 1) / 2
        expected = frac * np.log(reference.betas) + (1 - frac) * reference.log_variance_clipped
        ours_v = learned(lambda x, t, c, v=v: jnp.full_like(x, v))(schedule, ZERO, ALL, ALL - 1)
        np.testing.assert_allclose(np.log(ours_v).ravel(), expected, rtol=1e-11)


def test_bound_terms(x64):
    """normal_kl of log-variances in bits, and the bits of the prior, as `_vb_terms_bpd` and `_prior_bpd` state them."""
    reference, schedule = Reference("linear"), linear()
    rng = np.random.default_rng(0)
    x0, noise, guess = rng.normal(size=(3, 5, 4))
    i = np.array([1, 5, 100, 500, 999])
    a = reference.alphas_cumprod[i][:, None]
    x_t = np.sqrt(a) * x0 + np.sqrt(1 - a) * noise
    pred = reference.sqrt_recip[i][:, None] * x_t - reference.sqrt_recipm1[i][:, None] * guess
    c1, c2 = reference.coef1[i][:, None], reference.coef2[i][:, None]
    mean1, mean2 = c1 * x0 + c2 * x_t, c1 * pred + c2 * x_t
    log1, log2 = reference.log_variance_clipped[i][:, None], np.log(reference.betas)[i][:, None]
    kl = 0.5 * (-1 + log2 - log1 + np.exp(log1 - log2) + (mean1 - mean2) ** 2 * np.exp(-log2))
    term = bound.bound_term(lambda x, t, c: jnp.asarray(guess), schedule, "fixed_large")
    ours = term(jnp.asarray(x0), jnp.asarray(i + 1), jnp.asarray(i), jnp.asarray(noise))
    np.testing.assert_allclose(ours, kl.mean(1) / np.log(2), rtol=1e-9)
    a_T = reference.alphas_cumprod[-1]
    prior = 0.5 * (-1 - np.log(1 - a_T) + (1 - a_T) + a_T * x0**2).mean(1) / np.log(2)
    np.testing.assert_allclose(bound.prior_bits(schedule, jnp.asarray(x0)), prior, rtol=1e-9)


def test_decoder_differs_from_the_tanh_form_by_its_known_error(x64):
    """`approx_standard_normal_cdf` is a tanh; against the exact Φ it is off by up to 2e-4: an expected difference."""
    x0 = jnp.round(jnp.linspace(0, 255, 18)) / 127.5 - 1
    mean, std = x0 * 0.97, 0.05

    def cdf(x):
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    plus, minus = cdf((x0 - mean + 1 / 255) / std), cdf((x0 - mean - 1 / 255) / std)
    tanh = -np.log(np.where(x0 < -0.999, plus, np.where(x0 > 0.999, 1 - minus, plus - minus)))
    ours = bound.decoder_nll(x0, mean, jnp.float64(std**2))
    assert 0 < np.abs(ours - tanh).max() < 0.02
    edges = np.stack([np.where(x0 < -0.999, -np.inf, x0 - 1 / 255), np.where(x0 > 0.999, np.inf, x0 + 1 / 255)])
    normal = stats.norm(np.asarray(mean), std)
    np.testing.assert_allclose(ours, -np.log(normal.cdf(edges[1]) - normal.cdf(edges[0])), rtol=1e-8)


def test_lists_of_times():
    """space_timesteps(T, "N") rounds a fractional stride; ermongroup/ddim takes a whole one, or squares."""

    def openai(T, N):
        stride, here, out = (T - 1) / (N - 1), 0.0, []
        for _ in range(N):
            out.append(round(here))
            here += stride
        return out

    for N in (10, 25, 30, 50, 100, 300):
        assert make_times(1000, N, "linspace")[:-1][::-1].tolist() == [i + 1 for i in openai(1000, N)]
    for N in (10, 20, 50, 100):
        assert make_times(1000, N, "leading")[:-1][::-1].tolist() == [i + 1 for i in range(0, 1000, 1000 // N)]
        quad = [int(s) for s in np.linspace(0, np.sqrt(1000 * 0.8), N) ** 2]
        assert make_times(1000, N, "quad")[:-1][::-1].tolist() == [i + 1 for i in sorted(set(quad))]


def test_ddim_sigma(x64):
    """η √((1-ᾱ_s)/(1-ᾱ_t)) √(1-ᾱ_t/ᾱ_s) as ermongroup/ddim writes it, for jumps; and the deterministic coefficient."""
    from exact import affine

    from ddpm.sample import ddim_step

    a = np.append(1, Reference("linear").alphas_cumprod)
    for t, s, eta in [(1000, 900, 0.2), (500, 480, 0.5), (100, 1, 1.0)]:
        c1 = eta * np.sqrt((1 - a[t] / a[s]) * (1 - a[s]) / (1 - a[t]))
        c2 = np.sqrt(1 - a[s] - c1**2)
        gain, noise = affine(ddim_step(lambda x, t, c: 0.5 * x, linear(), eta=eta), t, s)
        expected = np.sqrt(a[s]) * (1 - np.sqrt(1 - a[t]) * 0.5) / np.sqrt(a[t]) + c2 * 0.5
        np.testing.assert_allclose(gain, expected, rtol=1e-11)
        np.testing.assert_allclose(noise, c1, rtol=1e-11)
