"""The drawn shapes: each view shows what is there, its distribution is that of the drawings, and maps lift."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data
from ddpm.config import unet_config
from ddpm.datasets import blocks, sources
from ddpm.mining.lifting import by_cell, lifted
from ddpm.schedule import linear

SHAPES = blocks.draw(60, seed=5)
SIDE = blocks.SIZE


def cast(volume, view, row, column):
    """The ids of the voxels along one ray, near ones first, by the words of the view alone."""
    up, c, deep = SIDE - 1 - row, column, np.arange(SIDE)
    back = SIDE - 1 - deep
    x, y, z = {
        "+x": (deep, SIDE - 1 - c, up),  # an eye that looks to +x, with z up, has y on its left
        "-x": (back, c, up),
        "+y": (c, deep, up),
        "-y": (SIDE - 1 - c, back, up),
        "-z": (c, up, back),  # from above, y up
    }[view]
    return np.ravel_multi_index(np.broadcast_arrays(x, y, z), volume.shape)


@pytest.mark.parametrize("view", blocks.VIEWS)
def test_a_view_shows_the_first_voxel_of_each_ray(view):
    volume = blocks.volumes(SHAPES.content[:3])
    pictures, hits = blocks.render(volume, view), blocks.hits(volume, view)
    rng = np.random.default_rng(0)
    for i in range(3):
        for row, column in rng.integers(0, SIDE, (150, 2)):
            ids = cast(volume[i], view, row, column)
            grey = volume[i].ravel()[ids]
            if not grey.any():
                assert hits[i, row, column] == -1 and pictures[i, row, column] == 0
                continue
            k = int(np.flatnonzero(grey)[0])
            assert hits[i, row, column] == ids[k]
            assert pictures[i, row, column] == np.round(255 * grey[k] * 0.93**k)


@pytest.mark.parametrize("view", blocks.VIEWS)
def test_a_body_that_reaches_the_border_is_seen_from_outside(view):
    """There is no view from inside of it: a full volume shows the side that is nearest, without fading."""
    full = np.full((SIDE,) * 3, 0.6)
    np.testing.assert_array_equal(blocks.render(full, view), np.full((SIDE, SIDE), 153))
    axis, end = "xyz".index(view[1]), 0 if view[0] == "+" else SIDE - 1
    assert (np.unravel_index(blocks.hits(full, view), full.shape)[axis] == end).all()


@pytest.mark.parametrize("view", blocks.VIEWS)
def test_no_view_is_a_mirror_image(view):
    """Right x up points to the eye."""
    ids = np.arange(SIDE**3).reshape((SIDE,) * 3)
    at = np.stack(np.unravel_index(blocks.turned(ids, view), ids.shape))  # (3, rows, columns, depth)
    right, up, eye = at[:, 1, 2, 1] - at[:, 1, 1, 1], at[:, 0, 1, 1] - at[:, 1, 1, 1], at[:, 1, 1, 0] - at[:, 1, 1, 1]
    np.testing.assert_array_equal(np.cross(right, up), eye)


@pytest.mark.parametrize("view", ["-x", "-z"])
def test_the_distribution_is_that_of_the_drawings(view):
    """Every drawn cell is a tile that its style and category can have, as often as its probability."""
    tiles, prob = blocks._columns(view, blocks.RATES)
    np.testing.assert_allclose(prob.sum(-1), 1, atol=1e-12)
    assert len({tile.tobytes() for tile in tiles}) == len(tiles)
    shapes = blocks.draw(400, seed=6)
    pictures = blocks.render(blocks.volumes(shapes.content), view)
    cells = pictures.reshape(-1, 4, 6, 4, 6).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 36)
    number = {tile.tobytes(): v for v, tile in enumerate(tiles)}
    v = np.array([[number[cell.tobytes()] for cell in picture] for picture in cells])  # a KeyError: not in the list
    p = prob[shapes.labels[:, None], shapes.category[:, None], np.arange(16)[None], v]
    assert p.min() > 0
    # The mean of -log p is the entropy of the list, within its standard error
    plog = prob * np.log(np.where(prob > 0, prob, 1))
    entropy = -plog[shapes.labels, shapes.category].sum((1, 2))
    gap = -np.log(p).sum(1) - entropy
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))


def test_the_exact_denoiser_reads_a_clean_view():
    """At t = 1 it returns the picture, and the category of a body that is seen whole."""
    exact, x = blocks.distribution("+x"), data.to_float(SHAPES.views()[:8, 0])
    answer = exact.answer(linear(), jnp.asarray(x) * np.sqrt(1 - 1e-4), 1)
    np.testing.assert_allclose(answer.x0, x, atol=1e-4)
    np.testing.assert_array_equal(answer.light_posterior.argmax(1), SHAPES.category[:8])
    own = answer.class_posterior[np.arange(8), SHAPES.labels[:8]]
    assert float(own.min()) > 0.2  # of four styles that may all be possible


def test_what_is_planted_is_of_the_style_only():
    kinds = SHAPES.content[SHAPES.mask] - 2
    label = np.broadcast_to(SHAPES.labels[:, None, None, None], SHAPES.content.shape)[SHAPES.mask]
    assert {blocks.PARTS[k].style == c for k, c in zip(kinds, label, strict=True)} == {True}
    assert [len(blocks.planted(c)) for c in range(4)] == [2] * 4
    # With rate (1, 0) all slots hold the first part
    full = blocks.draw(3, rate=(1.0, 0.0), label=2)
    assert set(full.content[blocks.layouts()[full.category] == "o"]) == {2 + blocks.planted(2)[0]}


def test_two_parts_look_alike_from_no_more_than_two_sides():
    """So that five views tell them apart."""
    looks = {v: [blocks.render(solid, v).tobytes() for solid in blocks.solids()[2:]] for v in blocks.VIEWS}
    for i in range(len(blocks.PARTS)):
        for k in range(i):
            assert sum(of[i] == of[k] for of in looks.values()) <= 2


@pytest.mark.slow
def test_the_data_set_has_the_views_of_each_shape():
    d = sources.load("blocks")
    assert d is sources.load("blocks") and sources.where("blocks") == "built in"
    assert d.class_names == blocks.CLASSES and d.image_shape == unet_config("blocks").image_shape
    assert d.x_train.shape == (12_000, 24, 24, 1) and len(d.x_test) == 2000
    shapes = blocks.shapes_of("test")
    np.testing.assert_array_equal(d.x_test[5:10], shapes.views()[1])
    np.testing.assert_array_equal(d.y_test[5:10], shapes.labels[1])


# --- lifting ----------------------------------------------------------------------------------------------------------


def test_what_a_voxel_shows_in_all_views_is_lifted_to_it():
    """Maps that hold a number of each voxel come back to it; what no view sees has none."""
    volume = blocks.volumes(SHAPES.content[:4])
    hits = np.stack([blocks.hits(volume, v) for v in blocks.VIEWS], 1)
    truth = np.random.default_rng(0).normal(size=(4, SIDE**3))
    maps = np.where(
        hits >= 0, np.take_along_axis(truth, np.maximum(hits, 0).reshape(4, -1), 1).reshape(hits.shape), 9.0
    )
    values = lifted(maps, hits, SIDE**3)
    seen = np.isfinite(values)
    np.testing.assert_allclose(values[seen], truth[seen], rtol=1e-12)
    assert all(set(np.flatnonzero(seen[i])) == set(hits[i][hits[i] >= 0]) for i in range(4))
    cells = by_cell(values, 6)
    at = truth.reshape(4, 4, 6, 4, 6, 4, 6)[1, 2, :, 1, :, 0]
    mean = at[np.isfinite(values.reshape(4, 4, 6, 4, 6, 4, 6)[1, 2, :, 1, :, 0])]
    assert np.isnan(cells[1, 2, 1, 0]) if not mean.size else cells[1, 2, 1, 0] == pytest.approx(mean.mean())


def test_a_voxel_in_two_views_has_their_mean():
    hits = np.array([[[[0, 1]], [[1, -1]]]])  # one shape, two views of 1 x 2 pixels
    values = lifted(np.array([[[[5.0, 1.0]], [[3.0, 100.0]]]]), hits, 3)
    np.testing.assert_array_equal(values, [[5.0, 2.0, np.nan]])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: blocks.render(np.full((24,) * 3, np.nan), "+x"), r"volume holds nan at \(0, 0, 0\); give a finite"),
        (lambda: blocks.hits(np.where(np.indices((24,) * 3)[2] == 5, np.inf, 0), "-z"), r"inf at \(0, 0, 5\)"),
        (lambda: blocks.draw(0), "n is 0"),
        (lambda: blocks.draw(2, label=4), "styles are"),
        (lambda: blocks.draw(2, rate=0.6), "rate is"),
        (lambda: blocks.distribution("x"), "view 'x' is not known"),
        (lambda: blocks.volumes(np.full((1, 4, 4, 4), 14)), "contents 0..13"),
        (lambda: lifted(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), -1), 4), "needs a surface"),
        (lambda: lifted(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 4), 4), r"the ids are 0\.\.3"),
        (lambda: lifted(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), int), 4), r"\(n, V, H, W\)"),
        (lambda: by_cell(np.zeros((1, 64)), 3), "that 3 divides"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
