"""Many images at once: `generate` with the same `Sampling` that `images` takes."""

import jax
import numpy as np
import pytest

from ddpm import oracle
from ddpm.sample import Sampling, images
from ddpm.samplers.generation import generate
from ddpm.samplers.solvers import heun_step
from ddpm.schedule import linear

WIDE, KEY = oracle.gaussian(np.zeros((2, 2, 1)), 9.0), jax.random.key(0)


@pytest.mark.parametrize("T, steps", [(30, 30), (1000, 50)])
def test_by_default_fifty_steps_or_all_there_are(T, steps):
    times = Sampling().times(linear(T))
    assert len(times) == steps + 1 and times[0] == T and times[-1] == 0


def test_a_sampler_by_name_and_by_function_are_one():
    schedule = linear(40)
    eps = WIDE.eps(schedule)
    a, b = (generate(eps, schedule, KEY, (2, 2, 1), how=Sampling(s, 5), n=3) for s in ("heun", heun_step))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("clip", [True, False])
def test_only_clipped_images_stay_within_one(clip):
    """N(0, 9) has two thirds of its numbers outside [-1, 1]."""
    schedule = linear(40)
    eps, how = WIDE.eps(schedule), Sampling(steps=10, clip=clip)
    drawn = generate(eps, schedule, KEY, (2, 2, 1), how=how, n=20), images(eps, schedule, KEY, (20, 2, 2, 1), how=how)
    for x in drawn:
        assert (np.abs(x).max() < 1.001) == clip
        if not clip:
            assert np.std(x) == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"how": Sampling("dddim"), "n": 2}, "Did you mean 'ddim'"),
        ({"how": Sampling(guidance=float("nan")), "n": 2}, "finite scale"),
        ({"how": Sampling(steps=41), "n": 2}, r"1\.\.40 steps"),
        ({"how": Sampling(rule="trailling"), "n": 2}, "Did you mean 'trailing'"),
        ({}, "give the labels c, or the number of images n"),
        ({"n": 0}, "n is 0"),
    ],
)
def test_bad_input_is_named(kwargs, words):
    schedule = linear(40)
    with pytest.raises(ValueError, match=words):
        generate(WIDE.eps(schedule), schedule, KEY, (2, 2, 1), **kwargs)
