"""Four ways to take up features: nothing at first, FiLM is addition without γ, one token shifts all places alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ddpm.networks import fusion
from ddpm.tools.layers import Draws

H = jax.random.normal(jax.random.key(0), (2, 4, 4, 6))
F = jax.random.normal(jax.random.key(1), (2, 4, 4, 6))
WIDTHS = [6, 6]


def made(way, offset=0.0, widths=WIDTHS):
    """The layers of that way, their parameters moved, and h with what they add."""
    draws = Draws()
    fusion.layers(way, widths, jnp.float32, draws=draws)
    layers = fusion.layers(way, widths, jnp.float32, draws=draws.of(jax.random.key(2)))
    graph, params = nnx.split(layers, nnx.Param)
    keys = iter(jax.random.split(jax.random.key(3), 64))
    moved = jax.tree.map(lambda a: a + offset * jax.random.normal(next(keys), a.shape), params)
    return nnx.merge(graph, moved)


def added(layers, way, f=F, h=H):
    return [change(h) for change in fusion.changes(way, layers, [f, f])]


@pytest.mark.parametrize("way", fusion.WAYS)
def test_at_first_nothing_is_added_and_then_it_depends_on_the_features(way):
    for z in added(made(way), way):
        assert z.shape == H.shape
        np.testing.assert_array_equal(H + z, H)
    layers = made(way, 0.5)
    here, there = added(layers, way), added(layers, way, f=F**2)
    assert np.abs(here[0] - there[0]).max() > 0.01


def test_film_without_gamma_is_addition():
    film, plain = made("film", 0.5), made("addition")
    for layer, other in zip(film, plain, strict=True):
        layer.kernel[...] = layer.kernel[...].at[..., :6].set(0)
        layer.bias[...] = layer.bias[...].at[:6].set(0)
        other.kernel[...], other.bias[...] = layer.kernel[..., 6:], layer.bias[6:]
    np.testing.assert_allclose(added(film, "film"), added(plain, "addition"), atol=1e-6)


def test_film_scales_and_shifts():
    """What is added is linear in h: β(f) at h = 0, where γ counts for nothing, and twice as much γ h for 2h."""
    film = made("film", 0.5)
    none, once, twice = (added(film, "film", h=k * H)[0] for k in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(twice - once, once - none, atol=1e-5)
    assert np.abs(once - none).max() > 0.1 < np.abs(none).max()


def test_one_token_shifts_all_places_by_the_same_vector_and_attention_does_not():
    spread = {}
    for way in ("token", "attention"):
        z = np.asarray(added(made(way, 0.5), way)[0])
        spread[way] = np.abs(z - z[:, :1, :1]).max()
    assert spread["token"] < 1e-5 < 0.01 < spread["attention"]


def test_attention_does_not_know_where_a_feature_stands_and_addition_does():
    """All positions of f in another order: attention reads the same, addition moves it along."""
    order = np.random.default_rng(0).permutation(16)
    moved = F.reshape(2, 16, 6)[:, order].reshape(F.shape)
    layers = made("attention", 0.5)
    np.testing.assert_allclose(added(layers, "attention", moved)[0], added(layers, "attention")[0], atol=1e-5)
    layers = made("addition", 0.5)
    there = np.asarray(added(layers, "addition")[0]).reshape(2, 16, 6)[:, order]
    np.testing.assert_allclose(np.asarray(added(layers, "addition", moved)[0]).reshape(2, 16, 6), there, atol=1e-5)


def test_each_place_reads_its_own_features_and_one_token_the_last():
    """Of two widths and sizes: the first f reaches the first h alone, or none, and the last f the last h, or both."""
    h = [jax.random.normal(jax.random.key(4), s) for s in ((2, 4, 4, 4), (2, 2, 2, 6))]
    f = [jax.random.normal(jax.random.key(5), a.shape) for a in h]
    reached = {"addition": ([1, 0], [0, 1]), "token": ([0, 0], [1, 1])}
    for way in fusion.WAYS:
        layers = made(way, 0.5, [4, 6])
        was, *now = (
            [change(a) for change, a in zip(fusion.changes(way, layers, g), h, strict=True)]
            for g in (f, [f[0] ** 2, f[1]], [f[0], f[1] ** 2])
        )
        found = tuple([int(np.abs(a - b).max() > 0.01) for a, b in zip(was, other, strict=True)] for other in now)
        assert found == reached.get(way, reached["addition"]), way


def test_attention_sees_directions_and_no_lengths():
    """Both h and f are normalised at each position, so 3h + 1 and 3f + 1 are read as h and f."""
    layers = made("attention", 0.5)
    here, there = added(layers, "attention")[0], added(layers, "attention", f=3 * F + 1, h=3 * H + 1)[0]
    np.testing.assert_allclose(there, here, atol=1e-4)
