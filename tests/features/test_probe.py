"""Linear probes: chance and certainty where they are known, the features are means of the activations, refusals."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TINY, random_params

from ddpm.features.activations import layers
from ddpm.features.probe import linear_probe, pooled_features, probe_grid
from ddpm.networks.inspect import activations
from ddpm.schedule import linear

RNG = np.random.default_rng(0)
PARAMS, SCHEDULE, KEY = random_params(TINY), linear(100), jax.random.key(0)
NET = SimpleNamespace(unet=TINY, params=PARAMS, schedule=SCHEDULE)


def blobs(n, d=5, classes=4):
    y = RNG.integers(0, classes, n)
    return np.eye(d)[y] * 8 + RNG.normal(size=(n, d)), y


def test_separable_classes_are_certain_and_shuffled_ones_chance():
    (f, y), (g, z) = blobs(400), blobs(300)
    sure = linear_probe(f, y, g, z)
    assert sure.accuracy == 1.0 and sure.interval[0] > 0.98 and sure[2:5] == (400, 300, 5)
    chance = linear_probe(f, RNG.permutation(y), g, z)
    assert chance.accuracy < 0.4
    scaled = linear_probe(f * 1e4 + 7, y, g * 1e4 + 7, z)  # standardised
    assert scaled.accuracy == 1.0


@pytest.mark.slow
def test_features_are_the_means_of_the_activations():
    x = RNG.uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    got = pooled_features(NET, x, KEY, 0, batch=2)
    seen = jax.jit(lambda p: activations(TINY, p, jnp.asarray(x), jnp.zeros(5, jnp.int32)))(PARAMS)
    assert list(got) == list(layers(TINY))
    for name, f in got.items():
        np.testing.assert_allclose(f, seen[name].mean((1, 2)), atol=1e-5)
    noisy = pooled_features(NET, np.zeros_like(x), KEY, 100, ["out"])["out"]
    assert len(np.unique(noisy)) == 5  # each image has its own noise


@pytest.mark.slow
def test_grid():
    x = RNG.uniform(-0.2, 0.2, (60, 8, 8, 1)).astype(np.float32)
    y = np.arange(60) % 2
    x[y == 1] += 0.7
    grid = probe_grid(NET, (x[:40], y[:40]), (x[40:], y[40:]), [1, 100], ["in", "mid"], key=KEY)
    assert set(grid) == {("in", 1), ("in", 100), ("mid", 1), ("mid", 100)}
    assert grid["in", 1].accuracy == 1.0 > grid["mid", 100].accuracy  # brightness shows; not through pure noise


def test_refusals():
    f, y = blobs(50)
    with pytest.raises(ValueError, match=r"give \(N, d\) and \(N,\)"):
        linear_probe(f, y[:-1], f, y)
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(f, np.zeros(50, int), f, y)
    with pytest.raises(ValueError, match="y_train lacks"):
        linear_probe(f, y, f, y + 1)
    x = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="'middle' is not known"):
        pooled_features(NET, x, KEY, 5, ["middle"])
    with pytest.raises(ValueError, match="t is 101"):
        pooled_features(NET, x, KEY, 101)
