"""The diffusion classifier: LDA on Gaussians, exact losses, elimination that has the stated cost, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.classifiers.by_denoising import (
    Elimination,
    check_stages,
    classify,
    default_stages,
    draw_losses,
    even_times,
    planned_calls,
)
from ddpm.contracts import Partial
from ddpm.oracle import mixture
from ddpm.oracles.gaussian import gaussian_losses
from ddpm.schedule import cosine, linear

SCHEDULE = linear(1000)
KEY = jax.random.key(0)
TWO = mixture([[1.0], [-1.0]], 0.25)
RNG = np.random.default_rng(0)


def test_two_gaussians_the_loss_difference_is_the_log_likelihood_ratio():
    """Proportional to it, with slope .128801 for ±1 and variance .25, t uniform; and so to dist'² - dist²."""
    x0 = np.linspace(-2, 2, 9)[:, None]
    exact = gaussian_losses(TWO, SCHEDULE, x0, [np.arange(1, 1001)])[..., 0]
    distance = (x0 - np.array([[1.0, -1.0]])) ** 2
    np.testing.assert_allclose(exact[:, 1] - exact[:, 0], 2 * 0.128801 * (distance[:, 1] - distance[:, 0]), atol=1e-5)
    ratio = [TWO.log_prob(SCHEDULE, jnp.asarray(x0, jnp.float32), 0, jnp.full(9, c)) for c in (0, 1)]
    np.testing.assert_allclose(exact[:, 1] - exact[:, 0], 0.128801 * (ratio[0] - ratio[1]), atol=1e-4)


@pytest.mark.parametrize("t_range", [(0.0, 1.0), (0.1, 0.7), (0.3, 0.31)])
def test_isotropic_classes_give_lda(t_range):
    """Whatever the times, the exact losses choose the nearest mean, which is LDA here."""
    from scipy.spatial.distance import cdist

    means, schedule = RNG.normal(size=(5, 6)), cosine(200)
    x0 = RNG.normal(size=(50, 6))
    want = cdist(x0, means).argmin(1)
    losses = gaussian_losses(mixture(means, 0.3), schedule, x0, [even_times(200, 20, t_range)])
    np.testing.assert_array_equal(losses[..., 0].argmin(1), want)


def test_draws_have_the_exact_losses_as_their_mean():
    """Classes with different full covariances: Monte Carlo within four standard errors of the closed form."""
    means, roots = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4, 4)) / 2
    m = mixture(means, roots @ roots.transpose(0, 2, 1))
    x0 = np.float32(RNG.normal(size=(4, 4)))
    times = np.tile(even_times(1000, 40, (0.1, 0.7)), 50)
    c = np.tile(np.arange(3), (4, 1))
    losses = draw_losses(m.eps(SCHEDULE), SCHEDULE, x0, c, KEY, times)
    exact = gaussian_losses(m, SCHEDULE, x0, [times])[..., 0]
    assert losses.shape == (4, 3, 2000)
    assert np.all(np.abs(losses.mean(2) - exact) < 4 * losses.std(2) / np.sqrt(2000))


@pytest.mark.slow
def test_classifies_a_mixture_as_its_posterior_does():
    m = mixture(3 * RNG.normal(size=(6, 8)), 0.2)
    x0, _ = m.sample(jax.random.key(1), 40)
    got = classify(m.eps(SCHEDULE), SCHEDULE, x0, 6, KEY, Elimination(stages=((8, 3), (40, 1))))
    np.testing.assert_array_equal(got.label, m.class_posterior(SCHEDULE, x0).argmax(1))
    assert np.all(got.margin > 0)


def counting(x_t, t, c):
    """Loss of class c about c, less a bit of the noise: the order of the classes is known in every draw."""
    return jnp.zeros_like(x_t) + 10.0 * c.astype(jnp.float32).reshape(-1, *(1,) * (x_t.ndim - 1))


def test_elimination_counts_its_calls_and_keeps_the_best():
    x0, stages = np.zeros((7, 2), np.float32), ((2, 4), (5, 2), (9, 1))
    got = classify(Partial(counting), SCHEDULE, x0, 10, KEY, Elimination(stages=stages), batch=16)
    assert got.calls == planned_calls(7, 10, stages) == 7 * (2 * 10 + 3 * 4 + 4 * 2)
    np.testing.assert_array_equal(got.label, 0)
    np.testing.assert_array_equal(got.draws, np.tile([9, 9, 5, 5, 2, 2, 2, 2, 2, 2], (7, 1)))
    np.testing.assert_array_equal(np.argsort(got.loss, 1), np.tile(np.arange(10), (7, 1)))


def test_elimination_agrees_with_all_draws_where_the_classes_are_far_apart():
    m = mixture(4 * RNG.normal(size=(8, 10)), 0.1)
    x0, c = m.sample(jax.random.key(2), 30)
    few = classify(m.eps(SCHEDULE), SCHEDULE, x0, 8, KEY, Elimination(stages=((4, 3), (16, 1))))
    full = classify(m.eps(SCHEDULE), SCHEDULE, x0, 8, KEY, Elimination(stages=((16, 1),)))
    np.testing.assert_array_equal(few.label, full.label)
    same = few.draws == 16
    np.testing.assert_allclose(few.loss[same], full.loss[same], rtol=1e-6)  # the draws are the same ones
    assert few.calls == 30 * (8 * 4 + 3 * 12) and full.calls == 30 * 8 * 16
    np.testing.assert_array_equal(few.label, c)


def test_chosen_labels_weights_and_the_margin():
    eps, x0 = TWO.eps(SCHEDULE), np.array([[0.9], [-1.2]], np.float32)
    times = np.full(64, 300)
    got = classify(eps, SCHEDULE, x0, [1, 0], KEY, Elimination(stages=((64, 1),), times=times))
    np.testing.assert_array_equal(got.label, [0, 1])
    table = draw_losses(eps, SCHEDULE, x0, np.array([[0, 1], [1, 0]]), KEY, times)
    difference = table[:, 1] - table[:, 0]
    np.testing.assert_allclose(got.margin, difference.mean(1), rtol=1e-5)
    np.testing.assert_allclose(got.stderr, difference.std(1, ddof=1) / 8, rtol=1e-5)
    three = classify(eps, SCHEDULE, x0, 2, KEY, Elimination(stages=((64, 1),), times=times, weight=np.full(1001, 3.0)))
    np.testing.assert_allclose(three.margin, 3 * got.margin, rtol=1e-5)


def test_an_image_does_not_depend_on_its_neighbours():
    x0 = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    whole, parts = (
        classify(TWO.eps(SCHEDULE), SCHEDULE, x0, 2, KEY, Elimination(stages=((9, 1),)), batch=b) for b in (64, 3)
    )
    np.testing.assert_allclose(whole.loss, parts.loss, rtol=1e-4)


def test_one_program_for_all_stages_and_weights():
    from ddpm.classifiers.by_denoising import _draw_losses

    x0, stages = np.zeros((4, 1), np.float32), ((2, 3), (4, 2), (6, 1))
    m = [oracle.mixture(RNG.normal(size=(4, 1)), 0.3) for _ in range(2)]
    classify(m[0].eps(SCHEDULE), SCHEDULE, x0, 4, KEY, Elimination(stages=stages), batch=8)
    before = _draw_losses._cache_size()
    classify(m[1].eps(cosine(1000)), cosine(1000), x0[:3], 4, jax.random.key(7), Elimination(((1, 2), (6, 1))), batch=8)
    assert _draw_losses._cache_size() == before


@pytest.mark.parametrize("n", [1, 7, 16, 100])
def test_even_times(n):
    t = even_times(1000, n, (0.2, 0.6))
    cells = (np.sort(t) - 201) * n // 400
    np.testing.assert_array_equal(cells, np.arange(n))  # one in each of n equal cells
    half = np.sort(t[: n // 2])
    if len(half) > 2:
        assert np.diff(half).max() < 3 * 400 / len(half)  # and the first half leaves no hole


@pytest.mark.parametrize("stages", [(), ((10, 10),), ((10, 2),), ((10, 3), (10, 1)), ((10, 3), (20, 4), (30, 1))])
def test_stages_that_cannot_be(stages):
    with pytest.raises(ValueError, match="rising draws"):
        check_stages(stages, 10)


def test_default_stages():
    assert check_stages(default_stages(10), 10) == [(10, 4), (50, 2), (200, 1)]
    assert check_stages(default_stages(2), 2) == [(200, 1)]


def test_refusals():
    eps, x0 = TWO.eps(SCHEDULE), np.zeros((2, 1), np.float32)
    with pytest.raises(ValueError, match="at least 2"):
        classify(eps, SCHEDULE, x0, 1, KEY)
    with pytest.raises(ValueError, match="holds no time"):
        classify(eps, SCHEDULE, x0, 2, KEY, Elimination(stages=((4, 1),), t_range=(0.5, 0.5001)))
    with pytest.raises(ValueError, match="low < high"):
        classify(eps, SCHEDULE, x0, 2, KEY, Elimination(stages=((4, 1),), t_range=(0.5, 0.5)))
    with pytest.raises(ValueError, match=r"give \(4,\)"):
        classify(eps, SCHEDULE, x0, 2, KEY, Elimination(stages=((4, 1),), times=[1, 2]))
    with pytest.raises(ValueError, match=r"outside 1\.\.1000"):
        classify(eps, SCHEDULE, x0, 2, KEY, Elimination(stages=((2, 1),), times=[0, 2]))
    with pytest.raises(ValueError, match=r"weight has shape"):
        classify(eps, SCHEDULE, x0, 2, KEY, Elimination(stages=((2, 1),), weight=np.ones(3)))
    with pytest.raises(ValueError, match=r"give labels \(2, M\) for each"):
        draw_losses(eps, SCHEDULE, x0, np.zeros((3, 1), int), KEY, [5])
    with pytest.raises(ValueError, match="there are 1 times"):
        draw_losses(eps, SCHEDULE, x0, np.zeros((2, 1), int), KEY, [5], (0, 2))
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        classify(eps, SCHEDULE, np.full((1, 2, 2, 1), 200.0), 2, KEY)
    with pytest.raises(ValueError, match="several"):
        gaussian_losses(mixture([[0.0], [1.0]], 1.0, label=[0, 0]), SCHEDULE, x0, [[5]])
