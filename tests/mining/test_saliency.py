"""Saliency of functions whose gradient is known: linear, quadratic, flat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.classifiers.classifier import Classifier, build
from ddpm.classifiers.convnet import ClassifierConfig
from ddpm.classifiers.timenet import TimeNetConfig
from ddpm.contracts import Partial
from ddpm.mining.saliency_maps import logits_fn, saliency

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (3, 4, 5, 2)).astype(np.float32)
W = RNG.normal(size=(4, 5, 2, 6)).astype(np.float32)
C = np.array([0, 5, 2])


def linear(w, x):
    return jnp.einsum("bhwc,hwck->bk", x, w) + 3.0


def quadratic(x):
    return 0.5 * (x**2).sum((1, 2, 3))[:, None]


def test_linear_logits_give_their_weights_and_complete_sums():
    f = Partial(linear, jnp.asarray(W))
    own = np.moveaxis(W, -1, 0)[C]  # (B, H, W, channels)
    np.testing.assert_allclose(saliency(f, X, C, method="gradient"), np.abs(own).max(-1), rtol=1e-5)
    total = saliency(f, X, C).sum((1, 2))
    np.testing.assert_allclose(total, np.asarray(linear(W, X))[np.arange(3), C] - 3, rtol=1e-4)
    smooth = saliency(f, X, C, method="smooth", key=jax.random.key(0), draws=3)
    np.testing.assert_allclose(smooth, np.abs(own).max(-1), rtol=1e-4)  # noise changes nothing where it is linear


def test_smooth_is_the_gradient_at_noisy_images_averaged():
    """∇(x²/2) = x: the mean over draws is x plus the mean noise, of size σ/√draws."""
    how = {"method": "smooth", "key": jax.random.key(0), "sigma": 0.5}
    got = [saliency(quadratic, X[..., :1], 0, draws=n, **how) for n in (1, 400)]
    error = [np.abs(g - np.abs(X[..., 0])).mean() for g in got]
    assert 0.2 < error[0] < 0.6 and error[1] < error[0] / 8
    np.testing.assert_allclose(saliency(quadratic, X[..., :1], 0), X[..., 0] ** 2, rtol=1e-5)


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_neighbours_and_a_classifier_fits():
    config = ClassifierConfig(8, 1, 3, widths=(8, 16))
    net = Classifier(config, build(config)[0](jax.random.key(0)), {})
    x = RNG.uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    f = logits_fn(net)
    np.testing.assert_allclose(f(x), net.logits(x), atol=1e-5)
    a, b = (saliency(f, x, np.arange(5) % 3, method="smooth", key=jax.random.key(1), draws=2, batch=n) for n in (5, 2))
    assert a.shape == (5, 8, 8) and np.abs(a).max() > 0
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="Did you mean 'gradient'"):
        saliency(quadratic, X, 0, method="gradients")
    with pytest.raises(ValueError, match="give it a key"):
        saliency(quadratic, X, 0, method="smooth")
    with pytest.raises(ValueError, match="no schedule"):
        logits_fn(Classifier(TimeNetConfig(), {}, {}))
    with pytest.raises(TypeError, match="to_float"):
        saliency(quadratic, X.astype(np.uint8), 0)
    for wrong in (6, -1, 0.5):
        with pytest.raises(ValueError, match=f"c .*{wrong}"):
            saliency(Partial(linear, jnp.asarray(W)), X, wrong)
