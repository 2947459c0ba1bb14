"""Diffusion in codes: the identity with diffusion of pixels, the scale, and the sum of errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import latents, oracle
from ddpm.evaluation.distances import Moments, frechet_floor, frechet_moments, moments
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times


def orthonormal(D, k, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(D, k)))[0]


def test_ddim_on_codes_is_ddim_on_pixels(x64):
    """With the exact denoisers of both, on the same noise: x0 = U z + b has the singular covariance U Σ Uᵀ."""
    D, k, schedule = 12, 3, linear()
    U, b = orthonormal(D, k), np.random.default_rng(1).normal(size=D)
    mean, root = np.array([0.5, -1.0, 0.2]), np.random.default_rng(2).normal(size=(k, k))
    cov = root @ root.T
    codec = latents.subspace(U, b)
    in_codes = oracle.gaussian(mean, cov).eps(schedule)
    in_pixels = oracle.gaussian(U @ mean + b, U @ cov @ U.T).eps(schedule)
    x_T, times, key = jax.random.normal(jax.random.key(3), (5, D)), make_times(1000, 20), jax.random.key(0)
    z_T = (x_T - jnp.sqrt(schedule.alpha_bar[1000]) * b[None]) @ U
    z_0 = walk(ddim_step(in_codes, schedule), key, z_T, times)
    x_0 = walk(ddim_step(in_pixels, schedule), key, x_T, times)
    np.testing.assert_allclose(codec.to_image(z_0), x_0, atol=1e-9)


def test_pca_loses_the_variance_of_the_directions_left_out():
    x = np.random.default_rng(0).normal(size=(500, 2, 3, 1)) * np.arange(1, 7).reshape(1, 2, 3, 1) + 5
    for k in (1, 4, 6):
        codec, var = latents.pca(x, k)
        with jax.enable_x64(True):
            back = np.asarray(codec.to_image(codec.to_latent(jnp.asarray(x))))
        assert ((back - x) ** 2).sum((1, 2, 3)).mean() == pytest.approx(var[k:].sum(), rel=1e-6, abs=1e-6)


def test_codes_have_mean_0_and_standard_deviation_1():
    x = np.random.default_rng(0).normal(size=(300, 4, 4, 1)).astype(np.float32) * 3 + 1
    made = latents.with_scale(lambda x: 0.18 * x[:, ::2] + 2, lambda z: jnp.repeat((z - 2) / 0.18, 2, axis=1), x)
    z = np.asarray(made.to_latent(jnp.asarray(x)), np.float64)
    assert z.mean() == pytest.approx(0, abs=1e-5) and z.std() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(made.to_image(jnp.asarray(z))[:, ::2], x[:, ::2], atol=1e-4)
    principal, _ = latents.pca(x, 5)
    z = np.asarray(principal.to_latent(jnp.asarray(x)))
    assert z.mean() == pytest.approx(0, abs=1e-4) and z.std() == pytest.approx(1, rel=1e-4)


def test_errors_are_the_frechet_distance_of_what_is_decoded():
    """Without the term of the fit: of N(0, diag λ) and the decoded Gaussian, which is singular."""
    var, sampled = np.array([4.0, 2.0, 1.0, 0.5]), np.array([3.5, 2.2, 0.8, 0.6])
    errors = latents.errors_by_size(var, sampled)
    for k in range(5):
        made = np.where(np.arange(4) < k, sampled, 0.0)
        expected = frechet_moments(Moments(np.zeros(4), np.diag(var), 1), Moments(np.zeros(4), np.diag(made), 1))
        assert errors.total[k] == pytest.approx(expected, rel=1e-9)
    assert errors.best == 4


def test_the_fit_costs_what_fits_to_draws_show():
    """The mean over 400 fits to n draws; the closed form is of first order in 1/n."""
    var, n, rng = np.array([4.0, 2.0, 1.0, 0.5, 0.2]), 200, np.random.default_rng(0)
    errors = latents.errors_by_size(var, n=n)
    assert errors.fitted[-1] == pytest.approx(frechet_floor(np.diag(var), n), rel=1e-12)
    truth = Moments(np.zeros(5), np.diag(var), 1)
    for k in (2, 3):
        found = []
        for _ in range(400):
            fitted, cov = moments(rng.normal(size=(n, k)) * np.sqrt(var[:k])), np.zeros((5, 5))
            cov[:k, :k] = fitted.cov
            found.append(frechet_moments(truth, Moments(np.append(fitted.mean, np.zeros(5 - k)), cov, n)))
        standard_error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) == pytest.approx(errors.total[k], abs=4 * standard_error + 0.03 * errors.fitted[k])


def test_with_few_images_the_best_size_lies_inside():
    """A direction of variance λ that is small next to m others costs about (m + 2) λ/n, and leaving it out costs λ."""
    var = np.concatenate([np.ones(20), np.full(20, 1e-6)])
    assert latents.errors_by_size(var, n=19).best == 20 and latents.errors_by_size(var, n=80).best == 40
    assert latents.errors_by_size(var).best == 40


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: latents.pca(np.ones((3, 2, 2, 1)), 5), r"k is 5; give a whole number in 1\.\.4"),
        (lambda: latents.subspace(np.ones((4, 2)), np.zeros(4)), "orthonormal"),
        (lambda: latents.subspace(np.eye(4)[:, :0], np.zeros(4)), r"k in 1\.\.4"),
        (lambda: latents.subspace(np.eye(4), np.zeros(4), std=0.0), "std is 0"),
        (lambda: latents.errors_by_size([1.0, 2.0]), "does not fall"),
        (lambda: latents.errors_by_size([2.0, 1.0], [1.0]), "sampled has shape"),
        (lambda: latents.errors_by_size([2.0, 1.0], n=0), "n is 0"),
        (lambda: latents.with_scale(lambda x: x[..., :2], lambda z: z, np.eye(4)), "fits images"),
        (lambda: latents.with_scale(lambda x: 0 * x, lambda z: z, np.eye(4)), "same code"),
        (
            lambda: latents.with_scale(lambda x: x @ jnp.ones((4, 2)), lambda z: z @ jnp.ones((3, 4)), np.eye(4)),
            "not take",
        ),
        (lambda: latents.subspace(np.eye(4), np.zeros(4)).to_latent(jnp.ones((1, 5))), r"encodes \(B, 4\)"),
        (lambda: latents.subspace(np.eye(4), np.zeros(4)).to_image(jnp.ones((1, 5))), r"decodes \(B, 4\)"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
