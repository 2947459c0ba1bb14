"""The flag for XLA: it reaches the compiler, and never overrides the user's."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
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
    for _ in range(2):
        xla.set_flags()
        assert os.environ["XLA_FLAGS"] == after


def test_sums_of_branches_are_held_one_at_a_time():
    """Ordered for many to run side by side, eight branches of 2 MiB each wait until all are there."""
    if not xla.measured():
        pytest.skip("another jaxlib")
    x, weights = jnp.ones((2048, 256)), [jnp.full((256, 256), 0.01 * i) for i in range(8)]
    lowered = jax.jit(lambda x: sum(jnp.sin(jnp.tanh(x @ w) @ w.T).sum() for w in weights)).lower(x)
    side_by_side = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED"}
    held = [lowered.compile(options).memory_analysis().temp_size_in_bytes for options in (None, side_by_side)]
    assert held[0] < 5 * 2**20 < 16 * 2**20 < held[1]


def test_the_options_of_a_step_change_no_result():
    """The tests themselves run at LLVM's first level (conftest), so the default, its third, is named."""
    f = lambda x: jnp.tanh(x @ x.T).sum(0)  # noqa: E731
    x = jax.random.normal(jax.random.key(0), (64, 64))
    lowered, default = jax.jit(f).lower(x), {"xla_backend_optimization_level": 3}
    np.testing.assert_allclose(lowered.compile(xla.for_a_step())(x), lowered.compile(default)(x), rtol=1e-5)


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
