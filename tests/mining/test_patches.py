"""Pooled maps against the plain sum, greedy selection against the rule spelt out."""

import numpy as np
import pytest

from ddpm.mining.patches import cut, pooled, random_patches, select, top

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape, k", [((2, 9, 7), 3), ((1, 5, 5), 5), ((3, 6, 8), 1), ((8, 8), 4)])
def test_the_integral_image_is_the_brute_force_mean(shape, k):
    maps = RNG.normal(size=shape)
    got = pooled(maps, k)
    assert got.shape == (*shape[:-2], shape[-2] - k + 1, shape[-1] - k + 1)
    for i, j in np.ndindex(got.shape[-2:]):
        np.testing.assert_allclose(got[..., i, j], maps[..., i : i + k, j : j + k].mean((-2, -1)), atol=1e-12)


def by_the_rule(score, k, count):
    """All positions by score; one is dropped when its box, bounds inclusive, meets that of one already taken."""
    taken = []
    for y, x in sorted(np.ndindex(score.shape), key=lambda p: -score[p]):
        if all(not (x <= b + k and x + k >= b and y <= a + k and y + k >= a) for a, b in taken):
            taken.append((y, x))
        if len(taken) == count:
            break
    return taken


@pytest.mark.parametrize("k, count", [(3, 5), (6, 5), (7, 4), (10, 5)])
def test_selection_is_the_greedy_rule(k, count):
    scores = RNG.normal(size=(6, 28 - k + 1, 28 - k + 1))
    p = select(scores, k, count)
    for i in range(6):
        of_image = p.where[p.where[:, 0] == i]
        assert [tuple(w) for w in of_image[:, 1:]] == by_the_rule(scores[i], k, count)
        np.testing.assert_array_equal(p.turn[p.where[:, 0] == i], np.arange(len(of_image)))
    np.testing.assert_array_equal(p.score, scores[tuple(p.where.T)])


def test_touching_boxes_are_removed():
    score = np.zeros((1, 12, 12))
    score[0, 2, 2], score[0, 2, 5], score[0, 2, 6] = 3, 2, 1  # with k = 3: a shared side, and one pixel between
    p = select(score, 3, 2)
    np.testing.assert_array_equal(p.where[:, 1:], [[2, 2], [2, 6]])


def test_five_of_28_pixels_fit_only_up_to_k_7():
    n = 300
    fit = {k: len(random_patches(np.zeros((n, 29 - k, 29 - k)), k).score) / n for k in (6, 7, 10)}
    assert fit[6] > 4.9 and fit[7] > 4.5 and fit[10] < 4


def test_the_control_shows_the_mean_of_all_positions():
    """Its places do not depend on the scores, and its scores are those of its places."""
    scores = RNG.normal(size=(400, 23, 23)) + 1
    p, other = random_patches(scores, 6, seed=1), random_patches(-scores, 6, seed=1)
    np.testing.assert_array_equal(p.where, other.where)
    np.testing.assert_array_equal(p.score, -other.score)
    assert abs(p.score.mean() - 1) < 6 / np.sqrt(len(p.score))
    assert select(scores, 6).score.mean() > 2 and (random_patches(scores, 6, seed=2).where != p.where).any()


def test_the_control_of_an_image_does_not_depend_on_the_images_after_it():
    scores = RNG.normal(size=(11, 9, 9))
    few, many = random_patches(scores[:7], 3, 2), random_patches(scores, 3, 2)
    np.testing.assert_array_equal(few.where, many.where[many.where[:, 0] < 7])


def test_top_and_cut():
    x = RNG.normal(size=(3, 8, 8, 2))
    p = top(select(x[..., 0], 2, 3), 4)
    assert len(p.score) == 4 and np.all(np.diff(p.score) <= 0) and p.score[0] == x[..., 0].max()
    for patch, (i, y, z) in zip(cut(x, p.where[p.where[:, 1] < 7], 1), p.where[p.where[:, 1] < 7], strict=True):
        np.testing.assert_array_equal(patch, x[i, y : y + 1, z : z + 1])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: pooled(np.zeros((2, 8, 8)), 9), "patch is 9"),
        (lambda: pooled(np.zeros((2, 8, 8)), 0), "patch is 0"),
        (lambda: select(np.zeros((8, 8)), 2), r"\(n, h, w\)"),
        (lambda: select(np.full((1, 8, 8), np.nan), 2), "not a number"),
        (lambda: select(np.zeros((1, 8, 8)), 2, 0), "count"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
