"""Translation between Gaussians, where DDIM is affine and its limit is known; the round trip; refusals."""

import jax
import numpy as np
import pytest

from ddpm.editing.translation import translate, typicality_shift, way
from ddpm.oracle import mixture
from ddpm.schedule import cosine, linear
from ddpm.typicality import Draws

SCHEDULE = linear(1000)
MEANS = np.array([[0.5, -0.2, 0.1], [-0.4, 0.3, 0.2]])
M = mixture(MEANS, [0.04, 0.09])
EPS = M.eps(SCHEDULE)
X0 = np.float32(MEANS[0] + 0.2 * np.random.default_rng(0).normal(size=(6, 3)))


def test_between_gaussians_it_is_the_map_of_their_quantiles():
    """The flow of a Gaussian is affine: x0' = μ_b + (σ_b/σ_a)(x0 - μ_a), up to the steps and ᾱ_T > 0."""
    got = translate(EPS, SCHEDULE, X0, 0, 1, steps=1000, start=1.0)
    want = MEANS[1] + 0.3 / 0.2 * (X0 - MEANS[0])
    np.testing.assert_allclose(got.image, want, atol=0.02)
    np.testing.assert_allclose(got.back, X0, atol=0.01)
    np.testing.assert_allclose(got.change(X0), ((got.image - X0) ** 2).mean(1))


def test_the_round_trip_improves_with_the_steps_and_the_same_class_is_the_round_trip():
    errors = [translate(EPS, SCHEDULE, X0, 0, 0, steps=n) for n in (20, 80)]
    np.testing.assert_array_equal(errors[0].image, errors[0].back)
    assert errors[1].error(X0).mean() < errors[0].error(X0).mean() / 4


def test_a_short_way_changes_less():
    change = [translate(EPS, SCHEDULE, X0, 0, 1, steps=50, start=s).change(X0).mean() for s in (0.05, 0.3, 1.0)]
    assert change[0] < change[1] < change[2]


def test_labels_one_each_and_guidance():
    a = np.array([0, 1, 0, 1, 0, 1])
    each = translate(EPS, SCHEDULE, X0, a, 1 - a, steps=30)
    one = translate(EPS, SCHEDULE, X0[:1], 0, 1, steps=30)
    np.testing.assert_allclose(each.image[:1], one.image, atol=1e-5)
    far = translate(EPS, SCHEDULE, X0, 0, 1, steps=30, guidance=3.0)
    near = translate(EPS, SCHEDULE, X0, 0, 1, steps=30)
    direction = MEANS[1] - MEANS[0]
    assert np.all((far.image - near.image) @ direction > 0)
    np.testing.assert_array_equal(far.back, near.back)


def test_typicality_moves_from_a_to_b():
    x1 = translate(EPS, SCHEDULE, X0, 0, 1, steps=100).image
    T = typicality_shift(EPS, SCHEDULE, X0, x1, 0, 1, jax.random.key(0), Draws(50))
    assert np.all(T["before_a"] > T["before_b"]) and np.all(T["after_b"] > T["after_a"])
    assert np.all(T["after_b"] > T["before_b"])


def test_the_way_and_refusals():
    np.testing.assert_array_equal(way(1000, 2, 0.5), [500, 250, 0])
    schedule = cosine(10)
    eps = M.eps(schedule)
    for change, words in (
        ({"start": 0.0}, "share of T"),
        ({"steps": 11}, r"steps is 11; give a whole number in 1\.\.9"),
        ({"a": 0.5}, "one label"),
        ({"b": np.array([0, 1])}, "each of the 6 images"),
        ({"guidance": -1.0}, "finite scale"),
    ):
        with pytest.raises(ValueError, match=words):
            translate(eps, schedule, X0, **{"a": 0, "b": 1, "steps": 5, **change})
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        translate(eps, schedule, np.full((1, 2, 2, 1), 3.0), 0, 1)


def test_a_short_chain_is_translated_in_all_its_steps():
    np.testing.assert_array_equal(way(20, None, 0.9), np.arange(18, -1, -1))
    np.testing.assert_array_equal(way(1000, None, 0.9), way(1000, 100, 0.9))
