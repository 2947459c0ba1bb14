"""Facts about the real Fashion-MNIST that need no network, C1 to C8: ours against numbers found by separate scripts.

They skip where the data are not. Where a number was stated without all that it depends on, the test states this.
"""

import os

import numpy as np
import pytest

from ddpm import data
from ddpm.datasets import sources
from ddpm.evaluation import bits, distances
from ddpm.oracles import gaussian
from ddpm.oracles.gaussian import gaussian_losses
from ddpm.samplers.best_times import searched, w2_of_times
from ddpm.schedule import cosine, linear


@pytest.fixture(scope="module")
def fashion():
    if not os.environ.get("DDPM_DATA_DIR") or sources.where("fashion_mnist") is None:
        pytest.skip("needs the real Fashion-MNIST: set DDPM_DATA_DIR")
    return sources.load("fashion_mnist")


@pytest.fixture(scope="module")
def pixels(fashion):
    """Moments of the training pixels, and their principal axes, falling: (mean, λ, U)."""
    x = data.to_float(fashion.x_train).reshape(60_000, -1)
    mean = x.mean(0, dtype=np.float64)
    cov = np.asarray((x - mean.astype(np.float32)).T @ (x - mean.astype(np.float32)), np.float64) / 60_000
    lam, U = np.linalg.eigh(cov)
    return mean, lam[::-1], U[:, ::-1]


@pytest.fixture(scope="module")
def fitted(fashion):
    """The best Gaussian of all training images, and that of each class."""
    train = data.to_float(fashion.x_train)
    return gaussian.fit(train), gaussian.fit(train, fashion.y_train)


ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[:, None]  # t = 1…1000, linear


def on_train(m):
    """(T+1,) L_simple of the fitted Gaussians on their own images: mean_d ᾱλ_d/(ᾱλ_d + 1-ᾱ); 1 at t = 0."""
    lam = np.asarray(m.var, np.float64)[:, None, :]  # (K, 1, D); the classes are of one size
    return np.append(1.0, (ALPHA_BAR * lam / (ALPHA_BAR * lam + 1 - ALPHA_BAR)).mean((0, 2)))


def test_c1_pixels(fashion):
    x = data.to_float(fashion.x_train)
    assert x.mean(dtype=np.float64) == pytest.approx(-0.42792, abs=2e-5)
    assert (x.astype(np.float64) ** 2).mean() == pytest.approx(0.68162, abs=2e-5)
    assert (fashion.x_train == 0).mean() == pytest.approx(0.5021, abs=5e-5)


def test_c2_variances(fashion, pixels):
    lam = pixels[1]
    assert lam.sum() / 784 == pytest.approx(0.348042, abs=2e-5)
    np.testing.assert_allclose(lam[:4], [79.24, 48.45, 16.42, 13.53], atol=0.01)
    share = np.cumsum(lam) / lam.sum()
    np.testing.assert_allclose(
        share[[0, 1, 4, 9, 19, 49, 99, 199]], [0.290, 0.468, 0.616, 0.720, 0.785, 0.863, 0.912, 0.954], atol=6e-4
    )
    assert np.trace(between_classes(fashion)) / lam.sum() == pytest.approx(0.397, abs=1e-3)


def between_classes(fashion):
    """(D, D) the covariance of the class means."""
    x = data.to_float(fashion.x_train).reshape(60_000, -1)
    return np.cov(np.stack([x[fashion.y_train == k].mean(0, dtype=np.float64) for k in range(10)]).T, bias=True)


@pytest.mark.slow
def test_c3_linear_gaussian_denoiser(fashion, fitted):
    """Averaged over t: .0870 on train and .0873 on test, .0644 on train with the class; the gap is the mean typicality.

    On test images with the class it is .0690, a number that C3 does not have (`oracle.linear_loss`).
    """
    one, by_class = fitted
    loss, given = on_train(one), on_train(by_class)
    assert loss[1:].mean() == pytest.approx(0.0870, abs=6e-5)
    expected = {1: 0.978, 10: 0.863, 50: 0.482, 100: 0.271, 200: 0.117, 300: 0.0581, 500: 0.0140, 700: 0.00203}
    np.testing.assert_allclose(loss[list(expected)], list(expected.values()), rtol=5e-3)
    test, schedule = data.to_float(fashion.x_test), linear(1000)
    assert gaussian.linear_loss(one, schedule, test)[1:].mean() == pytest.approx(0.0873, abs=6e-5)
    assert given[1:].mean() == pytest.approx(0.0644, abs=6e-5)
    assert gaussian.linear_loss(by_class, schedule, test, fashion.y_test)[1:].mean() == pytest.approx(0.0690, abs=1e-4)
    gap = (loss - given)[1:]  # t = 1…1000
    assert gap.mean() == pytest.approx(0.02255, abs=1e-5)
    assert gap[100:700].mean() == pytest.approx(0.01541, abs=1e-5)  # 100…699 counted from 0: our 101…700
    assert abs(gap.argmax() + 1 - 12) <= 1 and gap.max() == pytest.approx(0.188, abs=5e-4)
    above = np.flatnonzero(gap >= gap.max() / 2) + 1
    assert above[0] == 1 and abs(above[-1] - 79) <= 1


def test_c4_speciation(fashion, pixels):
    """ᾱ_t Λ = 1-ᾱ_t at t = 658 for the largest direction of the pixels, 627 for that of the class means, Λ = 52.87."""
    lam = np.linalg.eigvalsh(between_classes(fashion))[-1]
    assert lam == pytest.approx(52.87, abs=0.01)
    alpha_bar = np.asarray(linear(1000).alpha_bar, np.float64)
    for value, t in ((pixels[1][0], 658), (lam, 627)):
        assert np.abs(np.argmin(np.abs(alpha_bar * value - (1 - alpha_bar))) - t) <= 1


C5 = {  # T - t + 1: bits/dim sent, root mean square error of 255
    1000: (4.0596, 1.261), 900: (0.32295, 22.62), 800: (0.12385, 31.40), 700: (0.05868, 37.99), 600: (0.02855, 44.44),
    500: (0.01297, 51.80), 400: (0.00507, 60.41), 300: (0.00156, 68.69), 200: (0.00036, 73.41), 100: (0.00006, 74.87),
}  # fmt: skip


@pytest.mark.slow
def test_c5_progressive_coding(fitted):
    """The error from the library's ε-MSE, x̂0 - x0 = -√((1-ᾱ)/ᾱ) (ε̂ - ε); the rate from I(x0; x_t) - I(x0; x_T)."""
    a, loss = ALPHA_BAR[:, 0], on_train(fitted[0])[1:]
    lam = np.asarray(fitted[0].var[0], np.float64)
    information = 0.5 * np.log2(1 + np.maximum(lam, 0) * (a / (1 - a))[:, None]).mean(1)
    for n, (rate, error) in C5.items():
        t = 1001 - n
        assert 127.5 * np.sqrt((1 - a[t - 1]) / a[t - 1] * loss[t - 1]) == pytest.approx(error, abs=6e-3)
        assert information[t - 1] - information[-1] == pytest.approx(rate, abs=max(6e-6, 5e-5 * (n == 1000)))


@pytest.mark.slow
def test_c6_bits(fashion):
    """4.588 bits/dim for a histogram at each pixel, 6.461 for one full Gaussian: test images, 8 bit."""
    assert bits.histogram_bits(fashion.x_train, fashion.x_test).mean() == pytest.approx(4.588, abs=1e-3)
    assert bits.gaussian_bits(fashion.x_train, fashion.x_test).mean() == pytest.approx(6.461, abs=2e-3)


@pytest.mark.slow
def test_c7_classifiers_without_a_network(fashion, fitted):
    """LDA, QDA, and the diffusion classifier of the exact Gaussians, tolerance .002, linear schedule, all test images.

    C7 names the ridge of .01 for QDA only; its numbers for the diffusion classifier come out with the same ridge on the
    covariances, not without (then .08 off at t = 1, .03 at t = 50).
    """
    m = fitted[1]._replace(var=fitted[1].var + 0.01)
    x, y = data.to_float(fashion.x_test), fashion.y_test
    alone = {1: 0.672, 10: 0.683, 50: 0.748, 100: 0.802, 200: 0.844, 300: 0.846, 500: 0.822, 700: 0.717, 900: 0.680}
    windows = [range(1, 1001), range(101, 701), *([t] for t in alone)]
    losses = gaussian_losses(m, linear(1000), x, windows)
    right = (losses.argmin(1) == y[:, None]).mean(0)
    np.testing.assert_allclose(right, [0.799, 0.844, *alone.values()], atol=2e-3)
    posterior = [m.class_posterior(linear(1000), x[i : i + 500], 0).argmax(1) for i in range(0, 10_000, 500)]
    assert (np.concatenate(posterior) == y).mean() == pytest.approx(0.752, abs=2e-3)  # QDA
    flat = data.to_float(fashion.x_train).reshape(60_000, -1)
    mean = np.stack([flat[fashion.y_train == k].mean(0, dtype=np.float64) for k in range(10)])
    centred = flat - mean.astype(np.float32)[fashion.y_train]
    precision = np.linalg.inv(np.asarray(centred.T @ centred, np.float64) / 60_000 + 0.01 * np.eye(784))
    score = x.reshape(10_000, -1) @ precision @ mean.T - 0.5 * np.einsum("kd,de,ke->k", mean, precision, mean)
    assert (score.argmax(1) == y).mean() == pytest.approx(0.815, abs=2e-3)  # LDA


def test_c8_frechet_on_whitened_pixels(fashion, pixels):
    """.152 train against test; the Gaussian fit gets .115 with a floor of .110: blind to shape."""
    mean, lam, U = pixels

    def features(x):
        return (data.to_float(x).reshape(len(x), -1) - mean) @ (U[:, :64] / np.sqrt(lam[:64]))

    train, rng = features(fashion.x_train), np.random.default_rng(0)
    reference = distances.moments(train)

    def distance(f):
        return distances.frechet_moments(distances.moments(f), reference)

    assert distance(features(fashion.x_test)) == pytest.approx(0.152, abs=1e-3)
    floor = distances.frechet_floor(np.eye(64), 10_000)
    assert distance(train[rng.permutation(60_000)[:10_000]]) == pytest.approx(0.1095, rel=0.05)  # without replacement
    assert distance(rng.normal(size=(10_000, 64))) == pytest.approx(0.115, rel=0.06)
    assert floor == pytest.approx(0.1104, abs=1e-4)
    assert distance(np.zeros((10, 64))) == pytest.approx(64.0, abs=0.01)  # the mean image
    class_means = np.stack([train[fashion.y_train == k].mean(0) for k in range(10)])
    assert distance(np.repeat(class_means, 1000, axis=0)) == pytest.approx(55.9, rel=0.01)
    noise = rng.normal(size=(10_000, 784)).astype(np.float32)
    assert distance((noise - mean) @ (U[:, :64] / np.sqrt(lam[:64]))) == pytest.approx(109.9, rel=0.02)


def test_searched_times_with_a_free_start(pixels):
    """W₂² of DDIM with the exact linear denoiser from N(0, I), the best lists of 1, 2, 4 times: 133.4, 75.4, 32.3."""
    mean, lam, U = pixels
    for n, want in ((1, 133.4), (2, 75.4), (4, 32.3)):
        times = searched(cosine(1000), np.maximum(lam, 0), n, mean @ U)
        assert w2_of_times(cosine(1000), np.maximum(lam, 0), times, mean @ U) == pytest.approx(want, rel=0.003)
