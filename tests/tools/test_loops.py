"""A loop whose length is an argument does what a plain loop does, and compiles once for many lengths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.tools.loops import LONG, SHORT, first_steps, padded


@partial(jax.jit, static_argnames=("length", "path"))
def powers(x, n, length, path=False):
    """x·1·2·…·n, where each step multiplies by its number."""
    return first_steps(lambda x, i: {"x": x["x"] * (i + 1)}, {"x": x}, n, length, path)


def test_it_takes_the_first_n_steps_and_compiles_once():
    for n in (1, 3, 7):
        x, none = powers(jnp.float32(2), jnp.asarray(n), 8)
        assert x["x"] == 2 * np.prod(np.arange(1.0, n + 1)) and none is None
    assert powers._cache_size() == 1
    _, path = powers(jnp.float32(2), jnp.asarray(4), 4, True)
    assert path["x"].tolist() == [2, 4, 12, 48]


def test_derivatives_go_through_it():
    slope = jax.grad(lambda x: powers(x, jnp.asarray(5), 8)[0]["x"])(jnp.float32(1))
    assert slope == 120  # 5!


@pytest.mark.parametrize(
    "n, length", [(1, SHORT), (SHORT, SHORT), (SHORT + 1, LONG), (LONG, LONG), (LONG + 1, 2 * LONG)]
)
def test_few_lengths(n, length):
    times = np.arange(n, -1, -1)
    more = padded(times)
    assert more.size == length + 1 and np.array_equal(more[: n + 1], times) and not more[n:].any()
