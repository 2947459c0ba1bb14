"""Objectives: identities between them, and against the bound; heads; what a training draws and remembers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import config, data, train
from ddpm.config import UNetConfig
from ddpm.contracts import constant
from ddpm.flows import conversions, matching, paths
from ddpm.forward import q_posterior, q_sample
from ddpm.loss import per_image, squared_error
from ddpm.losses import bound, objectives, weighting
from ddpm.losses.importance import probabilities
from ddpm.networks import heads
from ddpm.samplers.variance import learned
from ddpm.schedule import cosine, linear
from ddpm.training import averages, run, step
from ddpm.training.config import TrainConfig
from ddpm.zoo import model

SCHEDULE = linear(50)
B = 50
T_ALL = jnp.arange(1, B + 1)


@pytest.fixture
def draws(x64):
    """x0 (bytes), one noise for each time, and some network's output."""
    keys = jax.random.split(jax.random.key(0), 3)
    x0 = jnp.round(jax.random.uniform(keys[0], (B, 2, 2, 1)) * 255) / 127.5 - 1
    return linear(50), x0, jax.random.normal(keys[1], x0.shape), jax.random.normal(keys[2], x0.shape)


@pytest.mark.parametrize("predict", heads.HEADS)
def test_a_head_gives_back_the_noise_of_a_perfect_prediction(draws, predict):
    s, x0, noise, _ = draws
    x_t = q_sample(s, x0, T_ALL, noise)
    output = objectives.target(s, predict, x0, T_ALL, noise)
    np.testing.assert_allclose(heads.head(constant(output), s, predict)(x_t, T_ALL, None), noise, atol=1e-9)


def test_mu_is_the_mean_of_the_posterior(draws):
    """Eq. 11 is Eq. 7 with x0 written by ε."""
    s, x0, noise, _ = draws
    mean, _ = q_posterior(s, q_sample(s, x0, T_ALL, noise), x0, T_ALL, T_ALL - 1)
    np.testing.assert_allclose(objectives.target(s, "mu", x0, T_ALL, noise), mean, atol=1e-12)


@pytest.mark.parametrize("predict", heads.HEADS)
def test_the_error_of_the_prediction_is_a_weighted_error_of_the_noise(draws, predict):
    """mse = w ‖ε - ε̂‖² with the w that `for_target` turns into 1."""
    s, x0, noise, output = draws
    net = lambda x_t, t, c: output + 0.3 * x_t  # noqa: E731
    mse = objectives.objective("mse", predict)(net, s, x0, T_ALL, noise, None)
    eps = heads.head(net, s, predict)
    w = 1 / weighting.for_target(s, weighting.simple(s), predict)[T_ALL]
    np.testing.assert_allclose(objectives.weight_of_eps("mse", predict, "", s)[T_ALL], w, rtol=1e-12)
    np.testing.assert_allclose(mse, w * per_image(squared_error(eps, s, x0, T_ALL, noise)), rtol=1e-9)


@pytest.mark.parametrize("predict", heads.HEADS)
def test_simple_does_not_depend_on_the_name_of_the_prediction(draws, predict):
    """The same ε̂ expressed as x̂0, v̂ or μ̂ has the same loss; min_snr is its multiple."""
    s, x0, noise, output = draws
    x_t = q_sample(s, x0, T_ALL, noise)
    x0_hat = (x_t - jnp.sqrt(1 - s.alpha_bar[T_ALL, None, None, None]) * output) / jnp.sqrt(
        s.alpha_bar[T_ALL, None, None, None]
    )
    as_named = objectives.target(s, predict, x0_hat, T_ALL, output)
    ours = objectives.objective("simple", predict)(constant(as_named), s, x0, T_ALL, noise, None)
    np.testing.assert_allclose(ours, per_image((noise - output) ** 2), rtol=1e-8)
    ratio = objectives.objective("min_snr", predict)(constant(as_named), s, x0, T_ALL, noise, None) / ours
    snr = s.alpha_bar / (1 - s.alpha_bar)
    np.testing.assert_allclose(ratio, jnp.minimum(1, 5 / snr)[T_ALL], rtol=1e-8)


@pytest.mark.parametrize("path", paths.PATHS)
def test_the_error_of_the_velocity_is_the_loss_of_flow_matching(draws, path):
    """Whatever the network predicts: the objective on the chain is that of the path at τ = .999 t/T."""
    _, x0, noise, output = draws
    p, s, tau = paths.make_path(path), paths.make_chain(f"{path}_path", 50), 0.999 * T_ALL / 50
    at = conversions.level_for(p, tau, x0)
    as_velocity = lambda x, tau, c: conversions.velocity_from_eps(p, x, tau, output)  # noqa: E731
    wanted = matching.flow_matching_loss(as_velocity, p, x0, tau, noise)
    u_hat = heads.u_from_eps(s, (at.a * x0 + at.b * noise) / at.c, T_ALL, output)
    for predict, out in (("eps", output), ("flow", u_hat)):
        ours = objectives.objective("velocity", predict, path=path)(constant(out), s, x0, T_ALL, noise, None)
        np.testing.assert_allclose(ours, wanted, rtol=1e-9)
    if path == "linear":
        mse = objectives.objective("mse", "flow")(constant(u_hat), s, x0, T_ALL, noise, None)
        np.testing.assert_allclose(mse, wanted, rtol=1e-9)


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_vlb_is_the_weighted_error_for_t_above_1(draws, variance):
    """w = β²/(2σ²α(1-ᾱ)) plus what the variances differ by, which no network changes.   [Ho et al. 2020, Eq. 12]"""
    s, x0, noise, output = draws
    a, b = (
        objectives.objective("vlb", "eps", variance)(constant(out), s, x0, T_ALL, noise, None)
        for out in (output, noise)
    )
    small = s.beta[1:] * (1 - s.alpha_bar[:-1]) / (1 - s.alpha_bar[1:])
    w = weighting.vlb(s, jnp.append(0.0, s.beta[1:] if variance == "fixed_large" else small))[T_ALL]
    error = per_image((noise - output) ** 2)
    np.testing.assert_allclose((a - b)[1:], bound.BITS * (w * error)[1:], rtol=1e-6)
    assert a[0] > b[0]


def test_vlb_of_a_learned_variance_at_its_ends(draws):
    """v = 1 is β and v = -1 is β̃, for t ≥ 2."""
    s, x0, noise, output = draws
    for v, name in ((1.0, "fixed_large"), (-1.0, "fixed_small")):
        both = constant(jnp.concatenate([output, jnp.full_like(output, v)], -1))
        ours = objectives.objective("vlb", "eps", "learned")(both, s, x0, T_ALL, noise, None)
        fixed = objectives.objective("vlb", "eps", name)(constant(output), s, x0, T_ALL, noise, None)
        np.testing.assert_allclose(ours[1:], fixed[1:], rtol=1e-9)


def test_hybrid_is_simple_and_a_thousandth_of_the_bound(draws):
    s, x0, noise, output = draws
    both = constant(jnp.concatenate([output, jnp.zeros_like(output)], -1))
    args = (s, x0, T_ALL, noise, None)
    hybrid = objectives.objective("hybrid")(both, *args)
    vlb, simple = objectives.objective("vlb", "eps", "learned")(both, *args), per_image((noise - output) ** 2)
    np.testing.assert_allclose(hybrid, simple + 0.001 * s.T * vlb, rtol=1e-9)


@pytest.mark.slow
def test_the_sum_of_the_vlb_is_the_bound(draws):
    """T times its mean over t, and L_T: what `bits_per_dim` adds up for the same ε̂ and σ²."""
    s, x0, _, _ = draws
    x, key = x0[:3], jax.random.key(5)
    net = lambda x_t, t, c: jnp.concatenate([0.9 * x_t, 0.3 * jnp.ones_like(x_t)], -1)  # noqa: E731
    total = bound.prior_bits(s, x)
    for t in range(1, s.T + 1):
        noise = jax.random.normal(jax.random.fold_in(key, t), x.shape, x.dtype)
        total += objectives.objective("vlb", "eps", "learned")(net, s, x, jnp.full(3, t), noise, None)
    eps, v = (lambda x_t, t, c: 0.9 * x_t), (lambda x_t, t, c: 0.3 * jnp.ones_like(x_t))
    np.testing.assert_allclose(total, bound.bits_per_dim(eps, s, key, x, variance=learned(v)).total, rtol=1e-9)


# --- in a training ----------------------------------------------------------------------------------------------------

TINY = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
PAIR = UNetConfig(2, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4)
IMPORTANT = TrainConfig(loss="min_snr", importance=True, T=8, schedule="cosine", batch=16, warmup=0)


@pytest.mark.slow
def test_parts_of_a_batch_remember_what_the_whole_does():
    """With importance: the same loss, and the same losses at the same times, whole or in four parts."""
    rng = np.random.default_rng(0)
    x0, c = jnp.asarray(rng.normal(size=(16, 2, 2, 1)).clip(-1, 1), jnp.float32), jnp.zeros(16, int)
    found = []
    for A in (1, 4):
        setup = dataclasses.replace(IMPORTANT, accumulate=A)
        state = step.init_state(setup, PAIR)
        args = (setup, PAIR, cosine(8), state, jax.random.key(1), x0, c)
        found.append(jax.jit(lambda a=args: step.gradient(*a))())
    (loss, _, one), (loss_4, _, four) = found
    assert float(loss) == pytest.approx(float(loss_4), rel=1e-5)
    np.testing.assert_array_equal(one.seen, four.seen)
    np.testing.assert_allclose(one.loss, four.loss, rtol=1e-4, atol=1e-6)
    assert one.seen.sum() == 16


@pytest.mark.slow
def test_importance_draws_where_the_loss_was_large():
    """A history in which t = 1 weighs most: most draws are there, and their weights are 1/(T p)."""
    state = step.init_state(IMPORTANT, PAIR)
    loss = jnp.ones((9, 10)).at[1].set(50.0)
    history = state.history._replace(loss=loss, seen=jnp.full(9, 10))
    x0 = jnp.zeros((400, 2, 2, 1))
    draws, _ = step.draw(IMPORTANT, PAIR, cosine(8), jax.random.key(0), x0, jnp.zeros(400, int), history)
    assert (draws.t == 1).mean() > 0.8
    np.testing.assert_allclose(draws.weight, 1 / (8 * probabilities(history)[draws.t]), rtol=1e-5)
    even, _ = step.draw(IMPORTANT, PAIR, cosine(8), jax.random.key(0), x0, jnp.zeros(400, int), state.history)
    np.testing.assert_allclose(even.weight, 1, rtol=1e-5)


@pytest.mark.slow
def test_a_run_with_its_own_objective_loads_as_a_denoiser(tmp_path, monkeypatch):
    """Its ε̂ is that of its head, its variance is learned, its history is in the checkpoint."""
    monkeypatch.setitem(config.UNETS, "tiny", TINY)
    base = TrainConfig(data="digits", preset="tiny", steps=2, batch=16, warmup=1, save_every=1, log_every=1, T=20)
    setup = dataclasses.replace(base, predict="v", loss="vlb", variance="learned", importance=True, schedule="cosine")
    folder = run.train(dataclasses.replace(setup, name="v"), tmp_path, quiet=True)
    m = model.load(folder)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    t, c = jnp.array([3, 17]), jnp.array([1, 2])
    output = m.net(x, t, c)
    a = m.schedule.alpha_bar[t][:, None, None, None]
    np.testing.assert_allclose(m.eps(x, t, c), jnp.sqrt(a) * output[..., :1] + jnp.sqrt(1 - a) * x, atol=1e-5)
    ours = m.variance(m.schedule, x, t, t - 1, c)
    low, high = bound_of(m.schedule, t)
    f = (output[..., 1:] + 1) / 2
    np.testing.assert_allclose(ours, np.exp(f * np.log(high) + (1 - f) * np.log(low)), rtol=1e-3)
    model.save(tmp_path / "w", m, {})
    np.testing.assert_array_equal(model.load(tmp_path / "w").eps(x, t, c), m.eps(x, t, c))
    with pytest.raises(ValueError, match="predict was 'v', now 'eps'"):
        run.train(dataclasses.replace(setup, predict="eps", name="v"), tmp_path, quiet=True)


def bound_of(schedule, t):
    """β̃ and β of the steps t → t-1, t ≥ 2."""
    a, b = np.asarray(schedule.alpha_bar, np.float64), np.asarray(schedule.beta, np.float64)
    t = np.asarray(t)
    return (x[:, None, None, None] for x in (b[t] * (1 - a[t - 1]) / (1 - a[t]), b[t]))


@pytest.mark.slow
def test_one_program_serves_every_seed():
    """The seed as an argument: the same step as with the seed inside, to the bit."""
    setup = TrainConfig(batch=8, steps=4, warmup=0, seed=3)
    rng = np.random.default_rng(0)
    images, labels = jnp.asarray(rng.integers(0, 256, (16, 8, 8, 1)), jnp.uint8), jnp.zeros(16, jnp.int32)
    rest = (linear(1000), images, labels, data.batch_ids(3, 0, 16, 8), np.int32(0))
    inside, _ = step.make_step(setup, TINY)(step.init_state(setup, TINY), *rest)
    other = step.make_step(dataclasses.replace(setup, seed=0), TINY)
    outside, _ = other(step.init_state(setup, TINY), *rest, step.seed_data(setup))
    for a, b in zip(jax.tree.leaves(inside), jax.tree.leaves(outside), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_fixed_average_is_the_geometric_sum_with_the_start_in_it():
    """Σ (1-d) d^(n-i) θ_i + dⁿ θ_0"""
    setup = TrainConfig(fixed_ema=(0.9,))
    decay, theta, average = averages.decays(setup)["fixed_0.9"], np.arange(6.0), 0.0 + 7.0
    for n, new in enumerate(theta):
        average = float(train.update(jnp.float32(average), jnp.float32(new), decay(jnp.float32(n))))
    expected = 0.9**6 * 7 + sum(0.1 * 0.9 ** (5 - i) * theta[i] for i in range(6))
    assert average == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predict": "x"}, "Known: eps, x0, v, mu"),
        ({"loss": "l2"}, "Known: simple, mse"),
        ({"variance": "small"}, "Known: fixed_large"),
        ({"variance": "learned"}, "trained by loss vlb or hybrid only; loss is 'simple'"),
        ({"loss": "hybrid"}, "give variance learned"),
        ({"fixed_ema": (1.0,)}, "fixed_ema"),
        ({"path": "curved"}, "Known: linear, trig"),
        ({"path": "linear", "schedule": "linear"}, "two chains"),
        ({"loss": "velocity"}, "give a path"),
        ({"times": "log_normal", "importance": True}, "leave one of them out"),
        ({"predict": "edm", "loss": "vlb"}, "not trained by loss vlb"),
    ],
)
def test_what_cannot_work_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**change)
