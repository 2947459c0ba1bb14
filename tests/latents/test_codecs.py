"""Codecs that lose nothing, trained ones, and what is refused: halves of two trainings, and codes without a scale."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import latents, oracle
from ddpm.contracts import Partial
from ddpm.latents.autoencoder import AutoencoderConfig, build
from ddpm.sample import ddim_step, walk
from ddpm.schedule import linear, make_times
from ddpm.tools import files
from ddpm.training.timed import fit

SMALL = AutoencoderConfig(image_size=4, factor=2, code_channels=1, channels=4, groups=2)


@pytest.fixture(scope="module")
def trained():
    """Two pictures, learned by heart, and the network that copies them."""
    x = np.zeros((16, 4, 4, 1), np.float32) - 0.5
    x[::2, :2], x[1::2, :, 2:] = 0.5, 0.5

    def loss(params, key, x0, c):
        return latents.copy_loss(SMALL, params, key, x0, noise=0.05, weight=1e-3)

    shares = iter(np.linspace(1, 0, 301))
    params = fit(loss, build(SMALL)[0](jax.random.key(0)), x, np.zeros(16, np.int32), 0, lambda: float(next(shares)))
    return x, params, latents.make_codec(SMALL, params, x)


def test_an_autoencoder_learns_to_copy_and_its_codes_have_deviation_1(trained):
    x, _, codec = trained
    z = codec.encoded(x, batch=5)
    assert z.shape == (16, *SMALL.code_shape) and latents.unit(z) is z
    assert z.mean() == pytest.approx(0, abs=1e-4) and z.std() == pytest.approx(1, rel=1e-4)
    assert ((np.asarray(codec.to_image(z)) - x) ** 2).mean() < 0.1 * x.var(0).mean()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_codes_are_as_small_as_the_factor_says_and_copies_as_large_as_images(factor):
    config = AutoencoderConfig(16, 3, factor, code_channels=5, channels=4, groups=2)
    init, encode, decode = build(config)
    params = jax.eval_shape(init, jax.random.key(0))
    codes = jax.eval_shape(encode, params["encoder"], jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32))
    assert codes.shape == (2, 16 // factor, 16 // factor, 5) == (2, *config.code_shape)
    assert jax.eval_shape(decode, params["decoder"], codes).shape == (2, 16, 16, 3)


def test_a_stored_codec_is_the_same_and_keeps_its_scale(trained, tmp_path):
    x, _, codec = trained
    latents.save(tmp_path / "codec", SMALL, codec, {"minutes": 1.5})
    again, card = latents.load(tmp_path / "codec")
    assert (again.mean, again.std, card["minutes"]) == (codec.mean, codec.std, 1.5)
    np.testing.assert_allclose(again.to_latent(x), codec.to_latent(x), atol=2e-2)  # float16 in the file


def test_halves_of_two_trainings_are_refused(trained):
    x, params, _ = trained
    other = build(SMALL)[0](jax.random.key(1))
    with pytest.raises(ValueError, match="the decoder does not fit the encoder"):
        latents.make_codec(SMALL, {**params, "decoder": jax.tree.map(lambda a: a + 0.3, other["decoder"])}, x)
    wide = build(dataclasses.replace(SMALL, code_channels=2))
    with pytest.raises(ValueError, match="does not take codes"):
        latents.with_scale(
            Partial(build(SMALL)[1], params["encoder"]), Partial(wide[2], wide[0](jax.random.key(0))["decoder"]), x
        )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda card: card.pop("std"), "no std of its codes; a chain on codes without their scale"),
        (lambda card: (card.pop("mean"), card.pop("std")), "no mean and no std"),
        (lambda card: card.update(std=0.0), "std is 0"),
        (lambda card: card.update(kind="denoiser"), "wanted 'codec'"),
        (lambda card: card["config"].update(channels=8), "do not fit their config: decoder/"),
        (lambda card: card["config"].update(factor=3), "power of two"),
    ],
)
def test_a_stored_codec_without_scale_or_fit_is_refused(trained, tmp_path, change, match):
    latents.save(tmp_path / "codec", SMALL, trained[2])
    params, card = files.load(tmp_path / "codec")
    del card["card_sha256"], card["sha256"]
    change(card)
    files.save(tmp_path / "codec", params, card)
    with pytest.raises(ValueError, match=match):
        latents.load(tmp_path / "codec")


def test_the_copy_loss_is_the_error_and_the_weighted_square_of_the_codes(trained):
    x, params, _ = trained
    _, encode, decode = build(SMALL)
    m = np.asarray(encode(params["encoder"], x))
    error = ((np.asarray(decode(params["decoder"], jnp.asarray(m))) - x) ** 2).mean()
    found = latents.copy_loss(SMALL, params, jax.random.key(0), x, noise=0.0, weight=0.25)
    assert float(found) == pytest.approx(error + 0.25 * (m**2).mean(), rel=1e-4)
    noisy = [float(latents.copy_loss(SMALL, params, jax.random.key(i), x, noise=0.5)) for i in range(2)]
    assert noisy[0] != noisy[1] and min(noisy) > error


def test_pixels_moved_to_channels_make_the_same_chain(x64):
    """With an orthogonal U = the move over the deviation: DDIM on codes is DDIM on pixels of that scale."""
    rng, schedule, times, key = np.random.default_rng(0), linear(), make_times(1000, 10), jax.random.key(0)
    x = rng.normal(size=(40, 4, 4, 1)) * np.linspace(0.5, 2, 16).reshape(1, 4, 4, 1) + 1
    codec = latents.rearranged(x, 2)
    z = np.asarray(codec.to_latent(jnp.asarray(x)))
    assert z.shape == (40, 2, 2, 4)
    np.testing.assert_allclose(codec.to_image(jnp.asarray(z)), x, atol=1e-12)
    moved = np.asarray(codec.encode(jnp.arange(16.0).reshape(1, 4, 4, 1))).ravel().astype(int)  # where each pixel went
    assert moved.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    var, noise = rng.uniform(0.5, 2, 16), jax.random.normal(key, (3, 16))
    pixels, codes = (oracle.gaussian(np.zeros(16), np.diag(v)).eps(schedule) for v in (var, var[moved]))
    ends = [
        walk(ddim_step(eps, schedule), key, start, times) for eps, start in ((pixels, noise), (codes, noise[:, moved]))
    ]
    np.testing.assert_allclose(ends[1], ends[0][:, moved], atol=1e-10)


def test_codes_without_their_scale_are_refused():
    z = 5.49 * np.random.default_rng(0).normal(size=(100, 7))
    with pytest.raises(ValueError, match=r"deviation 5\.\d+, which moves log SNR by \+3\.4"):
        latents.unit(z)
    assert latents.unit(z / 5.49) is not None
    with pytest.raises(ValueError, match="moves log SNR"):
        latents.unit(np.full((3, 2), np.nan))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: AutoencoderConfig(factor=3), "factor is 3; give a power of two"),
        (lambda: AutoencoderConfig(image_size=30), "divides image_size, which is 30"),
        (lambda: AutoencoderConfig(groups=5), "not divisible by groups 5"),
        (lambda: latents.rearranged(np.ones((1, 5, 5, 1)), 2), "factor is 2; give a divisor"),
        (lambda: build(SMALL)[1]({}, jnp.ones((1, 5, 4, 1))), r"encoder wants \(B, 4, 4, 1\)"),
        (lambda: build(SMALL)[2]({}, jnp.ones((1, 2, 2, 2))), r"decoder wants \(B, 2, 2, 1\)"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
