"""Calling somebody else's function: in its arrays and conventions, with a sentence for all that can go wrong.

def q_sample(x0, t, noise)            parameters are recognised by their names, in any order: see NAMES
Convention("torch", first_time=0, channels_first=True)        how the function wants its arrays and times
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm.course import limits
from ddpm.tools import check

# What a parameter means, by the names under which published code has it.
NAMES = {
    "x0": ("x0", "x_0", "x_start", "original_samples", "x", "image", "images", "batch", "clean"),
    "x_t": ("x_t", "xt", "sample", "x", "latents", "img", "z_t"),
    "x_T": ("x_T", "x", "noise", "latents", "start", "initial"),
    "t": ("t", "timestep", "timesteps", "time", "i", "step", "cur"),
    "s": ("s", "t_prev", "prev_t", "prev_timestep", "t_next", "next_t", "prev"),
    "noise": ("noise", "eps", "epsilon", "e", "ε"),
    "eps_hat": ("eps_hat", "noise_pred", "model_output", "pred", "prediction", "eps_pred", "predicted_noise", "eps"),
    "z": ("z", "variance_noise", "noise", "fresh_noise", "rand"),
    "denoiser": ("denoiser", "eps", "model", "eps_fn", "network", "net", "denoise_fn", "eps_model"),
    "eps_c": ("eps_c", "cond", "noise_pred_text", "eps_cond", "conditional", "e_c", "noise_pred_cond"),
    "eps_u": ("eps_u", "eps_null", "uncond", "noise_pred_uncond", "eps_uncond", "unconditional", "e_u"),
    "scale": ("s", "w", "scale", "guidance_scale", "guidance", "cfg_scale", "weight"),
    "mean_a": ("mean_a", "mu1", "mean_p", "mu_1", "m1", "mu_a"),
    "cov_a": ("cov_a", "sigma1", "cov_p", "sigma_1", "c1", "cov1", "sigma_a"),
    "mean_b": ("mean_b", "mu2", "mean_q", "mu_2", "m2", "mu_b"),
    "cov_b": ("cov_b", "sigma2", "cov_q", "sigma_2", "c2", "cov2", "sigma_b"),
    "features_a": ("features_a", "a", "x", "real", "f1", "feats1", "act1"),
    "features_b": ("features_b", "b", "y", "fake", "generated", "f2", "feats2", "act2"),
}
TIMES = ("t", "s")


class Fault(Exception):
    """The callable cannot be checked: it raised, returned another shape, changed its argument, … The sentence."""

    def __init__(self, kind: str, sentence: str):
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True)
class Convention:
    """How the code under test wants arrays and times."""

    arrays: str = "numpy"  # numpy, jax or torch
    first_time: int = 1  # 1: t = 1…T as in the papers; 0: t = 0…T-1, where 0 means one step of noise
    channels_first: bool = False  # (n, C, H, W)
    seconds: float = 60.0  # the longest that a call may take

    def __post_init__(self) -> None:
        check.choice("arrays", self.arrays, ("numpy", "jax", "torch"))
        check.whole("first_time", self.first_time, 0, 1)
        check.number("seconds", self.seconds, 1e-3)

    def give(self, a: Any) -> Any:
        """An array of ours, (n, H, W, C) or any other, in the form that the function wants."""
        if not isinstance(a, np.ndarray):
            return a
        if self.channels_first and a.ndim == 4:
            a = np.moveaxis(a, 3, 1)
        a = np.array(a, np.float32 if a.dtype.kind == "f" else a.dtype)  # a copy: the original stays as it is
        if self.arrays == "torch":
            import torch

            return torch.from_numpy(a)
        if self.arrays == "jax":
            import jax.numpy as jnp

            return jnp.asarray(a)
        return a

    def take(self, a: Any) -> np.ndarray:
        """An array of the function, as ours in float64."""
        if hasattr(a, "detach"):
            a = a.detach().cpu().numpy()
        try:
            out = np.asarray(a, np.float64)
        except (TypeError, ValueError):
            raise Fault("not an array", f"it returned a {type(a).__name__}; wanted is an array of numbers.") from None
        return np.moveaxis(out, 1, 3) if self.channels_first and out.ndim == 4 else out

    def time(self, t: Any) -> Any:
        """A time of ours (t = 1…T) as the function counts it."""
        return t - (1 - self.first_time)


def name_of(f: Any) -> str:
    """The function's name, for sentences."""
    return f"`{getattr(f, '__name__', None) or type(f).__name__}`"


def by_name(f: Callable[..., Any], given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arrange the values `given` as the parameters of f want them, by name; the order of `given` if no name is known.

    Each parameter takes the first meaning, in the order of `given`, that has its name and is not taken yet.
    """
    try:
        wanted = [
            p for p in inspect.signature(f).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return list(given.values()), {}
    left, args, kwargs = dict(given), list[Any](), dict[str, Any]()
    exact = {p.name for p in wanted if p.name in left}
    for i, p in enumerate(wanted):
        names = [k for k in left if p.name == k] or [k for k in left if k not in exact and p.name in NAMES.get(k, ())]
        if not names and p.default is not p.empty:
            continue
        if not names and len(wanted) == len(given):  # no name is known: by position
            return list(given.values()), {}
        if not names:
            known = "; ".join(f"{k}: {', '.join(NAMES.get(k, (k,)))}" for k in given)
            raise Fault("parameters", f"{name_of(f)} has a parameter {p.name!r} that has no known meaning. {known}.")
        if p.kind is p.KEYWORD_ONLY or len(args) < i:
            kwargs[p.name] = left.pop(names[0])
        else:
            args.append(left.pop(names[0]))
    return args, kwargs


def call(f: Callable[..., Any], given: dict[str, Any], convention: Convention, again: bool = False) -> Any:
    """Call f with the values by name; a `Fault` if it raises, changes an argument, is slow, or returns nothing.

    again: call it twice, and refuse two different results
    """
    results = []
    for _ in range(1 + again):
        put = {k: convention.give(convention.time(v) if k in TIMES else v) for k, v in given.items()}
        before = {k: np.array(v) for k, v in put.items() if isinstance(v, np.ndarray) or hasattr(v, "detach")}
        args, kwargs = by_name(f, put)
        results.append(timed(f, args, kwargs, convention.seconds))
        for k, v in before.items():
            if not np.array_equal(v, np.asarray(put[k]), equal_nan=True):
                raise Fault(
                    "changes its argument", f"{name_of(f)} changes its argument {k} in place; make a new array instead."
                )
    if results[0] is None:
        raise Fault("returns nothing", f"{name_of(f)} returned nothing (None). Is there a `return`?")
    if again and not np.array_equal(convention.take(results[0]), convention.take(results[1]), equal_nan=True):
        raise Fault(
            "not deterministic", f"{name_of(f)} gave two results for equal arguments; noise has to be an argument."
        )
    return results[0]


def timed(f: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], seconds: float) -> Any:
    """Call f, at most `seconds` long; any exception of it becomes a `Fault`."""
    begun = time.monotonic()
    try:
        with limits.seconds(seconds), np.errstate(all="ignore"):
            out = f(*args, **kwargs)
    except (limits.TooLong, Fault) as e:
        if isinstance(e, Fault):
            raise
        raise Fault("too slow", f"{name_of(f)} did not finish in {seconds:g} s.") from None
    except Exception as e:
        message = (str(e).strip().split("\n") or [""])[0][:200].rstrip(".")
        raise Fault("raises", f"{name_of(f)} stopped with {type(e).__name__}: {message}.") from e
    if time.monotonic() - begun > seconds:  # where there are no alarms
        raise Fault("too slow", f"{name_of(f)} took longer than {seconds:g} s.")
    return out


def array(f: Any, value: Any, convention: Convention, shape: tuple[int, ...]) -> np.ndarray:
    """The result of f as an array of ours, if it has this shape (n, H, W, C)."""
    a = convention.take(value)
    if a.shape != shape:
        raise Fault("shape", f"{name_of(f)} returned the shape {a.shape}; wanted: {shape} (channels last).")
    return a
