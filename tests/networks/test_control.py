"""ControlNet: it begins as its base, to the bit, and its gradients are 0 where the paper says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params

from ddpm.guide import cfg
from ddpm.networks.control import COPIED, Control, controlled, make_control, outlets
from ddpm.networks.dit import eps_fn
from ddpm.networks.fusion import WAYS
from ddpm.networks.lora import digest
from ddpm.networks.text_config import TextConfig
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition

WORDS = ("a", "red", "dress")
SIZES = {"channels": 8, "multipliers": (1, 1), "blocks": 1, "attention": (), "groups": 4, "patch": 2}
CONFIG = TextConfig(8, 1, **SIZES, words=WORDS, tokens=6, text_width=8, text_layers=1, text_heads=2)
KEY = jax.random.key(0)
X, T = jax.random.normal(KEY, (2, 8, 8, 1)), jnp.array([3, 40])
TEXT = tokens.encode(["a red dress", "a dress"], WORDS, 6)
HINT = (jax.random.uniform(KEY, (2, 8, 8, 1)) > 0.5).astype(jnp.float32)
C = Condition(text=TEXT, hint=HINT)
PARAMS = random_params(CONFIG)
SHAPES = jax.eval_shape(lambda key: make_control(key, CONFIG, PARAMS), KEY).params


def largest(tree):
    return max(float(jnp.abs(a).max()) for a in jax.tree.leaves(tree))


@pytest.mark.slow
def test_it_begins_as_its_base_and_learns_in_two_steps():
    """Step 0 to the bit; the gradient of the output Z is not 0, all others are; after one step none is."""
    control = make_control(jax.random.key(1), CONFIG, PARAMS)
    for name in COPIED:
        jax.tree.map(np.testing.assert_array_equal, control.params[name], PARAMS[name])
    base = eps_fn(CONFIG, PARAMS)(X, T, Condition(text=TEXT))  # op by op: a compiler adds in another order
    np.testing.assert_array_equal(controlled(CONFIG, PARAMS, control)(X, T, C), base)
    eps = jax.jit(lambda control, c, scale: controlled(CONFIG, PARAMS, control, scale)(X, T, c))
    alone = np.asarray(eps(control, C, 1.0))
    np.testing.assert_allclose(alone, base, atol=1e-5)
    # gradients
    grad = jax.jit(jax.grad(lambda p: (controlled(CONFIG, PARAMS, control.replace(params=p))(X, T, C) ** 2).sum()))
    g = grad(control.params)
    assert all(largest(z["kernel"]) > 0 and largest(z["bias"]) > 0 for z in g["zeros"].values())
    assert largest({k: v for k, v in g.items() if k != "zeros"}) == 0
    moved = control.replace(params=jax.tree.map(lambda a, g: a - 1e-3 * g, control.params, g))
    g = grad(moved.params)
    assert largest(g["hint"][2]) > 0 == largest(g["hint"][0]) and all(largest(g[name]) > 0 for name in COPIED)
    # once it has learned: scale 0, no hint, another hint
    other = np.asarray(eps(moved, C._replace(hint=1 - HINT), 1.0))
    assert np.abs(eps(moved, C, 1.0) - alone).max() > 1e-4 and np.abs(eps(moved, C, 0.0) - alone).max() == 0
    np.testing.assert_array_equal(other, eps(moved, C, 1.0))  # the Z at the hint is still 0
    random = moved.replace(params=jax.tree.map(lambda a: a + 0.1, moved.params))
    assert np.abs(eps(random, C._replace(hint=1 - HINT), 1.0) - eps(random, C, 1.0)).max() > 1e-4
    np.testing.assert_array_equal(controlled(CONFIG, PARAMS, random)(X, T, Condition(text=TEXT)), base)


@pytest.mark.slow
def test_what_stands_in_place_of_the_copy_begins_as_the_base_too():
    """`drawn` and `lite`, to the bit; and with Z of random numbers a lite control knows nothing but the hint."""
    base = eps_fn(CONFIG, PARAMS)(X, T, Condition(text=TEXT))
    for kind in ("drawn", "lite"):
        control = make_control(KEY, CONFIG, PARAMS, kind=kind)
        np.testing.assert_array_equal(controlled(CONFIG, PARAMS, control)(X, T, C), base)
        assert ("mid_block" in control.params) == (kind == "drawn")
    for way in WAYS:
        joined = make_control(KEY, CONFIG, PARAMS, way=way)
        np.testing.assert_array_equal(controlled(CONFIG, PARAMS, joined)(X, T, C), base)
    grad = jax.jit(jax.grad(lambda p: (controlled(CONFIG, PARAMS, control.replace(params=p))(X, T, C) ** 2).sum()))
    g = grad(control.params)
    assert largest(g["hint"]) == 0 and all(largest(z["kernel"]) > 0 for z in g["zeros"].values())
    moved = control.replace(params=jax.tree.map(lambda a: a + 0.1, control.params))
    assert np.abs(controlled(CONFIG, PARAMS, moved)(X, T, C) - base).max() > 1e-3


def test_a_lite_control_is_small_and_the_drawn_one_as_large_as_the_copy():
    def size(kind):
        shapes = jax.eval_shape(lambda key: make_control(key, CONFIG, PARAMS, kind=kind), KEY).params
        return sum(a.size for a in jax.tree.leaves(shapes))

    assert size("drawn") == size("copy") > 2 * size("lite")
    assert [c for _, c in outlets(CONFIG)] == [8] * 5 and [i for i, _ in outlets(CONFIG)] == [0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="kind"):
        make_control(KEY, CONFIG, PARAMS, kind="none")
    with pytest.raises(ValueError, match="way"):
        make_control(KEY, CONFIG, PARAMS, kind="lite", way="film")


@pytest.mark.slow
def test_guidance_cancels_where_both_branches_have_the_same_hint():
    """With the hint in both and no words ε_c = ε_∅, whatever the scale; against no hint the hint is guided."""
    control = Control(jax.tree.map(lambda a: a + 0.1, make_control(KEY, CONFIG, PARAMS).params), digest(PARAMS))
    eps = controlled(CONFIG, PARAMS, control)
    hint = Condition(hint=HINT)
    with_hint, without = eps(X, T, hint), eps(X, T, None)
    guided = cfg(eps, 3.0)(X, T, hint)  # ∅ of cfg drops all parts of the condition, the hint too
    np.testing.assert_allclose(guided, without + 3 * (with_hint - without), atol=1e-4)


@pytest.mark.parametrize(
    "hint, words",
    [
        (np.zeros((2, 4, 4, 1)), r"c.hint has shape \(2, 4, 4, 1\); this control wants \(2, 8, 8, 1\)"),
        (np.zeros((2, 8, 8, 3)), r"wants \(2, 8, 8, 1\)"),
        (2 * np.asarray(HINT) - 1, r"c.hint lies in -1..1; give it in \[0, 1\]"),
    ],
)
def test_other_hints_are_refused(hint, words):
    eps = controlled(CONFIG, PARAMS, Control(SHAPES, digest(PARAMS)))
    with pytest.raises(ValueError, match=words):
        eps(X, T, C._replace(hint=hint))


def test_the_control_of_another_base_is_refused():
    with pytest.raises(ValueError, match="the control was made for parameters 000000000000…"):
        controlled(CONFIG, PARAMS, Control(SHAPES, "0" * 64))
