"""The classifier's network: folding is exact, pooling is a window's maximum, whitening whitens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.classifiers import convnet as cn
from ddpm.tools import ops

TINY = cn.ClassifierConfig(8, 1, widths=(6, 8), features=5, num_classes=4, mirror=False)


def images(n, seed=0):
    return jax.random.uniform(jax.random.key(seed), (n, 8, 8, 1), minval=-1)


@pytest.mark.slow
def test_folding_is_exact(x64):
    """Batch norm by a batch's own statistics, and the folded network on that batch, are one function."""
    init, apply = cn.build(TINY)
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(1), a.shape), init(jax.random.key(0)))
    x, norm = images(20).astype(jnp.float64), cn.BatchNorm()
    wanted = cn.forward(TINY, params, x, norm)
    assert set(norm.statistics) == {"0/first", "0/second", "1/first", "1/second"}
    got = apply(cn.fold(TINY, params, norm.statistics), x)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_batch_norm_is_mean_0_variance_1_plus_the_bias():
    h = 3 + 2 * jax.random.normal(jax.random.key(0), (5, 4, 4, 7))
    out = cn.BatchNorm()("a", h, jnp.arange(7.0))
    np.testing.assert_allclose(out.mean((0, 1, 2)), np.arange(7), atol=1e-5)
    np.testing.assert_allclose(out.var((0, 1, 2)), 1, rtol=1e-4)


@pytest.mark.parametrize("size", [4, 5, 7])
def test_max_pool_is_the_windows_maximum(size):
    h = jax.random.normal(jax.random.key(0), (2, size, size, 3)) - 5  # all negative: padding must not be 0
    wanted = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    np.testing.assert_array_equal(cn.max_pool(h), wanted)
    grad = jax.grad(lambda h: (cn.max_pool(h) ** 2).sum())(h)
    assert bool(jnp.isfinite(grad).all()) and int((grad != 0).sum()) == wanted.size


@pytest.mark.parametrize(("patch", "channels"), [(2, 3), (3, 1)])
def test_whitened_patches_have_the_unit_covariance(patch, channels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 12, 12, channels)).cumsum(1).cumsum(2)  # neighbours are alike
    kernel = cn.whitening(x, patch, epsilon=0.0)
    d = patch * patch * channels
    assert kernel.shape == (3, 3, channels, 2 * d)
    np.testing.assert_array_equal(kernel[..., :d], -kernel[..., d:])
    out = np.asarray(ops.conv(jnp.asarray(x, jnp.float32), jnp.asarray(kernel)))[:, 1:-1, 1:-1, :d].reshape(-1, d)
    np.testing.assert_allclose(np.cov(out.T), np.eye(d), atol=0.25)
    assert np.all(kernel[: 3 - patch] == 0) and np.all(kernel[:, : 3 - patch] == 0)


@pytest.mark.slow
def test_mirrored_images_have_the_same_features():
    """The features of use are the mean over an image and its mirror, the same for both."""
    config = dataclasses.replace(TINY, mirror=True)
    init, apply = cn.build(config)
    params, x = init(jax.random.key(0)), images(3)
    np.testing.assert_allclose(apply(params, x)[1], apply(params, x[:, :, ::-1])[1], atol=1e-5)
    alone = cn.build(TINY)[1]
    mean = 0.5 * (alone(params, x)[1] + alone(params, x[:, :, ::-1])[1])
    np.testing.assert_allclose(apply(params, x)[1], mean, atol=1e-5)
    assert not np.allclose(alone(params, x)[1], mean, atol=1e-3)


@pytest.mark.slow
def test_gradients_reach_every_parameter_but_the_fixed_ones():
    params = cn.build(TINY)[0](jax.random.key(0))

    def loss(params):
        return (cn.forward(TINY, params, images(8), cn.BatchNorm())[0] ** 2).sum()

    grad = jax.grad(loss)(params)
    assert float(abs(grad.pop("whitening")).max()) == 0
    assert all(float(abs(a).max()) > 0 for a in jax.tree.leaves(grad))


@pytest.mark.parametrize(
    ("change", "message"), [({"patch": 4}, "patch"), ({"widths": ()}, "widths"), ({"features": 0}, "features")]
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)
