"""The transformer: what it is at first, its symmetry, a forward pass in NumPy, its sizes, and its cards."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from ddpm.features.activations import default_layer, layers
from ddpm.networks import dit
from ddpm.networks.dit_config import DITS, PRESETS, DiTConfig, network_config
from ddpm.networks.inspect import activations, count, param_shapes
from ddpm.tools import ops
from ddpm.training import by_layer, run, unet_options
from ddpm.training.config import TrainConfig
from ddpm.zoo import cards
from tests.tiny import random_params

TINY = DiTConfig(8, 1, patch=4, channels=8, blocks=2, attention_heads=2, num_classes=3)
X, T, C = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32), jnp.array([5, 900]), jnp.array([0, 3])


@pytest.mark.slow
def test_a_new_network_is_zero_and_its_blocks_are_the_identity():
    params = dit.build(TINY)[0](jax.random.key(0))
    seen = activations(TINY, params, X, T, C)
    assert not np.any(seen["out"])
    np.testing.assert_array_equal(seen["block.0"], seen["in"])
    np.testing.assert_array_equal(seen["block.1"], seen["in"])
    assert np.std(seen["in"]) > 0.1


def by_hand(config, p, x, t, c):
    """The forward pass in NumPy, float64, head by head."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
    lin = lambda q, h: h @ q["kernel"] + q["bias"]  # noqa: E731
    silu = lambda h: h / (1 + np.exp(-h))  # noqa: E731
    gelu = lambda h: 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))  # noqa: E731
    norm = lambda h: (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)  # noqa: E731
    D, k, n = config.channels, config.patch, config.image_size // config.patch
    time = np.asarray(ops.time_embedding(jnp.asarray([t]), D), np.float64)[0]
    y = silu(lin(p["time_2"], silu(lin(p["time_1"], time))) + p["class_embedding"][c])
    tokens = [x[i * k : i * k + k, j * k : j * k + k].reshape(-1) for i in range(n) for j in range(n)]
    h = lin(p["embed"], np.array(tokens, np.float64)) + dit.positions(n, n, D)
    for b in range(config.blocks):
        q = p["layers"][b]
        m = lin(q["modulation"], y).reshape(6, D)
        qkv = lin(q["to_qkv"], norm(h) * (1 + m[1]) + m[0])
        d, out = D // config.attention_heads, []
        for head in range(config.attention_heads):
            Q, K, V = (qkv[:, a * D + head * d :][:, :d] for a in range(3))
            out.append(softmax(Q @ K.T / np.sqrt(d), axis=1) @ V)
        h = h + m[2] * lin(q["to_out"], np.concatenate(out, 1))
        h = h + m[5] * lin(q["mlp_out"], gelu(lin(q["mlp_in"], norm(h) * (1 + m[4]) + m[3])))
    m = lin(p["modulation"], y).reshape(2, D)
    patches = lin(p["last"], norm(h) * (1 + m[1]) + m[0]).reshape(n, n, k, k)
    return patches.transpose(0, 2, 1, 3).reshape(8, 8, 1)


@pytest.mark.slow
def test_forward_pass_is_that_in_numpy_and_has_a_forward_derivative():
    params = random_params(TINY)
    eps = dit.eps_fn(TINY, params)
    out = eps(X, T, C)
    for i in (0, 1):
        np.testing.assert_allclose(out[i], by_hand(TINY, params, X[i], int(T[i]), int(C[i])), atol=2e-4)
    along = jnp.ones_like(X)
    _, slope = jax.jvp(lambda x: eps(x, T, C), (X,), (along,))
    np.testing.assert_allclose(slope, (eps(X + 0.01, T, C) - eps(X - 0.01, T, C)) / 0.02, atol=5e-3)


def test_tokens_moved_with_their_positions_move_the_output(monkeypatch):
    eps, order = dit.eps_fn(TINY, random_params(TINY)), np.array([2, 0, 3, 1])
    tokens = lambda x: ops.space_to_depth(x, 4).reshape(2, 4, 16)  # noqa: E731
    image = lambda h: ops.depth_to_space(h.reshape(2, 2, 2, 16), 4)  # noqa: E731
    before, table = tokens(eps(X, T, C)), dit.positions(2, 2, 8)
    assert len(np.unique(table, axis=0)) == 4  # no two positions have one code
    moved = image(tokens(jnp.asarray(X))[:, order])
    assert abs(tokens(eps(moved, T, C)) - before[:, order]).max() > 1e-3
    monkeypatch.setattr(dit, "positions", lambda *_: table[order])
    np.testing.assert_allclose(tokens(eps(moved, T, C)), before[:, order], atol=1e-5)


@pytest.mark.parametrize("config", [*DITS.values(), dataclasses.replace(TINY, learned_variance=True, extra_channels=1)])
def test_parameters_and_operations_are_counted_in_closed_form(config):
    shapes = param_shapes(config)
    assert count(shapes) == config.parameters
    x = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 1 + config.extra_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    counted = jax.jit(dit.build(config)[1]).lower(shapes, x, t).cost_analysis()["flops"]
    if config.channels > 8:  # softmax, norms and gelu are a few per cent of a network of some width
        assert config.flops < counted < 1.15 * config.flops


@pytest.mark.slow
def test_images_of_any_shape_are_padded_inside():
    """What is cut away at the end does not differ from zeros that were there before."""
    config = dataclasses.replace(TINY, image_size=6, image_width=9)
    params, x = random_params(config), jnp.asarray(np.random.default_rng(1).normal(size=(1, 6, 9, 1)), jnp.float32)
    whole = dataclasses.replace(TINY, image_size=8, image_width=12)
    assert config.tokens == whole.tokens == 6 and config.parameters == whole.parameters
    ours = dit.eps_fn(config, params)(x, 5)
    wide = dit.eps_fn(whole, params)(jnp.pad(x, ((0, 0), (0, 2), (0, 3), (0, 0))), 5)
    np.testing.assert_allclose(ours, wide[:, :6, :9], atol=1e-6)


def test_layers_have_names_in_the_order_of_computation():
    assert list(layers(TINY)) == ["in", "block.0", "block.1", "out"] and layers(TINY)["block.0"] == (2, 2, 8)
    assert default_layer(TINY) == "block.1"
    names = by_layer.layers(param_shapes(TINY))
    assert names[:4] == ["time_1", "time_2", "class_embedding", "embed"] and names[-2:] == ["modulation", "last"]
    assert names[4:9] == [f"layers.0.{k}" for k in ("modulation", "to_qkv", "to_out", "mlp_in", "mlp_out")]


def test_a_card_of_a_transformer_is_read_as_one(tmp_path):
    about = {"train": {"preset": "dit_small"}, "unet": dataclasses.asdict(TINY), "data": {"classes": ["a", "b", "c"]}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert cards.run_card(tmp_path)[0].unet == TINY
    about["unet"]["attention_heads"] = 3
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="not divisible by attention_heads 3"):
        cards.run_card(tmp_path)


def test_options_of_a_network_change_the_preset():
    assert network_config("dit_small", num_classes=10).tokens == 49 and list(PRESETS)[-1] == "dit_digits"
    changed = unet_options.adapted(DITS["dit_small"], (8, 8, 1), {"patch": 2, "blocks": 3})
    assert changed == DiTConfig(8, 1, patch=2, blocks=3)
    with pytest.raises(ValueError, match="--attention: of a U-Net"):
        unet_options.adapted(DITS["dit_small"], (28, 28, 1), {"attention": (7,)})
    for changes, message in (
        ({"attention_heads": 5}, "not divisible by attention_heads 5"),
        ({"channels": 6, "attention_heads": 1}, "multiple of 4"),
        ({"dropout": 0.1}, "dropout is 0.1; a DiT has no such choice"),
        ({"multipliers": (1, 2)}, "a DiT has no such choice"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(TINY, **changes)


@pytest.mark.slow
def test_a_run_of_a_transformer_is_a_model(tmp_path, monkeypatch):
    from ddpm.networks import dit_config
    from ddpm.zoo import diffusers, model

    monkeypatch.setitem(dit_config.DITS, "dit_digits", dataclasses.replace(TINY, num_classes=0))
    setup = TrainConfig(
        data="digits", preset="dit_digits", predict="flow", path="linear", steps=2, batch=16, save_every=2, T=20
    )
    m = model.load(run.train(setup, tmp_path, quiet=True))
    out = m.eps(X, jnp.array([3, 17]), C)
    assert isinstance(m.unet, DiTConfig) and out.shape == X.shape
    model.save(tmp_path / "w", m, {})
    np.testing.assert_array_equal(model.load(tmp_path / "w").eps(X, jnp.array([3, 17]), C), out)
    with pytest.raises(diffusers.Misfit, match="only U-Nets are exported"):
        diffusers.save(tmp_path / "d", dataclasses.replace(m, card=m.card | {"predict": "eps"}))
