"""From one step of somebody else's, or a scheduler of diffusers, to a sampler that can be checked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from ddpm.testing.calling import Convention, array, call
from ddpm.tools import check


def from_step(step: Callable[..., Any], times: Any, convention: Convention = Convention(), seed: int = 0) -> Callable:
    """Make a sampler of step(x_t, t, s, eps_hat, z) -> x_s, which walks this list of times, falling to 0.

    The step's parameters are recognised by their names, and z may be missing; the sampler calls the step twice with the
    same numbers, and refuses two different results.
    """
    times = check.falling_to_0(times)

    def sampler(denoiser: Callable, x_T: Any) -> Any:
        rng, x = np.random.default_rng(seed), convention.take(x_T)
        for t, s in pairwise(times):
            eps = convention.take(denoiser(convention.give(x), convention.time(t)))
            given = {"x_t": x, "t": int(t), "s": int(s), "eps_hat": eps, "z": rng.normal(size=x.shape)}
            x = array(step, call(step, given, convention, again=True), convention, x.shape)
        return convention.give(x)

    sampler.__name__ = getattr(step, "__name__", "step")
    return sampler


TORCH = Convention("torch", first_time=0, channels_first=True)  # diffusers' way


def from_scheduler(scheduler: Any, steps: int, **options: Any) -> Callable:
    """Make a sampler of a scheduler of diffusers: set_timesteps(steps), then scheduler.step at each of its times.

    It is checked with `adapters.TORCH`. options: of scheduler.step, such as eta=1.0
    """

    def sampler(denoiser: Callable, x_T: Any) -> Any:
        torch = importlib.import_module("torch")
        scheduler.set_timesteps(steps)
        more = options
        if options.get("eta") or type(scheduler).__name__ == "DDPMScheduler":
            more = options | {"generator": torch.Generator().manual_seed(0)}
        x = x_T * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(denoiser(scheduler.scale_model_input(x, t), t), t, x, **more).prev_sample
        return x

    sampler.__name__ = type(scheduler).__name__
    return sampler
