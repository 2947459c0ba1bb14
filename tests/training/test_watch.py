"""Which layer is the first that is no longer a number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm.config import UNetConfig
from ddpm.networks import inspect
from ddpm.schedule import cosine
from ddpm.training import by_layer, diagnose, step
from ddpm.training.config import TrainConfig

UNET = UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, num_classes=3)
CONFIG = TrainConfig(batch=4)


def test_layers_come_in_the_order_of_the_computation():
    names = by_layer.layers(inspect.param_shapes(UNET))
    order = [
        "time_embedding.linear_1", "class_embedding", "conv_in", "down_blocks.0.resnets.0.norm1",
        "down_blocks.0.resnets.0.conv1", "down_blocks.0.resnets.0.time_emb_proj", "down_blocks.0.resnets.0.norm2",
        "down_blocks.0.resnets.0.conv2", "down_blocks.0.downsamplers.0.conv", "down_blocks.1.resnets.0.norm1",
        "down_blocks.1.attentions.0.group_norm", "down_blocks.1.attentions.0.to_q", "mid_block.resnets.0.norm1",
        "mid_block.attentions.0.to_v", "mid_block.resnets.1.norm1", "up_blocks.0.resnets.0.conv1",
        "up_blocks.0.attentions.0.to_q", "up_blocks.0.resnets.1.conv1", "up_blocks.0.upsamplers.0.conv",
        "up_blocks.1.resnets.0.conv1", "conv_norm_out", "conv_out",
    ]  # fmt: skip
    places = [names.index(name) for name in order]
    assert places == sorted(places) and len(set(names)) == len(names)


@pytest.mark.slow
def test_the_norms_of_the_layers_make_the_norm_of_the_gradient():
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), inspect.param_shapes(UNET))
    norms = np.asarray(by_layer.layer_norms(tree))
    assert np.sqrt((norms**2).sum()) == pytest.approx(
        np.sqrt(sum(float((a**2).sum()) for a in jax.tree.leaves(tree))), rel=1e-5
    )
    at = by_layer.layers(tree).index("conv_in")
    assert norms[at] == pytest.approx(np.sqrt(sum((np.asarray(a) ** 2).sum() for a in tree["conv_in"].values())))


def spoiled(change):
    """The report of `explain` on a state whose parameters were changed."""
    state = step.init_state(CONFIG, UNET)
    params = jax.tree.map(lambda a: a, state.params)
    change(params)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
    return diagnose.explain(CONFIG, UNET, cosine(100), state._replace(params=params), images, np.arange(4) % 3)


def set_to(layer, value):
    layer["kernel"] = jnp.full_like(layer["kernel"], value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, words",
    [
        (lambda p: set_to(p["mid_block"]["resnets"][0]["conv1"], np.nan), "parameters, mid_block.resnets.0.conv1"),
        (
            lambda p: set_to(p["down_blocks"][1]["resnets"][0]["conv_shortcut"], 3e38),
            "output of layer 'down.1.0' is the first",
        ),
        (lambda p: set_to(p["conv_out"], 1e25), "the gradient of conv_norm_out is the first"),
        (lambda p: set_to(p["conv_out"], 1.0), "every gradient is finite"),
    ],
    ids=["parameter", "forward", "backward", "none"],
)  # fmt: skip
def test_the_first_layer_that_is_no_number_is_named(change, words):
    assert words in spoiled(change)
