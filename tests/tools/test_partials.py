"""Labels are checked before anything compiles, by every public function that takes them."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TINY, random_params

from ddpm import oracle, typicality
from ddpm.classifiers.by_denoising import classify, draw_losses
from ddpm.contracts import Partial
from ddpm.editing.inversion import decode
from ddpm.editing.translation import translate
from ddpm.evaluation.bits import bound_bits, flow_bits
from ddpm.evaluation.denoising_loss import eps_mse
from ddpm.evaluation.ode_likelihood import ode_log_prob
from ddpm.features.activations import dift
from ddpm.guide import cfg, clip_x0
from ddpm.guides.adaptive import adaptive_step, begin
from ddpm.guides.composition import given
from ddpm.guides.rules import negative
from ddpm.mining import maps
from ddpm.network import eps_fn
from ddpm.networks.inspect import param_shapes
from ddpm.oracles.finite_set import finite
from ddpm.oracles.low_rank import LowRank, isotropic
from ddpm.sample import ddim_step, images, walk
from ddpm.samplers.generation import generate
from ddpm.samplers.langevin_dynamics import langevin
from ddpm.samplers.solvers import heun_step
from ddpm.samplers.variance import noise_power
from ddpm.schedule import linear, make_times
from ddpm.tools.partials import check_labels, known_labels
from ddpm.zoo.model import Model

SCHEDULE, KEY, TIMES = linear(40), jax.random.key(0), make_times(40, 4)
TEN = oracle.mixture(np.linspace(-1, 1, 40).reshape(10, 2, 2, 1), 0.1).eps(SCHEDULE)
GUIDED = clip_x0(cfg(TEN, 2.0), SCHEDULE)
X, BYTES = np.zeros((2, 2, 2, 1), np.float32), np.zeros((2, 2, 2, 1), np.uint8)

TAKERS = {
    "images": lambda c: images(TEN, SCHEDULE, KEY, X.shape, c),
    "generate": lambda c: generate(TEN, SCHEDULE, KEY, X.shape[1:], c),
    "walk": lambda c: walk(ddim_step(TEN, SCHEDULE, jnp.asarray(c)), KEY, X, TIMES),
    "walk, guided": lambda c: walk(
        heun_step(clip_x0(cfg(TEN, 2.0), SCHEDULE), SCHEDULE, jnp.asarray(c)), KEY, X, TIMES
    ),
    "adaptive": lambda c: walk(adaptive_step(TEN, SCHEDULE, c, 2.0), KEY, begin(jnp.asarray(X)), TIMES),
    "measure": lambda c: typicality.measure(TEN, SCHEDULE, X, c, KEY),
    "measure, null": lambda c: typicality.measure(TEN, SCHEDULE, X, 0, KEY, null=c),
    "maps": lambda c: maps.measure("never_written", TEN, SCHEDULE, X, c),
    "classify": lambda c: classify(TEN, SCHEDULE, X, np.asarray(c), KEY),
    "draw_losses": lambda c: draw_losses(TEN, SCHEDULE, X, np.asarray(c)[:, None], KEY, [3]),
    "decode": lambda c: decode(TEN, SCHEDULE, X, TIMES, jnp.asarray(c)),
    "translate": lambda c: translate(TEN, SCHEDULE, X, 0, c),
    "eps_mse": lambda c: eps_mse(TEN, SCHEDULE, X, c),
    "bound_bits": lambda c: bound_bits(TEN, SCHEDULE, X, c),
    "ode_log_prob": lambda c: ode_log_prob(TEN, SCHEDULE, X, c),
    "noise_power": lambda c: noise_power(TEN, SCHEDULE, KEY, X, c),
    "langevin": lambda c: langevin(TEN, SCHEDULE, KEY, X, 3, c),
    "flow_bits": lambda c: flow_bits(TEN, SCHEDULE, BYTES, c),
}


@pytest.mark.parametrize("wrong", [10, 11, 25, 99, -1, -3, 3.7])
@pytest.mark.parametrize("taker", TAKERS)
def test_a_label_that_is_none_is_refused(taker, wrong):
    """Ten classes: 10 is the number of the null label, which is asked for by c = None."""
    name = {"measure, null": "null", "classify": "classes", "translate": "b"}.get(taker, "c")
    with pytest.raises(ValueError, match=rf"{name} .*{wrong}.*labels are 0\.\.9, and the null label is None"):
        TAKERS[taker](np.array([3, wrong]))


@pytest.mark.parametrize("wrong", [10, 25, -1])
def test_a_label_inside_a_guide_is_checked_before_the_walk(wrong):
    """The label that is not wanted, and the one that a composition holds fixed."""
    c, x = jnp.array([0, 1]), jnp.asarray(X)
    for guide in (negative(TEN, 2.0, wrong), given(TEN, wrong)):
        with pytest.raises(ValueError, match=rf"(label|c) is {wrong}; labels are 0\.\.9"):
            walk(ddim_step(guide, SCHEDULE, c), KEY, x, TIMES)


@pytest.mark.parametrize("wrong", [3, -1, 0.5])
def test_features_of_a_label_that_is_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"labels are 0\.\.2, and the null label is None"):
        dift(SimpleNamespace(unet=TINY, params={}, schedule=SCHEDULE), np.zeros((1, 8, 8, 1), np.float32), wrong, KEY)


def test_every_denoiser_knows_its_labels_through_what_wraps_it():
    net = eps_fn(TINY, random_params(TINY))
    low_rank = LowRank(jnp.zeros((4, 4)), jnp.zeros((1, 4, 1)), jnp.ones((4, 1)), jnp.ones(4))
    for eps in (net, cfg(net, 2.0), clip_x0(cfg(net, 2.0), SCHEDULE), low_rank.eps(SCHEDULE)):
        assert list(known_labels(eps)) == [0, 1, 2]
    assert list(known_labels(finite(X, [0, 1]).eps(SCHEDULE))) == [0, 1]
    assert list(known_labels(given(TEN, 3))) == list(range(10))
    some = oracle.mixture(np.zeros((2, 1)), 1.0, label=[3, 7]).eps(SCHEDULE)
    with pytest.raises(ValueError, match="c contains 5; labels are among 3, 7"):
        check_labels(some, [3, 5], (2,))
    for unknown in (Partial(lambda x, t, c: x), lambda x, t, c: x, isotropic(4).eps(SCHEDULE)):
        assert known_labels(unknown) is None
        np.testing.assert_array_equal(check_labels(unknown, 11, (2,), one=True), [11, 11])
        with pytest.raises(ValueError, match="c contains -1; labels are whole numbers >= 0"):
            check_labels(unknown, [-1, 0], (2,))


def test_a_network_without_classes_takes_no_labels():
    config = dataclasses.replace(TINY, num_classes=0)
    with pytest.raises(ValueError, match=r"no classes.*leave c None"):
        images(eps_fn(config, param_shapes(config)), SCHEDULE, KEY, (1, 8, 8, 1), np.array([0]))


def test_shapes_of_labels():
    with pytest.raises(ValueError, match=r"c has shape \(3,\); give one label for each of the 2 images"):
        images(TEN, SCHEDULE, KEY, X.shape, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"one label, or one for each of the 2 images"):
        typicality.measure(TEN, SCHEDULE, X, np.zeros((2, 1), int), KEY)


def test_inside_jit_labels_and_oracles_are_not_read():
    draw = jax.jit(lambda m, c: images(m.eps(SCHEDULE), SCHEDULE, KEY, X.shape, c))
    ten = TEN.args[0]
    np.testing.assert_allclose(draw(ten, np.array([3, 4])), images(TEN, SCHEDULE, KEY, X.shape, [3, 4]), atol=1e-5)
    jax.eval_shape(lambda m: images(m.eps(SCHEDULE), SCHEDULE, KEY, X.shape, np.array([3, 4])), ten)


@pytest.mark.parametrize("t", [41, 1001, 0, -5])
def test_a_model_refuses_times_outside_its_schedule(t):
    m = Model("tiny", TINY, random_params(TINY), SCHEDULE, ("a", "b", "c"), {})
    for times in (t, jnp.array([1, t])):
        with pytest.raises(ValueError, match=rf"t lies in .*{t}.*outside 1\.\.40"):
            m.eps(np.zeros((2, 8, 8, 1), np.float32), times, None)
    assert list(known_labels(m.eps)) == [0, 1, 2]
    with pytest.raises(ValueError, match="t lies in -5"):
        eps_fn(TINY, {})(np.zeros((2, 8, 8, 1), np.float32), -5)
