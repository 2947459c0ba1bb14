"""Bits/dim: Gaussian data whose bits are known exactly, estimates without bias, and the baselines of Fashion-MNIST."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.datasets import sources
from ddpm.evaluation import bits, ode_likelihood
from ddpm.evaluation.model import Plan
from ddpm.losses.bound import bits_per_dim, decoder_nll
from ddpm.network import build, eps_fn
from ddpm.oracles import gaussian
from ddpm.samplers import solvers
from ddpm.schedule import linear
from ddpm.tools import keys

T = 50


@pytest.fixture(scope="module")
def bytes_():
    """300 images of 2 × 3 correlated bytes, far from 0 and 255."""
    rng = np.random.default_rng(0)
    x = 0.25 * rng.normal(size=(300, 6)) @ (np.eye(6) + 0.3 * rng.normal(size=(6, 6)))
    return data.to_uint8(x).reshape(300, 2, 3, 1)


def test_histogram_bits_of_known_shares():
    """A pixel that is 0 or 255 with one half each costs one bit, a constant one none (up to the added counts)."""
    x = np.zeros((20_000, 1, 2, 1), np.uint8)
    x[::2, 0, 0] = 255
    got = bits.histogram_bits(x, x[:10])
    np.testing.assert_allclose(got, 0.5, atol=0.01)
    unseen = bits.histogram_bits(x, np.full((1, 1, 2, 1), 7, np.uint8))
    assert unseen[0] == pytest.approx(-math.log2(0.5 / (20_000 + 128)))


def test_gaussian_bits_is_the_entropy_of_wide_gaussians():
    """Bytes of standard deviation s ≫ 1 have log₂(s √(2πe)) bits, whatever the scaling of the network's input."""
    rng = np.random.default_rng(1)
    b = np.clip(np.round(128 + 20 * rng.normal(size=(20_000, 1, 2, 1))), 0, 255).astype(np.uint8)
    assert bits.gaussian_bits(b, b).mean() == pytest.approx(math.log2(20 * math.sqrt(2 * math.pi * math.e)), abs=0.01)


@pytest.mark.slow
def test_bound_estimate_is_the_whole_sum(bytes_):
    x0, schedule = jnp.asarray(data.to_float(bytes_[:100])), linear(T)
    eps = gaussian.fit(np.asarray(x0)).eps(schedule)
    exact = np.mean([np.asarray(bits_per_dim(eps, schedule, jax.random.key(i), x0, variance="fixed_large").total).mean()
                     for i in range(20)])  # fmt: skip
    runs = [bits.bound_bits(eps, schedule, x0, draws=8, seed=i).mean() for i in range(12)]
    assert np.mean(runs) == pytest.approx(exact, abs=4 * np.std(runs) / math.sqrt(12) + 0.003)
    at, weight = bits.drawn_times(T, 5000, 3, 0)
    assert at.min() == 2 and at.max() == T and weight.mean() == pytest.approx(T - 1, rel=0.02)  # Σ q · 1/q


@pytest.mark.slow
def test_flow_bits_are_those_of_the_gaussian_at_the_first_time(bytes_):
    """The flow of a fitted Gaussian gives -log₂ N(x; √ᾱ_1 μ, ᾱ_1 Σ + 1-ᾱ_1)/D + 7."""
    schedule = linear(1000)
    x0 = data.to_float(bytes_)
    fitted = gaussian.fit(x0)
    got = bits.flow_bits(fitted.eps(schedule), schedule, bytes_, steps=200, seed=3)
    key_u, _ = keys.split(keys.of_images(jax.random.key(3), range(300)))
    x = np.asarray(ode_likelihood.dequantise(key_u, jnp.asarray(bytes_))).reshape(300, 6)
    a = float(schedule.alpha_bar[1])
    flat = x0.reshape(300, 6).astype(np.float64)
    cov = a * np.cov(flat.T, bias=True) + (1 - a) * np.eye(6)
    z = x - math.sqrt(a) * flat.mean(0)
    log_p = -0.5 * np.einsum("ni,ij,nj->n", z, np.linalg.inv(cov), z) - 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1]
    exact = -log_p / (6 * math.log(2)) + 7
    assert got.mean() == pytest.approx(exact.mean(), abs=0.02)
    assert np.corrcoef(got, exact)[0, 1] > 0.85  # one probe each: not to the last digit


@pytest.mark.slow
def test_the_draws_of_an_image_do_not_depend_on_the_others(bytes_, monkeypatch):
    """Times, noises, u and probes belong to the image: the first 7 of 11 have the same ones, in other batches too."""

    def term(*bound):
        return lambda x, t, s, noise, c: x.sum((1, 2, 3)) + 10 * t + noise.sum((1, 2, 3))

    def log_prob(eps, schedule, x, c, *, times, key):
        return x.sum((1, 2, 3)) + keys.draw(jax.random.normal, key, (len(x), 1))[:, 0]

    monkeypatch.setattr(bits, "bound_term", term)
    monkeypatch.setattr(bits, "ode_log_prob", log_prob)
    x0, schedule = data.to_float(bytes_[:11]), linear(T)
    for f, x in ((bits.bound_bits, x0), (bits.flow_bits, bytes_[:11])):
        few, many = (f(lambda x, t, c: x, schedule, x[:n], batch=batch) for n, batch in ((7, 3), (11, 11)))
        np.testing.assert_allclose(few, many[:7], rtol=1e-5)
        assert len(set(many.round(3))) == 11


def test_the_flow_takes_a_probe_of_each_image_from_its_key():
    """For ε = x A, A not symmetric, the estimate depends on the probe, which an image alone gets too from its key."""
    schedule, own, x = linear(T), keys.of_images(jax.random.key(1), range(8)), jnp.zeros((8, 2))
    A = jnp.array([[1.0, 3], [0, 1]])
    f = partial(ode_likelihood.ode_log_prob, Partial(lambda A, x, t, c: x @ A, A), schedule, times=[1, T])
    eight, last = f(x, key=own), f(x[7:], key=own[7:])
    assert float(last[0]) == pytest.approx(float(eight[7]), rel=1e-5)
    assert len(set(np.asarray(eight).round(2).tolist())) == 2  # the two signs of the product of a probe's two numbers
    with pytest.raises(ValueError, match="8 keys for 2 images"):
        f(x[:2], times=[1, 20], key=own)


@pytest.mark.slow
def test_a_network_has_bits_by_both_ways():
    """Convolutions define their gradient backwards only; the flow's divergence must not ask for the other."""
    config = UNetConfig(image_size=8, channels=8, multipliers=(1, 2), blocks=1, attention=(), groups=4, num_classes=3)
    eps, schedule = eps_fn(config, build(config)[0](jax.random.key(0))), linear(30)
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    c = np.arange(3)
    assert np.all(np.isfinite(bits.flow_bits(eps, schedule, x, c, steps=5)))
    both = bits.bound_bits(eps, schedule, data.to_float(x), c, draws=2)
    assert both.shape == (3,) and np.all(both > 0)


def test_even_times_rise_from_1_to_T_and_are_even_in_log_sigma():
    schedule = linear(1000)
    times = bits.even_times(schedule, 40)
    assert times[0] == 1 and times[-1] == 1000 and np.all(np.diff(times) > 0) and len(times) <= 41
    sigma = np.log(np.asarray(solvers.sigma_bar(schedule, jnp.asarray(times))))
    assert np.diff(sigma)[5:].max() < 2 * (sigma[-1] - sigma[0]) / 40


@pytest.mark.slow
@pytest.mark.parametrize("name", ["n_bound", "n_flow"])
def test_one_image_has_no_error_and_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 1, .*at least 2, or 0"):
        Plan(**{name: 1})
    Plan(**{name: 0})


def test_measures_say_what_stands_beside():
    digits = sources.load("digits")
    schedule = linear(100)
    eps = gaussian.fit(data.to_float(digits.x_train)).eps(schedule)
    m = bits.measures(eps, schedule, digits, 0, n_bound=60, n_flow=40)
    assert m["bits_bound"].reference == pytest.approx(bits.histogram_bits(digits.x_train, digits.x_test).mean())
    assert m["bits_flow"].reference == pytest.approx(bits.gaussian_bits(digits.x_train, digits.x_test).mean())
    assert set(bits.measures(eps, schedule, digits, 0, n_bound=0, n_flow=10)) == {"bits_flow"}
    assert float(jnp.abs(decoder_nll(jnp.zeros(1), jnp.zeros(1), jnp.ones(1)))[0]) > 0
