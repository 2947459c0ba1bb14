"""Schedules that end in pure noise, ᾱ_T = 0: v̂ and x̂0 walk from T, where ε̂ no longer holds the image."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact import affine

from ddpm import oracle
from ddpm.contracts import Partial
from ddpm.editing.inpaint import replace_x0
from ddpm.forward import x0_and_eps
from ddpm.guide import cfg, clip_x0
from ddpm.guides import adaptive, composition, rules
from ddpm.losses import bound, objectives, weighting
from ddpm.networks import heads
from ddpm.oracles.gaussian import exact_v
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.samplers import solvers
from ddpm.samplers.langevin_dynamics import annealed_langevin, corrected
from ddpm.samplers.respacing import respace, retime, zero_terminal_snr
from ddpm.samplers.variance import optimal
from ddpm.schedule import Schedule, linear, make_times

T = 100
NOISE = zero_terminal_snr(linear(T))
VAR = 0.25  # of the data: their standard deviation is .5
GAUSSIAN = oracle.gaussian(np.zeros(1), VAR)
KEY = jax.random.key(0)


def of_x0(x_t, t, c=None, /, *, v, schedule):
    return heads.x0_from_v(schedule, x_t, t, v(x_t, t, c))


def of_mu(x_t, t, c=None, /, *, v, schedule):
    """The mean of q(x_{t-1} | x_t, x̂0), from v̂ alone: ᾱ_t is 0 at T.   [Ho et al. 2020, Eq. 7]"""
    a_t, a_s = (schedule.alpha_bar[k].reshape(-1, 1) for k in (t, t - 1))
    beta, x0 = schedule.beta[t].reshape(-1, 1), of_x0(x_t, t, v=v, schedule=schedule)
    return (jnp.sqrt(a_s) * beta * x0 + jnp.sqrt(a_t / a_s) * (1 - a_s) * x_t) / (1 - a_t)


def denoiser(predict, schedule=NOISE, mixture=GAUSSIAN):
    """The exact denoiser of the data by way of each head."""
    v = exact_v(mixture, schedule)
    nets = {"v": v, "x0": Partial(of_x0, v=v, schedule=schedule), "mu": Partial(of_mu, v=v, schedule=schedule)}
    return heads.head(nets[predict], schedule, predict)


def std(step, times):
    """The standard deviation of x_0 for x_T ~ N(0, 1), by the affine map of each step."""
    var, one = 1.0, jax.jit(lambda t, s: affine(step, t, s, 1))
    for t, s in pairwise(times):
        a, sigma = one(jnp.asarray(t), jnp.asarray(s))
        var = float(np.asarray(a)[0] ** 2 * var + np.asarray(sigma)[0] ** 2)
    return var**0.5


STEPS = {
    "ddim": ddim_step,
    "ddim, eta 1": lambda eps, schedule: ddim_step(eps, schedule, eta=1.0),
    "ddpm": ddpm_step,
    "ddpm, large": lambda eps, schedule: ddpm_step(eps, schedule, variance="fixed_large"),
    "heun": solvers.heun_step,
    "midpoint": solvers.midpoint_step,
}


@pytest.mark.parametrize("name", list(STEPS)[:4])
@pytest.mark.parametrize("predict", ["v", "x0", "mu"])
def test_it_is_the_limit_of_schedules_that_end_almost_in_noise(x64, name, predict):
    """With ᾱ_T = 1e-12 the same walk is possible with ε*, which shares nothing with the forms in v̂."""
    schedule = zero_terminal_snr(linear(T))
    almost = schedule._replace(alpha_bar=schedule.alpha_bar.at[-1].set(1e-12), beta=schedule.beta)
    times = make_times(T, 10)
    ours = std(STEPS[name](denoiser(predict, schedule), schedule), times)
    assert ours == pytest.approx(std(STEPS[name](GAUSSIAN.eps(almost), almost), times), abs=1e-5)


@pytest.mark.parametrize("name", ["heun", "midpoint"])
def test_solvers_of_second_order_are_nearer_than_ddim(x64, name):
    schedule = zero_terminal_snr(linear(T))
    eps, times = denoiser("v", schedule), make_times(T, 10)
    error = {k: abs(std(STEPS[k](eps, schedule), times) - VAR**0.5) for k in ("ddim", name)}
    assert error[name] < error["ddim"] < 0.2
    first = [STEPS[k](eps, schedule)(KEY, jnp.ones((1, 1)), jnp.asarray(T), jnp.asarray(90)) for k in ("ddim", name)]
    np.testing.assert_allclose(*first, atol=1e-12)  # σ̄_T is infinite: the first step is Euler's


@pytest.mark.slow
def test_steps_with_a_memory_or_a_corrector_begin_in_noise_too():
    """The multistep solver is linear here; the others are measured on 4,000 numbers."""
    eps, times = denoiser("v"), make_times(T, 20)
    x = jax.random.normal(KEY, (4000, 1))
    ddim = abs(float(walk(ddim_step(eps, NOISE), KEY, jnp.ones((1, 1)), times)[0, 0]) - 0.5)
    two = walk(solvers.multistep(eps, NOISE), KEY, solvers.begin(jnp.ones((1, 1))), times).x
    assert abs(float(two[0, 0]) - 0.5) < ddim
    for step in (corrected(ddim_step(eps, NOISE), eps, NOISE, n=3), ddpm_step(eps, NOISE, variance=optimal(GAMMA))):
        assert abs(float(walk(step, KEY, x, times).std()) - 0.5) < ddim + 0.02
    slow = walk(annealed_langevin(eps, NOISE, n=20), KEY, x, make_times(T, T))
    assert abs(float(slow.std()) - 0.5) < 0.07


ALPHA = np.asarray(NOISE.alpha_bar, np.float64)
GAMMA = (1 - ALPHA) / (ALPHA * VAR + 1 - ALPHA)  # E ε*², exactly

# --- guides -----------------------------------------------------------------------------------------------------------

TWO = oracle.mixture(np.array([[-0.5], [0.7]]), 0.1)
C = jnp.array([0, 1])
GUIDES = {
    "cfg": lambda eps, s: cfg(eps, 2.0),
    "negative": lambda eps, s: rules.negative(eps, 2.0, 1),
    "interval": lambda eps, s: rules.interval(cfg(eps, 2.0), eps, 10, T),
    "compose": lambda eps, s: composition.compose(eps, [composition.given(eps, 0), eps], [0.5, 1.5]),
    "clip": lambda eps, s: clip_x0(cfg(eps, 2.0), s, -0.1, 0.1),
    "threshold": lambda eps, s: rules.dynamic_threshold(eps, s, 50.0),
    "replace": lambda eps, s: replace_x0(eps, s, jnp.full((2, 1), 0.3), jnp.array([[1], [0]])),
    "retime": lambda eps, s: retime(eps, np.arange(T, -1, -1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_guides_act_on_v_as_on_eps(x64, name):
    """At a time with signal both ways agree; at T the way by v̂ continues them, and a guided walk is finite."""
    schedule = zero_terminal_snr(linear(T))
    by_v = GUIDES[name](denoiser("v", schedule, TWO), schedule)
    by_eps = GUIDES[name](TWO.eps(schedule), schedule)
    x = jnp.array([[-1.1], [0.4]])
    for t in (1, 50, T - 1):
        for ours, want in zip(x0_and_eps(by_v, schedule, x, t, C), x0_and_eps(by_eps, schedule, x, t, C), strict=True):
            np.testing.assert_allclose(ours, want, atol=1e-8)
    np.testing.assert_allclose(*(x0_and_eps(by_v, schedule, x, t, C)[0] for t in (T, T - 1)), atol=0.05)
    assert np.isfinite(walk(ddim_step(by_v, schedule, C), KEY, x, make_times(T, 5))).all()


def test_adaptive_guidance_carries_v():
    """With a threshold above 1 it never stops, and is plain guidance."""
    eps, times, x = denoiser("v", mixture=TWO), make_times(T, 5), jnp.array([[-1.1], [0.4]])
    found = walk(adaptive.adaptive_step(eps, NOISE, C, 2.0, 2.0), KEY, adaptive.begin(x), times)
    np.testing.assert_allclose(found.x, walk(ddim_step(cfg(eps, 2.0), NOISE, C), KEY, x, times), atol=1e-5)


# --- training and measuring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predict", ["v", "x0", "mu"])
@pytest.mark.parametrize("loss", ["simple", "mse", "min_snr", "p2", "vlb"])
def test_losses_are_finite_at_every_time(loss, predict):
    t = jnp.arange(1, T + 1)
    x0, noise = jax.random.normal(KEY, (2, T, 1)) * jnp.array([[[VAR**0.5]], [[1.0]]])

    def net(x_t, t, c=None):
        return 0.5 * objectives.target(NOISE, predict, x0, t, noise) + 0.1 * x_t

    def total(scale):
        f = lambda x_t, t, c=None: scale * net(x_t, t, c)  # noqa: E731
        return objectives.objective(loss, predict)(f, NOISE, x0, t, noise, None)

    values = jax.jit(total)(1.0)
    assert np.isfinite(values).all() and values.shape == (T,)
    assert np.isfinite(jax.jit(jax.grad(lambda scale: total(scale).sum()))(1.0))


def test_the_target_v_and_the_weights_at_the_end():
    x0, noise = jnp.array([[0.3]]), jnp.array([[-1.2]])
    np.testing.assert_allclose(objectives.target(NOISE, "v", x0, jnp.array([T]), noise), -x0)  # √0 ε - √1 x0
    assert weighting.min_snr(NOISE)[-1] == 1 and np.isfinite(weighting.min_snr(NOISE)).all()
    with pytest.raises(ValueError, match="alpha_bar ends at 0"):
        weighting.vlb(NOISE)


def test_the_bound_of_exact_predictions_is_the_same_for_every_head():
    x0 = 0.5 * jax.random.normal(KEY, (8, 1))
    found = [
        bound.bits_per_dim(denoiser(p), NOISE, KEY, x0, times=make_times(T, 10), decoder=bound.gaussian_nll).total
        for p in ("v", "x0")
    ]
    assert np.isfinite(found[0]).all() and float(bound.prior_bits(NOISE, x0).max()) == 0
    np.testing.assert_allclose(*found, rtol=1e-4)
    shorter = respace(NOISE, make_times(T, 10))
    assert isinstance(shorter, Schedule) and shorter.T == 10 and shorter.alpha_bar[-1] == 0


def test_a_prediction_of_eps_is_refused_where_it_says_nothing():
    x = jnp.ones((1, 1))
    for step in (ddim_step, ddpm_step, lambda e, s: ddpm_step(clip_x0(e, s), s)):
        with pytest.raises(ValueError, match=r"alpha_bar is 0 at t = 100.*begin below"):
            walk(step(GAUSSIAN.eps(NOISE), NOISE), KEY, x, make_times(T, 5))
    assert np.isfinite(walk(ddim_step(GAUSSIAN.eps(NOISE), NOISE), KEY, x, make_times(T, 5)[1:]))
