"""The low-rank Gaussian: against the full oracle, its loss in closed form, its fit on Gaussians that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.data import to_float
from ddpm.datasets import sources
from ddpm.networks.heads import v_head
from ddpm.networks.preconditioning import edm_head, scaled_input
from ddpm.networks.skip import gaussian_skip, make_prior, ramp, sees_x0, skip_scale
from ddpm.oracles import low_rank
from ddpm.oracles.gaussian import linear_loss
from ddpm.schedule import cosine

D, R, K, T = 12, 3, 2, 50
SCHEDULE = cosine(T)
RNG = np.random.default_rng(0)
BASIS = np.stack([np.linalg.qr(RNG.normal(size=(D, D)))[0] for _ in range(K + 1)])
MEAN = 0.5 * RNG.normal(size=(K + 1, D))
VAR = RNG.uniform(0.5, 4, (K + 1, R))
REST = np.array([0.05, 0.1, 0.2])
X = jnp.asarray(RNG.normal(size=(6, 2, 2, 3)), jnp.float32)
T6 = jnp.array([1, 7, 20, 33, 49, 50])


def gaussian(shared=False):
    basis = np.stack([BASIS[0, :, :R]]) if shared else BASIS[:, :, :R]
    return low_rank.LowRank(*(jnp.asarray(a, jnp.float32) for a in (MEAN, basis, VAR, REST)))


def full(k, shared=False):
    """The same Gaussian for the label k with all D directions written out."""
    U = BASIS[0 if shared else k]
    var = np.concatenate([VAR[k], np.full(D - R, REST[k])])
    return oracle.mixture(MEAN[k : k + 1], [U @ np.diag(var) @ U.T], [1.0], [0])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_its_denoiser_is_that_of_the_full_covariance(k, shared):
    """Of each class, and of ∅ by its number and by None."""
    eps = gaussian(shared).eps(SCHEDULE)
    want = full(k, shared).eps(SCHEDULE)(X, T6)
    np.testing.assert_allclose(eps(X, T6, jnp.full(6, k)), want, atol=2e-5)
    if k == K:
        np.testing.assert_allclose(eps(X, T6), want, atol=2e-5)


def test_each_image_has_its_own_label():
    eps, c = gaussian().eps(SCHEDULE), jnp.array([2, 0, 1, 1, 0, 2])
    one_by_one = [eps(X[i : i + 1], T6[i], c[i : i + 1])[0] for i in range(6)]
    np.testing.assert_allclose(eps(X, T6, c), jnp.stack(one_by_one), atol=1e-5)


def test_images_of_another_size_are_refused_with_what_to_do():
    with pytest.raises(
        ValueError, match=r"\(6, 2, 2, 1\), 4 numbers an image; the Gaussian has 12: give images of the"
    ):
        gaussian().eps(SCHEDULE)(X[..., :1], T6)


def test_its_loss_on_given_images_is_the_linear_loss_of_the_full_covariance():
    c = np.array([0, 1, 1, 0, 1, 1])
    for shared in (False, True):
        m = gaussian(shared)
        want = sum(
            (c == k).mean() * linear_loss(full(k, shared), SCHEDULE, np.asarray(X)[c == k], None) for k in (0, 1)
        )
        np.testing.assert_allclose(m.loss_on(SCHEDULE, X, c), want, rtol=1e-4)
        np.testing.assert_allclose(m.loss_on(SCHEDULE, X), linear_loss(full(K, shared), SCHEDULE, X), rtol=1e-4)


def test_its_loss_is_the_linear_loss_of_data_with_its_covariance():
    """Against `linear_loss` on images whose second moments are exactly those of row 0."""
    U, var = BASIS[0], np.concatenate([VAR[0], np.full(D - R, REST[0])])
    x = MEAN[0] + np.sqrt(D) * np.concatenate([U.T, -U.T]) * np.sqrt(np.tile(var, 2))[:, None]
    one = low_rank.LowRank(*(a[:1] for a in gaussian()))
    np.testing.assert_allclose(one.loss(SCHEDULE), linear_loss(full(0), SCHEDULE, x), rtol=1e-5)


def test_fit_finds_a_planted_gaussian():
    """20,000 draws of two classes with three large directions each; the means, the variances and the rest to 5 %."""
    z = RNG.normal(size=(2, 20_000, D))
    scale = [np.sqrt(np.concatenate([VAR[k], np.full(D - R, REST[k])])) for k in (0, 1)]
    x = np.stack([MEAN[k] + (z[k] * scale[k]) @ BASIS[k].T for k in (0, 1)]).reshape(-1, D)
    c = np.repeat([0, 1], 20_000)
    m = low_rank.fit(x, c, rank=R)
    np.testing.assert_allclose(m.mean[:2], MEAN[:2], atol=0.05)
    np.testing.assert_allclose(m.rest[:2], REST[:2], rtol=0.05)
    np.testing.assert_allclose(np.sort(m.var[:2]), np.sort(VAR[:2]), rtol=0.05)
    pooled = low_rank.fit(x, c, rank=D - 1, kind="pooled")
    total = np.einsum("kr->k", pooled.var) + pooled.rest  # the trace, whatever the directions
    np.testing.assert_allclose(total[:2], VAR[:2].sum(1) + (D - R) * REST[:2], rtol=0.05)
    assert low_rank.fit(x, c, kind="one", rank=R).mean.shape == (1, D)
    sphere = low_rank.fit(x, c, kind="isotropic")  # the mean of both classes, and the mean variance of a pixel
    np.testing.assert_allclose(sphere.mean[0], MEAN[:2].mean(0), atol=0.05)
    mixed = VAR[:2].sum(1) + (D - R) * REST[:2] + np.square(MEAN[:2] - MEAN[:2].mean(0)).sum(1)
    np.testing.assert_allclose(sphere.rest[0], mixed.mean() / D, rtol=0.05)


@pytest.mark.parametrize("kind", ["class", "pooled", "one"])
def test_few_images_have_the_variance_that_they_have(kind):
    """Fewer images than numbers: the trace of the fit is the sum of the variances of the pixels, whatever the rank."""
    x = RNG.normal(size=(30, 100)) * np.linspace(0.1, 2, 100)
    m = low_rank.fit(x, np.zeros(30, int), rank=5, kind=kind)
    trace = float(m.var[-1].sum() + (100 - 5) * m.rest[-1])
    assert trace == pytest.approx(x.var(0, ddof=0 if kind == "pooled" else 1).sum(), rel=1e-4)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"rank": 12}, r"rank is 12; class 0: 20 images of 12 numbers allow 1\.\.11"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.5}, r"rank is 2\.5; give a whole number"),
        ({"num_classes": 1}, r"c lies in 0\.\.1; give 40 labels in 0\.\.0"),
        ({"c": np.repeat([0.5, 1.5], 20)}, "(?s)c is .*; give 40 whole numbers >= 0"),
        ({"x": np.zeros((40, 2, 2, 3), np.uint8) + 9}, "x has type uint8; give floats, such as .*to_float"),
        ({"x": np.full((40, D), np.nan)}, "x has NaN or infinite values"),
        ({"num_classes": 4}, "class 2 has 0 images; a Gaussian needs at least 2"),
        ({"kind": "each"}, "kind 'each' is not known"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        low_rank.fit(**({"x": RNG.normal(size=(40, D)), "c": np.repeat([0, 1], 20), "rank": R} | change))


def test_a_class_that_is_too_small_is_named_before_the_others_are_fitted(monkeypatch):
    monkeypatch.setattr(low_rank, "_pca", lambda *args: pytest.fail("it was fitted"))
    with pytest.raises(ValueError, match=r"rank is 5; class 1: 4 images of 12 numbers allow 1\.\.3"):
        low_rank.fit(RNG.normal(size=(40, D)), np.repeat([0, 1], [36, 4]), rank=5)


def test_its_loss_refuses_labels_and_images_that_it_does_not_have():
    """JAX would take the last row for the label 11."""
    with pytest.raises(ValueError, match=r"c lies in 0\.\.11, outside 0\.\.2"):
        gaussian().loss_on(SCHEDULE, X, np.array([0, 1, 1, 0, 1, 11]))
    with pytest.raises(ValueError, match=r"x0 has shape \(6, 2, 2, 1\), 4 numbers an image; the Gaussian has 12"):
        gaussian().loss_on(SCHEDULE, X[..., :1])


def of_eigenvectors(x, rank):
    """The same fit by all eigenvectors of the covariance, in float64."""
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    var, U = (a[..., ::-1] for a in np.linalg.eigh(np.cov(x.T)))
    return low_rank.LowRank(*(a[None] for a in (x.mean(0), U[:, :rank], var[:rank], var[rank:].mean())))


@pytest.mark.parametrize("data, rank", [("digits", 16), ("1/k", 64)])
def test_the_randomised_fit_is_as_good_as_the_exact_one_to_the_bound_of_its_docstring(data, rank):
    """A fifth of a percent of the variance that it captures, and of its loss at every t; never better than exact."""
    z = np.random.default_rng(0).normal(size=(2000, 200)) / np.sqrt(np.arange(1, 201))
    x = to_float(sources.load("digits").x_train) if data == "digits" else z
    fitted, exact = low_rank.fit(x, rank=rank, kind="one"), of_eigenvectors(x, rank)
    assert 1 - 2e-3 < float(fitted.var.sum()) / exact.var.sum() < 1 + 1e-6
    over = fitted.loss_on(SCHEDULE, x) / exact.loss_on(SCHEDULE, x) - 1
    assert -1e-6 < over.min() and 1e-6 < over.max() < 2e-3


# --- the skip ---------------------------------------------------------------------------------------------------------


def a_net(x_t, t, c=None):
    return jnp.sin(3 * x_t) + t[:, None, None, None] / T


def spread_evenly(var):
    """The same N(0, var I) as `isotropic`, written as three directions and a rest."""
    return low_rank.LowRank(jnp.zeros((1, D)), gaussian().basis[:1], jnp.full((1, R), var), jnp.full(1, var))


@pytest.mark.parametrize("prior_of", [lambda var: low_rank.isotropic(D, 0.0, var), spread_evenly])
def test_with_a_round_gaussian_it_is_v_prediction_or_edms_preconditioning(prior_of):
    """σ_data = 1 and .5, by the library's own heads; EDM's F is -net, and its input is x_t/r.   [Karras et al. 2022]"""
    minus = jax.tree_util.Partial(lambda x, t, c=None: -a_net(x, t, c))
    heads = ((1.0, a_net, v_head(a_net, SCHEDULE)), (0.25, scaled_input(a_net, SCHEDULE), edm_head(minus, SCHEDULE)))
    for var, net, same in heads:
        prior = prior_of(var)
        eps = gaussian_skip(net, prior.eps(SCHEDULE), skip_scale(prior, SCHEDULE))
        np.testing.assert_allclose(eps(X, T6), same(X, T6), atol=1e-5)


def test_a_network_that_is_zero_leaves_the_gaussian():
    g = gaussian()
    zero = gaussian_skip(lambda x, t, c=None: 0 * x, g.eps(SCHEDULE), skip_scale(g, SCHEDULE))
    np.testing.assert_allclose(zero(X, T6), g.eps(SCHEDULE)(X, T6))


def test_the_network_sees_the_gaussians_x0():
    """At t = 1 the estimate is nearly x_t itself, whatever the Gaussian."""
    seen = {}

    def net(x, t, c=None):
        seen["x"] = x
        return x[..., :3]

    out = sees_x0(net, gaussian().eps(SCHEDULE), SCHEDULE)(0.3 * X, jnp.full(6, 1), None)
    np.testing.assert_array_equal(out, 0.3 * X)
    np.testing.assert_array_equal(seen["x"][..., :3], 0.3 * X)
    np.testing.assert_allclose(seen["x"][..., 3:], 0.3 * X, atol=0.1)


def test_directions_of_float16_cost_next_to_nothing():
    """On data from the Gaussian, ε* is off by less than a thousandth of its length (rms), and its loss by 1e-6."""
    m, r = gaussian(), np.random.default_rng(1)
    half = m.half()
    assert half.basis.dtype == np.float16 and half.basis.nbytes == m.basis.nbytes // 2 and half.var is m.var
    x0, c = [], r.integers(0, K, 4000)
    for k in c:
        scale = np.sqrt(np.concatenate([VAR[k], np.full(D - R, REST[k])]))
        x0.append(MEAN[k] + BASIS[k] @ (scale * r.normal(size=D)))
    x0, noise, t = np.reshape(x0, (-1, 2, 2, 3)), r.normal(size=(4000, 2, 2, 3)), r.integers(1, T + 1, 4000)
    a = np.asarray(SCHEDULE.alpha_bar)[t][:, None, None, None]
    x_t = jnp.asarray(np.sqrt(a) * x0 + np.sqrt(1 - a) * noise, jnp.float32)
    full, short = (np.asarray(g.eps(SCHEDULE)(x_t, jnp.asarray(t), jnp.asarray(c))) for g in (m, half))
    apart = np.linalg.norm((full - short).reshape(4000, -1), axis=1) / np.linalg.norm(full.reshape(4000, -1), axis=1)
    assert 0 < np.sqrt(np.mean(apart**2)) < 1e-3
    assert abs(np.mean((short - noise) ** 2) - np.mean((full - noise) ** 2)) < 1e-6


# --- a Gaussian that fades --------------------------------------------------------------------------------------------


def test_below_the_ramp_it_is_the_round_one_above_it_the_gaussian_and_half_way_the_mean_of_both():
    """N(m, σ² I) of the last row for every label: the same mean and total variance, and no class."""
    g, c = gaussian(), jnp.array([0, 1, 2, 0, 1, 2])
    trace = np.trace(full_covariance(K)) / D
    assert float(low_rank.round_of(g).rest[0]) == pytest.approx(trace, rel=1e-6)
    prior = make_prior(g, SCHEDULE, ramp(T, 10, 30))
    plain = low_rank.isotropic(D, MEAN[K], trace).eps(SCHEDULE)
    for t, w in ((1, 0.0), (10, 0.0), (20, 0.5), (30, 1.0), (50, 1.0)):
        of = jnp.full(6, t)
        want = w * g.eps(SCHEDULE)(X, of, c) + (1 - w) * plain(X, of)
        np.testing.assert_allclose(prior.eps(SCHEDULE)(X, of, c), want, atol=2e-5)


def full_covariance(k):
    return BASIS[k] @ np.diag(np.concatenate([VAR[k], np.full(D - R, REST[k])])) @ BASIS[k].T


def test_its_scale_is_its_error_outside_of_the_ramp_and_above_it_inside():
    """The error on N(μ, Σ) by eigenvalues: the denoiser multiplies x_t - √ᾱ μ by std h, h = w/v(λ) + (1-w)/v(σ²).

    A blend errs by less than the blend of both errors, by w (1-w) E‖ε_G - ε_I‖²/D.
    """
    g = jax.tree.map(lambda a: a[-1:], gaussian())
    w = ramp(T, 10, 30)
    scale = np.asarray(make_prior(g, SCHEDULE, w).scale, np.float64)[1:] ** 2
    a, w = (np.asarray(of, np.float64)[1:, None] for of in (SCHEDULE.alpha_bar, w))
    var = np.linalg.eigvalsh(full_covariance(K))
    h = w / (a * var + 1 - a) + (1 - w) / (a * var.mean() + 1 - a)
    error = ((1 - (1 - a) * h) ** 2 + a * (1 - a) * var * h**2).mean(1)
    v, of_round = a * var + 1 - a, a * var.mean() + 1 - a
    less = (w * (1 - w) * (1 - a) * v * (1 / v - 1 / of_round) ** 2).mean(1)
    np.testing.assert_allclose(scale, error + less, rtol=2e-4)
    assert (less > 1e-3 * error).sum() == ((w > 0) & (w < 1)).sum() == 19


def test_without_times_nothing_fades():
    assert ramp(T, 0, 0) is None and make_prior(gaussian(), SCHEDULE).weight is None
    with pytest.raises(ValueError, match=r"weight has shape \(40,\); give one number for each time 0\.\.50"):
        make_prior(gaussian(), SCHEDULE, jnp.ones(40))
