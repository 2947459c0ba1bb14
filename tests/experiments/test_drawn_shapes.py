"""What the reader of drawn shapes says of the data themselves, and of shapes that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import data
from ddpm.datasets import blocks, volumes
from ddpm.forward import eps_from_x0
from ddpm.networks import build
from ddpm.schedule import make_schedule
from experiments import drawn_shapes
from experiments.lab import refined_volumes


def test_the_data_are_judged_as_the_data():
    shapes = blocks.draw(200, seed=3)
    found = drawn_shapes.judged(data.to_float(volumes.pictures(shapes.content)), shapes.labels)
    exact = drawn_shapes.truth()
    for name in ("filled cells that are of the catalogue", "shapes with the layout of a category"):
        assert found[name] == exact[name] == 1
    slots = (blocks.layouts()[shapes.category] == "o").sum()
    for name in ("slots that hold something", "slots with a part of the own style"):
        p = exact[name]
        assert abs(found[name] - p) < 4 * np.sqrt(p * (1 - p) / slots)
    assert found["slots with a part of another style"] == 0
    # the same shapes under another style's name
    other = drawn_shapes.judged(data.to_float(volumes.pictures(shapes.content)), (shapes.labels + 1) % 4)
    assert other["slots with a part of another style"] == found["slots with a part of the own style"]
    assert other["slots with a part of the own style"] == 0


def test_noise_is_no_part_of_the_catalogue():
    x = np.random.default_rng(0).uniform(-1, 1, (4, 24, 24, 24))
    found = drawn_shapes.judged(x, np.arange(4))
    assert found["filled cells that are of the catalogue"] == 0 and found["shapes with the layout of a category"] == 0
    assert drawn_shapes.judged(0 * x - 1, np.arange(4))["slots that hold something"] == 0


def test_shapes_without_a_voxel_are_left_out():
    """And if none has one, there is nothing to be lifted."""
    config = drawn_shapes.Config(**drawn_shapes.QUICK)
    with pytest.raises(ValueError, match="no shape of these has a voxel"):
        drawn_shapes.mined(np.full((2, 24, 24, 24), -1.0), np.arange(2), config)


def test_a_new_second_network_leaves_the_first_and_all_cells_share_its_weights():
    """Its last layer is 0 at the start; and what it adds has the layout of the volume, cell by cell."""
    schedule, t, c = make_schedule("cosine"), jnp.array([300, 700]), jnp.array([0, 3])
    x0 = jnp.asarray(data.to_float(volumes.pictures(blocks.draw(2, seed=5).content)))
    first = volumes.eps(schedule)
    params = build(refined_volumes.NET)[0](jax.random.key(0))
    estimate = jax.jit(refined_volumes.estimate)
    begin = estimate(params, first, schedule, x0, t, c)
    np.testing.assert_allclose(refined_volumes._eps(params, first, schedule, x0, t, c), first(x0, t, c), atol=2e-5)
    bias = jnp.arange(refined_volumes.NET.patch**2 * blocks.CELL, dtype=jnp.float32).reshape(6, 6, 6)  # x, y, z
    by_patch = bias.reshape(-1)
    moved = params | {"last": params["last"] | {"bias": by_patch}}
    change = np.asarray(estimate(moved, first, schedule, x0, t, c) - begin)
    np.testing.assert_allclose(change, np.broadcast_to(np.tile(bias, (4, 4, 4)), change.shape), atol=1e-3)


def test_a_second_network_sees_the_shape_and_its_estimate_at_the_same_places():
    """With opposite weights for both it sees nothing where they are equal, whatever the shape."""
    schedule, t, c = make_schedule("cosine"), jnp.array([300, 700]), jnp.array([0, 3])
    params = build(refined_volumes.NET)[0](jax.random.key(0))
    last = {"last": {k: 0.1 * jax.random.normal(jax.random.key(1), a.shape) for k, a in params["last"].items()}}
    change = jax.jit(
        lambda p, x: (
            refined_volumes.estimate(p, lambda *of: eps_from_x0(schedule, of[0], of[1], x), schedule, x, t, c) - x
        )
    )
    kernel = params["embed"]["kernel"].reshape(-1, 2, blocks.CELL, refined_volumes.NET.channels)
    opposite = jnp.stack([kernel[:, 0], -kernel[:, 0]], 1).reshape(params["embed"]["kernel"].shape)
    x = jax.random.uniform(jax.random.key(2), (2, 2, 24, 24, 24), minval=-0.9, maxval=0.9)
    for p, same in ((params, False), (params | {"embed": params["embed"] | {"kernel": opposite}}, True)):
        here, there = (change(p | last, a) for a in x)
        assert (jnp.abs(here - there).max() < 1e-3) == same


def test_the_squares_of_the_times_are_evenly_spread():
    """P(t ≤ T r) = r², so that of eight times each has its own eighth of it."""
    schedule, seen = make_schedule("cosine"), []

    def first(x_t, t, c):
        seen.append(np.asarray(t))
        raise StopIteration  # the times are drawn; the networks need not run

    with pytest.raises(StopIteration):
        refined_volumes.loss({}, jax.random.key(1), jnp.zeros((8, 24, 24, 24)), jnp.arange(8) % 4, first, schedule)
    share = np.sort((seen[0] / schedule.T) ** 2)
    np.testing.assert_allclose(np.diff(share), 1 / 8, atol=4 / schedule.T)
