"""The NumPy columns of the experiments with conditions: sums over all pictures, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.datasets.wardrobe import drawing, evidence, law, silhouettes
from ddpm.schedule import cosine
from experiments import control, palette, personal, try_on, word_binding
from experiments.lab import captioned
from experiments.lab import wardrobe_exact as exact


def test_all_known_and_nothing_known():
    """Of a picture that is wholly seen nothing is open; with no pixel seen the entropy is that of the world."""
    x0, _ = exact.pictures(1, 3)
    seen = exact.of_pixels(x0[0], np.ones((28, 28)), 0.02)
    assert seen.entropy == pytest.approx(0, abs=1e-6) and seen.variance == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(seen.mean.reshape(28, 28, 3), x0[0], atol=1e-5)
    nothing = exact.of_pixels(x0[0], np.zeros((28, 28)), 0.02)
    # geometry, light, garment and ground of 16 colours each; ink in half of the pictures, a badge in a quarter
    world = np.log(288 * 2) + 2 * np.log(16) + np.log(16) / 2 + 16 * np.log(2) / 4
    assert nothing.entropy == pytest.approx(world, rel=1e-9)


@pytest.mark.slow
def test_the_sum_agrees_with_the_oracle_on_grey_values():
    x0, _ = exact.pictures(1, 4)
    known = exact.of_grey(x0[0], 0.3)
    answer = law.distribution().answer(
        exact.SCHEDULE, jnp.zeros((1, 28, 28, 3)), exact.SCHEDULE.T, evidence.in_grey(x0, sigma=0.3)
    )
    np.testing.assert_allclose(answer.x0[0].reshape(784, 3), known.mean, atol=1e-3)


@pytest.mark.slow
def test_pictures_of_the_world_and_others():
    x0, z = exact.pictures(4, 5)
    assert exact.of_world(x0).all()
    shape = silhouettes.geometry(z.garment, z.size, z.column, z.row, z.pattern)
    np.testing.assert_array_equal(law.read(x0).geometry, shape)
    other = x0.copy()
    other[:, :14] = 0.6 * x0[:, :14] - 0.32  # night in the upper half
    assert not exact.of_world(other)[z.light == 0].any()
    lit = try_on.light_of(x0, silhouettes.shapes().region[shape] > 0)
    np.testing.assert_array_equal(lit, z.light)


@pytest.mark.slow
def test_the_distribution_may_be_used_first_inside_jit():
    law.distribution.cache_clear()
    ask = jax.jit(lambda x: law.distribution().log_prob(cosine(1000), x, 500))
    x = jnp.zeros((1, 28, 28, 3))
    first = ask(x)  # what it built is used again, outside
    np.testing.assert_allclose(law.distribution().log_prob(cosine(1000), x, 500), first, rtol=1e-5)


def test_the_leak_is_the_mean_over_all_outcomes():
    """n = 2 pictures, K = 2 values: equal with probability 1/2, and then they tell log 2."""
    assert personal.leak(2, 2) == pytest.approx(np.log(2) / 2)
    assert personal.leak(1, 8) == pytest.approx(np.log(8)) and personal.leak(10_000, 8) < 4e-4


def test_the_median_denoiser_answers_for_the_majority():
    """x̂0 is the more probable of ±1: at x_t = 0 the majority's 1, and far on the other side -1."""
    t = jnp.array([500, 500])
    eps = palette.median(jnp.array([[0.0], [-3.0]]), t)
    a = exact.SCHEDULE.alpha_bar[500]
    x0 = (jnp.array([0.0, -3.0]) - jnp.sqrt(1 - a) * eps[:, 0]) / jnp.sqrt(a)
    np.testing.assert_allclose(x0, [1, -1], atol=1e-5)


@pytest.mark.slow
def test_one_token_is_one_shift_and_two_are_not():
    shift, slope = try_on.one_token(jax.random.key(0), 1)
    assert shift < 1e-5 and slope < 1e-6 < 0.1 < min(try_on.one_token(jax.random.key(0), 2))


def test_all_orders_of_the_colours_once():
    values = drawing.values_of(drawing.draw_attributes(20, 1))
    every, new = word_binding.orders(values)
    for k, row in enumerate(values):
        said = [row[a] for a in word_binding.PAINTED if row[a] >= 0]
        kinds = {tuple(o[k, word_binding.PAINTED]) for o in every}
        assert len(kinds) == new[:, k].sum() and all(sorted(v for v in o if v >= 0) == sorted(said) for o in kinds)


def test_overlap_and_a_missing_network(capsys):
    a = np.zeros((1, 4, 4), bool)
    a[0, :2] = True
    assert control.overlap(a, a)[0] == 1 and control.overlap(a, ~a)[0] == 0
    assert captioned.network("no such model") is None and "left out" in capsys.readouterr().out


@pytest.mark.slow
def test_the_network_draws_what_captions_ask():
    """Skipped without its weights. Garment, size, column, ground and light at s = 2: each easy, 8 captions, seed 0."""
    m = captioned.network()
    if m is None:
        pytest.skip("no weights of wardrobe")
    values = drawing.values_of(drawing.draw_attributes(8, 71))
    right = law.right(law.read(captioned.drawn_by(m, values, 2.0, 20)), values)
    assert right[:, [0, 1, 2, 6, 7]].mean() > 0.9
