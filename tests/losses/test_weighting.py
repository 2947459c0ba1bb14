"""Loss weights, against published numbers, each other, and the likelihood ratio that they integrate to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import loss as L
from ddpm import oracle
from ddpm.forward import q_sample, x0_from_eps
from ddpm.losses import weighting
from ddpm.networks.heads import v_from_eps
from ddpm.schedule import cosine, linear, log_snr, snr


def test_min_snr_of_the_linear_schedule(x64):
    w = np.asarray(weighting.min_snr(linear()))
    assert np.argmax(w[1:] == 1) + 1 == 131  # SNR < 5 from there
    assert np.argmax(np.asarray(weighting.min_snr(cosine()))[1:] == 1) + 1 == 262
    assert w[1] == pytest.approx(5.0e-4, rel=1e-3) and w[100] == pytest.approx(0.5740, rel=1e-3)
    assert w[1:].mean() == pytest.approx(0.9131, rel=1e-3)


def test_min_snr_under_its_three_names(x64):
    """min(SNR, γ)/SNR, min(SNR, γ), min(SNR, γ)/(SNR+1): five releases of a peer got the last one wrong."""
    schedule = linear()
    s = np.asarray(snr(schedule))[1:]
    w = weighting.min_snr(schedule, 5.0)
    np.testing.assert_allclose(weighting.for_target(schedule, w, "x0")[1:], np.minimum(s, 5), rtol=1e-12)
    np.testing.assert_allclose(weighting.for_target(schedule, w, "v")[1:], np.minimum(s, 5) / (s + 1), rtol=1e-12)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_the_three_names_give_the_same_loss(x64, target):
    """w_ε ‖ε-ε̂‖² = w_x0 ‖x0-x̂0‖² = w_v ‖v-v̂‖² for any prediction."""
    schedule, (x0, noise, guess) = cosine(), jax.random.normal(jax.random.key(0), (3, 4, 3))
    t = jnp.array([1, 100, 500, 900])
    x_t = q_sample(schedule, x0, t, noise)
    convert = {"eps": lambda *a: a[-1], "x0": x0_from_eps, "v": v_from_eps}[target]
    error = (convert(schedule, x_t, t, noise) - convert(schedule, x_t, t, guess)) ** 2
    w = weighting.for_target(schedule, weighting.p2(schedule), target)[t]
    expected = weighting.p2(schedule)[t] * L.per_image((noise - guess) ** 2)
    np.testing.assert_allclose(w * L.per_image(error), expected, rtol=1e-8)


def test_p2_is_one_minus_alpha_bar_at_its_defaults(x64):
    """(1 + SNR)^-1 = 1-ᾱ; γ = 0 is L_simple."""
    schedule = linear()
    np.testing.assert_allclose(weighting.p2(schedule)[1:], 1 - schedule.alpha_bar[1:], rtol=1e-10)
    np.testing.assert_array_equal(weighting.p2(schedule, gamma=0.0), weighting.simple(schedule))


def test_vlb_weights_are_half_the_fall_of_the_snr(x64):
    """½ (SNR(t-1) - SNR(t))/SNR(t) for β̃: the discrete bound in SNR form.   [Kingma et al. 2021, Eq. 14]"""
    schedule = linear()
    s = np.asarray(snr(schedule))
    w = weighting.vlb(schedule)
    np.testing.assert_allclose(w[2:], 0.5 * (s[1:-1] - s[2:]) / s[2:], rtol=1e-7)
    assert w[0] == w[1] == 0
    large = weighting.vlb(schedule, schedule.beta)  # with β instead: smaller by β̃/β
    beta_tilde = np.asarray(schedule.beta[2:] * (1 - schedule.alpha_bar[1:-1]) / (1 - schedule.alpha_bar[2:]))
    np.testing.assert_allclose(large[2:] / w[2:], beta_tilde / schedule.beta[2:], rtol=1e-9)


@pytest.mark.parametrize(("x", "discrete", "exact"), [(0.5, 0.684064, 0.674997), (1.0, 0.697803, 0.692812)])
def test_vlb_weighted_typicality_is_the_log_likelihood_ratio(x64, x, discrete, exact):
    """Σ_t w_t E[L_t(x, ∅) - L_t(x, c)] = log p(x|c) - log p(x), to the 2 % that 1,000 steps leave."""
    schedule, m = linear(), oracle.mixture([[1.0], [-1.0]], 0.25)
    nodes, quad = np.polynomial.hermite_e.hermegauss(60)
    t = jnp.repeat(jnp.arange(1, 1001), 60)
    noise, x0 = jnp.tile(jnp.asarray(nodes), 1000)[:, None], jnp.full((60_000, 1), x)
    of = [L.squared_error(m.eps(schedule), schedule, x0, t, noise, c) for c in (None, jnp.zeros(60_000, int))]
    by_time = (of[0] - of[1]).reshape(1000, 60) @ quad / quad.sum()
    ours = float(weighting.vlb(schedule)[1:] @ by_time)
    one = jnp.full((1, 1), x)
    ratio = float((m.log_prob(schedule, one, 0, jnp.zeros(1, int)) - m.log_prob(schedule, one, 0))[0])
    assert ratio == pytest.approx(exact, abs=1e-6)
    assert ours == pytest.approx(ratio, rel=0.02)
    assert ours == pytest.approx(discrete, rel=2e-3)


def test_weighted_loss_weighs(x64):
    """With weight 1 it is L_simple; with weight only at one time, only that time counts."""
    schedule, x0, key = linear(10 * 3), jax.random.normal(jax.random.key(0), (30, 2)), jax.random.key(1)
    eps = oracle.gaussian([0.0, 0.0], 0.5).eps(schedule)
    plain = L.simple_loss(eps, schedule, key, x0)
    assert L.weighted_loss(eps, schedule, key, x0, weight=weighting.simple(schedule)) == pytest.approx(float(plain))
    parts = [L.weighted_loss(eps, schedule, key, x0, weight=jnp.zeros(31).at[t].set(1.0)) for t in range(31)]
    assert parts[0] == 0 and sum(map(float, parts)) == pytest.approx(float(plain), rel=1e-6)


def test_snr_and_log_snr_order():
    assert np.all(np.diff(np.asarray(log_snr(linear()))[1:]) < 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: weighting.min_snr(s, 0.0), "gamma"),
        (lambda s: weighting.p2(s, k=-1.0), "k is"),
        (lambda s: weighting.vlb(s, jnp.ones(3)), "each time 0..1000"),
        (lambda s: weighting.for_target(s, jnp.ones(1001), "eps0"), "Did you mean 'eps'"),
        (lambda s: L.weighted_loss(lambda x, t, c: x, s, jax.random.key(0), jnp.ones((1, 1)), weight=[1]), "each time"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(linear())
