"""A Gaussian above a time and a network below it: each where it should be, under guides, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TINY

from ddpm import oracle
from ddpm.contracts import partial_of
from ddpm.guide import cfg, clip_x0
from ddpm.guides.rules import gaussian_above
from ddpm.networks.dit import eps_fn
from ddpm.oracles import low_rank
from ddpm.samplers.respacing import respace, retime
from ddpm.schedule import cosine, linear
from ddpm.zoo.model import Model

D, K, T, ABOVE = 12, 2, 50, 33
SCHEDULE = cosine(T)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(6, 2, 2, 3)), jnp.float32)
T6, C = jnp.array([1, 7, 33, 34, 49, 50]), jnp.array([0, 1, 1, 0, 1, 0])


def gaussian(classes=K, kind="class"):
    x = RNG.normal(size=(20 * classes, D)) * np.linspace(0.2, 1, D)
    return low_rank.fit(x, np.arange(len(x)) % classes, rank=3, kind=kind)


G = gaussian().eps(SCHEDULE)


@partial_of
def a_net(x_t, t, c=None):
    """A network that hears t and c, where ∅ is the label K."""
    c = jnp.full(len(x_t), K) if c is None else c
    return jnp.sin(3 * x_t) + (t / T + c)[:, None, None, None]


GUIDES = {
    "alone": lambda eps: eps,
    "cfg": lambda eps: cfg(eps, 2.5),
    "clip_x0": lambda eps: clip_x0(eps, SCHEDULE),
    "both": lambda eps: clip_x0(cfg(eps, 2.5), SCHEDULE),
}


@pytest.mark.parametrize("name", GUIDES)
def test_it_is_guided_as_the_gaussian_above_and_as_the_network_at_and_below(name):
    """Image by image where the times differ, and where all are equal; also inside jit."""
    guide = GUIDES[name]
    eps, of_gaussian, of_net = (guide(e) for e in (gaussian_above(a_net, G, ABOVE), G, a_net))
    want = jnp.where((T6 > ABOVE)[:, None, None, None], of_gaussian(X, T6, C), of_net(X, T6, C))
    for call in (lambda e, t: e(X, t, C), jax.jit(lambda e, t: e(X, t, C))):
        np.testing.assert_allclose(call(eps, T6), want, atol=2e-5)
        for t, same in ((ABOVE, of_net), (ABOVE + 1, of_gaussian)):
            t = jnp.full(6, t)
            np.testing.assert_allclose(call(eps, t), same(X, t, C), atol=2e-5)
    assert abs(of_gaussian(X, T6, C) - of_net(X, T6, C)).max() > 1e-3


def test_above_the_last_time_there_is_nothing_for_the_gaussian():
    eps = gaussian_above(a_net, G, T)
    np.testing.assert_array_equal(eps(X, T6, C), a_net(X, T6, C))


@pytest.mark.parametrize("above", [0, -1, 51, 3.5])
def test_a_time_outside_the_chain_is_refused(above):
    with pytest.raises(ValueError, match="above is"):
        gaussian_above(a_net, G, above)


@pytest.mark.parametrize("known, classes", [(3, 2), (3, 10), (0, 2)])
def test_a_gaussian_of_other_classes_is_refused_with_both_numbers(known, classes):
    """Of a network and of an oracle, also through what wraps them."""
    eps = eps_fn(dataclasses.replace(TINY, num_classes=known), {})
    others = [eps, clip_x0(eps, SCHEDULE)]
    others += [oracle.mixture(np.zeros((3, D)), 1.0, label=[0, 1, 2]).eps(SCHEDULE)] if known else []
    for other in others:
        with pytest.raises(
            ValueError, match=f"eps knows {known} classes and the Gaussian {classes}; fit it on .*'one'"
        ):
            gaussian_above(other, cfg(gaussian(classes).eps(SCHEDULE), 2.0), ABOVE)


def test_one_gaussian_for_all_labels_and_a_network_of_unknown_classes_are_taken():
    net = eps_fn(TINY, {})
    for eps, g in ((net, gaussian(kind="one")), (net, low_rank.isotropic(D)), (net, gaussian(3)), (a_net, gaussian(5))):
        assert gaussian_above(eps, g.eps(SCHEDULE), ABOVE)


def test_a_gaussian_of_another_chain_is_refused():
    for eps in (clip_x0(a_net, cosine(40)), gaussian().eps(cosine(40)), cfg(clip_x0(a_net, cosine(40)), 2.0)):
        with pytest.raises(
            ValueError, match="the chain of eps has T = 40 and that of the Gaussian T = 50; give both one"
        ):
            gaussian_above(eps, G, ABOVE)


def test_a_gaussian_of_other_noise_is_refused_with_the_time_where_it_differs_most():
    """The same T; also of a whole model, which shows its chain whatever it predicts."""
    chain = linear(50)
    off = np.abs(np.asarray(chain.alpha_bar) - np.asarray(SCHEDULE.alpha_bar))
    m = Model("m", dataclasses.replace(TINY, num_classes=K), {}, chain, ("a", "b"), {})
    for eps in (clip_x0(a_net, chain), gaussian().eps(chain), m.eps):
        with pytest.raises(ValueError, match=f"alpha_bar of t = {off.argmax()} is .* in the Gaussian; give both one"):
            gaussian_above(eps, G, ABOVE)
    assert gaussian_above(m.eps, gaussian().eps(linear(50)), ABOVE)


def test_of_a_retimed_network_the_chain_is_its_list_of_times():
    """The network knows a chain of 50 times; both are called with the 5 of a list."""
    times = np.array([50, 40, 30, 20, 10, 0])
    short, net = gaussian().eps(respace(SCHEDULE, times)), clip_x0(a_net, SCHEDULE)
    eps = gaussian_above(retime(net, times), short, 3)
    for i, want in ((3, net(X, jnp.full(6, 30), C)), (4, short(X, jnp.full(6, 4), C))):
        np.testing.assert_allclose(eps(X, jnp.full(6, i), C), want, atol=1e-5)
    with pytest.raises(ValueError, match=r"above is 6; give a time in 1\.\.5"):
        gaussian_above(retime(net, times), short, 6)
    with pytest.raises(ValueError, match="T = 5 and that of the Gaussian T = 50"):
        gaussian_above(retime(net, times), G, 3)
