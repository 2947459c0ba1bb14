"""Settings for all tests: a silent broadcast is an error, compiled code is kept between runs, the CPU is enough."""

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Most of the quick tests' time is compilation, and small programs without optimisation compile in half of it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"  # the other flag is one of jaxlib 0.10, another may not know it
    + " --xla_cpu_use_fusion_emitters=false" * importlib.metadata.version("jaxlib").startswith("0.10."),
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "ddpm-jax-cache"))
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_collection_modifyitems(items):
    """Files that one process works at for long are begun first, so that the others do not wait for them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


MAPS = 20_000  # memory maps above which a worker forgets its compiled programs
RESIDENT, WITHIN = 1.5e9, 1.9e9  # the same for bytes in memory, between two files and within one


def pytest_runtest_teardown(item, nextitem):
    """Forget compiled programs once they are many or large, and return their memory.

    Linux allows a process 65,530 memory maps (vm.max_map_count), and each program holds about six of them. Past that,
    the next compilation is a segmentation fault. glibc keeps what is freed until it is asked to trim.
    """
    maps, statm = Path("/proc/self/maps"), Path("/proc/self/statm")
    if not maps.exists():
        return
    between = nextitem is None or nextitem.path != item.path
    resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident > (RESIDENT if between else WITHIN) or (between and maps.read_bytes().count(b"\n") > MAPS):
        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture
def x64():
    """Double precision, for identities that hold to 1e-9."""
    with jax.enable_x64(True):
        yield
