"""The convolution is differentiated like the plain one: forwards, backwards, both, twice, and under vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TINY

from ddpm.network import build
from ddpm.networks.inspect import param_shapes
from ddpm.tools import ops

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


@pytest.mark.parametrize(("k", "dtype"), [(1, "float32"), (3, "float32"), (3, "bfloat16")])
def test_the_convolution_of_a_doubled_image_is_that_of_each_pixel_four_times(k, dtype):
    """By NumPy's repeat, in a program and outside of one; a kernel that is nowhere symmetric, sides that differ.

    To rounding; in half precision to the bit, since there it is computed as it is written. And of no image.
    """
    x, w = X.astype(dtype), jax.random.normal(KEYS[1], (k, k, 3, 2)).astype(dtype)
    want = ops._conv(x.repeat(2, 1).repeat(2, 2), w)
    got = [f(x, w) for f in (ops.conv_doubled, jax.jit(ops.conv_doubled))]
    if dtype == "bfloat16":
        assert all((a == want).all() for a in got)
    same(got, [want, want], atol=1e-5)
    assert ops.conv_doubled(x[:0], w).shape == (0, 8, 10, 2)


def test_on_a_cpu_it_needs_four_ninths_of_the_products():
    """As XLA counts them. Where its gradient is taken, value and gradient are the plain one's to the bit."""
    forms = (ops.conv_doubled, ops.conv_of_doubled)
    flops = [jax.jit(f).lower(X, W).compile().cost_analysis()["flops"] for f in forms]
    assert 0.4 < flops[0] / flops[1] < 0.6
    texts = {p: jax.jit(ops.conv_doubled).trace(X, W).lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert {p: text.count("stablehlo.convolution") for p, text in texts.items()} == {"cpu": 4, "cuda": 1}
    with_gradient = [jax.jit(jax.value_and_grad(energy(f), (0, 1)))(X, W) for f in forms]
    jax.tree.map(np.testing.assert_array_equal, *with_gradient)


def test_every_derivative_of_the_doubled_one_is_the_plain_ones():
    """And under vmap, over images and over kernels."""

    def all_of_it(f):
        images, kernels = jnp.stack([X, DX]), jnp.stack([W, DW])
        return derivatives(energy(f)), jax.vmap(f, (0, None))(images, W), jax.vmap(f, (None, 0))(X, kernels)

    a, b = (jax.jit(lambda f=f: all_of_it(f))() for f in (ops.conv_doubled, ops.conv_of_doubled))
    same(a, b)


def small(w, x):
    """Two convolutions with a norm and attention between them: the operations of the U-Net."""
    h = ops.group_norm(ops.conv(x, w["in"]), jnp.ones(4), jnp.zeros(4), 2)
    flat = jnp.tanh(h).reshape(len(x), -1, 4)
    return ops.conv(h + ops.attend(flat, flat, flat).reshape(h.shape), w["out"])


def test_a_network_has_one_jacobian_and_its_jvp_has_a_gradient():
    """jacfwd = jacrev, and a loss that contains a jvp, as MeanFlow's does, falls along its gradient."""
    w = {"in": jax.random.normal(KEYS[0], (3, 3, 1, 4)), "out": jax.random.normal(KEYS[1], (3, 3, 4, 1))}
    x, v = jax.random.normal(KEYS[2], (1, 4, 4, 1)), jax.random.normal(KEYS[3], (1, 4, 4, 1))

    def loss(w):
        return (jax.jvp(partial(small, w), (x,), (v,))[1] ** 2).mean()

    @jax.jit
    def all_of_them(w, h):
        gradient = jax.grad(loss)(w)
        size = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
        up, down = jax.lax.map(loss, jax.tree.map(lambda p, g: jnp.stack([p + h * g, p - h * g]), w, gradient))
        return jax.jacfwd(small, 1)(w, x), jax.jacrev(small, 1)(w, x), (up - down) / (2 * h), size**2

    forward, backward, slope, square = all_of_them(w, 1e-4)
    np.testing.assert_allclose(forward, backward, atol=1e-4 * np.abs(backward).max())
    np.testing.assert_allclose(slope, square, rtol=2e-2)


def test_the_u_net_has_forward_mode_and_a_gradient_of_it():
    """Traced, not compiled: every operation has its rules."""
    net, x, t = build(TINY)[1], jnp.zeros((1, 8, 8, 1)), jnp.array([7])

    def loss(params):
        return (jax.jvp(lambda x: net(params, x, t), (x,), (x,))[1] ** 2).mean()

    gradient = jax.eval_shape(jax.grad(loss), param_shapes(TINY))
    assert jax.tree.structure(gradient) == jax.tree.structure(param_shapes(TINY))
