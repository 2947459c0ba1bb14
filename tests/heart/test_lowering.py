"""Every compiled entry point lowers for TPU and CUDA, on a machine that has neither.

Lowering is what JAX does before the chip's own compiler: shapes, types and operations are known to be there. It does
not say that the chip's compiler takes the program, nor how fast it is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm import sample, typicality
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.guide import cfg, clip_x0
from ddpm.loss import squared_error
from ddpm.network import eps_fn
from ddpm.networks.inspect import param_shapes
from ddpm.samplers.names import STEPS
from ddpm.samplers.solvers import begun
from ddpm.schedule import cosine
from ddpm.training.config import TrainConfig
from ddpm.training.step import init_state, make_step

UNET = UNetConfig(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, num_classes=3, dropout=0.1)
SCHEDULE, TYPES = cosine(100), ("float32", "bfloat16")
X, C = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2, jnp.int32)


def lowers(f, *args):
    """The program for both platforms, as text."""
    text = jax.export.export(f, platforms=["tpu", "cuda"])(*args).mlir_module()
    assert "convolution" in text
    return text


def unet(dtype):
    return dataclasses.replace(UNET, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "how, many", [({}, False), ({"accumulate": 2, "more_ema": (0.9,), "power_ema": (0.1,), "flip": True}, True)]
)
def test_the_training_step(dtype, how, many):
    config = TrainConfig(batch=4, **how)
    state = jax.eval_shape(lambda: init_state(config, unet(dtype)))
    shape = (3, 4) if many else (4,)
    ids, n = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape[:-1], jnp.int32)
    images, labels = jax.ShapeDtypeStruct((16, 8, 8, 1), jnp.uint8), jax.ShapeDtypeStruct((16,), jnp.int32)
    text = lowers(make_step(config, unet(dtype), many=many), state, SCHEDULE, images, labels, ids, n)
    assert ("bf16" in text) == (dtype == "bfloat16")


@pytest.mark.parametrize("sampler, dtype", [*((name, "float32") for name in STEPS), ("ddim", "bfloat16")])
def test_the_samplers_with_guidance(sampler, dtype):
    def draw(params, key, c):
        eps = clip_x0(cfg(eps_fn(unet(dtype), params), 2.0), SCHEDULE)
        step = STEPS[sampler](eps, SCHEDULE, c)
        return sample.walk(step, key, begun(step, X), np.array([100, 50, 0]))

    lowers(jax.jit(draw), param_shapes(UNET), jax.random.key(0), C)


@pytest.mark.parametrize("dtype", TYPES)
def test_measure(dtype):
    def measure(params, x, key):
        loss = Partial(squared_error, eps_fn(unet(dtype), params), SCHEDULE)
        return typicality._measure(loss, x, (C, None), key, jnp.asarray([10, 70]), jnp.ones(101), 3, True)

    lowers(jax.jit(measure), param_shapes(UNET), X, jax.random.key(0))
