"""Many images at once: `generate` with the same `Sampling` that `images` takes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import oracle
from ddpm.contracts import Partial
from ddpm.editing.inpaint import repaint
from ddpm.sample import Sampling, ddim_step, ddpm_step, images, walk
from ddpm.samplers.generation import generate
from ddpm.samplers.langevin_dynamics import annealed_langevin, corrected
from ddpm.samplers.names import STEPS
from ddpm.samplers.solvers import begin, heun_step, multistep
from ddpm.schedule import linear
from ddpm.tools import keys

HALF = Partial(lambda x_t, t, c=None: 0.5 * x_t)
WRAPPED = {
    "eta 1": partial(ddim_step, eta=1.0),
    "corrected": lambda eps, schedule, c: corrected(ddim_step(eps, schedule, c), eps, schedule, c),
    "annealed": annealed_langevin,
}
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


@pytest.mark.parametrize("sampler", [*STEPS, *WRAPPED])
def test_an_image_does_not_depend_on_how_many_are_drawn(sampler):
    """Images 0…60 are the same among 61, one batch, and among 101, two batches of 51."""
    schedule, how = linear(40), Sampling(WRAPPED.get(sampler, sampler), 3)
    first, among = (generate(HALF, schedule, KEY, (2, 2, 1), how=how, n=n) for n in (61, 101))
    np.testing.assert_allclose(among[:61], first, atol=1e-5)
    assert np.ptp(first, axis=0).min() > 0.5  # and they differ


@pytest.mark.slow
def test_repaint_with_keys_of_images():
    schedule, mask = linear(40), np.array([[1, 0], [0, 0]]).reshape(2, 2, 1)
    x = jax.random.normal(KEY, (5, 2, 2, 1))

    def filled(n):
        step = repaint(ddpm_step(WIDE.eps(schedule), schedule), schedule, 0 * x[:n], mask)
        return walk(step, keys.of_images(KEY, np.arange(n)), x[:n], [40, 20, 40, 20, 0])

    np.testing.assert_allclose(filled(5)[:3], filled(3), atol=1e-5)


def test_keys_of_images_and_one_key():
    """One key draws for the whole batch; keys draw for each image what that key alone would."""
    x = jnp.zeros((3, 2, 2, 1))
    np.testing.assert_array_equal(keys.normal_like(KEY, x), jax.random.normal(KEY, x.shape))
    many = keys.of_images(KEY, [7, 8, 9])
    alone = jax.random.normal(jax.random.fold_in(jax.random.split(many[1])[1], 5), x.shape[1:])
    np.testing.assert_array_equal(keys.normal_like(keys.fold_in(keys.split(many)[1], 5), x)[1], alone)
    np.testing.assert_array_equal(keys.normal_like(jax.random.PRNGKey(0), x), keys.normal_like(KEY, x))
    with pytest.raises(ValueError, match="2 keys for 3 images"):
        keys.normal_like(many[:2], x)


def test_sixty_four_bit_schedules_keep_images_of_thirty_two(x64):
    schedule = linear(40)
    x = jnp.ones((2, 2, 2, 1), jnp.float32)
    eps = oracle.gaussian(np.zeros((2, 2, 1)), 1.0).eps(schedule)
    for step in (ddim_step(eps, schedule), ddpm_step(eps, schedule), heun_step(eps, schedule)):
        assert walk(step, KEY, x, [40, 20, 0]).dtype == jnp.float32
    assert walk(multistep(eps, schedule), KEY, begin(x), [40, 20, 0]).x.dtype == jnp.float32


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
