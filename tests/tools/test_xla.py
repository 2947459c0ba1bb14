"""The flag for XLA: it reaches the compiler, and never overrides the user's."""

import importlib.metadata
import importlib.util
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


CONVOLUTIONS, ORDER = (f"--{name}={value}" for name, value in xla.FLAGS.items())


LEVEL = "--xla_backend_optimization_level=1"


@pytest.mark.parametrize(
    "version, before, after",
    [
        ("0.10.2", "", f"{CONVOLUTIONS} {ORDER}"),
        ("0.10.2", "--a=1", f"--a=1 {CONVOLUTIONS} {ORDER}"),
        ("0.10.2", f"{CONVOLUTIONS[:-3]}dot", f"{CONVOLUTIONS[:-3]}dot {ORDER}"),
        ("0.10.2", "--xla_cpu_scheduler_type=A", f"--xla_cpu_scheduler_type=A {CONVOLUTIONS}"),
        ("0.11.2", "--a=1", "--a=1"),
        ("0.9.2", "", ""),
    ],
)
def test_what_is_said_stays(monkeypatch, version, before, after):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    for _ in range(2):
        xla.set_flags()
        assert os.environ["XLA_FLAGS"] == after


@pytest.mark.parametrize(
    "platforms, installed, alone",
    [
        ("cpu", {"jax_plugins"}, True),
        ("", set(), True),
        ("", {"jax_plugins"}, False),
        ("", {"libtpu"}, False),
        ("cuda", set(), False),
    ],
)
def test_llvm_does_less_only_where_the_cpu_is_all_there_is(monkeypatch, platforms, installed, alone):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    for given, level in ("", [LEVEL] * alone), (f"{LEVEL[:-1]}3", [f"{LEVEL[:-1]}3"]):
        monkeypatch.setenv("XLA_FLAGS", given)
        xla.set_flags()
        assert [flag for flag in os.environ["XLA_FLAGS"].split() if flag[:-1] == LEVEL[:-1]] == level


def test_sums_of_branches_are_held_one_at_a_time():
    """Ordered for many to run side by side, eight branches of 2 MiB each wait until all are there."""
    if not xla.measured():
        pytest.skip("another jaxlib")
    x, weights = jnp.ones((2048, 256)), [jnp.full((256, 256), 0.01 * i) for i in range(8)]
    lowered = jax.jit(lambda x: sum(jnp.sin(jnp.tanh(x @ w) @ w.T).sum() for w in weights)).lower(x)
    side_by_side = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED"}
    held = [lowered.compile(options).memory_analysis().temp_size_in_bytes for options in (None, side_by_side)]
    assert held[0] < 5 * 2**20 < 16 * 2**20 < held[1]


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
