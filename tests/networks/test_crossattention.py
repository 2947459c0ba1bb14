"""Words in the U-Net: masked cross-attention by its identities, and step 0 equal to the network without words."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import random_params

from ddpm import network
from ddpm.config import UNetConfig
from ddpm.guide import cfg
from ddpm.networks import dit
from ddpm.networks.crossattention import TextEncoder, masked_attention
from ddpm.networks.dit import DiTConfig, build, eps_fn
from ddpm.networks.inspect import count, param_shapes
from ddpm.networks.text_config import TEXTS, TextConfig
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.tools.layers import Draws

WORDS = ("a", "red", "blue", "dress", "on")
SIZES = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (8,), "groups": 4}
CONFIG = TextConfig(8, 1, **SIZES, words=WORDS, tokens=6, text_width=8, text_layers=1, text_heads=2)
KEY = jax.random.key(0)
X, T = jax.random.normal(KEY, (2, 8, 8, 1)), jnp.array([3, 40])
TEXT = tokens.encode(["a red dress", "a dress on blue"], WORDS, 6)
RNG = np.random.default_rng(0)


def attended(q, k, v, mask, heads=2):
    return np.asarray(masked_attention(*map(jnp.asarray, (q, k, v, mask)), heads))


def test_masked_attention_by_its_identities():
    q, k, v = RNG.normal(size=(3, 2, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
    out = attended(q, k, v, mask)
    # each image by itself, over the keys that are there, in NumPy
    for i, n in enumerate(mask.sum(1)):
        for h in (slice(0, 2), slice(2, 4)):
            logits = q[i, :, h] @ k[i, :n, h].T / np.sqrt(2)
            weight = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            np.testing.assert_allclose(out[i, :, h], weight @ v[i, :n, h], atol=1e-6)
    order = RNG.permutation(5)
    np.testing.assert_allclose(attended(q, k[:, order], v[:, order], mask[:, order]), out, atol=1e-6)
    twice = [np.concatenate([a, a], 1) for a in (k, v, mask)]
    np.testing.assert_allclose(attended(q, *twice), out, atol=1e-6)
    one = np.arange(5) == 0  # one key: softmax over it is 1, whatever q
    np.testing.assert_allclose(attended(q, k, v, np.stack([one, one])), np.repeat(v[:, :1], 5, 1), atol=1e-6)


def without_words(params):
    """The parameters that a U-Net without words has too."""
    if isinstance(params, dict) and params.keys() == {"attention", "cross"}:
        return params["attention"]
    return {k: without_words(v) for k, v in params.items() if k != "text"} if isinstance(params, dict) else params


@pytest.mark.slow
def test_step_0_is_the_network_without_words_to_the_bit():
    """W_o is 0 at first, with any other parameters; and it is what learns first."""
    plain, apply = network.build(UNetConfig(8, 1, **SIZES)), build(CONFIG)[1]
    params = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.zeros_like(a) if "'cross'" in str(path) and "'to_out'" in str(path) else a,
        random_params(CONFIG),
    )
    c = Condition(text=TEXT)
    out = apply(params, X, T, c)
    np.testing.assert_array_equal(out, plain[1](without_words(params), X, T))
    np.testing.assert_array_equal(out, apply(params, X, T))
    new = jax.eval_shape(build(CONFIG)[0], KEY)
    assert jax.tree.structure(without_words(new)) == jax.tree.structure(jax.eval_shape(plain[0], KEY))


@pytest.mark.slow
def test_a_new_network_is_drawn_as_without_words():
    ours, theirs = without_words(build(CONFIG)[0](KEY)), network.build(UNetConfig(8, 1, **SIZES))[0](KEY)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    params = build(CONFIG)[0](KEY)
    grad = jax.grad(lambda p: (build(CONFIG)[1](p, X, T, Condition(text=TEXT)) ** 2).sum())(params | drawn_out(params))
    cross = grad["mid_block"]["attentions"][0]["cross"]
    assert float(jnp.abs(cross["to_out"]["kernel"]).max()) > 0
    for name in ("to_q", "to_k", "to_v"):
        assert float(jnp.abs(cross[name]["kernel"]).max()) == 0
    assert all(float(jnp.abs(a).max()) == 0 for a in jax.tree.leaves(grad["text"]))


def drawn_out(params):
    """The last convolution, which begins near 0, with numbers that let a gradient through."""
    return {"conv_out": jax.tree.map(lambda a: 0.3 * jnp.ones_like(a), params["conv_out"])}


@pytest.mark.slow
def test_the_words_and_their_order_matter_and_filling_does_not():
    """With random parameters: other words, another order, ∅; a row without filling; guidance at s = 1 and 0."""
    eps = eps_fn(CONFIG, random_params(CONFIG))
    c = Condition(text=TEXT)
    out, null = np.asarray(eps(X, T, c)), np.asarray(eps(X, T, None))
    other = tokens.encode(["red a dress", "a dress on red"], WORDS, 6)
    for changed in (np.asarray(eps(X, T, Condition(text=other))), null):
        assert np.abs(out - changed).reshape(2, -1).max(1).min() > 1e-3
    np.testing.assert_allclose(null, eps(X, T, Condition(text=tokens.nothing(2, 6))), atol=1e-5)
    np.testing.assert_allclose(eps(X, T, Condition(text=TEXT[:, :5])), out, atol=1e-5)
    np.testing.assert_allclose(cfg(eps, 2.0)(X, T, c), null + 2 * (out - null), atol=1e-5)


@pytest.mark.slow
def test_of_a_pooled_text_each_place_hears_the_same():
    """W_q and W_k have no gradient, exactly; filling does not matter; the words and their order still do."""
    pooled = replace(CONFIG, text_heard="mean")
    params, c = random_params(pooled), Condition(text=TEXT)
    jax.tree.map(np.testing.assert_array_equal, params, random_params(CONFIG))  # the same parameters
    eps = eps_fn(pooled, params)
    out = np.asarray(eps(X, T, c))
    np.testing.assert_allclose(eps(X, T, Condition(text=TEXT[:, :5])), out, atol=1e-5)
    other = tokens.encode(["red a dress", "a dress on red"], WORDS, 6)
    assert np.abs(out - eps(X, T, Condition(text=other))).reshape(2, -1).max(1).min() > 1e-4
    cross = jax.grad(lambda p: (eps_fn(pooled, p)(X, T, c) ** 2).sum())(params)["mid_block"]["attentions"][0]["cross"]
    size = {name: float(jnp.abs(cross[name]["kernel"]).max()) for name in ("to_q", "to_k", "to_v", "to_out")}
    assert size["to_q"] == size["to_k"] == 0 < min(size["to_v"], size["to_out"])


def test_the_mean_of_a_text_is_one_more_token_where_both_are_heard():
    """Words and mean as of the encoders that give one of them; the mask has one more True in each row."""
    params = random_params(CONFIG)["text"]

    def heard(what):
        encoder = TextEncoder(replace(CONFIG, text_heard=what), draws=Draws())
        nnx.update(encoder, params)
        return map(np.asarray, encoder(jnp.asarray(TEXT)))

    (words, mask), (mean, one), (both, longer) = (heard(what) for what in ("words", "mean", "both"))
    np.testing.assert_array_equal(both, np.concatenate([mean, words], 1))
    np.testing.assert_array_equal(longer, np.concatenate([one, mask], 1))
    for row, real, got in zip(words, mask, mean, strict=True):
        np.testing.assert_allclose(got[0], row[real].mean(0), atol=1e-6)


def test_tokens_may_be_a_constant_of_a_compiled_function():
    """Arrays of NumPy and of JAX are checked before anything is traced."""
    shapes = jax.eval_shape(build(CONFIG)[0], KEY)

    def shape(text):
        return jax.eval_shape(lambda p: build(CONFIG)[1](p, X, T, Condition(text=text)), shapes).shape

    for array in (np.asarray, jnp.asarray):
        assert shape(array(TEXT)) == X.shape
        with pytest.raises(ValueError, match="filling alone"):
            shape(array(0 * TEXT))


def test_the_preset_has_1_2_million_parameters():
    assert 1.1e6 < count(param_shapes(replace(TEXTS["wardrobe"], words=tuple("abcdefghij")))) < 1.3e6


@pytest.mark.parametrize("config", [CONFIG, UNetConfig(8, 1, **SIZES, num_classes=3), DiTConfig(8, 1)])
def test_shapes_are_those_of_the_parameters_that_init_makes(config):
    shapes = param_shapes(config)
    assert shapes == jax.eval_shape(build(config)[0], KEY)
    shapes.popitem()  # a copy: the next caller gets all of it
    assert param_shapes(config) != shapes


@pytest.mark.parametrize(
    "config, c",
    [
        (CONFIG, Condition(text=TEXT)),
        (UNetConfig(8, 1, **SIZES, num_classes=3), jnp.array([0, 2])),
        (DiTConfig(8, 1, num_classes=3), jnp.array([0, 2])),
    ],
)
def test_guidance_traces_its_network_once(config, c, monkeypatch):
    """Its two calls differ in what they are given, not in shapes: a program is traced and lowered in half the time."""
    traced = []
    for net in (network.UNet, dit.DiT):
        monkeypatch.setattr(net, "__call__", lambda *a, _call=net.__call__, **k: (traced.append(1), _call(*a, **k))[1])
    eps = eps_fn(config, random_params(config))
    x = jnp.concatenate([X] * 3)[:5]  # as many images as in no other test: JAX knows no trace of it yet
    c = jax.tree.map(lambda a: jnp.concatenate([jnp.asarray(a)] * 3)[:5], c)
    jax.jit(cfg(eps, 2.0)).lower(x, jnp.full(5, 7), c)
    assert len(traced) == 1


@pytest.mark.parametrize(
    "texts, length, words",
    [
        (["a rde dress"], 6, "'rde', which is not known.*Did you mean 'red'"),
        ([" "], 6, "the prompt is empty"),
        (["a red dress on a blue dress"], 6, "has 7 words; at most 5 are read"),
    ],
)
def test_texts_that_cannot_be_are_refused(texts, length, words):
    with pytest.raises(ValueError, match=words):
        tokens.encode(texts, WORDS, length)


@pytest.mark.parametrize(
    "c, words",
    [
        (np.array([0, 1]), "wants Condition"),
        (Condition(label=np.array([0, 1])), "c holds label, but this denoiser takes text"),
        (Condition(text=TEXT[:1]), "c.text has shape"),
        (Condition(text=TEXT + 5), "outside 0..6"),
        (Condition(text=0 * TEXT), "a row of filling alone"),
    ],
)
def test_conditions_that_cannot_be_are_refused(c, words):
    with pytest.raises((ValueError, TypeError), match=words):
        build(CONFIG)[1]({}, X, T, c)
