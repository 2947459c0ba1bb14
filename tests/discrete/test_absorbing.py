"""The absorbing chain against sums over all sequences, and its losses against the entropy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.datasets import world
from ddpm.discrete import any_order_loss, counted, expected_calls, hidden_nll, hide, lambda_loss, open_step, ratio
from ddpm.oracles import tokens
from ddpm.sample import walk

RNG = np.random.default_rng(0)
K, J, V = 2, 3, 3
PROB, PRIOR = RNG.dirichlet(np.ones(V), (K, J)), np.array([0.3, 0.7])
ALL = np.array(list(itertools.product(range(V), repeat=J)))
P_ALL = np.einsum("c,cn->n", PRIOR, PROB[:, np.arange(J), ALL].prod(2))
STATES = np.array(list(itertools.product(range(V + 1), repeat=J)))  # V is the mask


def p_t(x, alpha):
    """The probability of a state x of the chain, as the sum over all clean sequences."""
    fits = ((x == ALL) | (x == V)).all(1)
    return P_ALL[fits].sum() * np.prod(np.where(x == V, 1 - alpha, alpha))


def test_conditionals_are_those_of_the_table_of_all_sequences(x64):
    m = tokens(PROB, PRIOR)
    n, given = len(STATES), np.repeat([0, 1, 2], len(STATES))
    of_class = np.stack([*PROB[:, np.arange(J), ALL].prod(2), P_ALL])[given]  # (3n, sequences)
    fits = ((STATES[:, None] == ALL) | (STATES[:, None] == V)).all(2)
    p = np.tile(fits, (3, 1)) * of_class
    states, c = np.tile(STATES, (3, 1)), jnp.asarray(given)
    np.testing.assert_allclose(m.log_prob(states, c), np.log(p.sum(1)), atol=1e-12)
    expected = np.einsum("sn,njv->sjv", p / p.sum(1, keepdims=True), np.eye(V)[ALL])
    np.testing.assert_allclose(m.conditional(states, c), expected, atol=1e-12)
    np.testing.assert_allclose(m.conditional(STATES), expected[2 * n :], atol=1e-12)
    x, c = m.sample(jax.random.key(0), 20_000)
    found = np.zeros((V,) * J)
    np.add.at(found, tuple(np.asarray(x).T), 1 / len(x))
    np.testing.assert_allclose(found.ravel(), P_ALL, atol=0.012)
    assert np.mean(c) == pytest.approx(PRIOR[1], abs=0.015)


def test_the_ratio_is_a_conditional_without_time_times_a_number(x64):
    m = tokens(PROB, PRIOR)
    for sigma in (0.1, 1.0, 3.0):
        ours = np.asarray(ratio(m.conditional(STATES), sigma))
        for x, of_x in zip(STATES, ours, strict=True):
            for i, v in itertools.product(np.flatnonzero(x == V), range(V)):
                y = x.copy()
                y[i] = v
                assert of_x[i, v] == pytest.approx(p_t(y, np.exp(-sigma)) / p_t(x, np.exp(-sigma)), rel=1e-10)


def test_a_cities_tiles_are_such_tokens():
    m = tokens(world.probabilities())
    np.testing.assert_allclose(m.log_token, world.distribution().log_tile, rtol=1e-6)
    only, at = world.planted(2)[0], 5  # an ornament of Corvo, in a floor cell
    x = np.full((1, 16), m.mask)
    x[0, at] = np.flatnonzero(world.tiles().motif == only)[0]
    np.testing.assert_allclose(m.class_posterior(x)[0], np.eye(4)[2], atol=1e-6)


def test_the_step_from_all_hidden_draws_independent_tokens_and_many_steps_the_distribution():
    m, n = tokens(PROB, PRIOR), 8000
    one_by_one = np.einsum("c,cjv->jv", PRIOR, PROB)
    product = one_by_one[np.arange(J), ALL].prod(1)
    assert np.abs(product - P_ALL).max() > 0.02  # so the two can be told apart
    for steps, expected in ((1, product), (40, P_ALL)):
        step = open_step(m.denoiser(), jnp.linspace(1, 0, steps + 1), V)
        state, times = (jnp.full((n, J), V), jnp.zeros(n, int)), np.arange(steps, -1, -1)
        (x, calls), (path, _) = walk(counted(step), jax.random.key(steps), state, times, path=True)
        found = np.zeros((V,) * J)
        np.add.at(found, tuple(np.asarray(x).T), 1 / n)
        np.testing.assert_allclose(found.ravel(), expected, atol=0.018)
        calls = np.asarray(calls)
        assert calls.mean() == pytest.approx(expected_calls(steps, J), abs=4 * calls.std() / np.sqrt(n) + 1e-9)
    assert np.all(np.asarray(path[:-1] == V) | np.asarray(path[:-1] == path[1:]))  # what is open stays


def test_hiding_keeps_tokens_with_its_probability():
    x0 = jnp.asarray(np.repeat(ALL, 400, 0))
    x_t = hide(jax.random.key(0), x0, jnp.where(jnp.arange(len(x0)) < len(x0) // 2, 0.8, 0.1), V)
    kept = np.asarray(x_t == x0).reshape(2, -1).mean(1)
    np.testing.assert_allclose(kept, [0.8, 0.1], atol=0.015)
    assert set(np.unique(np.asarray(x_t)[np.asarray(x_t != x0)])) == {V}


def test_with_exact_conditionals_the_losses_equal_the_entropy_and_with_others_they_are_more(x64):
    m, entropy = tokens(PROB, PRIOR), -(P_ALL * np.log(P_ALL)).sum()
    x0 = jnp.asarray(ALL[np.random.default_rng(1).choice(len(ALL), 60_000, p=P_ALL)])
    flat = np.full((K, J, V), 1 / V)
    for loss in (lambda_loss, any_order_loss):
        ours = np.asarray(loss(m.denoiser(), jax.random.key(2), x0, V))
        assert ours.mean() == pytest.approx(entropy, abs=5 * ours.std() / np.sqrt(len(ours)))
        worse = np.asarray(loss(tokens(flat).denoiser(), jax.random.key(2), x0, V))
        assert worse.mean() == pytest.approx(J * np.log(V), abs=5 * worse.std() / np.sqrt(len(x0)))  # log 27
    hidden = jnp.ones((len(ALL), J), bool).at[:, 0].set(False)  # the first token is open: -log p(x_2|x_1) p(x_3|x_1)
    first = np.array([P_ALL[ALL[:, 0] == v].sum() for v in range(V)])
    pair = [np.array([P_ALL[(ALL[:, 0] == x[0]) & (ALL[:, j] == x[j])].sum() for x in ALL]) for j in (1, 2)]
    expected = -np.log(pair[0] * pair[1] / first[ALL[:, 0]] ** 2)
    np.testing.assert_allclose(hidden_nll(m.denoiser(), jnp.asarray(ALL), hidden, V), expected, atol=1e-12)


def test_what_cannot_be_is_refused():
    m, x0 = tokens(np.array([[[1.0, 0], [1, 0]], [[0, 1], [0, 1]]])), jnp.zeros((2, 2), int)
    with pytest.raises(ValueError, match="the open tokens of row 1 cannot be together"):
        m.conditional(np.array([[0, 2], [0, 1]]))
    assert m.log_prob(np.array([[0, 1]]))[0] == -np.inf
    for x, why in ((np.array([[0, 3]]), r"x lies in 0..3, outside 0..2 \(2 = hidden\)"), (np.zeros((1, 2)), "integer")):
        with pytest.raises(ValueError, match=why):
            m.log_prob(x)
    with pytest.raises(ValueError, match="prob has shape"):
        tokens(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r"alpha is .*falling from α_0 = 1"):
        open_step(m.denoiser(), np.linspace(0, 1, 5), 2)
    with pytest.raises(ValueError, match=r"clean tokens lie in 0..1 \(2 = hidden\)"):
        hide(jax.random.key(0), x0 + 2, 0.5, 2)
    with pytest.raises(ValueError, match=r"keep is 1.5"):
        hide(jax.random.key(0), x0, 1.5, 2)
    with pytest.raises(ValueError, match="hidden has shape"):
        hidden_nll(m.denoiser(), x0, jnp.ones(2, bool), 2)
    with pytest.raises(ValueError, match="steps is 0"):
        expected_calls(0, 3)
    with pytest.raises(ValueError, match=r"times reach 9, and alpha has α_0 … α_4"):
        walk(open_step(m.denoiser(), np.linspace(1, 0, 5), 2), jax.random.key(0), x0 + 2, [9, 4, 0])
    with pytest.raises(ValueError, match=r"conditional gives shape \(2, 2, 2\)"):
        hidden_nll(lambda x, t, c: jnp.ones((2, 2, 2)), x0, x0 == 0, 3)
    with pytest.raises(ValueError, match=r"sigma_bar \(2,\); give probabilities"):
        ratio(jnp.ones((2, 2, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"x lies in 5..5"):
        m.denoiser()(x0 + 5, None, None)
