"""A network with a picture as further input begins as the network without, whatever the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TINY, random_params

from ddpm.contracts import Partial
from ddpm.networks.dit import eps_fn
from ddpm.networks.image_input import seeing, with_image
from ddpm.networks.text_config import TextConfig
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.tools.ops import space_to_depth
from ddpm.tools.partials import known_parts

WORDS = ("a", "red", "dress")
SIZES = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "groups": 4, "patch": 2}
CONFIG = TextConfig(8, 3, **SIZES, words=WORDS, tokens=6, text_width=8, text_layers=1, text_heads=2)
KEY = jax.random.key(0)
X, Y = jax.random.normal(KEY, (2, 2, 8, 8, 3))
T = jnp.array([3, 40])


def total(x_t, t, c):
    """A stand-in for a network: what it was given, all in one picture."""
    return x_t * t.reshape(-1, 1, 1, 1) + (0 if c.text is None else c.text.sum())


def test_the_first_layer_sees_the_old_channels_as_before():
    """At one position: W_wide · patches of [x, y] = W · patches of x for any y; the bias is the old one."""
    params = random_params(CONFIG)
    wide, new = with_image(CONFIG, params)
    old = params["conv_in"]
    at = lambda a: np.asarray(space_to_depth(a, 2)[0, :3, :3])  # noqa: E731
    want = np.einsum("hwc,hwco->o", at(X), old["kernel"])
    got = np.einsum("hwc,hwco->o", at(jnp.concatenate([X, Y], -1)), new["conv_in"]["kernel"])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(new["conv_in"]["bias"], old["bias"])
    assert wide.extra_channels == 3 and new["conv_in"]["kernel"].shape == (3, 3, 4 * 6, 8)


def test_no_picture_is_the_picture_0_and_the_rest_of_the_condition_goes_on():
    eps, text = seeing(total), jnp.ones((2, 6), int)
    none, zero, given = (eps(X, T, Condition(text=text, image=y)) for y in (None, jnp.zeros_like(X), Y))
    np.testing.assert_array_equal(none, zero)
    np.testing.assert_allclose(given[..., 3:] - zero[..., 3:], total(Y, T, Condition()), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(eps(X, T), eps(X, T, Condition()))
    assert none.shape == (2, 8, 8, 6)


def test_it_takes_a_picture_and_what_the_network_takes():
    assert known_parts(seeing(eps_fn(*with_image(CONFIG, random_params(CONFIG))))) == ("image", "text")
    assert known_parts(seeing(Partial(total))) == ("image",)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: seeing(total)(X, T, Condition(image=Y[:1])), ValueError, r"c.image has shape \(1, 8, 8, 3\)"),
        (lambda: seeing(total)(X, T, jnp.zeros(2, int)), TypeError, r"wants Condition\(image=y\)"),
        (lambda: with_image(*with_image(TINY, random_params(TINY))), ValueError, "already has 1 extra channels"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.slow
def test_step_0_is_the_network_to_the_bit_and_the_new_weights_have_a_gradient():
    params = random_params(CONFIG)
    wide, new = with_image(CONFIG, params)
    c = Condition(text=tokens.encode(["a red dress", "a dress"], WORDS, 6))
    base = eps_fn(CONFIG, params)(X, T, c)
    net = eps_fn(wide, new)
    np.testing.assert_allclose(seeing(net)(X, T, c._replace(image=Y)), base, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(seeing(net)(X, T, c._replace(image=Y)), seeing(net)(X, T, c))
    grad = jax.jit(jax.grad(lambda p: (seeing(Partial(net.func, p))(X, T, c._replace(image=Y)) ** 2).sum()))
    kernel = grad(new)["conv_in"]["kernel"].reshape(3, 3, 4, 6, 8)
    assert float(jnp.abs(kernel[:, :, :, 3:]).min()) > 0
