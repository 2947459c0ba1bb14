"""The drawn cities: what was asked for is in the images, where the world says it is, and nowhere else."""

import numpy as np
import pytest

from ddpm import data, world
from ddpm.config import unet_config
from ddpm.world import BOX, CLASSES, MOTIFS, SIZE, draw, planted


def test_the_same_seed_draws_the_same_images():
    a, b, other = draw(40, 3), draw(40, 3), draw(40, 4)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a.images != other.images).any()


def test_rates_are_those_asked_for():
    """Binomial counts within six standard deviations; a planted motif stands in its own city alone, once an image."""
    n = 4000
    w = draw(n, 0, rate=(0.7, 0.2), common=0.5)
    for city in range(len(CLASSES)):
        for m, rate in zip(planted(city), (0.7, 0.2), strict=True):
            images = w.boxes[w.boxes[:, 1] == m][:, 0]
            assert np.all(w.labels[images] == city) and len(np.unique(images)) == len(images)
            mine = n // len(CLASSES)
            assert abs(len(images) - rate * mine) < 6 * np.sqrt(mine * rate * (1 - rate))
    common = sum((w.boxes[:, 1] == m).sum() for m, motif in enumerate(MOTIFS) if motif.city < 0)
    wanted = 0.5 * (9 - 0.7 - 0.2) * n
    assert abs(common - wanted) < 6 * np.sqrt(9 * n / 4)
    assert not draw(50, rate=0.0).mask.any() and not (draw(50, rate=0.0, common=0.0).motif >= 0).any()


def test_motifs_lie_inside_their_boxes_and_are_nothing_else():
    """Wall and noise do not depend on what is in the cells; what a motif changes is in its box, but for its rim."""
    w = draw(300, 5, contrast=0.5)
    flat = draw(300, 5, contrast=1e-9)
    change = np.abs(w.images.astype(int) - flat.images)[..., 0]
    inside = w.motif >= 0
    assert change[inside].sum() > 0.97 * change.sum()
    assert change[~inside].max() < 0.5 * 1.2 * 127.5  # at most an anti-aliased rim
    for m, motif in enumerate(MOTIFS):
        lighter = (w.images.astype(int) - flat.images)[..., 0][w.motif == m].sum() > 0
        assert lighter == (motif.layers[0][1] > 0)
        assert (w.motif == m).sum() == BOX**2 * (w.boxes[:, 1] == m).sum()  # boxes do not overlap, nor leave the image


def test_boxes_and_map_agree():
    w = draw(50, 6)
    for image, m, top, left in w.boxes:
        assert np.all(w.motif[image, top : top + BOX, left : left + BOX] == m)
    np.testing.assert_array_equal(w.mask, np.isin(w.motif, [m for m, motif in enumerate(MOTIFS) if motif.city >= 0]))


def test_a_form_is_drawn_with_its_area():
    """Coverage sums to the area: a ring of radius 1.6 and width 1.4 has 2π·1.6·1.4 pixels, wherever its centre is."""
    x = np.zeros((5, SIZE, SIZE))
    centre = np.random.default_rng(0).uniform(10, 18, (5, 2))
    world._stamp(x, world._ring, np.arange(5), centre, np.ones(5), np.ones(5))
    np.testing.assert_allclose(x.sum((1, 2)), 2 * np.pi * 1.6 * 1.4, rtol=0.01)
    rows = (x * (np.arange(SIZE) + 0.5)[:, None]).sum((1, 2)) / x.sum((1, 2))
    np.testing.assert_allclose(rows, centre[:, 0], atol=0.05)


def test_it_is_a_data_set():
    d = data.load("cities")
    assert d is data.load("cities") and data.where("cities") == "built in"
    assert d.class_names == CLASSES and d.image_shape == unet_config("cpu").image_shape
    assert np.all(np.bincount(d.y_train) == len(d.y_train) // 4)
    seen = {x.tobytes() for x in d.x_train}
    assert not any(x.tobytes() in seen for x in d.x_test)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"n": 0}, "n is 0"),
        ({"label": 4}, "cities are"),
        ({"rate": 1.2}, "rate"),
        ({"common": -0.1}, "common"),
        ({"contrast": 0.0}, "contrast"),
        ({"jitter": 2.0}, "jitter"),
    ],
)
def test_doors(change, words):
    with pytest.raises(ValueError, match=words):
        draw(**({"n": 3} | change))
