"""The network for noisy images: shapes, identities, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.classifiers import timenet as tn

TINY = tn.TimeNetConfig(7, 2, num_classes=4, widths=(8, 16), features=5, time=12, groups=4, T=50)


def images(n, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, 7, 7, 2))


def params(seed=0):
    return tn.build(TINY)[0](jax.random.key(seed))


def test_halving_keeps_every_number_and_adds_zeros_only():
    h = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    out = tn.halve(h)
    assert out.shape == (2, 3, 2, 12)
    kept = np.sort(np.asarray(out).ravel())
    np.testing.assert_array_equal(kept[kept != 0], np.sort(np.asarray(h).ravel()))
    np.testing.assert_array_equal(out[0, 1, 1].reshape(2, 2, 3), h[0, 2:4, 2:4])


@pytest.mark.slow
def test_each_image_stands_alone():
    """No statistics of the batch: an image's answer does not depend on the others, nor on their times."""
    apply, p, x, t = tn.build(TINY)[1], params(), images(6), jnp.arange(6) * 10
    whole = apply(p, x, t)
    for i in range(6):
        for a, b in zip(apply(p, x[i : i + 1], t[i]), whole, strict=True):
            np.testing.assert_allclose(a[0], b[i], rtol=1e-4, atol=1e-5)
    assert whole[0].shape == (6, 4) and whole[1].shape == (6, 5)


@pytest.mark.slow
def test_the_time_matters_and_every_parameter_is_used():
    apply, x = tn.build(TINY)[1], images(4)
    p = params()
    assert not np.allclose(apply(p, x, 1)[0], apply(p, x, 40)[0], atol=1e-4)
    grad = jax.grad(lambda p: (apply(p, x, 7)[0] ** 2).sum())(p)
    assert all(float(abs(a).max()) > 0 for a in jax.tree.leaves(grad))


@pytest.mark.slow
def test_its_gradient_is_that_of_its_values(x64):
    """The one thing that guidance asks: d log p(c | x_t)/dx_t, against differences (the norms stay in float32)."""
    apply = tn.build(TINY)[1]
    p = jax.tree.map(lambda a: a.astype(jnp.float64), params())
    x, v = images(2).astype(jnp.float64), images(2, 1).astype(jnp.float64)

    def log_p(x):
        return jax.nn.log_softmax(apply(p, x, 5)[0])[:, 1].sum()

    h = 3e-3
    slope = float((log_p(x + h * v) - log_p(x - h * v)) / (2 * h))
    assert float((jax.grad(log_p)(x) * v).sum()) == pytest.approx(slope, rel=5e-3)


def test_bad_input_is_refused():
    apply, p = tn.build(TINY)[1], params()
    for x, t, message in (
        (images(2), None, "give it t"),
        (images(2), 51, "outside 0..50"),
        (images(2)[:, 1:], 3, "wants"),
    ):
        with pytest.raises(ValueError, match=message):
            apply(p, x, t)
    with pytest.raises(ValueError, match="widths"):
        dataclasses.replace(TINY, widths=(6,))
