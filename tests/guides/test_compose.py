"""Sums of denoisers against products of densities, and adaptive guidance with its count of calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.guide import cfg
from ddpm.guides import adaptive
from ddpm.guides.composition import compose, given, two_scale
from ddpm.sample import ddim_step, walk
from ddpm.samplers.langevin_dynamics import corrected
from ddpm.schedule import linear, make_times
from ddpm.tools.conditions import Condition

KEY = jax.random.key(0)


def and_of_two():
    """N(1, .25) AND N(-.5, .25) over N(0, 1): the product is N(.285714, .142857)."""
    schedule = linear()
    base, a, b = (oracle.gaussian([m], v).eps(schedule) for m, v in [(0.0, 1.0), (1.0, 0.25), (-0.5, 0.25)])
    return schedule, compose(base, [a, b], [1.0, 1.0])


def test_at_low_noise_the_sum_is_the_score_of_the_product(x64):
    schedule, eps = and_of_two()
    product = oracle.gaussian([2 / 7], 1 / 7).score(schedule)
    x = jnp.linspace(-2, 2, 5)[:, None]
    std = jnp.sqrt(1 - schedule.alpha_bar[1])
    np.testing.assert_allclose(-eps(x, jnp.ones(5, int), None) / std, product(x, 1), rtol=5e-3, atol=1e-3)


def test_but_its_flow_misses_the_product(x64):
    """DDIM over 1,000 steps gives mean .344153 and variance .061847 where the truth is .285714 and .142857."""
    schedule, eps = and_of_two()
    x = walk(ddim_step(eps, schedule), KEY, jnp.array([[-1.0], [0.0], [1.0]]), make_times(1000, 1000)).ravel()
    assert x[1] == pytest.approx(0.344153, abs=1e-5)  # an affine map of x_T ~ N(0, 1)
    assert ((x[2] - x[0]) / 2) ** 2 == pytest.approx(0.061847, abs=1e-5)


def test_langevin_correction_brings_it_nearer():
    schedule, eps = and_of_two()
    x_T = jax.random.normal(jax.random.key(1), (10_000, 1))
    # down to t = 25 only: below, 1-ᾱ is too small for a few Langevin steps to move anything
    step, times = ddim_step(eps, schedule), np.append(make_times(1000, 40)[:-1], 5)
    plain, better = (walk(s, KEY, x_T, times) for s in (step, corrected(step, eps, schedule, n=20, r=0.3)))
    assert abs(better.var() - 1 / 7) < 0.5 * abs(plain.var() - 1 / 7)


def test_one_part_is_classifier_free_guidance_and_not_is_a_minus(x64):
    m, schedule = oracle.mixture([[1.0], [-1.0]], 0.25), linear()
    eps, x, t = m.eps(schedule), jax.random.normal(KEY, (4, 1)), jnp.array([1, 100, 500, 1000])
    zero = jnp.zeros(4, int)
    np.testing.assert_allclose(compose(eps, [given(eps, 0)], [3.0])(x, t, None), cfg(eps, 3.0)(x, t, zero), atol=1e-12)
    away = compose(eps, [given(eps, 1)], [-2.0])(x, t, None)
    np.testing.assert_allclose(away, 3 * eps(x, t, None) - 2 * eps(x, t, zero + 1), atol=1e-12)
    samples = walk(ddim_step(compose(eps, [given(eps, 1)], [-1.0]), schedule), KEY, x, make_times(1000, 50))
    assert (samples > 0).all()  # NOT class 1


def pair_world():
    """Four Gaussians at (±1, ±1) in the plane: c = (sign of x, sign of y)."""
    schedule = linear()
    label = oracle.mixture([[1, 1], [1, -1], [-1, 1], [-1, -1]], 0.2).eps(schedule)
    first = oracle.mixture([[1, 1], [1, -1], [-1, 1], [-1, -1]], 0.2, label=[0, 0, 1, 1]).eps(schedule)

    def eps(x, t, c):
        if c[0] is None:
            return label(x, t, None)
        return first(x, t, c[0]) if c[1] is None else label(x, t, 2 * c[0] + c[1])

    return eps


def test_two_scale_guidance(x64):
    """(1, 1) is conditional on the pair, (1, 0) on the first only, (0, 0) free; equal scales guide by the pair."""
    eps, x, t = pair_world(), jax.random.normal(KEY, (3, 2)), jnp.array([10, 300, 900])
    c = (jnp.array([0, 1, 1]), jnp.array([0, 0, 1]))
    for scales, expected in [
        ((1.0, 1.0), eps(x, t, c)),
        ((1.0, 0.0), eps(x, t, (c[0], None))),
        ((0.0, 0.0), eps(x, t, (None, None))),
    ]:
        np.testing.assert_allclose(two_scale(eps, *scales)(x, t, c), expected, atol=1e-12)
    whole = eps(x, t, (None, None)) + 3 * (eps(x, t, c) - eps(x, t, (None, None)))
    np.testing.assert_allclose(two_scale(eps, 3.0, 3.0)(x, t, c), whole, atol=1e-12)


def test_of_a_condition_the_image_is_first_and_the_text_second(x64):
    """The same as of the pair, with the order by name; a hint stays in all three predictions."""
    pair, x, t = pair_world(), jax.random.normal(KEY, (3, 2)), jnp.array([10, 300, 900])
    c = (jnp.array([0, 1, 1]), jnp.array([0, 0, 1]))
    heard = []

    def eps(x, t, c):
        heard.append(c.hint)
        return pair(x, t, (c.image, c.text))

    by_name = two_scale(eps, 1.5, 3.0)(x, t, Condition(image=c[0], text=c[1], hint=c[1]))
    np.testing.assert_allclose(by_name, two_scale(pair, 1.5, 3.0)(x, t, c), atol=1e-12)
    assert len(heard) == 3 and all(hint is c[1] for hint in heard)
    with pytest.raises(ValueError, match=r"c\.text is None"):
        two_scale(eps, 1.0, 1.0)(x, t, Condition(image=c[0]))
    with pytest.raises(ValueError, match="give the picture first"):
        two_scale(pair, 1.0, 1.0)(x, t, (jnp.ones((3, 6), int), jnp.ones((3, 4, 4, 1))))


def test_the_two_scales_are_independent_where_the_conditions_are(x64):
    """x depends on c_1 only and y on c_2 only, so s_1 moves x and s_2 moves y."""
    eps, x, t = pair_world(), jax.random.normal(KEY, (3, 2)), jnp.array([10, 300, 900])
    c = (jnp.array([0, 1, 1]), jnp.array([0, 0, 1]))
    moved = two_scale(eps, 5.0, 1.0)(x, t, c) - two_scale(eps, 1.0, 1.0)(x, t, c)
    np.testing.assert_allclose(moved[:, 1], 0, atol=1e-9)
    assert (jnp.abs(moved[1:, 0]) > 1e-3).all()


# --- adaptive guidance ------------------------------------------------------------------------------------------------


def test_adaptive_guidance_counts_its_calls(x64):
    """It never agrees: 2 calls a step, and it is cfg. It agrees at once: 2 + (n-1), and conditional from then on."""
    m, schedule = oracle.mixture([[1.0, 0.3], [-1.0, 0.2]], 0.25), linear()
    eps, x_T, c = m.eps(schedule), jax.random.normal(KEY, (3, 2)), jnp.array([0, 1, 0])
    times = make_times(1000, 20)
    never = walk(adaptive.adaptive_step(eps, schedule, c, 3.0, 2.0), KEY, adaptive.begin(x_T), times)
    assert never.calls == 40 and never.on
    np.testing.assert_allclose(never.x, walk(ddim_step(cfg(eps, 3.0), schedule, c), KEY, x_T, times), atol=1e-9)
    at_once = walk(adaptive.adaptive_step(eps, schedule, c, 3.0, -1.0), KEY, adaptive.begin(x_T), times)
    assert at_once.calls == 21 and not at_once.on
    by_hand = ddim_step(cfg(eps, 3.0), schedule, c)(jax.random.fold_in(KEY, 0), x_T, times[0], times[1])
    by_hand = walk(ddim_step(eps, schedule, c), KEY, by_hand, times[1:])
    np.testing.assert_allclose(at_once.x, by_hand, atol=1e-9)


def test_adaptive_guidance_saves_what_the_formula_says(x64):
    """Guided for a share f of the steps it costs (1+f)/2 of full guidance; f = .5 saves a quarter.

    ε_c and ε_∅ are made to agree from t = 500 on.
    """
    schedule, c = linear(), jnp.zeros(2, int)

    def eps(x, t, c):
        unlike = (t > 500)[:, None] * (0.0 if c is None else 1.0)
        return jnp.stack([jnp.ones(2), unlike[:, 0] * 3.0], 1)

    times = make_times(1000, 100)
    out = walk(adaptive.adaptive_step(eps, schedule, c, 2.0), KEY, adaptive.begin(jnp.ones((2, 2))), times)
    f = 51 / 100  # the step that finds them alike has evaluated both
    assert out.calls / 200 == pytest.approx((1 + f) / 2)


def test_cosine_is_the_cosine(x64):
    a, b = jnp.array([[1.0, 0.0], [1.0, 1.0]]), jnp.array([[0.0, 2.0], [3.0, 3.0]])
    np.testing.assert_allclose(adaptive.cosine(a, b), [0, 1], atol=1e-12)


EPS = oracle.mixture([[1.0], [-1.0]], 0.25).eps(linear())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: compose(EPS, [EPS], [1.0, 2.0]), ValueError, "one weight for each"),
        (lambda s: compose(EPS, [], []), ValueError, "one weight for each"),
        (lambda s: compose(EPS, [EPS], [float("nan")]), ValueError, "weight is nan"),
        (lambda s: two_scale(EPS, 1.0, -1.0), ValueError, "scale_2"),
        (lambda s: two_scale(EPS, 1.0, 1.0)(jnp.ones((1, 1)), 1, jnp.array([0])), ValueError, "pair"),
        (lambda s: adaptive.adaptive_step(EPS, s, None, 2.0), ValueError, "labels"),
        (lambda s: adaptive.adaptive_step(EPS, s, jnp.zeros(1, int), -2.0), ValueError, "finite scale"),
        (
            lambda s: walk(adaptive.adaptive_step(EPS, s, jnp.zeros(1, int), 2.0), KEY, jnp.ones((1, 1)), [5, 0]),
            TypeError,
            "begin",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(linear())
