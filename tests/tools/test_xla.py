"""The flag for XLA: it reaches the compiler, and never overrides the user's."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

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


def test_small_programs_are_kept_between_runs(tmp_path):
    """Adding two numbers compiles a program in milliseconds; it is on the disk afterwards, and JAX knows the place."""
    code = (
        "from ddpm.tools.xla import keep_small_programs; keep_small_programs(); import jax.numpy as jnp, jax; "
        "jnp.arange(3.0) + jnp.ones(3); print(jax.config.jax_compilation_cache_dir)"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    env = kept | {"HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    place = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert Path(place.strip()) == tmp_path / ".cache" / "ddpm" / "jax" and any(Path(place.strip()).iterdir())
