"""Set an XLA flag for CPUs when `ddpm` is imported, before JAX first computes."""

from __future__ import annotations

import importlib.metadata
import os

# jaxlib 0.10 gives each convolution to YNNPACK, which uses one core; Eigen uses all of them. On two cores, Eigen makes
# a training step of the presets `cpu` and `small` 1.45 times as fast, and sampling 1.7 times. jaxlib 0.11 fixes this.
# To restore YNNPACK: XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=+individual_convolution
OPTION = "xla_cpu_experimental_ynn_fusion_type"
VALUE = "-individual_convolution"


def convolve_on_all_cores() -> None:
    """Add the flag to XLA_FLAGS for jaxlib 0.10, unless the user has set this option."""
    flags = os.environ.get("XLA_FLAGS", "")
    try:
        version = importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:  # built by hand: speed alone is at stake
        return
    if version.startswith("0.10.") and OPTION not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{OPTION}={VALUE}".strip()
