"""The samplers by name."""

from __future__ import annotations

from collections.abc import Callable

from ddpm import sample
from ddpm.contracts import Partial
from ddpm.samplers.solvers import heun_step

STEPS: dict[str, Callable[..., Partial]] = {
    **sample.STEPS,
    "heun": heun_step,
}
