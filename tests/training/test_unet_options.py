"""The network by option: a preset with its own options is itself, and any image has a network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

from ddpm.config import UNETS, unet_config
from ddpm.data import Dataset
from ddpm.network import build
from ddpm.networks.inspect import param_shapes
from ddpm.training.config import TrainConfig
from ddpm.training.run import network_for
from ddpm.training.unet_options import OPTIONS, adapted, given, suggestion


def images(*shape, classes=("a", "b")):
    x, y = np.zeros((4, *shape), np.uint8), np.zeros(4, np.int32)
    return Dataset("made", classes, x, y, x, y, source="here")


@pytest.mark.parametrize("preset", UNETS)
def test_a_preset_with_its_own_options_is_itself(preset):
    base = UNETS[preset]
    assert adapted(base, base.image_shape, {}) == base
    assert adapted(base, base.image_shape, {name: getattr(base, name) for name in OPTIONS}) == base


@pytest.mark.parametrize("side", [2, 3, 4, 7, 8, 15, 23, 24, 26, 28, 31, 32, 50, 64, 80])
def test_the_suggested_options_make_a_network_for_every_image(side):
    for shape in ((side, side, 1), (side, side, 3), (side, 29, 3), (5, side, 1)):
        config = tyro.cli(TrainConfig, args=suggestion(shape).split())
        unet = network_for(config, images(*shape))
        assert unet.image_shape == shape and unet.num_classes == 2 and unet.channels == 32


def test_options_replace_those_of_the_preset_and_attention_keeps_its_level():
    """cpu: 14 positions at the first level, 7 at the second, where it attends."""
    base = unet_config("cpu")
    unet = adapted(base, (40, 40, 3), {"channels": 24})
    assert (unet.channels, unet.attention, unet.patch, unet.groups) == (24, (10,), 2, 8)
    unet = adapted(base, (40, 40, 3), {"multipliers": (1, 2, 3), "patch": 1, "scale_shift": True, "blocks": 1})
    assert (unet.attention, unet.scale_shift, unet.blocks, unet.multipliers) == ((20,), True, 1, (1, 2, 3))
    assert adapted(base, (40, 40, 3), {"attention": ()}).attention == ()
    assert adapted(base, (40, 40, 3), {"multipliers": (2,)}).attention == ()  # that level is gone
    assert adapted(base, (40, 57, 3), {}).attention == (15,)  # 58 pixels wide inside, 29 and 15 positions
    assert adapted(base, (40, 40, 3), {"channels": 9}).groups == 3  # the most that divide 9 and 18, up to 8


def test_a_network_by_option_maps_images_to_noise_of_their_shape():
    config = TrainConfig(channels=8, multipliers=(1, 2), patch=3, attention=(2,), predict="gaussian")
    unet = network_for(config, images(12, 12, 3))
    x, params = jax.ShapeDtypeStruct((2, 12, 12, 6), jnp.float32), param_shapes(unet)
    t = jax.ShapeDtypeStruct((2,), jnp.int32)
    assert jax.eval_shape(build(unet)[1], params, x, t).shape == (2, 12, 12, 3)


def test_without_options_the_preset_stays_and_must_fit():
    assert given(TrainConfig()) == {} and given(TrainConfig(blocks=3, attention=())) == {"blocks": 3, "attention": ()}
    wanted = dataclasses.replace(unet_config("cpu"), num_classes=2)
    assert network_for(TrainConfig(), images(28, 28, 1)) == wanted
    message = r"presets that fit: none; options that do: --channels 32 --multipliers 1 2 2 --patch 2 --attention 5"
    with pytest.raises(ValueError, match=message):
        network_for(TrainConfig(), images(40, 40, 3))


@pytest.mark.parametrize(
    "options, shape, words",
    [
        ({"channels": 0}, (28, 28, 1), "channels is 0; give whole numbers >= 1"),
        ({"patch": 0}, (28, 28, 1), "patch is 0; give whole numbers >= 1"),
        ({"multipliers": ()}, (28, 28, 1), "multipliers is empty"),
        ({"attention": (9,)}, (28, 28, 1), "attention at size 9 is not among the feature map sizes"),
    ],
)
def test_options_that_make_no_network_are_refused(options, shape, words):
    with pytest.raises(ValueError, match=words):
        network_for(TrainConfig(**options), images(*shape))


def test_a_run_with_options_is_told_apart_from_the_preset_and_its_command_names_them():
    config = TrainConfig(channels=24, multipliers=(1, 2), attention=(7,))
    assert config.command() == "ddpm train --channels 24 --multipliers 1 2 --attention 7"
    assert TrainConfig.saved(dataclasses.asdict(config)) == config
