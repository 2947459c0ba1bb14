"""Searched times: their distance is that of the library's own walk; the search against closed forms and brute force."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle, sample
from ddpm.oracles.spectrum import Axes
from ddpm.samplers.best_times import rule, searched, w2_of_times
from ddpm.schedule import cosine, linear

VAR, MEAN = np.array([2.0, 0.5, 0.05, 0.001]), np.array([0.3, -0.6, 0.1, 0.0])


@pytest.mark.parametrize("times", [[50, 31, 7, 0], [20, 3, 0], [50, 0]])
def test_the_distance_is_that_of_the_walk(x64, times):
    """The walk is linear: its mean is what becomes of 0, its matrix what becomes of the unit vectors."""
    s = cosine(50)
    step = sample.ddim_step(oracle.gaussian(MEAN, np.diag(VAR)).eps(s), s)
    out = np.asarray(sample.walk(step, jax.random.key(0), jnp.concatenate([jnp.zeros((1, 4)), jnp.eye(4)]), times))
    std = np.abs(np.diag(out[1:] - out[0]))
    want = ((np.sqrt(VAR) - std) ** 2).sum() + ((MEAN - out[0]) ** 2).sum()
    assert w2_of_times(s, VAR, times, MEAN) == pytest.approx(want, rel=1e-8)


def test_for_one_variance_the_angles_are_even():
    """From pure noise the best N steps have gain cos(π/2N)^N: up to the grid of times."""
    s = linear(1000)
    for n in (2, 4, 8):
        times = searched(s, [0.25], n, free=False)
        gain = 1 - np.sqrt(w2_of_times(s, [0.25], times)) / 0.5
        assert gain == pytest.approx(np.cos(np.pi / (2 * n)) ** n, abs=2e-3)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_search_finds_what_brute_force_finds(steps, free):
    s = cosine(24)
    lists = [[*c[::-1], 0] for c in combinations(range(1, 25), steps) if free or c[-1] == 24]
    best = min(w2_of_times(s, VAR, t, MEAN) for t in lists)
    assert w2_of_times(s, VAR, searched(s, VAR, steps, MEAN, free), MEAN) == pytest.approx(best, rel=1e-12)


def test_a_free_start_is_never_worse():
    s = linear(1000)
    for n in (1, 2, 4):
        fixed, free = (searched(s, VAR, n, MEAN, f) for f in (False, True))
        assert fixed[0] == 1000
        assert w2_of_times(s, VAR, free, MEAN) <= w2_of_times(s, VAR, fixed, MEAN)


@pytest.mark.parametrize(
    "steps, words", [(0, "steps is 0"), (51, "steps is 51; a chain with T = 50"), (2.5, "steps is 2.5")]
)
def test_steps_that_cannot_be_are_refused(steps, words):
    with pytest.raises((ValueError, TypeError), match=words):
        searched(cosine(50), VAR, steps)


def test_a_covariance_that_is_none_is_refused():
    for var in (-VAR, np.eye(2), [np.nan]):
        with pytest.raises(ValueError, match="give the eigenvalues"):
            searched(cosine(50), var, 2)


# --- axes in groups ---------------------------------------------------------------------------------------------------


def test_an_entry_of_a_number_is_that_many_entries():
    s, number = cosine(50), [1, 2, 5, 3]
    many = (np.repeat(VAR, number), [40, 9, 0], np.repeat(MEAN, number))
    assert w2_of_times(s, *many) == pytest.approx(w2_of_times(s, VAR, [40, 9, 0], MEAN, number), rel=1e-12)
    best = searched(s, many[0], 3, many[2])
    np.testing.assert_array_equal(rule(Axes(VAR, MEAN, np.array(number)))(s, 3), best)
    assert best.tolist() != searched(s, VAR, 3, MEAN).tolist()
