"""The convolution is differentiated like the plain one: forwards, backwards, both, twice, and under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.network import build
from ddpm.tools import ops
from tests.tiny import TINY, random_params

KEYS = jax.random.split(jax.random.key(0), 4)
X, W = jax.random.normal(KEYS[0], (2, 4, 5, 3)), jax.random.normal(KEYS[1], (3, 3, 3, 2))
DX, DW = jax.random.normal(KEYS[2], X.shape), jax.random.normal(KEYS[3], W.shape)


def same(a, b, atol=1e-3):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=atol, rtol=1e-4), a, b)


def energy(conv):
    return lambda x, w: jnp.sin(conv(x, w)).sum()


def derivatives(f):
    """All that is asked of f(x, w): each order and mode, and modes through one another."""
    return {
        "forward": jax.jvp(f, (X, W), (DX, DW)),
        "backward": jax.grad(f, (0, 1))(X, W),
        "backward over forward": jax.grad(lambda x, w: jax.jvp(f, (x, w), (DX, w * w))[1], (0, 1))(X, W),
        "forward over backward": jax.jvp(jax.grad(f, (0, 1)), (X, W), (DX, DW)),
        "backward over backward": jax.grad(lambda w: (jax.grad(f)(X, w) * DX).sum())(W),
    }


def test_every_derivative_is_the_plain_convolutions():
    same(jax.jit(lambda: derivatives(energy(ops.conv)))(), jax.jit(lambda: derivatives(energy(ops._conv)))())


def test_forward_mode_is_the_product_rule():
    y, dy = jax.jvp(ops.conv, (X, W), (DX, DW))
    same((y, dy), (ops._conv(X, W), ops._conv(DX, W) + ops._conv(X, DW)), atol=1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 0)])
def test_vmap_commutes_with_the_convolution_and_its_derivatives(axes):
    x = X if axes[0] is None else jnp.stack([X, DX, X * DX], axes[0])
    w = W if axes[1] is None else jnp.stack([W, DW, W * DW], axes[1])

    def mapped(conv):
        f = energy(conv)
        many = jax.vmap(jax.grad(f, (0, 1)), axes)  # one gradient for each of the three
        total = jax.grad(lambda x, w: jax.vmap(f, axes)(x, w).sum(), (0, 1))
        second = jax.vmap(lambda x, w: jax.jvp(jax.grad(f, (0, 1)), (x, w), (DX, DW)), axes)
        return jax.vmap(conv, axes)(x, w), many(x, w), total(x, w), second(x, w)

    same(jax.jit(lambda: mapped(ops.conv))(), jax.jit(lambda: mapped(ops._conv))())


def test_a_network_has_one_jacobian_and_its_jvp_has_a_gradient():
    """jacfwd = jacrev; jvp against finite differences; and MeanFlow's gradient of a loss that contains a jvp."""
    params, c, t = random_params(TINY), jnp.array([1]), jnp.array([7])
    net = build(TINY)[1]
    x, v, h = jax.random.normal(KEYS[0], (1, 8, 8, 1)), jax.random.normal(KEYS[1], (1, 8, 8, 1)), 1e-2

    def along(params, v):
        return jax.jvp(lambda x: net(params, x, t, c), (x,), (v,))[1]

    @jax.jit
    def all_of_them(params):
        f = lambda x: net(params, x, t, c)
        slope = (f(x + h * v) - f(x - h * v)) / (2 * h)
        one_pixel = jnp.zeros_like(x).at[0, 3, 4, 0].set(1.0)
        forward, backward = along(params, one_pixel), jax.jacrev(lambda x: f(x)[0, :, :, 0])(x)[..., 0, 3, 4, 0]
        gradient = jax.grad(lambda p: (along(p, v) ** 2).mean())(params)
        return slope, along(params, v), forward[0, ..., 0], backward, gradient

    slope, jvp, forward, backward, gradient = all_of_them(params)
    np.testing.assert_allclose(jvp, slope, atol=2e-2 * np.abs(slope).max())
    np.testing.assert_allclose(forward, backward, atol=1e-4 * np.abs(backward).max())
    # The gradient along itself is the change of the loss in that direction.
    norm2 = sum(float((g**2).sum()) for g in jax.tree.leaves(gradient))
    loss = jax.jit(lambda e: (along(jax.tree.map(lambda p, g: p + e * g, params, gradient), v) ** 2).mean())
    e = 1e-3 / norm2**0.5
    np.testing.assert_allclose((loss(e) - loss(-e)) / (2 * e), norm2, rtol=2e-2)
