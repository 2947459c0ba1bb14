"""The ideal denoiser of a finite set, against brute force over all images and the mixture of points."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ddpm import oracle
from ddpm.forward import q_sample
from ddpm.oracles.finite_set import finite
from ddpm.schedule import linear

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.uniform(-1, 1, (23, 2, 2, 1)), np.arange(23) % 3


def brute(schedule, x_t, t, keep):
    a = float(schedule.alpha_bar[t])
    x = IMAGES[keep].reshape(-1, 4)
    log = -((np.asarray(x_t).reshape(-1, 1, 4) - np.sqrt(a) * x) ** 2).sum(2) / (2 * (1 - a))
    p = np.exp(log - logsumexp(log, axis=1, keepdims=True))
    log_prob = logsumexp(log, axis=1) - np.log(len(x)) - 2 * np.log(2 * np.pi * (1 - a))
    return p, p @ x, log_prob


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])  # 5 does not divide 23
@pytest.mark.parametrize("t", [1, 300, 1000])
def test_online_softmax_is_the_softmax(x64, chunk, t):
    schedule, m = linear(), finite(IMAGES, LABELS, chunk)
    x_t = q_sample(schedule, jnp.asarray(IMAGES[:4]), t, jax.random.normal(jax.random.key(0), (4, 2, 2, 1)))
    p, x0, log_prob = brute(schedule, x_t, t, np.full(23, True))
    answer = m.answer(schedule, x_t, t)
    np.testing.assert_allclose(answer.x0.reshape(4, 4), x0, atol=1e-9)
    np.testing.assert_allclose(answer.log_prob, log_prob, rtol=1e-8)
    np.testing.assert_allclose(answer.effective, 1 / (p**2).sum(1), rtol=1e-8)
    np.testing.assert_allclose(answer.class_posterior, p @ np.eye(3)[LABELS], atol=1e-10)
    a = schedule.alpha_bar[t]
    eps = (x_t - jnp.sqrt(a) * answer.x0) / jnp.sqrt(1 - a)
    np.testing.assert_allclose(m.eps(schedule)(x_t, jnp.full(4, t), None), eps, rtol=1e-12)


def test_given_a_class_only_its_images_count(x64):
    schedule, m, t = linear(), finite(IMAGES, LABELS, 5), 400
    x_t = jax.random.normal(jax.random.key(0), (4, 2, 2, 1))
    c = jnp.array([0, 1, 2, 3])  # 3 is the null label
    answer = m.answer(schedule, x_t, t, c)
    for i in range(4):
        _, x0, log_prob = brute(schedule, x_t[i : i + 1], t, (LABELS == i) | (i == 3))
        np.testing.assert_allclose(answer.x0[i].ravel(), x0[0], atol=1e-9)
        assert answer.log_prob[i] == pytest.approx(log_prob[0], rel=1e-8)


def test_it_is_the_mixture_of_points(x64):
    schedule, t = linear(), jnp.array([20, 500])
    points = oracle.mixture(IMAGES, 0.0, label=LABELS)
    x_t, m = jax.random.normal(jax.random.key(0), (2, 2, 2, 1)), finite(IMAGES, LABELS)
    np.testing.assert_allclose(m.eps(schedule)(x_t, t, None), points.eps(schedule)(x_t, t, None), atol=1e-8)
    np.testing.assert_allclose(m.log_prob(schedule, x_t, t), points.log_prob(schedule, x_t, t), rtol=1e-8)
    np.testing.assert_allclose(m.class_posterior(schedule, x_t, t), points.class_posterior(schedule, x_t, t), atol=1e-8)


def test_plus_and_minus_one_are_a_tanh(x64):
    schedule = linear()
    x0 = finite([[1.0], [-1.0]]).answer(schedule, jnp.array([[0.5]]), 300).x0
    assert x0[0, 0] == pytest.approx(0.47891086, abs=1e-8)


def test_bytes_are_scaled(x64):
    schedule, x_t = linear(), jnp.ones((1, 4))
    data = RNG.integers(0, 256, (7, 4), dtype=np.uint8)
    as_bytes, as_floats = finite(data, chunk=3), finite(data / 127.5 - 1, chunk=3)
    assert as_bytes.image.dtype == jnp.uint8
    np.testing.assert_allclose(as_bytes.eps(schedule)(x_t, 200), as_floats.eps(schedule)(x_t, 200), atol=1e-9)


def test_it_takes_part_in_jit_and_its_score_in_grad(x64):
    schedule, m = linear(), finite(IMAGES, LABELS, 5)
    x = jax.random.normal(jax.random.key(0), (2, 2, 2, 1))
    grad = jax.jit(jax.grad(lambda x: m.log_prob(schedule, x, 300).sum()))(x)
    np.testing.assert_allclose(m.score(schedule)(x, 300), grad, atol=1e-9)
    np.testing.assert_allclose(-jnp.sqrt(1 - schedule.alpha_bar[300]) * grad, m.eps(schedule)(x, 300), atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif("DDPM_DATA_DIR" not in os.environ, reason="needs Fashion-MNIST; set DDPM_DATA_DIR")
def test_the_ideal_denoiser_of_fashion_mnist():
    """60,000 images fit. At t = 100 a test image meets one of them, at t = 700 a quarter of them; the errors are those
    of a reference computed on 400 test images (here 50)."""
    data = np.load(os.path.join(os.environ["DDPM_DATA_DIR"], "fashion_mnist.npz"))
    m, schedule = finite(data["x_train"][..., None], data["y_train"]), linear()
    test = jnp.asarray(data["x_test"][:50, ..., None] / 127.5 - 1, jnp.float32)
    noise = jax.random.normal(jax.random.key(1), test.shape)
    for t, loss, effective in [(100, 0.6321, 1), (300, 0.0489, 2), (500, 0.0096, 55), (700, 0.0020, 15173)]:
        x_t = q_sample(schedule, test, t, noise)
        answer = m.answer(schedule, x_t, t)
        a = schedule.alpha_bar[t]
        eps = (x_t - jnp.sqrt(a) * answer.x0) / jnp.sqrt(1 - a)
        assert float(((eps - noise) ** 2).mean()) == pytest.approx(loss, rel=0.25)
        assert float(jnp.median(answer.effective)) == pytest.approx(effective, rel=0.4) or t == 300
    train = jnp.asarray(data["x_train"][:3, ..., None] / 127.5 - 1, jnp.float32)
    x_t = q_sample(schedule, train, 200, noise[:3])
    answer = m.answer(schedule, x_t, 200)
    np.testing.assert_allclose(answer.x0, train, atol=0.05)
    np.testing.assert_array_equal(np.argmax(answer.class_posterior, 1), data["y_train"][:3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: finite(np.zeros((0, 4))), "at least one image"),
        (lambda: finite(np.full((2, 4), np.nan)), "not finite"),
        (lambda: finite(IMAGES, LABELS[:5]), "23 whole numbers"),
        (lambda: finite(IMAGES, LABELS * 2), "lack class 1"),
        (lambda: finite(IMAGES, chunk=0), "chunk is 0"),
        (lambda: finite(IMAGES).log_prob(linear(), jnp.zeros((1, 4)), 0), "outside 1..1000"),
        (lambda: finite(IMAGES).eps(linear())(jnp.zeros((1, 5)), 1), "5 numbers an image"),
        (lambda: finite(IMAGES, LABELS).eps(linear())(jnp.zeros((1, 4)), 1, jnp.array([4])), "outside 0..3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
