"""Langevin steps against their stationary distribution, and teleportation against the flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle, typicality
from ddpm.evaluation.ode_likelihood import ode_log_prob
from ddpm.oracles.gaussian import teleport
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.samplers.langevin_dynamics import annealed_langevin, corrected, langevin
from ddpm.schedule import cosine, linear, make_times


@pytest.mark.parametrize("r", [0.1, 0.5, 1.0])
def test_langevin_settles_in_the_law_of_its_recursion(x64, r):
    """x ← (1 - δ/2v) x + √δ z has variance v/(1 - δ/4v): gain and noise of one step, read off exactly."""
    schedule, t, lam = linear(), 300, 0.25
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    a = float(schedule.alpha_bar[t])
    v, delta = a * lam + 1 - a, r * (1 - a)
    key = jax.random.key(0)
    at0, at1 = (langevin(eps, schedule, key, jnp.full((1, 1), x), t, r=r)[0, 0] for x in (0.0, 1.0))
    z = jax.random.normal(jax.random.fold_in(key, 0), (1, 1))[0, 0]
    gain, noise = float(at1 - at0), float(at0 / z)
    assert noise**2 / (1 - gain**2) == pytest.approx(v / (1 - delta / (4 * v)), rel=1e-9)


def test_langevin_forgets_where_it_began():
    schedule, t = linear(), 300
    eps = oracle.gaussian([0.5], 0.25).eps(schedule)
    x = langevin(eps, schedule, jax.random.key(0), jnp.full((20_000, 1), 5.0), t, n=100, r=0.2)
    a = float(schedule.alpha_bar[t])
    v = a * 0.25 + 1 - a
    assert x.mean() == pytest.approx(np.sqrt(a) * 0.5, abs=4 * np.sqrt(v / 20_000))
    assert x.var() == pytest.approx(v / (1 - 0.2 * (1 - a) / (4 * v)), rel=4 * np.sqrt(2 / 20_000))


def test_a_corrector_mends_the_predictor():
    """Nine DDIM steps to t = 101 leave N(0, .25) too narrow; with five Langevin steps after each, less than half so."""
    schedule, times = linear(), make_times(1000, 10, "leading")[:-2]
    eps = oracle.gaussian([0.0], 0.25).eps(schedule)
    x_T, a = jax.random.normal(jax.random.key(0), (20_000, 1)), float(schedule.alpha_bar[101])
    plain = ddim_step(eps, schedule)
    both = (plain, corrected(plain, eps, schedule, n=5, r=0.2))
    short = [1 - walk(step, jax.random.key(1), x_T, times).std() / np.sqrt(a * 0.25 + 1 - a) for step in both]
    assert short[0] > 0.09 and abs(short[1]) < 0.5 * short[0]


def test_a_corrector_leaves_the_last_step_alone(x64):
    schedule, x = linear(), jnp.ones((1, 1))
    eps = oracle.gaussian([0.0], 0.25).eps(schedule)
    step = ddim_step(eps, schedule)
    np.testing.assert_array_equal(
        corrected(step, eps, schedule)(jax.random.key(0), x, 5, 0), step(jax.random.key(0), x, 5, 0)
    )


@pytest.mark.slow
def test_annealed_langevin_samples_a_mixture():
    """Weights 3:1, no predictor: the share of each mode and its width come out."""
    m, schedule = oracle.mixture([[0.8], [-0.8]], 0.01, [0.75, 0.25]), linear()
    x_T = jax.random.normal(jax.random.key(0), (4000, 1))
    times = make_times(1000, 60)
    x = walk(annealed_langevin(m.eps(schedule), schedule, n=20, r=0.2), jax.random.key(1), x_T, times)
    assert (x > 0).mean() == pytest.approx(0.75, abs=0.04)
    assert x[x > 0].std() == pytest.approx(0.1, abs=0.03)


def test_annealed_langevin_scales_between_levels(x64):
    """With a vanishing step size only √(ᾱ_s/ᾱ_t) is left, and to s = 0 it returns x̂0."""
    schedule, x = linear(), jnp.ones((1, 1))
    eps = oracle.gaussian([0.0], 0.25).eps(schedule)
    step = annealed_langevin(eps, schedule, n=1, r=1e-9)
    ratio = float(jnp.sqrt(schedule.alpha_bar[300] / schedule.alpha_bar[600]))
    assert step(jax.random.key(0), x, 600, 300)[0, 0] == pytest.approx(ratio, rel=1e-3)
    a = float(schedule.alpha_bar[300])
    assert step(jax.random.key(0), x, 300, 0)[0, 0] == pytest.approx(np.sqrt(a) * 0.25 / (a * 0.25 + 1 - a), rel=1e-9)


# --- teleportation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "gain"), [(700, 1.2410), (600, 1.7364), (500, 2.6695)])
def test_the_gain_of_fashion_mnists_first_direction(x64, t, gain):
    m = oracle.gaussian([0.0, 0.0], np.diag([79.24, 1e-9]))
    x = teleport(m, linear(), jnp.array([[1.0, 0.0]]), t)
    assert x[0, 0] == pytest.approx(gain, abs=1e-4)


def test_teleportation_is_the_limit_of_ddim(x64):
    """A Gaussian in the plane, per class: all 300 single steps from 1000 to 700 agree with the closed form."""
    cov = np.array([[[2.0, 0.5], [0.5, 0.3]], [[0.4, 0.0], [0.0, 0.1]]])
    m, schedule = oracle.mixture([[0.5, 0.0], [-0.5, 0.2]], cov), linear()
    x_T, c = jax.random.normal(jax.random.key(0), (4, 2)), jnp.array([0, 1, 1, 0])
    walked = walk(ddim_step(m.eps(schedule), schedule, c), jax.random.key(0), x_T, np.arange(1000, 699, -1))
    np.testing.assert_allclose(teleport(m, schedule, x_T, 700, c=c), walked, atol=2e-3)


def test_teleportation_keeps_the_law_and_composes(x64):
    m, schedule = oracle.gaussian([0.5, -0.2], np.array([[1.0, 0.3], [0.3, 0.4]])), linear()
    x_T = jax.random.normal(jax.random.key(0), (3, 2))
    once = teleport(m, schedule, x_T, 200)
    twice = teleport(m, schedule, teleport(m, schedule, x_T, 600), 200, T=600)
    np.testing.assert_allclose(once, twice, rtol=1e-9)
    np.testing.assert_allclose(teleport(m, schedule, once, 1000, T=200), x_T, rtol=1e-8)  # and back
    # whitened by the distribution of its time, a point does not move
    z = [(m.log_prob(schedule, x, t) - m.log_prob(schedule, jnp.sqrt(schedule.alpha_bar[t]) * m.mean, t)) for x, t in
         ((x_T, 1000), (once, 200))]  # fmt: skip
    np.testing.assert_allclose(z[0], z[1], rtol=1e-9)


MIX = oracle.mixture([[0.0], [1.0]], 1.0)
SAME = oracle.mixture([[0.0], [1.0]], 1.0, label=[0, 0])
X = jnp.ones((2, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: teleport(MIX, s, X, 500), "2 components"),
        (lambda s: teleport(SAME, s, X, 500, c=jnp.array([0, 0])), "several components"),
        (lambda s: teleport(MIX, s, X, 500, c=jnp.array([0, 2])), "null label"),
        (lambda s: teleport(MIX, s, X, 1001, c=jnp.array([0, 1])), "1001"),
        (lambda s: corrected(lambda k, x, t, s: x, lambda x, t, c: x, s, n=0), "n is 0"),
        (lambda s: corrected(lambda k, x, t, s: x, lambda x, t, c: x, s, r=-1.0), "r is -1"),
        (lambda s: walk(corrected(ddpm_step(MIX.eps(s), s), MIX.eps(s), s), jax.random.key(0), X, [1, 5]), "goes down"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(linear())


def test_float32_images_with_a_schedule_in_double_precision(x64):
    """The state of a loop keeps its type: Langevin steps, typicality, and the likelihood, as `walk` does."""
    m, x = oracle.gaussian([0.0], 0.25), jnp.ones((2, 1), jnp.float32)
    schedule = cosine(20)
    assert schedule.alpha_bar.dtype == jnp.float64
    eps = m.eps(schedule)
    assert langevin(eps, schedule, jax.random.key(0), x, 10, n=3).dtype == jnp.float32
    assert np.isfinite(ode_log_prob(eps, schedule, x)).all()
    images, shrink = x[:, :, None, None], lambda x_t, t, c=None: x_t * (schedule.std[20] if c is None else 0.5)
    T = typicality.measure(shrink, schedule, images, np.zeros(2, int), jax.random.key(0), typicality.Draws(3))
    assert np.isfinite(T.value).all()
