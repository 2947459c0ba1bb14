"""The baseline of Doersch et al.: HOG facts, and a planted patch that must be found."""

import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs scikit-image (pip install scikit-image)")

from ddpm.mining import doersch, hog
from ddpm.mining.localisation import motif_auc, patch_motif, precision_at_k

RNG = np.random.default_rng(0)
K = 6


def wall(n, size=20):
    return RNG.normal(0, 0.15, (n, size, size, 1))


def planted(n, size=20):
    """A bright corner at a random place of every image, and its mask."""
    x, motif = wall(n, size), np.full((n, size, size), -1)
    stamp = -np.ones((K, K))
    stamp[1:3, 1:], stamp[1:, 1:3] = 1, 1
    for i in range(n):
        a, b = RNG.integers(0, size - K, 2)
        x[i, a : a + K, b : b + K, 0] += stamp
        motif[i, a : a + K, b : b + K] = 0
    return x, motif


def test_hog_of_a_ramp_is_one_orientation_and_forgets_the_gain():
    ramp = np.tile(np.linspace(-0.5, 0.5, 12), (12, 1))[None, :, :, None]
    h = hog._hog()(ramp[0, 2:10, 2:10], orientations=8, pixels_per_cell=(2, 2), cells_per_block=(2, 2), channel_axis=-1)
    assert np.count_nonzero(h.reshape(-1, 8).sum(0) > 1e-9) == 1
    a = hog.hog_patches(wall(2), K)
    np.testing.assert_allclose(np.linalg.norm(a, axis=-1), 1, rtol=1e-5)
    x = wall(1)
    np.testing.assert_allclose(hog.hog_patches(x, K), hog.hog_patches(4 * x + 1, K), atol=1e-4)


def test_every_position_is_the_crop_of_a_shifted_image():
    """Stride 1: the patch at (i, j) is the one at (i+1, j+1) of the image moved by one, away from the border."""
    x = wall(1)
    moved = np.roll(x, (1, 1), (1, 2))
    a, b = hog.hog_patches(x, K), hog.hog_patches(moved, K)
    assert a.shape == (1, 15, 15, 4 * 4 * 8)
    np.testing.assert_allclose(a[:, 2:10, 2:10], b[:, 3:11, 3:11], atol=1e-5)


def test_colour_adds_lab():
    x = np.repeat(wall(1), 3, -1)
    grey, red = (hog.hog_patches((x * rgb).clip(-1, 1), 4) for rgb in ([1, 1, 1], [1, 0.2, 0.2]))
    assert grey.shape[-1] == 32 + 2 * 4
    assert grey[..., 32:].std(-1).max() < 1e-2 < red[..., 32:].std(-1).mean()  # grey has no a and b


def test_a_planted_patch_is_found():
    x, motif = planted(45)
    found = doersch.find(x, wall(45), doersch.Search(K, seeds=150, detectors=6, keep=3, top=30, members=15))
    assert found.purity[0] > 0.95 and np.all(np.diff(found.purity) <= 0)
    hits = patch_motif(found.where[0], motif, K, share=0.4) == 0
    assert hits.mean() > 0.9 and np.all(np.diff(found.score[0]) <= 0)
    assert motif_auc(doersch.maps(found, x), motif >= 0) > 0.9
    p, cluster = doersch.ranked(found)
    assert precision_at_k(patch_motif(p.where, motif, K, share=0.4) == 0, [10])[10] > 0.8
    assert not any(doersch._overlap(p.where[i : i + 1], p.where[:i], K).any() for i in range(len(p.where)))
    assert np.all(np.diff(cluster) >= 0)


def test_a_score_is_the_margin_of_the_patch_itself():
    x, _ = planted(20)
    found = doersch.find(x, wall(20), doersch.Search(K, seeds=40, detectors=2, keep=1, top=10, members=4))
    f = hog.hog_patches(x, K)[tuple(found.where[0].T)]
    np.testing.assert_allclose(f @ found.weight[0] + found.bias[0], found.score[0], rtol=1e-3, atol=1e-4)


def test_contrast_is_the_standard_deviation():
    x = RNG.normal(size=(2, 9, 8, 3))
    np.testing.assert_allclose(hog.contrast(x, 4)[1, 2, 3], x[1, 2:6, 3:7].std((0, 1)).mean(), rtol=1e-6)


def test_overlap_is_intersection_over_union():
    a = np.array([[0, 0, 0]])
    for shift, expected in ((0, True), (1, True), (3, True), (4, False)):  # IoU of 6 x 6 squares: (6-s)/(6+s)
        assert doersch._overlap(a, np.array([[0, 0, shift]]), K)[0, 0] == expected
    assert not doersch._overlap(a, np.array([[1, 0, 0]]), K)[0, 0]


def test_refusals():
    x = wall(20)
    with pytest.raises(ValueError, match="5 a fold"):
        doersch.find(x[:3], x)
    with pytest.raises(ValueError, match="whole number of cells"):
        doersch.find(x, x, doersch.Search(k=5))
    with pytest.raises(ValueError, match="images are 20 x 20"):
        doersch.find(x, x, doersch.Search(k=22))
    with pytest.raises(ValueError, match="plain everywhere"):
        doersch.find(np.zeros_like(x), x)
