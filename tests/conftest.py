"""Settings for all tests: a silent broadcast is an error, compiled code is kept between runs, the CPU is enough."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "ddpm-jax-cache"))
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_collection_modifyitems(items):
    """Files that one process works at for long are begun first, so that the others do not wait for them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Forget compiled programs between two files, once they are many: each holds about six memory maps.

    Linux allows a process 65,530 of them (vm.max_map_count). Past that, the next compilation is a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Double precision, for identities that hold to 1e-9."""
    with jax.enable_x64(True):
        yield
