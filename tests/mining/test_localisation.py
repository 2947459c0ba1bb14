"""Measures of localisation against counting by hand and against their limits."""

import numpy as np
import pytest

from ddpm.mining import localisation as loc

RNG = np.random.default_rng(0)


def test_auc_is_the_share_of_pairs_in_order():
    maps = RNG.integers(0, 5, (2, 4, 4)).astype(float)
    masks = RNG.random((2, 4, 4)) < 0.4
    a, b = maps[masks][:, None], maps[~masks][None]
    pairs = ((a > b) + 0.5 * (a == b)).mean()
    assert loc.motif_auc(maps, masks) == pytest.approx(pairs, abs=1e-12)
    assert loc.motif_auc(masks, masks) == 1 and loc.motif_auc(-maps, masks) == pytest.approx(1 - pairs)
    assert loc.motif_auc(np.zeros(masks.shape), masks) == 0.5


def test_smoothing_is_the_mean_of_the_part_inside():
    x = RNG.normal(size=(2, 6, 5))
    got = loc.smooth(x, 3)
    for i, y, z in ((0, 0, 0), (1, 3, 2), (0, 5, 4), (1, 0, 2)):
        part = x[i, max(0, y - 1) : y + 2, max(0, z - 1) : z + 2]
        assert got[i, y, z] == pytest.approx(part.mean())
    np.testing.assert_array_equal(loc.smooth(x, 1), x)
    np.testing.assert_allclose(loc.smooth(np.ones((1, 6, 5)), 5), 1)


def test_patches_get_the_motif_that_covers_them():
    motif = np.full((2, 10, 10), -1)
    motif[0, 2:6, 2:6], motif[1, 0:4, 0:4], motif[1, 0:4, 4:8] = 3, 0, 7
    patches = np.array([[0, 2, 2], [0, 3, 4], [0, 2, 4], [0, 6, 6], [1, 0, 1], [1, 0, 3], [1, 2, 2]])
    np.testing.assert_array_equal(loc.patch_motif(patches, motif, 4), [3, -1, 3, -1, 0, 7, -1])
    np.testing.assert_array_equal(loc.patch_motif(patches, motif, 4, share=0.3), [3, 3, 3, -1, 0, 7, -1])


def test_purity_and_precision_by_hand():
    clusters = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    motifs = np.array([4, 4, 4, 5, 5, -1, -1, -1, -1])
    assert loc.purity(clusters, motifs) == pytest.approx((3 + 1 + 0) / 9)
    assert loc.purity(np.arange(9), np.arange(9)) == 1
    assert loc.precision_at_k([True, False, True, True], (1, 2, 3, 4, 5)) == {
        1: 1,
        2: 0.5,
        3: pytest.approx(2 / 3),
        4: 0.75,
    }


def test_ranks_and_recall_by_hand():
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    motifs = np.array([4, 4, -1, 5, 5, 4, 4, 6])
    a, b, c = loc.ranks(clusters, motifs, [2, 1, 0, 3], [4, 5, 9])
    assert (a.rank, a.purity, a.members) == (1, 1.0, 2) and (b.rank, b.purity) == (2, 1.0) and c.rank is None
    assert loc.ranks(clusters, motifs, [3, 0, 1], [4], least=2)[0][:3] == (4, 1, pytest.approx(2 / 3))
    boxes = np.array([[0, 4, 0, 0], [1, 4, 5, 5], [1, 5, 0, 0]])
    patches = np.array([[0, 1, 1], [1, 0, 4], [0, 5, 5]])
    assert loc.recalls(patches, boxes, 4, 4, [4, 5, 6]) == {4: 0.5, 5: 0.0, 6: pytest.approx(np.nan, nan_ok=True)}


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: loc.motif_auc(np.zeros((1, 3, 3)), np.zeros((1, 3, 3), bool)), "no pixels"),
        (lambda: loc.motif_auc(np.zeros((1, 3, 3)), np.zeros((1, 3, 4), bool)), "masks"),
        (lambda: loc.motif_auc(np.full((1, 3, 3), np.nan), np.eye(3, dtype=bool)[None]), "not a number"),
        (lambda: loc.smooth(np.zeros((1, 3, 3)), 2), "odd"),
        (lambda: loc.patch_motif([[0, 1, 0]], np.zeros((1, 4, 4), int), 4), "outside"),
        (lambda: loc.purity([], []), "P >= 1"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
