"""One condition through the whole library: labels as before, and pytrees whose rows stay with their images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params

from ddpm import oracle, typicality
from ddpm.contracts import Partial
from ddpm.editing import translation
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.features.activations import dift
from ddpm.forward import eps_from_x0
from ddpm.guide import cfg
from ddpm.guides.adaptive import adaptive_step, begin
from ddpm.guides.composition import given
from ddpm.guides.rules import negative
from ddpm.mining import maps
from ddpm.networks.text_config import TextConfig
from ddpm.sample import Sampling, ddim_step, images, walk
from ddpm.samplers.generation import generate
from ddpm.schedule import linear, make_times
from ddpm.tools.conditions import Condition, count, rows
from ddpm.tools.partials import check_labels
from ddpm.zoo.model import Model

SCHEDULE, KEY = linear(40), jax.random.key(0)
CLASSES = oracle.mixture(np.linspace(-1, 1, 12).reshape(3, 2, 2, 1), 0.1).eps(SCHEDULE)
X0 = np.random.default_rng(0).uniform(-1, 1, (5, 2, 2, 1)).astype(np.float32)
C = Condition(image=X0)


def of_image(schedule, x_t, t, c=None):
    """ε* of the distribution that is the one picture c.image, or a picture of zeros where nothing is given."""
    return eps_from_x0(schedule, x_t, t, jnp.zeros_like(x_t) if c is None else c.image)


of_image.conditions = lambda *_: ("image",)
EPS = Partial(of_image, SCHEDULE)


def test_each_image_follows_its_own_row_in_samplers_and_measures():
    """Where c is the picture itself, images are that picture, and ε* knows the noise: its loss is 0."""
    how = Sampling(steps=4)
    assert count(C) == 5 and count(np.arange(3)) == 3
    np.testing.assert_allclose(images(EPS, SCHEDULE, KEY, X0.shape, C, how), X0, atol=1e-5)
    np.testing.assert_allclose(generate(EPS, SCHEDULE, KEY, X0.shape[1:], C, how, batch=2), X0, atol=1e-5)
    assert eps_mse(EPS, SCHEDULE, X0, C, batch=4).value < 1e-8
    assert eps_mse(EPS, SCHEDULE, X0, rows(C, np.arange(5)[::-1]), batch=4).value > 0.1
    value = typicality.measure(EPS, SCHEDULE, X0, C, KEY, typicality.Draws(4), batch=3).value
    assert (value > 0).all()  # L(x, ∅) - 0


def test_maps_and_translations_take_a_condition(tmp_path):
    """Maps are typicality's, chunk by chunk; a picture encoded as itself is translated to the picture that is given."""
    how = maps.Request(typicality.Draws(4), chunk=2)
    found = maps.measure(tmp_path, EPS, SCHEDULE, X0, C, how, report=lambda _: None)
    reverse = rows(C, np.arange(5)[::-1])
    contrast = maps.measure(tmp_path / "contrast", EPS, SCHEDULE, X0, C, how, reverse, report=lambda _: None)
    assert (found.value > 0).all() and (contrast.value[[0, 1, 3, 4]] > 0).all() and abs(contrast.value[2]) < 1e-6
    moved = translation.translate(EPS, SCHEDULE, X0, C, reverse, steps=4)
    np.testing.assert_allclose(moved.back, X0, atol=1e-4)
    np.testing.assert_allclose(moved.image, X0[::-1], atol=1e-4)


@pytest.mark.slow
def test_features_take_a_condition():
    """Each image's features are those with its own caption, whatever stands in the batch."""
    words = ("red", "blue")
    sizes = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (8,), "groups": 4}
    unet = TextConfig(8, 1, **sizes, words=words, tokens=3, text_width=8, text_layers=1, text_heads=2)
    m = Model("m", unet, random_params(unet), SCHEDULE, (), {})
    x, text = np.zeros((3, 8, 8, 1), np.float32), np.array([[1, 2, 0], [1, 3, 0], [1, 2, 3]])
    f = dift(m, x, Condition(text=text), KEY, t=9, layer="up.0.0", ensemble=1, batch=2)
    again = dift(m, x, Condition(text=text[[1, 0, 2]]), KEY, t=9, layer="up.0.0", ensemble=1, batch=2)
    np.testing.assert_allclose(f[[1, 0, 2]], again, atol=1e-5)
    assert np.abs(f[0] - f[1]).max() > 1e-3


def test_guides_pass_a_condition_on():
    x_t, t, other = jax.random.normal(KEY, X0.shape), jnp.full(5, 30), rows(C, np.arange(5)[::-1])
    with_c, without, with_other = (np.asarray(EPS(x_t, t, c)) for c in (C, None, other))
    np.testing.assert_allclose(cfg(EPS, 3.0)(x_t, t, C), without + 3 * (with_c - without), atol=1e-5)
    np.testing.assert_allclose(given(EPS, C)(x_t, t, None), with_c, atol=1e-6)
    np.testing.assert_allclose(negative(EPS, 2.0, other)(x_t, t, C), with_other + 2 * (with_c - with_other), atol=1e-5)
    start = begin(x_t)
    adaptive = walk(adaptive_step(EPS, SCHEDULE, C, 2.0, 2.0), KEY, start, make_times(40, 2))  # never stops guiding
    plain = walk(ddim_step(cfg(EPS, 2.0), SCHEDULE, C), KEY, x_t, make_times(40, 2))
    np.testing.assert_allclose(adaptive.x, plain, atol=1e-5)


def test_a_label_inside_a_condition_is_that_label_to_the_bit():
    c, shape = np.array([0, 2, 1]), (3, 2, 2, 1)
    inside, how = Condition(label=c), Sampling(steps=4, guidance=2.0)
    assert check_labels(CLASSES, inside, (3,)).dtype == np.int32
    for f in (
        lambda c: images(CLASSES, SCHEDULE, KEY, shape, c, how),
        lambda c: typicality.measure(CLASSES, SCHEDULE, np.zeros(shape), c, KEY, typicality.Draws(4)).value,
    ):
        np.testing.assert_array_equal(f(c), f(inside))


def test_what_a_denoiser_does_not_take_is_refused():
    text = Condition(text=np.zeros((3, 4), int))
    with pytest.raises(ValueError, match=r"c holds text, but this denoiser takes label; leave c\.text None"):
        check_labels(CLASSES, text, (3,))
    with pytest.raises(ValueError, match=r"c\.label contains 7"):
        check_labels(CLASSES, Condition(label=np.array([0, 7])), (2,))
    with pytest.raises(ValueError, match=r"c\.text has shape \(3, 4\); give one row for each of the 2 images"):
        check_labels(Partial(lambda x, t, c: x), text, (2,))
    net = Partial(lambda x, t, c: x)
    net.func.conditions = lambda: ("text",)
    with pytest.raises(ValueError, match="c holds hint, but this denoiser takes text"):
        check_labels(net, Condition(hint=np.zeros((2, 4, 4, 1))), (2,))
    assert check_labels(net, Condition(text=np.ones((2, 4), int)), (2,)).text.shape == (2, 4)
