"""The orders of the solvers, measured on a Gaussian whose flow is known, and EDM's own numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.forward import x0_from_eps
from ddpm.sample import ddim_step, walk
from ddpm.samplers.edm import edm_sigmas, edm_weight, from_sigma, preconditioned, preconditioning
from ddpm.samplers.solvers import begin, heun_step, midpoint_step, multistep
from ddpm.schedule import cosine, from_alpha_bar, linear, make_times

KEY = jax.random.key(0)


def vp_schedule(n):
    """n+1 levels of the VP-SDE (β from .1 to 20), equally spaced in log SNR from t = 1 to t = 1e-3."""
    log_a = [-(0.1 * t + 9.95 * t**2) for t in (1e-3, 1.0)]
    lam = np.linspace(*[a - np.log(-np.expm1(a)) for a in log_a], n + 1)
    return from_alpha_bar(1 / (1 + np.exp(-lam)))


def relative_error(make, n, lam=0.25, stride=1):
    """|x/x_exact - 1| at t = 1e-3 for data N(0, λ), whose flow keeps x/√Var(x_t)."""
    schedule = vp_schedule(n)
    eps = oracle.gaussian([0.0], lam).eps(schedule)
    x, times = jnp.ones((1, 1)), np.arange(n + 1, 0, -stride)
    out = walk(make(eps, schedule), KEY, begin(x) if make is multistep else x, times)
    out = out.x if make is multistep else out
    var = schedule.alpha_bar * lam + 1 - schedule.alpha_bar
    return abs(float(out[0, 0] / jnp.sqrt(var[1] / var[n + 1])) - 1)


@pytest.mark.parametrize(
    ("make", "errors", "order", "stride"),
    [
        (ddim_step, [0.2128, 0.1128, 0.0581, 0.0295, 0.01485], 0.99, 1),
        (multistep, [0.0327, 0.0130, 0.00351, 0.000890, 0.000223], 2.00, 1),
        (midpoint_step, [0.2705, 0.0666, 0.01551, 0.00373, 0.000914], 2.03, 2),
    ],
)
def test_errors_at_equal_cost_and_their_order(x64, make, errors, order, stride):
    """10, 20, …, 160 calls of ε; the order is the slope of the last halving."""
    ours = [relative_error(make, n, stride=stride) for n in (10, 20, 40, 80, 160)]
    np.testing.assert_allclose(ours, errors, rtol=2e-2)
    assert np.log2(ours[-2] / ours[-1]) == pytest.approx(order, abs=0.05)


def test_heun_with_edm_steps(x64):
    """EDM's σ from 80 to .002 and Heun: std ratio 1.05527 at 18 steps (35 calls), 1.01221 at 36, 1.00287 at 72."""
    ratios = []
    for n, ratio in [(18, 1.05527), (36, 1.01221), (72, 1.00287), (144, None)]:
        schedule = from_sigma(edm_sigmas(n))
        eps = oracle.gaussian([0.0], 0.25).eps(schedule)
        a = schedule.alpha_bar[-1]
        x_T = jnp.sqrt(a * 0.25 + 1 - a).reshape(1, 1)  # one standard deviation of the data at σ = 80
        out = walk(heun_step(eps, schedule), KEY, x_T, make_times(n, n))
        ratios.append(float(out[0, 0]) / 0.5)
        assert ratio is None or ratios[-1] == pytest.approx(ratio, abs=1e-5)
    order = np.log2((np.array(ratios[:-1]) - 1) / (np.array(ratios[1:]) - 1))
    np.testing.assert_allclose(order[1:], [2.09, 2.06], atol=0.02)


def test_heun_calls_eps_twice_a_step_but_once_at_the_end():
    calls = []

    def eps(x, t, c):
        jax.debug.callback(lambda: calls.append(1))
        return x

    walk(heun_step(eps, linear(30)), KEY, jnp.ones((1, 1)), make_times(30, 18)).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == 35


@pytest.mark.parametrize("make", [heun_step, midpoint_step, multistep, ddim_step])
def test_every_solver_is_exact_for_constant_noise_and_ends_at_x0(x64, make):
    """dx̄/dσ̄ = ε constant: a straight line, which every order follows; the last step returns x̂0."""
    schedule, x0, noise = linear(), jnp.array([[0.4, -0.2]]), jnp.array([[1.0, 2.0]])
    x_T = jnp.sqrt(schedule.alpha_bar[1000]) * x0 + jnp.sqrt(1 - schedule.alpha_bar[1000]) * noise
    state = begin(x_T) if make is multistep else x_T
    out = walk(make(lambda x, t, c: noise, schedule), KEY, state, [1000, 700, 200, 0])
    np.testing.assert_allclose(out.x if make is multistep else out, x0, atol=1e-10)


def test_heun_climbs_and_comes_back(x64):
    schedule = vp_schedule(40)
    step = heun_step(oracle.gaussian([0.0], 0.25).eps(schedule), schedule)
    x, up = jnp.ones((1, 1)), np.arange(1, 42)
    there = walk(step, KEY, x, up)
    assert walk(step, KEY, there, up[::-1])[0, 0] == pytest.approx(1, abs=0.02)


def test_multistep_carries_its_history(x64):
    schedule = linear()
    eps = oracle.gaussian([0.3], 0.5).eps(schedule)
    step = multistep(eps, schedule)
    first = step(KEY, begin(jnp.ones((1, 1))), 1000, 800)
    np.testing.assert_allclose(first.x, ddim_step(eps, schedule)(KEY, jnp.ones((1, 1)), 1000, 800), atol=1e-12)
    assert first.t == 1000
    np.testing.assert_allclose(first.x0, x0_from_eps(schedule, jnp.ones((1, 1)), 1000, eps(jnp.ones((1, 1)), 1000)))
    second = step(KEY, first, 800, 600)
    assert abs(float((second.x - ddim_step(eps, schedule)(KEY, first.x, 800, 600))[0, 0])) > 1e-4


def test_solvers_in_float32_stay_near_float64():
    """1-ᾱ rounds at 6e-8: with λ = 0.5 log SNR that is 1e-4 of the first times, and less than the method's error."""
    out = {}
    for x64 in (False, True):
        with jax.enable_x64(x64):
            schedule = linear()
            eps = oracle.gaussian([0.0], 0.25).eps(schedule)
            out[x64] = float(walk(multistep(eps, schedule), KEY, begin(jnp.ones((1, 1))), make_times(1000, 20)).x[0, 0])
    assert out[False] == pytest.approx(out[True], rel=1e-3)


# --- EDM --------------------------------------------------------------------------------------------------------------


def test_edm_sigmas():
    published = [80, 57.586, 40.786, 28.375, 19.353, 12.910, 8.4009, 5.3152, 3.2568, 1.9233, 1.0882, 0.5853, 0.2964,
                 0.1395, 0.0599, 0.0229, 0.0075, 0.002]  # fmt: skip
    np.testing.assert_allclose(edm_sigmas(18), published, atol=6e-5, rtol=1e-4)


def test_edm_preconditioning(x64):
    skip, out, into, noise = preconditioning(0.5)
    assert skip == pytest.approx(0.5) and out == pytest.approx(0.353553, abs=1e-6)
    assert into == pytest.approx(1.414214, abs=1e-6) and noise == pytest.approx(np.log(0.5) / 4)
    sigma = jnp.asarray(edm_sigmas(18))
    np.testing.assert_allclose(edm_weight(sigma) * preconditioning(sigma)[1] ** 2, 1, rtol=1e-12)


def test_a_zero_network_has_loss_one_at_every_sigma(x64):
    """λ(σ) E‖x0 - c_skip x̄‖² = 1 for data of variance σ_data² = .25, by the same denoiser that samplers take."""
    sigma = edm_sigmas(8)
    schedule = from_sigma(sigma)
    eps = preconditioned(lambda x, t, c: jnp.zeros_like(x), schedule)
    for t in range(1, 9):
        s = sigma[8 - t]
        x0, n = np.array([0.5, 0.5, -0.5, -0.5]), np.array([1, -1, 1, -1])  # moments .25 and 1, uncorrelated
        a = schedule.alpha_bar[t]
        x_t = jnp.sqrt(a) * jnp.asarray(x0 + s * n)[:, None]
        d = x0_from_eps(schedule, x_t, t, eps(x_t, jnp.full(4, t), None)).ravel()
        assert edm_weight(s) * ((d - x0) ** 2).mean() == pytest.approx(1, rel=1e-9)


def test_the_right_network_gives_the_oracle(x64):
    """F that solves c_skip x̄ + c_out F = E[x0 | x̄] makes `preconditioned` the oracle: here N(0, 1), E = x̄/(1+σ²)."""
    schedule = from_sigma(edm_sigmas(6))

    def F(x_in, c_noise, c):
        sigma = jnp.exp(4 * c_noise)[:, None]
        skip, out, into, _ = preconditioning(sigma)
        x_bar = x_in / into
        return (x_bar / (1 + sigma**2) - skip * x_bar) / out

    x, t = jnp.linspace(-1, 1, 6)[:, None], jnp.arange(1, 7)
    F_eps = preconditioned(F, schedule)
    # `preconditioning` checks its σ, which is traced by nothing here
    np.testing.assert_allclose(F_eps(x, t, None), oracle.gaussian([0.0], 1.0).eps(schedule)(x, t), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: walk(multistep(lambda x, t, c: x, s), KEY, jnp.ones((1, 1)), [9, 0]), TypeError, "begin"),
        (
            lambda s: walk(multistep(lambda x, t, c: x, s), KEY, begin(jnp.ones((1, 1))), [5, 9]),
            ValueError,
            "goes down",
        ),
        (lambda s: walk(midpoint_step(lambda x, t, c: x, s), KEY, jnp.ones((1, 1)), [5, 9]), ValueError, "goes down"),
        (lambda s: edm_sigmas(1), ValueError, "N is 1"),
        (lambda s: edm_sigmas(5, low=3, high=2), ValueError, "low < high"),
        (lambda s: from_sigma([1.0, 2.0]), ValueError, "falling list"),
        (lambda s: preconditioning(0.0), ValueError, "sigma"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(linear())


@pytest.mark.parametrize("make", [heun_step, midpoint_step])
def test_from_nearly_pure_noise_the_second_order_is_not_worse_than_the_first(x64, make):
    """The cosine chain ends at ᾱ_T = 2.4e-9, σ̄_T = 20,000: x_0 = μ + √(λ/(λ + σ̄_T²)) (x̄_T - μ) for N(μ, λ)."""
    lam, mu, chain = 0.25, 0.5, cosine(1000)
    x_T = jnp.linspace(-2, 2, 5)[:, None]
    a = float(chain.alpha_bar[1000])
    exact = mu + np.sqrt(lam / (lam + (1 - a) / a)) * (np.asarray(x_T) / np.sqrt(a) - mu)
    eps = oracle.gaussian([mu], lam).eps(chain)
    ours = [np.asarray(walk(step(eps, chain), KEY, x_T, make_times(1000, 8))) for step in (make, ddim_step)]
    errors = [np.abs(x - exact).max() for x in ours]
    assert (1 - a) / a > 15_000**2 and errors[0] < errors[1] < 0.5
