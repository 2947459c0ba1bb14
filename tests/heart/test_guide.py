"""Guidance on the oracle, where the guided distribution can be computed by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.contracts import Partial
from ddpm.forward import x0_from_eps
from ddpm.guide import cfg, clip_x0, w_to_s
from ddpm.guides.rules import classifier, dynamic_threshold, interval, negative
from ddpm.losses.distillation import distillation_loss
from ddpm.networks.heads import v_from_eps, v_head, x0_head
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.samplers.respacing import respace, retime
from ddpm.schedule import cosine, linear, make_times


def setup(schedule=None):
    schedule = schedule or linear()
    m = oracle.mixture([[1.0], [-1.0]], 0.25)
    x = jax.random.normal(jax.random.key(0), (6, 1))
    return schedule, m.eps(schedule), x, jnp.array([1, 50, 200, 400, 700, 1000]), jnp.array([0, 1, 0, 1, 0, 1])


def test_scale_one_is_conditional_and_zero_unconditional(x64):
    _, eps, x, t, c = setup()
    np.testing.assert_allclose(cfg(eps, 1.0)(x, t, c), eps(x, t, c), atol=1e-14)
    np.testing.assert_allclose(cfg(eps, 0.0)(x, t, c), eps(x, t, None), atol=1e-14)


def test_the_papers_form_with_w(x64):
    """(1+w) ε_c - w ε_∅, w = s - 1.   [Ho and Salimans 2022, Eq. 6]"""
    _, eps, x, t, c = setup()
    for w in (0.0, 0.3, 4.0):
        expected = (1 + w) * eps(x, t, c) - w * eps(x, t, None)
        np.testing.assert_allclose(cfg(eps, w_to_s(w))(x, t, c), expected, atol=1e-12)


def test_one_scale_for_each_image(x64):
    _, eps, x, t, c = setup()
    scale = jnp.arange(6.0)
    together = cfg(eps, scale)(x, t, c)
    for i in range(6):
        np.testing.assert_allclose(together[i], cfg(eps, float(i))(x, t, c)[i], atol=1e-12)


@pytest.mark.parametrize(
    ("w", "mean", "std"),
    [
        (0, 0.99683, 0.49848),
        (0.3, 1.12166, 0.42904),
        (1, 1.31969, 0.35774),
        (2, 1.51843, 0.31299),
        (4, 1.80467, 0.27271),
        (7, 2.11847, 0.24626),
    ],
)
def test_guided_samples_of_the_mixture(x64, w, mean, std):
    """1,000 DDIM steps carry quantiles of N(0, 1) to quantiles: mean and deviation by quadrature, not by sampling.

    Guidance does not sample the tilted distribution p_c^(1+w)/p^w: at w = 1 that has mean 1.03552, deviation .46829.
    """
    schedule, eps, *_ = setup()
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    c = jnp.zeros(80, int)
    step = ddim_step(cfg(eps, w_to_s(w)), schedule, c)
    x = np.asarray(walk(step, jax.random.key(0), jnp.asarray(nodes)[:, None], make_times(1000, 1000))).ravel()
    weights = weights / weights.sum()
    ours = weights @ x
    assert ours == pytest.approx(mean, abs=1e-4)
    assert np.sqrt(weights @ (x - ours) ** 2) == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize(("w", "mean", "std"), [(1, 1.03552, 0.46829), (4, 1.06968, 0.44446)])
def test_the_law_that_guidance_does_not_sample(x64, w, mean, std):
    """p_c^(1+w)/p^w of the data, from the oracle's densities at t = 0 on a fine grid."""
    schedule = linear()
    m, x = oracle.mixture([[1.0], [-1.0]], 0.25), jnp.linspace(-6, 8, 20_001)[:, None]
    p_c, p = m.log_prob(schedule, x, 0, jnp.zeros(len(x), int)), m.log_prob(schedule, x, 0)
    tilted = np.asarray(jax.nn.softmax((1 + w) * p_c - w * p))
    grid = np.asarray(x)[:, 0]
    assert tilted @ grid == pytest.approx(mean, abs=1e-4)
    assert np.sqrt(tilted @ grid**2 - (tilted @ grid) ** 2) == pytest.approx(std, abs=1e-4)


def test_clipping_clips_x0_and_only_where_needed(x64):
    schedule, eps, _, t, c = setup(cosine())
    x = jnp.linspace(-4, 4, 6)[:, None]
    before = x0_from_eps(schedule, x, t, eps(x, t, c))
    after = x0_from_eps(schedule, x, t, clip_x0(eps, schedule)(x, t, c))
    np.testing.assert_allclose(after, np.clip(before, -1, 1), atol=1e-6)
    inside = np.abs(np.asarray(before)) < 1
    assert inside.any() and not inside.all()
    np.testing.assert_allclose(clip_x0(eps, schedule)(x, t, c)[inside], eps(x, t, c)[inside], atol=1e-9)


def test_the_order_of_clipping_and_guidance_matters(x64):
    """Clip last, and x̂0 is in range; guide last, and it may leave it."""
    schedule, eps, _, t, _ = setup()
    x, c = jnp.full((6, 1), 0.9), jnp.zeros(6, int)
    last = x0_from_eps(schedule, x, t, clip_x0(cfg(eps, 5.0), schedule)(x, t, c))
    first = x0_from_eps(schedule, x, t, cfg(clip_x0(eps, schedule), 5.0)(x, t, c))
    assert np.abs(last).max() <= 1 + 1e-9 and np.abs(first).max() > 1.2


def test_negative_label(x64):
    """Away from class 1, towards class 0: linear in the scale; the null label as the negative one is plain guidance."""
    _, eps, x, t, c = setup()
    np.testing.assert_allclose(negative(eps, 3.0, 2)(x, t, c), cfg(eps, 3.0)(x, t, c), atol=1e-12)
    np.testing.assert_allclose(negative(eps, 3.0, c)(x, t, c), eps(x, t, c), atol=1e-12)
    ours = negative(eps, 3.0, 1)(x, t, jnp.zeros(6, int))
    expected = 3 * eps(x, t, jnp.zeros(6, int)) - 2 * eps(x, t, jnp.ones(6, int))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_interval_guides_inside_and_saves_calls_outside(x64):
    """low < t <= high; a mixed batch is right image by image; in a walk of 10 steps, 3 inside: 13 calls, not 20."""
    _, eps, x, t, c = setup()
    ours = interval(cfg(eps, 4.0), eps, 50, 400)(x, t, c)  # t = 1, 50, 200, 400, 700, 1000
    inside = np.array([0, 0, 1, 1, 0, 0])[:, None]
    np.testing.assert_allclose(ours, np.where(inside, cfg(eps, 4.0)(x, t, c), eps(x, t, c)), atol=1e-12)
    calls = []

    def counted(x, t, c):
        jax.debug.callback(lambda: calls.append(1))
        return x * (1.0 if c is None else 0.9)

    step = ddim_step(interval(cfg(counted, 2.0), counted, 400, 700), linear(), c)
    walk(step, jax.random.key(0), x, make_times(1000, 10)).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == 13


def test_exact_classifier_guidance_is_the_conditional_denoiser(x64):
    """ε_∅ - √(1-ᾱ) ∇ log p(c | x_t) = ε_c with the oracle's own classifier; scale 0 is ε_∅."""
    schedule, eps, x, t, c = setup()
    m = oracle.mixture([[1.0], [-1.0]], 0.25)

    def log_prob(x, t, c):
        return jnp.log(jnp.take_along_axis(m.class_posterior(schedule, x, t), c[:, None], 1)[:, 0])

    np.testing.assert_allclose(classifier(eps, schedule, log_prob)(x, t, c), eps(x, t, c), atol=1e-9)
    np.testing.assert_allclose(classifier(eps, schedule, log_prob, 0.0)(x, t, c), eps(x, t, None), atol=1e-12)
    twice = classifier(eps, schedule, log_prob, 2.0)(x, t, c)  # with the exact classifier, it is cfg of that scale
    np.testing.assert_allclose(twice, cfg(eps, 2.0)(x, t, c), atol=1e-8)


def test_dynamic_threshold(x64):
    """Each image is divided by its own percentile if that is above 1; most = 1 is `clip_x0`; small ones stay."""
    schedule, t = linear(), jnp.array([300, 300])
    x0 = jnp.stack([jnp.linspace(-4, 4, 101), jnp.linspace(-0.5, 0.5, 101)])
    x_t = jnp.ones((2, 101))
    a = schedule.alpha_bar[300]
    eps = Partial(lambda x0, x, t, c: (x - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a), x0)
    after = x0_from_eps(schedule, x_t, t, dynamic_threshold(eps, schedule, 90.0)(x_t, t, None))
    np.testing.assert_allclose(after[1], x0[1], atol=1e-9)
    q = np.percentile(np.abs(x0[0]), 90)
    np.testing.assert_allclose(after[0], np.clip(x0[0] / q, -1, 1), atol=1e-9)
    np.testing.assert_allclose(
        dynamic_threshold(eps, schedule, 90.0, most=1.0)(x_t, t, None), clip_x0(eps, schedule)(x_t, t, None), atol=1e-9
    )


def test_respaced_chain_is_the_strided_one(x64):
    """A chain of ten times with `respace` and `retime`, or a list of ten on the full schedule: the same numbers."""
    schedule, eps, x, *_ = setup()
    times = make_times(1000, 10, "leading")
    short = respace(schedule, times)
    key = jax.random.key(0)
    for make in (ddim_step, lambda e, s: ddpm_step(e, s, variance="fixed_large")):
        long_way = walk(make(eps, schedule), key, x, times)
        short_way = walk(make(retime(eps, times), short), key, x, np.arange(10, -1, -1))
        np.testing.assert_allclose(short_way, long_way, atol=1e-9)


@pytest.mark.parametrize("t", [1, 300, 1000])
def test_heads(x64, t):
    """A network that predicts v or x0 exactly, under its head, is the denoiser that predicts ε."""
    schedule, eps, x, _, c = setup()
    t = jnp.full(6, t)
    v = lambda x, t, c: v_from_eps(schedule, x, t, eps(x, t, c))  # noqa: E731
    x0 = lambda x, t, c: x0_from_eps(schedule, x, t, eps(x, t, c))  # noqa: E731
    np.testing.assert_allclose(v_head(v, schedule)(x, t, c), eps(x, t, c), atol=1e-10)
    np.testing.assert_allclose(x0_head(x0, schedule)(x, t, c), eps(x, t, c), atol=1e-10)


def test_distillation_target(x64):
    """The student that equals guidance has no loss; no gradient reaches the teacher."""
    _, eps, x, t, c = setup()
    scale = jnp.arange(6.0)
    perfect = lambda x, t, cs: cfg(eps, cs[1])(x, t, cs[0])  # noqa: E731
    np.testing.assert_allclose(distillation_loss(perfect, eps, x, t, c, scale), 0, atol=1e-20)
    zero = lambda x, t, cs: jnp.zeros_like(x)  # noqa: E731
    expected = (cfg(eps, scale)(x, t, c) ** 2).mean(1)
    np.testing.assert_allclose(distillation_loss(zero, eps, x, t, c, scale), expected, rtol=1e-12)
    teacher = lambda a: distillation_loss(zero, lambda x, t, c: a * x, x, t, c, scale).sum()  # noqa: E731
    assert jax.grad(teacher)(2.0) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, e, x, t, c: cfg(e, -1.0), "finite scale"),
        (lambda s, e, x, t, c: cfg(e, float("inf")), "finite scale"),
        (lambda s, e, x, t, c: cfg(e, 2.0)(x, t, None), "labels"),
        (lambda s, e, x, t, c: cfg(e, jnp.ones(5))(x, t, c), "6 images"),
        (lambda s, e, x, t, c: cfg(e, jnp.ones(1))(x, t, c), "6 images"),
        (lambda s, e, x, t, c: clip_x0(e, s, 1.0, -1.0), "low < high"),
        (lambda s, e, x, t, c: negative(e, 2.0, 1)(x, t, None), "labels"),
        (lambda s, e, x, t, c: interval(e, e, 5, 5), "low < high"),
        (lambda s, e, x, t, c: classifier(e, s, e)(x, t, None), "labels"),
        (lambda s, e, x, t, c: dynamic_threshold(e, s, 101.0), "percentile"),
        (lambda s, e, x, t, c: dynamic_threshold(e, s, 99.0, 0.5), "at least 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*setup())
