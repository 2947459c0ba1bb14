"""Samplers on Gaussian data, where what they do is known in closed form, and the loop that walks them."""

import time
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact import affine, output_var, output_var_by_direction

from ddpm import oracle
from ddpm.contracts import Partial
from ddpm.editing.inpaint import repaint
from ddpm.forward import q_posterior
from ddpm.guide import clip_x0
from ddpm.sample import Sampling, ddim_step, ddpm_step, images, walk
from ddpm.schedule import linear, make_times


def uniform(S):
    """The index list of DDIM, range(0, 1000, 1000//S), as our times."""
    return make_times(1000, S, "leading")


# --- exact distributions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("S", "std"), [(10, 0.831696), (20, 0.912532), (50, 0.964079), (100, 0.981851)])
def test_ddim_shrinks_unit_gaussians_by_a_product_of_cosines(x64, S, std):
    schedule, times = linear(), uniform(S)
    angle = np.arccos(np.sqrt(np.asarray(schedule.alpha_bar)))[times]
    ours = np.sqrt(output_var(ddim_step, schedule, 1.0, times))[0]
    assert ours == pytest.approx(np.prod(np.cos(np.diff(angle))), abs=1e-9)
    assert ours == pytest.approx(std, abs=2e-6)


def test_ddim_over_all_times_and_the_openai_list(x64):
    assert np.sqrt(output_var(ddim_step, linear(), 1.0, uniform(1000)))[0] == pytest.approx(0.998124, abs=2e-6)
    spread = make_times(1000, 10, "linspace")
    assert np.sqrt(output_var(ddim_step, linear(), 1.0, spread))[0] == pytest.approx(0.814586, abs=2e-6)


TABLE_1 = {  # standard deviation of N(0, .25) after S = 10, 20, 50, 100, 1000 steps; the truth is .5
    "eta 0": (lambda e, s: ddim_step(e, s), [0.37413, 0.43373, 0.47244, 0.48598, 0.49850]),
    "eta 1": (lambda e, s: ddim_step(e, s, eta=1.0), [0.33326, 0.39146, 0.44412, 0.46826, 0.49611]),
}


@pytest.mark.parametrize("row", TABLE_1)
def test_output_std_by_steps(x64, row):
    make, stds = TABLE_1[row]
    for S, std in zip([10, 20, 50, 100, 1000], stds, strict=True):
        assert np.sqrt(output_var(make, linear(), 0.25, uniform(S)))[0] == pytest.approx(std, abs=1e-5)


FRECHET_F2 = {  # exact Fréchet distance for a 1/f² spectrum, 3x32x32, S = 10, 20, 50, 100, 1000
    "eta 0": (ddim_step, [43.61, 12.91, 2.309, 0.610, 0.0082]),
    "eta 1": (lambda e, s: ddim_step(e, s, eta=1.0), [74.09, 29.46, 7.938, 2.676, 0.0467]),
    "sigma-hat": (lambda e, s: ddpm_step(e, s, variance="fixed_large"), [65.35, 13.57, 2.024, 0.486, 0.0037]),
}


@pytest.mark.parametrize("row", FRECHET_F2)
def test_table_1_of_ddim_on_natural_spectra(x64, row):
    """Colour images whose power falls as 1/f² (f = 1/2 for the mean), mean variance .25; eigenvectors are waves."""
    k = np.fft.fftfreq(32) * 32
    f = np.hypot(k[:, None], k[None])
    lam = (np.where(f > 0, f, 0.5) ** -2.0).ravel()
    lam, times_seen = np.unique(np.round(0.25 * lam / lam.mean(), 12), return_counts=True)
    make, distances = FRECHET_F2[row]
    for S, distance in zip((10, 20, 50, 100, 1000), distances, strict=True):
        v = output_var_by_direction(make, linear(), lam, uniform(S))
        ours = 3 * (times_seen * (np.sqrt(lam) - np.sqrt(v)) ** 2).sum()
        assert ours == pytest.approx(distance, rel=1e-3, abs=6e-5)


def test_fixed_large_is_exact_for_unit_gaussians_and_fixed_small_for_a_point(x64):
    """Every step of `fixed_large` keeps N(0, 1) (the last but for the noise it leaves away); `fixed_small` is the
    posterior itself where x0 is one point."""
    schedule = linear()
    eps = oracle.gaussian([0.0], 1.0).eps(schedule)
    for t, s in [(1000, 900), (500, 250), (2, 1)]:
        a, sigma = affine(ddpm_step(eps, schedule, variance="fixed_large"), t, s)
        assert a[0] ** 2 + sigma[0] ** 2 == pytest.approx(1, abs=1e-9)
    point, x_t = oracle.gaussian([0.3], 0.0), jnp.full((1, 1), 0.8)
    for t, s in [(1000, 900), (2, 1), (1, 0)]:
        key = jax.random.key(0)
        mean, var = q_posterior(schedule, x_t, jnp.full((1, 1), 0.3), t, s)
        expected = mean + jnp.sqrt(var) * jax.random.normal(key, (1, 1))
        np.testing.assert_allclose(ddpm_step(point.eps(schedule), schedule)(key, x_t, t, s), expected, atol=1e-9)


@pytest.mark.parametrize("clip", [False, True])
def test_ddim_with_eta_one_is_ddpm_with_fixed_small(x64, clip):
    """Clipped or not: clip_x0 derives ε again, without which the two would differ by O(1)."""
    schedule = linear()
    eps = oracle.mixture([[3.0, 0.0], [-1.0, 0.5]], 0.2).eps(schedule)
    eps = clip_x0(eps, schedule) if clip else eps
    x, key = jax.random.normal(jax.random.key(1), (5, 2)), jax.random.key(2)
    for t, s in [(1000, 980), (300, 100), (2, 1), (1, 0)]:
        ddim = ddim_step(eps, schedule, eta=1.0)(key, x, t, s)
        np.testing.assert_allclose(ddim, ddpm_step(eps, schedule)(key, x, t, s), atol=1e-9)


def test_no_noise_is_added_by_the_last_step():
    schedule = linear()
    eps, x = oracle.gaussian([0.0], 1.0).eps(schedule), jnp.ones((1, 1))
    for step in [
        ddpm_step(eps, schedule),
        ddpm_step(eps, schedule, variance="fixed_large"),
        ddim_step(eps, schedule, eta=1),
    ]:
        a, b = (step(jax.random.key(k), x, 7, 0) for k in (0, 1))
        np.testing.assert_array_equal(a, b)


def test_ancestral_samples_of_a_mixture_have_its_law(x64):
    """100 steps on three points of a circle: each is hit as often as its weight, and the moments agree."""
    m = oracle.mixture([[1, 0], [-0.5, 0.8], [-0.5, -0.8]], 0.02, [0.5, 0.3, 0.2])
    schedule = linear()
    step = ddpm_step(m.eps(schedule), schedule, variance="fixed_large")
    x = walk(step, jax.random.key(0), jax.random.normal(jax.random.key(1), (8000, 2)), make_times(1000, 250))
    nearest = np.argmin(((np.asarray(x)[:, None] - np.asarray(m.mean)) ** 2).sum(2), axis=1)
    share = np.bincount(nearest, minlength=3) / 8000
    np.testing.assert_allclose(share, [0.5, 0.3, 0.2], atol=4 * np.sqrt(0.25 / 8000))
    np.testing.assert_allclose(x.mean(0), np.exp(np.asarray(m.log_weight)) @ np.asarray(m.mean), atol=0.04)


def test_labels_steer(x64):
    m, schedule = oracle.mixture([[1.0], [-1.0]], 0.01), linear()
    c = jnp.array([0, 1, 0, 1])
    x = walk(ddim_step(m.eps(schedule), schedule, c), jax.random.key(0), jnp.zeros((4, 1)), uniform(20))
    np.testing.assert_array_equal(np.sign(x.ravel()), [1, -1, 1, -1])


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_walk_is_the_python_loop(x64):
    schedule, key, x = linear(), jax.random.key(3), jnp.ones((2, 1))
    step, times = ddpm_step(oracle.gaussian([0.2], 0.5).eps(schedule), schedule), [1000, 600, 100, 0]
    end, path = walk(step, key, x, times, path=True)
    for i, (t, s) in enumerate(pairwise(times)):
        x = step(jax.random.fold_in(key, i), x, jnp.asarray(t), jnp.asarray(s))
        np.testing.assert_allclose(path[i], x, rtol=1e-10)
    np.testing.assert_array_equal(path[-1], end)
    np.testing.assert_array_equal(end, walk(step, key, jnp.ones((2, 1)), times))


def test_two_pieces_of_a_walk_are_the_whole(x64):
    schedule, key, x = linear(), jax.random.key(4), jnp.ones((2, 1))
    step, times = ddpm_step(oracle.gaussian([0.2], 0.5).eps(schedule), schedule), make_times(1000, 20)
    middle = walk(step, key, x, times[:8])
    np.testing.assert_array_equal(walk(step, key, middle, times[7:], first=7), walk(step, key, x, times))


def test_a_step_may_carry_more_than_the_image():
    def count(key, x, t, s):
        return x["x"] + 1.0, x["n"] + 1

    def step(key, x, t, s):
        a, n = count(key, x, t, s)
        return {"x": a, "n": n}

    out = walk(step, jax.random.key(0), {"x": jnp.zeros(2), "n": jnp.int32(0)}, [5, 3, 4, 0])  # plain steps may climb
    assert out["n"] == 3 and (out["x"] == 3).all()


def test_new_numbers_do_not_compile_again():
    """A thousand steps on the oracle: one compilation serves every mean, schedule and key, at microseconds a step."""
    traces = []

    def eps(shift, x, t, c):
        traces.append(1)
        return x * shift

    x, times = jnp.ones((16, 1)), make_times(1000, 1000)
    for shift in (0.1, 0.2, 0.3):
        schedule = linear()
        walk(ddim_step(Partial(eps, jnp.asarray(shift)), schedule), jax.random.key(0), x, times).block_until_ready()
    assert len(traces) <= 2  # scan may trace its body twice, once
    for steps in (1, 7, 64):
        walk(ddim_step(Partial(eps, jnp.asarray(0.1)), schedule), jax.random.key(0), x, make_times(1000, steps))
    assert len(traces) <= 4  # nor for other numbers of steps
    schedule = linear()
    step = ddim_step(oracle.gaussian([0.0], 1.0).eps(schedule), schedule)
    walk(step, jax.random.key(0), x, times).block_until_ready()
    start = time.perf_counter()
    walk(step, jax.random.key(1), x, times).block_until_ready()
    assert (time.perf_counter() - start) / 16 < 0.1  # seconds an image; it takes about a millisecond


def test_sample_puts_the_pieces_together():
    m, schedule = oracle.gaussian(np.zeros((2, 2, 1)), 0.04), linear()
    a = images(m.eps(schedule), schedule, jax.random.key(0), (3, 2, 2, 1), how=Sampling(steps=10))
    assert a.shape == (3, 2, 2, 1) and np.abs(a).max() <= 1
    by_hand = walk(
        ddim_step(clip_x0(m.eps(schedule), schedule), schedule),
        jax.random.split(jax.random.key(0))[1],
        jax.random.normal(jax.random.split(jax.random.key(0))[0], (3, 2, 2, 1)),
        make_times(1000, 10),
    )
    np.testing.assert_allclose(a, by_hand, atol=1e-6)


def test_eta_above_one_where_its_variance_exists(x64):
    """At t = 500 → 499 up to σ² = 1-ᾱ_s: η = 3 is allowed, with Eq. 16's σ, and finite."""
    schedule = linear()
    a_t, a_s = (float(schedule.alpha_bar[k]) for k in (500, 499))
    _, sigma = affine(ddim_step(oracle.gaussian([0.0], 0.25).eps(schedule), schedule, eta=3.0), 500, 499)
    assert sigma[0] == pytest.approx(3 * np.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)), rel=1e-9)
    eps = oracle.gaussian(np.zeros((2, 2, 1)), 0.25).eps(schedule)
    assert np.isfinite(walk(ddim_step(eps, schedule, eta=3.0), KEY, jnp.ones((1, 2, 2, 1)), [502, 501, 500])).all()


def wrapped_noisy():
    return repaint(ddim_step(EPS, linear(), eta=1.5), linear(), X, np.ones((2, 2, 1)))


EPS = oracle.gaussian(np.zeros((2, 2, 1)), 1.0).eps(linear())
X = jnp.zeros((2, 2, 2, 1))
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ddpm_step(EPS, linear(), variance="fixed_smal"), "Did you mean 'fixed_small'"),
        (lambda: ddim_step(EPS, linear(), eta=-0.1), "eta is -0.1"),
        (lambda: walk(ddim_step(EPS, linear(), eta=8.0), KEY, X, [1000, 500, 0]), "give at most 1"),
        (lambda: ddim_step(EPS, linear(), eta=1.2)(KEY, X, 1000, 1), "give at most 1"),
        (lambda: walk(wrapped_noisy(), KEY, X, [1000, 1, 0]), "give at most 1"),
        (lambda: ddim_step(EPS, linear(), eta=float("nan")), "eta is nan"),
        (lambda: walk(ddim_step(EPS, linear()), KEY, X, [1001, 0]), "0..1000"),
        (lambda: walk(ddim_step(EPS, linear()), KEY, X, [10, -1]), "from -1"),
        (lambda: walk(ddim_step(EPS, linear()), KEY, X, [10]), "at least two"),
        (lambda: walk(ddim_step(EPS, linear()), KEY, X, [1.5, 0.0]), "integers"),
        (lambda: walk(ddpm_step(EPS, linear()), KEY, X, [10, 20, 0]), "only goes down"),
        (lambda: walk(ddim_step(EPS, linear(), eta=0.5), KEY, X, [0, 10]), "only goes down"),
        (lambda: images(EPS, linear(), KEY, (2, 2, 2, 1), how=Sampling("dddim")), "Did you mean 'ddim'"),
        (lambda: images(EPS, linear(), KEY, (2, 2, 2, 1), jnp.zeros(3, int)), "2 images"),
        (lambda: images(EPS, linear(), KEY, (2, 2, 2, 1), jnp.zeros(2, int), Sampling(guidance=-1.0)), "finite scale"),
        (lambda: images(EPS, linear(), KEY, (2, 2, 2, 1), how=Sampling(steps=1001)), "1..1000 steps"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
