"""`technique`: one function, bound first and called later."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.contracts import Partial, constant, falls, partial_of, technique
from ddpm.guide import cfg, clip_x0
from ddpm.guides.composition import given
from ddpm.sample import ddim_step, ddpm_step, walk
from ddpm.samplers.langevin_dynamics import corrected
from ddpm.schedule import Schedule, cosine
from ddpm.tools import check
from ddpm.tools.partials import find, inside

X, T, C = jnp.linspace(-1, 1, 8).reshape(2, 2, 2, 1), jnp.array([3, 3]), jnp.array([0, 1])


def net(x, t, c):
    return x if c is None else x + c.reshape(-1, 1, 1, 1)


def test_positional_and_keyword_arguments_bind_the_same_pytree():
    by_position, by_name = cfg(net, 2.0), cfg(scale=2.0, eps=net)
    assert jax.tree.structure(by_position) == jax.tree.structure(by_name)
    assert isinstance(by_position, Partial) and by_position.args == () and set(by_position.keywords) == {"eps", "scale"}
    np.testing.assert_array_equal(by_position(X, T, C), by_name(X, T, C))
    assert jax.tree.structure(given(net, 1)) == jax.tree.structure(given(c=1, eps=net))  # bound behind a star
    assert clip_x0(net, cosine(10)).keywords["high"] == 1.0  # a default


def test_a_new_value_compiles_nothing():
    run = jax.jit(lambda eps: eps(X, T, C))
    for scale in (1.5, 2, np.float32(7.0)):
        np.testing.assert_allclose(run(cfg(net, scale)), net(X, T, None) + scale * C.reshape(-1, 1, 1, 1), rtol=1e-6)
    assert run._cache_size() == 1


def test_a_bad_value_is_refused_when_it_is_bound():
    for scale in (-1.0, np.nan, np.array([1.0, -2.0])):
        with pytest.raises(ValueError, match=r"guidance is .*; give a finite scale >= 0"):
            cfg(net, scale)
    with pytest.raises(ValueError, match=r"low is 1\.0 and high is -1\.0"):
        clip_x0(net, cosine(10), 1.0, -1.0)


@pytest.mark.parametrize("args, kwargs", [((net,), {}), ((net, 2.0, 3.0), {}), ((net, 2.0), {"scal": 1.0}), ((), {})])
def test_wrong_arguments_are_a_type_error_that_names_the_technique(args, kwargs):
    with pytest.raises(TypeError, match=r"^cfg: "):
        cfg(*args, **kwargs)


def test_what_follows_a_star_stays_a_keyword():
    with pytest.raises(TypeError, match=r"^corrected: too many positional"):
        corrected(ddpm_step(net, cosine(10)), net, cosine(10), None, 3)


def test_help_shows_what_is_bound_and_the_function_s_own_words():
    assert list(inspect.signature(cfg).parameters) == ["eps", "scale"]
    assert inspect.signature(clip_x0).parameters["low"].default == -1.0
    assert cfg.__name__ == "cfg" and cfg.__doc__.startswith("Classifier-free guidance")
    assert list(inspect.signature(cfg.__wrapped__).parameters) == ["x_t", "t", "c", "eps", "scale"]


def test_checks_see_one_value_and_those_together_see_all():
    @technique(lambda a, b: {"b": a + b}, a=check.scale_array)
    def f(x, /, a, b):
        """Add."""
        return x + a + b

    assert f(1, 2)(10) == 14 and f(1, 2).keywords["b"] == 3 and f(1, 2).keywords["a"].dtype == jnp.asarray(1.0).dtype


def test_find_and_inside_see_keyword_parts():
    eps = clip_x0(cfg(constant(X), 2.0), cosine(10))
    assert [f.func.__name__ for f in inside(eps)] == ["clip_x0", "cfg", "constant"]
    assert len(find(eps, Schedule)) == 1 and len(find(ddpm_step(eps, cosine(20)), Schedule)) == 2
    assert len(inside(partial_of(net))) == 1


def test_the_demands_of_a_step_are_heard_through_a_wrapper():
    step = corrected(ddim_step(net, cosine(10), None, 40.0), net, cosine(10))
    with pytest.raises(ValueError, match="eta is 40"):
        walk(step, jax.random.key(0), X, np.array([5, 3, 1]))
    with pytest.raises(ValueError, match="only goes down"):
        walk(technique()(falls(lambda key, x, t, s, /: x))(), jax.random.key(0), X, np.array([1, 3]))
