"""The drawn cities: every motif is in the images where the world states it, and nowhere else; and the distribution is
that of the drawings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data, typicality
from ddpm.config import unet_config
from ddpm.datasets import sources
from ddpm.datasets.world import BOX, CELL, CELLS, CLASSES, COMMON, MOTIFS, SIZE, distribution, draw, planted, tiles
from ddpm.losses import weighting
from ddpm.mining import patches
from ddpm.mining.localisation import motif_auc, patch_motif
from ddpm.schedule import linear

FLOOR = [m for m, motif in enumerate(MOTIFS) if motif.row == "floor" and motif.city < 0]


def test_the_same_seed_draws_the_same_images():
    a, b, other = draw(40, 3), draw(40, 3), draw(40, 4)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a.images != other.images).any()


def test_rates_are_those_asked_for():
    """Binomial counts within six standard deviations; a planted motif stands in its own city alone."""
    n, cells = 2000, 2 * CELLS
    w = draw(n, 0, rate=(0.2, 0.1))
    for city in range(len(CLASSES)):
        for m, rate in zip(planted(city), (0.2, 0.1), strict=True):
            images = w.boxes[w.boxes[:, 1] == m][:, 0]
            N = n // len(CLASSES) * cells
            assert np.all(w.labels[images] == city)
            assert abs(len(images) - rate * N) < 6 * np.sqrt(N * rate * (1 - rate))
    for m in FLOOR:
        p, N = 0.7 * COMMON / len(FLOOR), n * cells
        assert abs((w.boxes[:, 1] == m).sum() - p * N) < 6 * np.sqrt(N * p * (1 - p))
    assert not draw(50, rate=0.0).mask.any() and np.all(draw(9, label=2).labels == 2)


def test_motifs_lie_inside_their_boxes_and_are_nothing_else():
    """Outside the boxes there is a roof, a wall or the street; inside is what the letters say."""
    w = draw(100, 5)
    for image, m, top, left in w.boxes:
        part = w.images[image, top : top + BOX, left : left + BOX, 0]
        letters = np.array([list(line) for line in MOTIFS[m].art.split("/")])
        greys = [np.unique(part[letters == letter]) for letter in "#-+o" if (letters == letter).any()]
        assert all(len(g) == 1 for g in greys) and np.all(np.diff(np.concatenate(greys).astype(int)) > 0)
        assert np.all(w.motif[image, top : top + BOX, left : left + BOX] == m)
    assert (w.motif >= 0).sum() == BOX**2 * len(w.boxes)  # boxes do not overlap, nor leave the image
    np.testing.assert_array_equal(w.mask, np.isin(w.motif, [m for m, motif in enumerate(MOTIFS) if motif.city >= 0]))
    v = tiles()
    backdrops = {x.tobytes() for x in v.pixels[:, v.motif < 0].reshape(-1, CELL, CELL)}
    cells = w.images.reshape(-1, CELLS, CELL, CELLS, CELL).swapaxes(2, 3).reshape(-1, CELL, CELL)
    empty = ~(w.motif >= 0).reshape(-1, CELLS, CELL, CELLS, CELL).swapaxes(2, 3).reshape(-1, CELL, CELL).any((1, 2))
    assert all(x.tobytes() in backdrops for x in cells[empty])


def test_planted_motifs_leave_no_pixel_to_the_wall():
    """So that a map of typicality has something to say in each pixel of their boxes; and no two cities share one."""
    arts = [m.art for m in MOTIFS if m.city >= 0]
    assert len(set(arts)) == 8 == len({m.name for m in MOTIFS if m.city >= 0})
    assert all(set(art) == {"#", "o", "/"} and len(art) == 6 * 7 - 1 for art in arts)


def test_the_law_is_that_of_the_drawings():
    """At t = 1 the exact posterior reads each drawing: its pixels to the bit, its motifs, and the cities that it can be
    from; and the classes are calibrated: among many images the mean of p(c | x_1) is the share of each class."""
    w, v = draw(400, 7), tiles()
    x = data.to_float(w.images)
    answer = distribution().answer(linear(), x, 1)
    np.testing.assert_allclose(answer.x0, x, atol=1e-6)
    read = v.motif[np.asarray(answer.tile_posterior).argmax(2)]  # (n, 16)
    assert [np.bincount(read[read >= 0], minlength=16).tolist()] == [np.bincount(w.boxes[:, 1], minlength=16).tolist()]
    p = np.asarray(answer.class_posterior)
    has = np.isin(np.arange(400), w.boxes[np.isin(w.boxes[:, 1], np.arange(8, 16))][:, 0])
    np.testing.assert_allclose(p[has], np.eye(4)[w.labels[has]], atol=1e-6)  # one ornament gives the city away
    np.testing.assert_allclose(p[~has], 0.25, atol=1e-6)  # none says nothing


def test_what_an_ornament_is_worth():
    """With the bound's weights the sum of T over t is log p(x|c)/p(x): log 4 nats for an image with an ornament, which
    gives the city away, and 0 for one without."""
    T, window = 2000, (0.05, 0.9)  # below, every tile is known; above, none
    schedule, w = linear(T), draw(80, 11)
    has = np.isin(np.arange(80), w.boxes[np.isin(w.boxes[:, 1], np.arange(8, 16))][:, 0])
    keep = np.concatenate([np.flatnonzero(has)[:6], np.flatnonzero(~has)[:6]])
    weight = (window[1] - window[0]) * T * SIZE**2 * weighting.vlb(schedule)
    how = typicality.Draws(400, window, weight)
    nats = typicality.measure(
        distribution().eps(schedule), schedule, data.to_float(w.images[keep]), w.labels[keep], jax.random.key(0), how
    )
    assert np.all(np.abs(nats.value - np.where(has[keep], np.log(4), 0)) < 4 * nats.stderr + 0.02)
    assert nats.stderr.max() < 0.6


def test_the_exact_denoiser_finds_what_was_planted():
    """Between the noise in which nothing is seen and that in which everything is, T is high in the planted boxes."""
    w, schedule = draw(48, 13), linear()
    x = data.to_float(w.images)
    T = typicality.measure(
        distribution().eps(schedule), schedule, x, w.labels, jax.random.key(0), typicality.Draws(40, (0.2, 0.35))
    ).map
    assert motif_auc(T, w.mask) > 0.95 and motif_auc(T, w.mask, 3) > 0.98
    first = patches.top(patches.select(patches.pooled(T, BOX), BOX), 24)
    assert np.all(patch_motif(first.where, np.where(w.mask, w.motif, -1), BOX) >= 0)


def test_it_is_a_data_set():
    d = sources.load("cities")
    assert d is sources.load("cities") and sources.where("cities") == "built in"
    assert d.class_names == CLASSES and d.image_shape == unet_config("cities").image_shape
    assert np.all(np.bincount(d.y_train) == len(d.y_train) // 4)
    seen = {x.tobytes() for x in d.x_train}
    assert not any(x.tobytes() in seen for x in d.x_test)


@pytest.mark.parametrize(
    "change, words",
    [({"n": 0}, "n is 0"), ({"label": 4}, "cities are"), ({"rate": 1.2}, "rate"), ({"rate": (-0.1, 0.1)}, "rate")],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        draw(**({"n": 3} | change))
    assert jnp.isfinite(distribution().log_joint).all()
