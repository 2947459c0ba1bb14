"""The samplers and the lists of times by name; `ddpm.samplers.table` describes each in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ddpm import sample
from ddpm.contracts import Partial
from ddpm.sample import Sampling
from ddpm.samplers.edm import edm_step, karras_times
from ddpm.samplers.solvers import heun_step, midpoint_step, multistep
from ddpm.schedule import Schedule

STEPS: dict[str, Callable[..., Partial]] = {
    **sample.STEPS,
    "ancestral": partial(sample.ddim_step, eta=1.0),
    "heun": heun_step,
    "dpm_2": midpoint_step,
    "dpm_2m": multistep,
    "edm": edm_step,
}
# Lists that need to know more than T: (schedule, steps) -> times. Those of T alone are in `ddpm.schedule`.
RULES: dict[str, Callable[[Schedule, int], np.ndarray]] = {"karras": karras_times}


def resolved(how: Sampling) -> Sampling:
    """Replace the name of a rule in `RULES` by its function."""
    return dataclasses.replace(how, rule=RULES.get(how.rule, how.rule) if isinstance(how.rule, str) else how.rule)


def name(how: Sampling) -> str:
    """Return the name of the sampler, or of its function."""
    return how.sampler if isinstance(how.sampler, str) else getattr(how.sampler, "__name__", "sampler")


def times_name(how: Sampling) -> str:
    """Return `, searched times` and the like for the report; nothing for trailing times, which are usual."""
    rule: Any = how.rule if isinstance(how.rule, str) else getattr(how.rule, "__name__", "own")
    return "" if rule == "trailing" else f", {rule.removesuffix('_times')} times"
