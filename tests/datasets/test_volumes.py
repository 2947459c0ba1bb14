"""The shapes as volumes: their distribution is exact, and what is drawn is read back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data
from ddpm.datasets import blocks, sources, volumes
from ddpm.schedule import linear
from ddpm.tools.values import visible

SHAPES = blocks.draw(12, seed=5)
X = data.to_float(volumes.pictures(SHAPES.content))


def test_a_channel_is_a_height():
    np.testing.assert_allclose(
        X.max(-1) > -1, blocks.render(blocks.volumes(SHAPES.content), "-z")[:, ::-1].swapaxes(1, 2) > 0
    )
    np.testing.assert_array_equal(volumes.stacked(volumes.side_by_side(X)), X)
    floors = volumes.side_by_side(X).reshape(12, 24, 4, 24, 6)
    np.testing.assert_array_equal(floors[:, :, 2], X[..., 12:18])


def test_the_distribution_is_that_of_the_drawings():
    """Each drawn cell has its content's probability in the list; the mean of -log p is the entropy."""
    prob = np.exp(np.asarray(volumes.distribution().log_tile, np.float64))
    np.testing.assert_allclose(prob.sum(-1), 1, atol=1e-6)
    shapes = blocks.draw(400, seed=6)
    held = shapes.content.transpose(0, 1, 3, 2).reshape(400, 64)  # x, z, y, as the cells stand side by side
    p = prob[shapes.labels[:, None], shapes.category[:, None], np.arange(64), held]
    assert p.min() > 0
    entropy = -(prob * np.log(np.where(prob > 0, prob, 1))).sum((2, 3))[shapes.labels, shapes.category]
    gap = -np.log(p).sum(1) - entropy
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(400)


def test_the_best_denoiser_knows_the_volume_and_its_style():
    """At t = 1 it returns the noise; and a denoiser of the wrong style is worse on shapes with a planted part."""
    schedule, x = linear(), jnp.asarray(X)
    eps, noise = volumes.eps(schedule), jax.random.normal(jax.random.key(0), X.shape)
    errors = {}
    for t in (1, 880):
        a = schedule.alpha_bar[t]
        x_t, times = jnp.sqrt(a) * x + jnp.sqrt(1 - a) * noise, jnp.full(12, t)
        for shift in (0, 1):
            predicted = eps(x_t, times, jnp.asarray((SHAPES.labels + shift) % 4))
            errors[t, shift] = float(((predicted - noise) ** 2).mean())
    assert errors[1, 0] < 1e-6 and errors[880, 0] < errors[880, 1]


def test_what_is_drawn_is_read_back():
    reading = volumes.read(X)
    np.testing.assert_array_equal(reading.content, SHAPES.content)
    np.testing.assert_array_equal(reading.category, SHAPES.category)
    assert reading.error.max() < 5e-3 and not reading.wrong.any()
    # Noise is an error of its own size, and a body too many is one wrong cell
    rng = np.random.default_rng(0)
    noisy = volumes.read(X + 0.1 * rng.normal(size=X.shape))
    assert np.mean(noisy.content == SHAPES.content) > 0.99 and noisy.error.mean() == pytest.approx(0.05, rel=0.02)
    content = SHAPES.content.copy()
    corner = np.argwhere(blocks.layouts()[SHAPES.category[0]] == ".")[0]
    content[(0, *corner)] = blocks.BODY
    assert volumes.read(data.to_float(volumes.pictures(content))).wrong[0] == 1


def test_channels_that_are_no_colours_are_shown_as_an_x_ray():
    assert visible(X).shape == (12, 24, 24, 1) and visible(X[..., :3]).shape == (12, 24, 24, 3)
    np.testing.assert_allclose(visible(X)[..., 0], X.mean(-1))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"give volumes \(n, 24, 24, 24\)"):
        volumes.read(np.zeros((24, 24, 24)))
    with pytest.raises(ValueError, match="x holds nan at"):
        volumes.read(np.full((1, 24, 24, 24), np.nan))


@pytest.mark.slow
def test_the_data_set_is_built_in():
    d = sources.load("volumes")
    assert d.image_shape == (24, 24, 24) and len(d.x_train) == 8000 and d.class_names == blocks.CLASSES
    np.testing.assert_array_equal(
        volumes.read(data.to_float(d.x_test)).content, blocks.draw(*volumes.SPLITS["test"]).content
    )
