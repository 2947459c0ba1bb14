"""The U-Net: its operations against independent ones, its size against the paper, and refused arguments."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import correlate2d
from tiny import TINY, random_params

from ddpm.config import UNETS, UNetConfig, unet_config
from ddpm.network import UNet, build, eps_fn
from ddpm.networks.inspect import count, param_shapes
from ddpm.tools import ops
from ddpm.tools.layers import traced_once
from ddpm.tools.ops import conv, group_norm


def run(eps, *args):
    """Compiled as a whole: op by op a network takes a minute to compile."""
    return jax.jit(lambda e, *a: e(*a))(eps, *args)


@pytest.mark.parametrize(
    "config, size",
    [
        (UNETS["cifar10"], 35_746_307),  # Ho et al. 2020, App. B and released code
        (UNETS["large"], 25_833_985),  # these were counted by hand, layer by layer
        (UNETS["medium"], 6_469_889),
        (UNETS["small"], 1_623_169),
        (UNetConfig(28, 1, channels=32, multipliers=(1, 2, 2), blocks=1, attention=(7,)), 1_112_801),
        (UNetConfig(28, 1, channels=64, multipliers=(1, 2, 4), attention=(14,)), 14_735_745),
        (dataclasses.replace(UNETS["cifar10"], learned_variance=True), 35_749_766),
    ],
)
def test_parameter_count(config, size):
    assert count(param_shapes(config)) == size


def test_conv_is_a_correlation():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 6, 5, 1)), rng.normal(size=(3, 3, 1, 1))
    want = correlate2d(x[0, :, :, 0], w[:, :, 0, 0], mode="same")
    np.testing.assert_allclose(conv(jnp.float32(x), jnp.float32(w))[0, :, :, 0], want, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_conv_gradients_are_those_of_autodiff(k):
    kx, kw, kg = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(kx, (3, 7, 6, 4))
    w = jax.random.normal(kw, (k, k, 4, 5))
    g = jax.random.normal(kg, (3, 7, 6, 5))
    ours, reference = jax.vjp(conv, x, w)[1](g), jax.vjp(ops._conv, x, w)[1](g)
    for a, b in zip(ours, reference, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_strided_conv_keeps_every_second_answer():
    """TensorFlow's SAME with stride 2 on an even size pads right and bottom: the odd positions of the full result."""
    x, w = jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    np.testing.assert_allclose(ops._conv(x, w, 2), conv(x, w)[:, 1::2, 1::2], atol=1e-5)


def test_group_norm_is_flax_group_norm():
    x = jax.random.normal(jax.random.key(0), (3, 6, 5, 12)) * 3 + 1
    scale, bias = jnp.arange(12.0), jnp.arange(12.0) - 4
    reference = nnx.GroupNorm(12, num_groups=4, epsilon=1e-6, use_fast_variance=False, rngs=nnx.Rngs(0))
    reference.scale[...], reference.bias[...] = scale, bias
    np.testing.assert_allclose(group_norm(x, scale, bias, 4), reference(x), atol=2e-5)


def test_group_norm_survives_a_large_mean():
    x = np.random.default_rng(0).normal(1000, 1, (2, 8, 8, 4)).astype(np.float32)
    g = x.astype(np.float64).reshape(2, 64, 2, 2)
    want = (g - g.mean((1, 3), keepdims=True)) / np.sqrt(g.var((1, 3), keepdims=True) + 1e-6)
    got = group_norm(jnp.asarray(x), jnp.ones(4), jnp.zeros(4), 2)
    assert np.abs(got - want.reshape(2, 8, 8, 4)).max() < 2e-3  # E[x²] - E[x]² in float32 is off by thousands


def test_time_embedding():
    e = np.asarray(ops.time_embedding(jnp.array([1, 10, 1000]), 16))
    np.testing.assert_allclose((e[:, :8] ** 2 + e[:, 8:] ** 2), 1, atol=1e-6)
    np.testing.assert_allclose(e[:, 0], np.sin([1, 10, 1000]), atol=1e-4)  # the fastest wave: one radian a step
    np.testing.assert_allclose(e[2, 7], np.sin(1000 / 10000), atol=1e-6)  # the slowest: 10,000 steps a radian


def test_space_to_depth_is_a_bijection_of_blocks():
    x = jnp.arange(2 * 6 * 4 * 3.0).reshape(2, 6, 4, 3)
    y = ops.space_to_depth(x, 2)
    assert y.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(np.sort(np.ravel(y[1, 2, 1])), np.sort(np.ravel(x[1, 4:6, 2:4])))
    np.testing.assert_array_equal(ops.depth_to_space(y, 2), x)


def test_fresh_network_predicts_almost_nothing():
    """The last layer begins near zero (Ho et al. 2020, released code): the first loss is that of ε̂ = 0."""
    init, _ = build(TINY)
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    assert float(jnp.abs(run(eps_fn(TINY, init(jax.random.key(0))), x, jnp.arange(4) + 1, None)).max()) < 1e-3


def test_no_label_is_the_null_label_and_labels_matter():
    eps = eps_fn(TINY, random_params(TINY))
    x, t = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([3, 7])
    np.testing.assert_array_equal(run(eps, x, t, None), run(eps, x, t, jnp.array([3, 3])))
    assert float(jnp.abs(run(eps, x, t, jnp.array([0, 0])) - run(eps, x, t, jnp.array([1, 1]))).max()) > 1e-3
    assert float(jnp.abs(run(eps, x, t, None) - run(eps, x, t + 100, None)).max()) > 1e-3


def test_images_of_a_batch_do_not_meet():
    eps = eps_fn(TINY, random_params(TINY))
    x, t = jax.random.normal(jax.random.key(1), (3, 8, 8, 1)), jnp.array([3, 7, 900])
    np.testing.assert_allclose(run(eps, x, t, None)[1:2], run(eps, x[1:2], t[1:2], None), atol=1e-5)


@pytest.mark.slow
def test_dropout_needs_a_key_and_obeys_it():
    config = dataclasses.replace(TINY, dropout=0.5)
    apply, params = build(config)[1], random_params(config)
    x, t = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([3, 7])
    noisy = jax.jit(lambda k: apply(params, x, t, key=jax.random.key(k)))
    plain, a, b = jax.jit(apply)(params, x, t), noisy(0), noisy(1)
    np.testing.assert_array_equal(plain, run(eps_fn(TINY, params), x, t, None))
    np.testing.assert_array_equal(a, noisy(0))
    assert float(jnp.abs(a - b).max()) > 1e-3 and float(jnp.abs(a - plain).max()) > 1e-3


@pytest.mark.parametrize("change", [{"scale_shift": True}, {"patch": 2, "attention": (2,)}, {"learned_variance": True}])
def test_options_keep_the_shape(change):
    config = dataclasses.replace(TINY, **change)
    out = run(eps_fn(config, random_params(config)), jnp.ones((2, 8, 8, 1)), jnp.array([1, 2]), None)
    assert out.shape == (2, 8, 8, 2 if config.learned_variance else 1) and bool(jnp.isfinite(out).all())


def test_an_image_that_the_levels_do_not_divide_is_padded_inside_and_cut_again():
    """Its answer is a part of that for the image with zeros below and on the right."""
    odd = dataclasses.replace(TINY, image_size=7, image_width=5, attention=())
    assert (odd.image_shape, odd.padded, odd.map_sizes) == ((7, 5, 1), (8, 6), [8, 4])
    even = dataclasses.replace(odd, image_size=8, image_width=6)
    params = random_params(odd, size=0.1)
    x, t = jax.random.normal(jax.random.key(1), (2, 7, 5, 1)), jnp.array([3, 700])
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    got, want = run(eps_fn(odd, params), x, t, None), run(eps_fn(even, params), padded, t, None)
    np.testing.assert_allclose(got, want[:, :7, :5], atol=1e-6)
    assert float(jnp.abs(got).max()) > 0.1


def test_heads_attend_apart():
    """Attention with two heads is attention on each half of the channels."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 5, 6))
    halves = [ops.attend(q[..., i], k[..., i], v[..., i]) for i in (slice(3), slice(3, 6))]
    np.testing.assert_allclose(ops.attend(q, k, v, 2), jnp.concatenate(halves, -1), atol=1e-6)


@pytest.mark.slow
def test_bfloat16_stays_close_and_returns_float32():
    config = dataclasses.replace(TINY, dtype="bfloat16")
    params = random_params(TINY, size=0.1)
    x, t = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([3, 700])
    full, half = run(eps_fn(TINY, params), x, t, None), run(eps_fn(config, params), x, t, None)
    assert half.dtype == jnp.float32
    assert float(jnp.abs(full - half).max()) < 0.05 * float(jnp.abs(full).max())


@pytest.mark.parametrize(
    "change, words",
    [
        ({"groups": 3}, "not divisible by groups"),
        ({"head_width": 3}, "not divisible by head_width"),
        ({"image_width": -1}, "image_width is -1"),
        ({"attention": (5,)}, "feature map sizes"),
        ({"dropout": 1.0}, "dropout"),
        ({"dtype": "float16"}, "Known: float32, bfloat16"),
    ],
)
def test_a_config_that_cannot_work_is_refused(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        dataclasses.replace(TINY, **change)


def test_refusals():
    eps = eps_fn(TINY, random_params(TINY))
    x, t = jnp.zeros((2, 8, 8, 1)), jnp.array([1, 2])
    with pytest.raises(ValueError, match=r"wants \(B, 8, 8, 1\)"):
        eps(jnp.zeros((2, 8, 8, 3)), t, None)
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        eps(x, t, jnp.array([0, 4]))
    with pytest.raises(ValueError, match="without classes"):
        config = dataclasses.replace(TINY, num_classes=0)
        eps_fn(config, random_params(config))(x, t, jnp.array([0, 1]))
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        unet_config("cifar")


@pytest.mark.slow
def test_parity_with_diffusers():
    """The same weights in diffusers' UNet2DModel give the same output: names, layouts, order, padding, epsilon."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install torch diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers (pip install torch diffusers)")
    from ddpm.tools.files import flatten

    config = UNetConfig(16, 3, channels=16, multipliers=(1, 2, 2), blocks=2, attention=(8,), groups=8)
    peer = diffusers.UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        downsample_padding=0,
        norm_num_groups=8,
        norm_eps=1e-6,
        freq_shift=1,
        flip_sin_to_cos=False,
        attention_head_dim=None,
        act_fn="silu",
    )
    params = random_params(config, size=0.1)
    state = {}
    for name, a in flatten(params).items():
        a = np.asarray(a)
        a = a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T
        name = name.replace("/", ".").replace("kernel", "weight").replace("scale", "weight")
        state[name] = torch.from_numpy(a.copy())
    peer.load_state_dict(state, strict=True)
    x, t = np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32), np.array([5, 900])
    with torch.no_grad():
        want = peer(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t)).sample.numpy().transpose(0, 2, 3, 1)
    got = run(eps_fn(config, params), jnp.asarray(x), jnp.asarray(t), None)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.slow
def test_the_draw_of_all_arrays_at_once_is_the_draw_of_each_to_the_bit():
    """Array i of the network comes from its own initialiser with the key fold_in(key, i), as Flax's Rngs counts."""
    key = jax.random.key(5)
    rngs = nnx.Rngs(key)
    small = dataclasses.replace(TINY, multipliers=(1,), attention=(8,))
    one_by_one = UNet(small, draws=lambda init, shape: init(rngs.params(), shape, jnp.float32))
    apart = nnx.to_pure_dict(nnx.split(one_by_one, nnx.Param)[1])
    together = build(small)[0](key)
    assert jax.tree.structure(apart) == jax.tree.structure(together)
    for a, b in zip(*map(jax.tree.leaves, (apart, together)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_what_runs_once_can_also_be_a_part_of_another_program():
    """Compiled alone with little optimisation, or inside the caller's jit: the same bits."""
    init = build(dataclasses.replace(TINY, multipliers=(1,), attention=()))[0]
    alone, inside = init(jax.random.key(3)), jax.jit(init)(jax.random.key(3))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(inside), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_traced_once_gives_the_same_bits_and_fills_what_is_seen():
    def f(a, b, seen=None):
        traced.append(a.shape)
        out = jnp.sin(a) * b
        if seen is not None:
            seen["out"] = out
        return out

    traced, once, x = [], traced_once(f), jnp.linspace(-2, 3, 6)
    program = jax.jit(lambda a: once(once(a, a), a) + once(a[:2], a[:2]).sum())
    plain = jax.jit(lambda a: f(f(a, a), a) + f(a[:2], a[:2]).sum())
    got = program(x)
    assert traced == [(6,), (2,)]  # once for each shape
    np.testing.assert_array_equal(got, plain(x))

    def seen(a):
        found = {}
        once(a, a, seen=found)
        return found["out"]

    np.testing.assert_array_equal(jax.jit(seen)(x), jax.jit(lambda a: jnp.sin(a) * a)(x))
    traced.clear()
    once(x, x), once(x, x)
    assert len(traced) == 2  # outside a program it is called as it is
