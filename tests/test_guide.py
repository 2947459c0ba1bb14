"""Guidance on the oracle, where the guided law can be computed by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.forward import x0_from_eps
from ddpm.guide import cfg, clip_x0, w_to_s
from ddpm.sample import ddim_step, walk
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
        (4, 1.80467, 0.27271),
        (7, 2.11847, 0.24626),
    ],
)
def test_guided_samples_of_the_mixture(x64, w, mean, std):
    """1,000 DDIM steps carry quantiles of N(0, 1) to quantiles: mean and deviation by quadrature, not by sampling.

    Guidance does not sample the tilted law p_c^(1+w)/p^w: at w = 1 that has mean 1.03552, deviation .46829.
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, e, x, t, c: cfg(e, -1.0), "finite scale"),
        (lambda s, e, x, t, c: cfg(e, float("inf")), "finite scale"),
        (lambda s, e, x, t, c: cfg(e, 2.0)(x, t, None), "labels"),
        (lambda s, e, x, t, c: cfg(e, jnp.ones(5))(x, t, c), "6 images"),
        (lambda s, e, x, t, c: cfg(e, jnp.ones(1))(x, t, c), "6 images"),
        (lambda s, e, x, t, c: clip_x0(e, s, 1.0, -1.0), "low < high"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*setup())
