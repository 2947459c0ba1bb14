"""What `ddpm doctor` does: take a callable or a scheduler by name, recognise what it is, and check it.

diffusers:DDIMScheduler        a scheduler of diffusers: its schedule, its way to add noise, its steps
my_module:my_step              a function: what it is, is seen from its parameters' names, or said by `kind`
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm import schedule as schedules
from ddpm.testing import distances, guiding, noising, sampling, training_rules
from ddpm.testing.adapters import TORCH, from_scheduler, from_step
from ddpm.testing.answers import Answer
from ddpm.testing.calling import NAMES, Convention
from ddpm.testing.noising import levels_of
from ddpm.tools import check

# What a function is, by the meanings of its parameters; the first whose meanings all have a name is taken.
KINDS = {
    "fid": ("mean_a", "cov_a", "mean_b", "cov_b"),
    "guidance": ("eps_c", "eps_u", "scale"),
    "step": ("x_t", "t", "eps_hat"),
    "forward": ("x0", "t", "noise"),
    "loss": ("denoiser", "x0"),
    "inversion": ("denoiser", "x0"),
    "sampler": ("denoiser", "x_T"),
}
ALL = (*KINDS, "schedule", "weight", "average")


def load(spec: str) -> Any:
    """Import `module:name`; modules of the current folder are found too."""
    module, colon, name = spec.partition(":")
    if not (colon and module and name):
        raise ValueError(
            f"{spec!r} names no function; give module:name, such as diffusers:DDIMScheduler or my_code:step"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as e:
        hint = f"install {e.name}" if e.name == module.partition(".")[0] and e.name in ("diffusers", "torch") else ""
        raise ValueError(f"{spec}: there is no module {e.name!r} here" + (f"; {hint}" if hint else "")) from None
    except Exception as e:
        raise ValueError(f"{spec}: importing {module} stopped with {type(e).__name__}: {e}") from e
    finally:
        sys.path.pop(0)
    for part in name.split("."):
        if not hasattr(found, part):
            near = [n for n in dir(found) if not n.startswith("_")]
            check.choice(f"name in {module}", part, near[:200])
        found = getattr(found, part)
    return found


def kind_of(f: Callable[..., Any]) -> str:
    """What a function is, by the names of its parameters."""
    names = [p.name for p in inspect.signature(f).parameters.values()]
    called = getattr(f, "__name__", "")
    for kind, meanings in KINDS.items():
        left = list(names)
        for meaning in meanings:
            hit = next((n for n in left if n == meaning or n in NAMES[meaning]), None)
            if hit is None:
                break
            left.remove(hit)
        else:
            if kind in ("loss", "inversion") and not any(w in called for w in ("loss", "objective", "enc", "inver")):
                continue
            return "inversion" if kind == "loss" and any(w in called for w in ("enc", "inver")) else kind
    raise ValueError(
        f"the parameters {', '.join(names) or 'of nothing'} tell no kind; give --as with one of {', '.join(ALL)}"
    )


def examine_function(
    f: Callable[..., Any], kind: str, schedule: Any, steps: int, eta: float, clip: bool, convention: Convention
) -> list[Answer]:
    """Check one function as what it is."""
    if isinstance(f, type):
        raise ValueError(f"{f.__name__} is a class, and no scheduler with ᾱ (alphas_cumprod); give a function")
    kind = check.choice("--as", kind, ALL) if kind else kind_of(f)
    times = schedules.make_times(len(levels_of(schedule)) - 1, steps)
    if kind in ("step", "sampler"):
        sampler = from_step(f, times, convention) if kind == "step" else f
        return [sampling.check_sampler(sampler, schedule, eta=eta, clip=clip, convention=convention)]
    checks: dict[str, Callable[[], Answer]] = {
        "schedule": lambda: noising.check_schedule(f, schedule if isinstance(schedule, str) else "linear"),
        "forward": lambda: noising.check_forward(f, schedule, convention),
        "loss": lambda: training_rules.check_loss(f, schedule, convention),
        "weight": lambda: training_rules.check_weight(f, schedule=schedule, convention=convention),
        "average": lambda: training_rules.check_average(f, convention=convention),
        "guidance": lambda: guiding.check_guidance(f, convention=convention),
        "inversion": lambda: sampling.check_inversion(f, schedule, times, convention=convention),
        "fid": lambda: distances.check_fid(f, convention),
    }
    return [checks[kind]()]


# --- schedulers of diffusers ------------------------------------------------------------------------------------------

LIKE = {"linear": "linear", "squaredcos_cap_v2": "cosine"}  # diffusers' names of schedules, and ours
EXACT = ("DDIMScheduler", "DDPMScheduler")  # whose steps are compared one by one


def is_scheduler(thing: Any) -> bool:
    """Whether this is a class of diffusers' schedulers, or looks like one."""
    return isinstance(thing, type) and all(hasattr(thing, name) for name in ("set_timesteps", "step", "add_noise"))


def examine_scheduler(make: type, options: dict[str, Any], steps: int, eta: float) -> list[Answer]:
    """Check a scheduler's levels, its `add_noise` and its steps, each with its conventions."""
    allowed = inspect.signature(make).parameters
    for name in options:
        check.choice(f"option of {make.__name__}", name, list(allowed))
    try:
        scheduler = make(**options)
    except (TypeError, ValueError, NotImplementedError) as e:
        raise ValueError(f"{make.__name__}({options}) stopped with {type(e).__name__}: {e}") from e
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"{make.__name__} has no ᾱ (alphas_cumprod): it is of another process than DDPM's")
    config, alpha_bar = scheduler.config, scheduler.alphas_cumprod.numpy()
    T = len(alpha_bar)
    name = LIKE.get(config.beta_schedule, "")
    name = "linear_ho" if name == "linear" and T != 1000 else name or "linear"
    answers = [noising.check_schedule(alpha_bar, name, T)]
    if make.__name__ not in EXACT:
        return [*answers, sampling.check_samples(from_scheduler(scheduler, steps), alpha_bar, convention=TORCH)]
    answers.append(noising.check_forward(lambda x0, t, noise: scheduler.add_noise(x0, noise, t), alpha_bar, TORCH))
    clip = bool(config.get("clip_sample"))
    if config.get("thresholding") or config.get("prediction_type", "epsilon") != "epsilon":
        raise ValueError("thresholding and predictions other than epsilon are not examined; leave these options out")
    step, more = ("ddim", {"eta": eta} if eta else {}) if make.__name__ == "DDIMScheduler" else ("ddpm", {})
    if step == "ddpm" and str(config.variance_type).startswith("fixed_large"):
        step = "ddpm_large"
    sampler = from_scheduler(scheduler, steps, **more)
    with_eta = {"eta": eta} if step == "ddim" else {}
    found = sampling.check_sampler(sampler, alpha_bar, step, clip=clip, convention=TORCH, **with_eta)
    clipped = f"x̂0 {'is clipped to ±' + format(config.clip_sample_range, 'g') if clip else 'is not clipped'}"
    variance = {"ddim": f"σ = η √β̃ with η = {eta:g}", "ddpm": "variance β̃ (fixed_small)"}.get(step, "variance β")
    more_words = (*found.conventions, f"{variance}; {clipped}")
    return [*answers, Answer(**{**vars(found), "conventions": more_words})]


def report(answers: list[Answer]) -> str:
    """The answers one under the other, and how many are no pass."""
    wrong = sum(not a for a in answers)
    last = "no mistake found" if not wrong else f"{wrong} of {len(answers)} checks found something"
    return "\n".join([*map(str, answers), "", last])
