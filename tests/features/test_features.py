"""DIFT features: the hook is the network itself, the ensemble is a mean, a known shift is found, refusals."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TINY, random_params

from ddpm.features.activations import default_layer, default_time, dift, layers, patch_features
from ddpm.features.match import correspondence, pck, resize
from ddpm.forward import q_sample
from ddpm.network import eps_fn
from ddpm.networks.inspect import activations
from ddpm.networks.skip import make_prior, ramp, skip_head
from ddpm.oracles import low_rank
from ddpm.schedule import linear

SCHEDULE = linear(100)
PARAMS = random_params(TINY)
NET = SimpleNamespace(unet=TINY, params=PARAMS, schedule=SCHEDULE)
KEY = jax.random.key(5)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 1)).astype(np.float32)


@pytest.mark.slow
def test_the_last_activation_is_the_prediction_and_the_names_are_those_of_layers():
    x, t, c = jnp.asarray(IMAGES), jnp.array([1, 50, 100]), jnp.array([0, 2, 3])
    seen, out = jax.jit(lambda p: (activations(TINY, p, x, t, c), eps_fn(TINY, p)(x, t, c)))(PARAMS)
    np.testing.assert_array_equal(seen["out"], out)
    shapes = layers(TINY)
    assert {k: a.shape[1:] for k, a in seen.items()} == shapes and [*shapes][:: len(shapes) - 1] == ["in", "out"]
    assert shapes["out"] == (8, 8, 1) and shapes["mid"] == (4, 4, 16) and shapes["up.0"] == (8, 8, 16)
    assert shapes["down.0"] == (4, 4, 8) and shapes["down.0.0"] == (8, 8, 8) == shapes["up.1"]
    np.testing.assert_array_equal(seen["up.1"], seen["up.1.1"])  # no change of size after the last level


@pytest.mark.slow
@pytest.mark.parametrize("weight", [None, ramp(100, 10, 60)], ids=["whole", "fades"])
def test_a_network_that_continues_a_gaussian_is_seen_as_it_is_used(weight):
    """Its last activation, scaled and added to the Gaussian's ε, is the model's ε̂; without noise, x̂0 is the image."""
    config = dataclasses.replace(TINY, extra_channels=1)
    gaussian = low_rank.fit(np.random.default_rng(1).normal(size=(40, 8, 8, 1)), rank=5)
    prior = make_prior(gaussian, SCHEDULE, weight)
    net = SimpleNamespace(unet=config, params=random_params(config), schedule=SCHEDULE, prior=prior)
    out = dift(net, IMAGES, 1, KEY, t=30, layer="out", ensemble=1)
    noise = jnp.broadcast_to(jax.random.normal(jax.random.fold_in(KEY, 0), (8, 8, 1)), IMAGES.shape)
    x_t, t, c = q_sample(SCHEDULE, jnp.asarray(IMAGES), 30, noise), jnp.full(3, 30), jnp.full(3, 1)
    eps = jax.jit(lambda e: e(x_t, t, c))(skip_head(eps_fn(config, net.params), prior, SCHEDULE))
    np.testing.assert_allclose(prior.eps(SCHEDULE)(x_t, t, c) + prior.scale[30] * out, eps, atol=1e-5)
    assert layers(config) == layers(TINY)


def test_space_to_depth_halves_every_layer_but_the_last():
    shapes = layers(dataclasses.replace(TINY, patch=2, attention=(2,)))
    assert shapes["up.1"] == (4, 4, 8) and shapes["mid"] == (2, 2, 16) and shapes["out"] == (8, 8, 1)


def test_the_layer_to_begin_with_is_there_in_every_network():
    flat = dataclasses.replace(TINY, multipliers=(1,), attention=())
    assert default_layer(TINY) == "up.1" in layers(TINY) and default_layer(flat) == "up.0.0" in layers(flat)


@pytest.mark.slow
def test_the_ensemble_is_the_mean_over_its_draws():
    """ε̂ of each draw by hand, through the public denoiser; and without noise every ensemble is the same."""
    got = dift(NET, IMAGES, 1, KEY, t=30, layer="out", ensemble=3)
    eps, c = eps_fn(TINY, PARAMS), jnp.full(3, 1)

    def one(k):
        noise = jax.random.normal(jax.random.fold_in(KEY, k), (8, 8, 1))
        x_t = q_sample(SCHEDULE, jnp.asarray(IMAGES), 30, jnp.broadcast_to(noise, IMAGES.shape))
        return eps(x_t, jnp.full(3, 30), c)

    want = np.mean([jax.jit(one)(k) for k in range(3)], axis=0)
    np.testing.assert_allclose(got, want, atol=1e-5)
    clean = [dift(NET, IMAGES, 1, KEY, t=0, ensemble=n) for n in (1, 4)]
    np.testing.assert_allclose(*clean, atol=1e-5)


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_neighbours_and_the_label_matters():
    whole = dift(NET, IMAGES, np.array([0, 1, 2]), KEY)
    parts = dift(NET, IMAGES, np.array([0, 1, 2]), KEY, batch=2)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    null = dift(NET, IMAGES, None, KEY)
    assert np.abs(null - whole).max() > 1e-3
    assert dift(NET, IMAGES[:0], None, KEY).shape == (0, 8, 8, 8)


@pytest.mark.slow
def test_dift_finds_a_known_shift():
    """An object on plain ground, moved by whole positions of the smallest map: each of its points is found."""
    config = dataclasses.replace(TINY, image_size=32, attention=(), num_classes=0)
    net = SimpleNamespace(unet=config, params=random_params(config), schedule=linear(1000))
    x = np.full((1, 32, 32, 1), -1.0, np.float32)
    x[0, 8:18, 8:18, 0] = np.random.default_rng(1).uniform(-1, 1, (10, 10))
    moved = np.roll(x, (6, 4), (1, 2))
    f = dift(net, np.concatenate([x, moved]), None, KEY, t=1, layer="up.1")
    rows, columns = np.mgrid[8:18, 8:18].reshape(2, -1)
    points = np.stack([rows, columns], 1)[None]
    found, cosine = correspondence(f[:1], f[1:], points)
    assert pck(found, points + np.array([6, 4]), 32, alpha=0.01) == 1.0 and cosine.mean() > 0.99
    assert pck(found, points, 32, alpha=0.01) == 0.0


def test_correspondence_of_orthogonal_features_is_the_permutation():
    f = np.eye(12, dtype=np.float32).reshape(1, 3, 4, 12)
    order = np.random.default_rng(0).permutation(12)
    found, cosine = correspondence(f, 7 * f.reshape(1, 12, 12)[:, order].reshape(f.shape))
    where = np.argsort(order)
    np.testing.assert_array_equal(found[0], np.stack(np.divmod(where, 4), 1))
    np.testing.assert_allclose(cosine, 1)


def test_pck_counts_points_within_alpha():
    truth = np.zeros((4, 2))
    found = np.array([[0, 0], [3, 4], [0, 5.1], [30, 0]])
    assert [pck(found, truth, 50, a) for a in (0.05, 0.1, 0.11, 1.0)] == [0.25, 0.5, 0.75, 1.0]


def test_patch_features_are_unit_means_of_the_cells_below():
    f = np.random.default_rng(0).normal(size=(2, 4, 4, 5)).astype(np.float32)
    got = patch_features(f, [1, 0], [[0, 0], [2, 4]], side=4, image_size=8)
    want = np.stack([f[1, 0:2, 0:2].mean((0, 1)), f[0, 1:3, 2:4].mean((0, 1))])
    np.testing.assert_allclose(got, want / np.linalg.norm(want, axis=1, keepdims=True), rtol=1e-5)
    small = patch_features(f, [1], [[6, 6]], side=1, image_size=8)  # less than a cell: the cell that it lies in
    np.testing.assert_allclose(small[0], f[1, 3, 3] / np.linalg.norm(f[1, 3, 3]), rtol=1e-5)


def test_resize_keeps_a_plane():
    f = np.full((1, 3, 3, 2), 4.0)
    assert resize(f, (9, 9)).shape == (1, 9, 9, 2)
    np.testing.assert_allclose(resize(f, (9, 9)), 4, rtol=1e-6)


def test_default_time():
    assert default_time(1000) == 160 and default_time(3) == 1


def test_refusals():
    def f(**k):
        return dift(NET, **{"x0": IMAGES, "c": None, "key": KEY, **k})

    with pytest.raises(ValueError, match=r"'up\.11' is not known"):
        f(layer="up.11")
    with pytest.raises(ValueError, match="ensemble is 0"):
        f(ensemble=0)
    with pytest.raises(ValueError, match=r"t is 101"):
        f(t=101)
    with pytest.raises(ValueError, match=r"c is 4; labels are 0\.\.2"):
        f(c=4)
    with pytest.raises(ValueError, match="wanted"):
        f(x0=IMAGES[:, :4])
    with pytest.raises(TypeError, match="to_float"):
        f(x0=IMAGES.astype(np.uint8))
    with pytest.raises(ValueError, match="pixels wide"):
        patch_features(np.zeros((1, 4, 4, 2)), [0], [[0, 0]], 9, 8)
    with pytest.raises(ValueError, match=r"outside 0\.\.4"):
        patch_features(np.zeros((1, 4, 4, 2)), [0], [[5, 0]], 4, 8)
    with pytest.raises(ValueError, match="no points"):
        pck(np.zeros((0, 2)), np.zeros((0, 2)), 8)
    with pytest.raises(ValueError, match="outside the 4 x 4"):
        correspondence(np.zeros((1, 4, 4, 2)), np.zeros((1, 4, 4, 2)), np.array([[[0, 4]]]))
