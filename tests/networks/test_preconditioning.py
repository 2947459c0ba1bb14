"""EDM's preconditioning against the formulas of its paper, the Gaussian that it continues, and v-prediction."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.contracts import constant
from ddpm.forward import q_sample, x0_and_eps
from ddpm.networks import heads, preconditioning
from ddpm.schedule import cosine

SCHEDULE_T, T_ALL = 40, jnp.asarray([1, 9, 25, 39])
X, N, F = np.random.default_rng(0).normal(size=(3, 4, 2, 2, 1))


@pytest.fixture
def chain(x64):
    s = cosine(SCHEDULE_T)
    sigma = np.asarray(s.std / jnp.sqrt(s.alpha_bar))[T_ALL][:, None, None, None]
    return s, q_sample(s, X, T_ALL, N), sigma


def test_head_and_target_are_those_of_the_paper(chain):
    """Table 1 and Eqs. 7-8 in σ: c_skip, c_out, c_in with σ_d = .5; the input is divided by r."""
    s, x_t, sigma = chain
    total = np.sqrt(sigma**2 + 0.25)
    skip, out, into = 0.25 / total**2, sigma * 0.5 / total, 1 / total
    x_bar = X + sigma * N
    wanted = (X - skip * x_bar) / out
    np.testing.assert_allclose(preconditioning.edm_target(s, X, T_ALL, N), wanted, rtol=1e-9)
    seen = preconditioning.scaled_input(lambda x, t, c: x, s)(x_t, T_ALL, None)
    np.testing.assert_allclose(seen, into * x_bar, rtol=1e-9)
    net = lambda x, t, c: F + 0.3 * x  # noqa: E731
    x0_hat = skip * x_bar + out * (F + 0.3 * into * x_bar)
    eps_hat = heads.head(net, s, "edm")(x_t, T_ALL, None)
    np.testing.assert_allclose(eps_hat, (x_bar - x0_hat) / sigma, rtol=1e-8)
    np.testing.assert_allclose(x0_and_eps(heads.head(net, s, "edm"), s, x_t, T_ALL)[0], x0_hat, rtol=1e-8)


def test_zero_is_the_best_output_for_the_gaussian_of_sigma_data(chain):
    s, x_t, _ = chain
    exact = oracle.gaussian(np.zeros(4), 0.25).eps(s)(x_t.reshape(4, 4), T_ALL, None)
    ours = heads.head(constant(0 * F), s, "edm")(x_t, T_ALL, None)
    np.testing.assert_allclose(ours.reshape(4, 4), exact, rtol=1e-9)


def test_with_sigma_data_one_it_is_v_prediction(chain, monkeypatch):
    s, x_t, _ = chain
    monkeypatch.setattr(preconditioning, "SIGMA_DATA", 1.0)
    np.testing.assert_allclose(preconditioning.edm_target(s, X, T_ALL, N), -heads.velocity(s, X, T_ALL, N), rtol=1e-9)
    both = (heads.head(constant(a), s, name)(x_t, T_ALL, None) for a, name in ((F, "edm"), (-F, "v")))
    np.testing.assert_allclose(*both, rtol=1e-9)
