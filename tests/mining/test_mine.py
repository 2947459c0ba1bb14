"""Mining where the answer is exact: p-values under their null, clusters of known features, a finite set of images."""

import itertools

import jax
import numpy as np
import pytest

from ddpm.config import UNetConfig
from ddpm.mining import maps, nulls, patches, patterns
from ddpm.mining.localisation import motif_auc, patch_motif
from ddpm.oracles.finite_set import finite
from ddpm.schedule import linear
from ddpm.typicality import Draws
from ddpm.zoo import model

RNG = np.random.default_rng(0)
SCHEDULE = linear(1000)


def glyphs():
    """All images 12 x 12 of four cells: class 0 has ones with a row of dark pixels, class 1 with a column, in one cell;
    another cell has a common dark block. Returns images, labels, and the mask of the planted cell."""
    row, column = np.ones((4, 4)), np.ones((4, 4))
    row[1:3], column[:, 1:3] = -1, -1
    images, labels, masks = [], [], []
    for label, form in enumerate((row, column)):
        for a, b in itertools.permutations(range(4), 2):
            x, mask = np.zeros((12, 12)), np.zeros((12, 12), bool)
            for cell, what in ((a, 0.6 * form), (b, -0.6)):
                i, j = 1 + 6 * (cell // 2), 1 + 6 * (cell % 2)
                x[i : i + 4, j : j + 4] = what
                mask[i : i + 4, j : j + 4] |= cell == a
            images.append(x), labels.append(label), masks.append(mask)
    return np.array(images, np.float32)[..., None], np.array(labels), np.array(masks)


def test_the_exact_denoiser_finds_the_planted_motif(tmp_path):
    """Of the finite set the typicality is exact: the best patch of every image is the planted one, and significant."""
    x, y, masks = glyphs()
    oracle = finite(x, y).eps(SCHEDULE)
    x0, other = x[y == 0], x[y == 1]
    options = {"how": maps.Request(Draws(200)), "report": lambda _: None}
    mine_maps = maps.measure(tmp_path / "a", oracle, SCHEDULE, x0, 0, **options)
    others = maps.measure(tmp_path / "b", oracle, SCHEDULE, other, 0, **options)
    assert motif_auc(mine_maps.map, masks[y == 0], 3) > 0.95
    found = patterns.mine(mine_maps, x0, 0, patterns.pixel_features, patterns.Sizes(4, 2, 24, 2), others=others)
    first = found.patches.turn == 0
    assert np.all(patch_motif(found.patches.where, np.where(masks[y == 0], 0, -1), 4, 0.75)[first] == 0)
    assert np.all(found.p_label[first] == 1 / 13) and np.all(found.p_draws[first] <= 0.01)
    assert found.patches.score[first].min() > 3 * found.control.score.mean()
    assert [c.rank for c in found.clusters] == [1, 2] and found.clusters[0].median >= found.clusters[1].median


def scores(n, turns=3):
    """Made up: n images of dependent scores, sorted within each image."""
    s = -np.sort(-(RNG.normal(size=(n, turns)) + RNG.normal(size=(n, 1))), 1)
    where = np.stack([np.repeat(np.arange(n), turns), np.zeros(n * turns), np.zeros(n * turns)], 1).astype(int)
    return patches.Patches(where, s.ravel(), np.tile(np.arange(turns), n))


def test_p_label_is_a_rank_and_uniform_under_its_null():
    found, others = scores(2000), scores(999)
    p = nulls.p_label(found, others, 999)
    for i in (0, 17, 500):
        reference = others.score[others.turn == found.turn[i]]
        assert p[i] == (1 + (reference >= found.score[i]).sum()) / 1000
    for r in range(3):
        for level in (0.05, 0.5):
            error = np.sqrt(level * (1 - level) * (1 / 2000 + 1 / 999))
            assert abs((p[found.turn == r] <= level).mean() - level) < 5 * error
    assert p.min() >= 1 / 1000
    assert np.all(nulls.p_label(found, found._replace(score=found.score - 100), 2000) == 1 / 2001)
    equal = found._replace(score=np.zeros(len(found.score)))
    assert np.all(nulls.p_label(equal, equal, 2000) == 1)  # ties are no evidence


def test_p_draws_by_all_signs():
    groups = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    S = patches.pooled(groups.mean(1), 3)
    found = patches.select(S, 3, 2)
    p = nulls.p_draws(found, groups, 3)
    for i in range(2):
        best = [
            patches.pooled((np.array(s)[:, None, None] * groups[i]).mean(0), 3).max()
            for s in itertools.product((1, -1), repeat=3)
        ]
        for j in np.flatnonzero(found.where[:, 0] == i):
            assert p[j] == pytest.approx(np.mean(np.array(best) >= found.score[j] - 1e-6))


def test_p_draws_is_uniform_under_its_null_and_small_beyond_it():
    groups = RNG.normal(size=(600, 10, 10, 10)).astype(np.float32)
    found = patches.select(patches.pooled(groups.mean(1), 4), 4, 1)
    p = nulls.p_draws(found, groups, 4)
    for level in (0.05, 0.5):
        assert abs((p <= level).mean() - level) < 5 * np.sqrt(level * (1 - level) / 600)
    groups[:5, :, 2:6, 2:6] += 5
    found = patches.select(patches.pooled(groups[:5].mean(1), 4), 4, 1)
    assert np.all(nulls.p_draws(found, groups[:5], 4) == 1 / 1024)
    assert np.all(nulls.p_draws(found, 0 * groups[:5], 4) <= 1 / 1024)  # these scores are not those of a zero map
    zero = patches.select(np.zeros((2, 7, 7)), 4, 1)
    assert np.all(nulls.p_draws(zero, np.zeros((2, 10, 10, 10)), 4) == 1)  # a label that is ignored


def test_many_groups_draw_their_signs():
    groups = RNG.normal(size=(40, 14, 8, 8)).astype(np.float32)
    found = patches.select(patches.pooled(groups.mean(1), 3), 3, 1)
    every, some = (nulls.p_draws(found, groups, 3, flips=f) for f in (2**14, 1000))
    assert np.abs(every - some).max() < 6 * 0.5 / np.sqrt(1000) and (every != some).any()


def test_clusters_are_ranked_by_the_median_and_their_members_by_distance():
    which = RNG.integers(0, 3, 90)
    f = np.eye(5)[which] + 0.05 * RNG.normal(size=(90, 5))
    score = np.array([2.0, 9.0, 5.0])[which] + RNG.normal(size=90)
    score[which == 2] += 100 * (np.arange((which == 2).sum()) == 0)  # an outlier moves a mean, not the median
    rank, distance, members = patterns.group_into(f, score, 3)
    np.testing.assert_array_equal(rank, np.array([3, 1, 2])[which])
    for r, ids in enumerate(members, 1):
        assert set(ids) == set(np.flatnonzero(rank == r)) and np.all(np.diff(distance[ids]) >= 0)
        centre = f[ids].mean(0)
        np.testing.assert_allclose(distance[ids], np.linalg.norm(f[ids] - centre, axis=1), atol=1e-6)


def test_the_standard_error_is_that_of_the_groups():
    groups = RNG.normal(size=(3, 10, 9, 9)).astype(np.float32)
    m = maps.Maps(groups, np.ones(3), 100)
    found = patterns.mine(m, RNG.random((3, 9, 9, 2)), 0, patterns.pixel_features, patterns.Sizes(3, 2, clusters=2))
    i, y, x = found.patches.where[0]
    each = groups[i, :, y : y + 3, x : x + 3].mean((1, 2))
    assert found.patches.score[0] == pytest.approx(each.mean(), abs=1e-6)
    assert found.stderr[0] == pytest.approx(each.std(ddof=1) / np.sqrt(10), rel=1e-5)
    assert np.isnan(found.p_label).all() and set(found.control.where[:, 0]) == {0, 1, 2}


def a_model(num_classes, p_uncond=0.1):
    unet = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), groups=4, num_classes=num_classes)
    return model.Model("m", unet, {}, SCHEDULE, ("a",) * num_classes, {"train": {"p_uncond": p_uncond}})


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: patterns.check_model(a_model(0)), "without classes"),
        (lambda: patterns.check_model(a_model(3, 0.0)), "no null label.*p-uncond"),
        (lambda: patterns.check_sizes(10, (28, 28), patterns.Sizes(29, 5, 100, 4)), "patch is 29"),
        (lambda: patterns.check_sizes(3, (28, 28), patterns.Sizes(6, 5, 100, 16)), "at most 15 patches.*more images"),
        (lambda: patterns.check_sizes(100, (28, 28), patterns.Sizes(6, 5, 10, 16)), "at most 10 patches"),
        (lambda: patterns.check_sizes(10, (28, 28), patterns.Sizes(6, 0, 100, 4)), "per_image"),
        (lambda: patterns.group_into(np.eye(3), np.ones(3), 4), "3 patches"),
        (
            lambda: patterns.mine(maps.Maps(np.zeros((2, 2, 8, 8)), None, 4), np.zeros((3, 8, 8, 1)), 0, None),
            "not those",
        ),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
    assert patterns.check_model(a_model(3)) is None


@pytest.mark.slow
def test_dift_of_a_network_describes_the_patches():
    from ddpm.network import build

    unet = UNetConfig(8, 1, patch=2, channels=8, multipliers=(1, 2), blocks=1, attention=(), groups=4, num_classes=2)
    m = model.Model("m", unet, build(unet)[0](jax.random.key(0)), SCHEDULE, ("a", "b"), {})
    x = RNG.uniform(-1, 1, (4, 8, 8, 1)).astype(np.float32)
    found = patches.select(RNG.random((4, 5, 5)), 4, 1)
    f = patterns.describe(patterns.dift_features(m, ensemble=2), x, np.array([0, 1, 0, 1]), found, 4)
    assert f.shape == (4, 8) and np.allclose(np.linalg.norm(f, axis=1), 1, atol=1e-5)
    alone = patterns.describe(patterns.dift_features(m, ensemble=2), x, np.array([0, 1, 0, 1]), found.take([2]), 4)
    np.testing.assert_allclose(alone, f[2:3], atol=1e-5)
