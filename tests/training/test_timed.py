"""A training that ends with the time: it reaches a minimum that is known, and stops at once when no time is left."""

import jax.numpy as jnp
import numpy as np
import optax

from ddpm.training.timed import fit

IMAGES = np.repeat(np.array([0, 255], np.uint8), 50)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
LABELS = (np.arange(100) >= 50).astype(np.int32)


def squared(params, key, x0, c, lift):
    """Its minimum: w_c is the mean image of class c, -1 or 1, plus `lift`."""
    return ((params["w"][c] - x0.mean((1, 2, 3)) - lift) ** 2).mean()


def counted(calls):
    """left() of so many steps: 1, …, 0"""
    shares = iter(np.linspace(1, 0, calls))
    return lambda: float(next(shares))


def test_it_ends_in_the_minimum_of_each_class_and_in_the_average():
    w = fit(squared, {"w": jnp.zeros(2)}, IMAGES, LABELS, 0, counted(3000), jnp.float32(0.25))["w"]
    np.testing.assert_allclose(w, [-0.75, 1.25], atol=0.01)


def test_without_time_nothing_is_trained_and_the_first_step_has_the_rate_0():
    begin = {"w": jnp.array([0.3, -0.2])}
    assert fit(squared, begin, IMAGES, LABELS, 0, lambda: 0.0, jnp.float32(0)) is begin
    once = fit(squared, begin, IMAGES, LABELS, 0, counted(2), jnp.float32(0))  # one step, at the start of the rise
    np.testing.assert_allclose(once["w"], begin["w"], rtol=1e-6)


def test_floats_are_used_as_they_are():
    """Codes have no grey levels: the same set as floats in [-1, 1] ends in the same parameters."""
    begin, lift = {"w": jnp.zeros(2)}, jnp.float32(0.25)
    codes = fit(squared, begin, IMAGES.astype(np.float32) / 127.5 - 1, LABELS, 0, counted(50), lift)
    np.testing.assert_allclose(codes["w"], fit(squared, begin, IMAGES, LABELS, 0, counted(50), lift)["w"], atol=1e-6)


def test_the_direction_is_that_of_the_optimiser_that_is_given():
    """Along nothing the parameters stay; along the gradient itself they reach the minimum as well."""
    begin, lift = {"w": jnp.array([0.5, -0.25])}, jnp.float32(0.25)  # powers of 2: their average is not rounded
    still = fit(squared, begin, IMAGES, LABELS, 0, counted(20), lift, direction=optax.set_to_zero())
    np.testing.assert_array_equal(still["w"], begin["w"])
    steep = fit(squared, begin, IMAGES, LABELS, 0, counted(500), lift, direction=optax.scale(100.0))
    np.testing.assert_allclose(steep["w"], [-0.75, 1.25], atol=0.01)


def test_the_rate_rises_for_a_share_of_a_short_training_and_a_long_one_is_the_same_to_the_bit():
    """With a constant slope each step of Adam is the rate. Without a share, step n of ten has n/100 of it."""

    def moved(steps, share):
        left = counted(steps + 1)
        return float(fit(lambda p, *_: p["w"], {"w": jnp.zeros(())}, IMAGES, LABELS, 0, left, share=share)["w"])

    assert moved(1500, 0.1) == moved(1500, 0.0) < 0
    assert moved(10, 1e-6) < moved(10, 0.2) < 5 * moved(10, 0.0) < 0
