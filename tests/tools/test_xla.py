"""The flag for XLA: it reaches the compiler, and never overrides the user's."""

import importlib.metadata
import os

import jax
import jax.numpy as jnp
import pytest

from ddpm.tools import xla


def test_no_convolution_goes_to_the_library_that_takes_one_core():
    if not importlib.metadata.version("jaxlib").startswith("0.10."):
        pytest.skip("another jaxlib")
    x, w = jnp.ones((8, 28, 28, 32)), jnp.ones((3, 3, 32, 32))
    numbers = ("NHWC", "HWIO", "NHWC")
    conv = jax.jit(lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers))
    assert "ynn_fusion" not in conv.lower(x, w).compile().as_text()


@pytest.mark.parametrize(
    "version, before, after",
    [
        ("0.10.2", "", f"--{xla.OPTION}={xla.VALUE}"),
        ("0.10.2", "--a=1", f"--a=1 --{xla.OPTION}={xla.VALUE}"),
        ("0.10.2", f"--{xla.OPTION}=dot", f"--{xla.OPTION}=dot"),
        ("0.11.2", "--a=1", "--a=1"),
        ("0.9.2", "", ""),
    ],
)
def test_what_is_said_stays(monkeypatch, version, before, after):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    monkeypatch.setenv("XLA_FLAGS", before)
    for _ in range(2):
        xla.convolve_on_all_cores()
        assert os.environ["XLA_FLAGS"] == after
