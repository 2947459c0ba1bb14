"""Convert configurations of diffusers' schedulers to ours and back.

A scheduler_config.json describes two things: the process that the network was trained on (β_t, what is predicted), and
a sampler. Several classes share Ho et al.'s process, with defaults of their own (`CLASSES`); any other class is another
process (flow matching, EDM, consistency models, …) and is refused by name. What the sampler was told about x̂0, times
and variances is kept in the card and becomes the default of ours; the rest of its settings is kept as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm.schedule import Schedule
from ddpm.tools import schema
from ddpm.zoo.cards import LIMITS, SamplingCard, ScheduleCard

_SOLVER = {"timestep_spacing": "linspace", "clip_sample": False}
_STABLE = {"beta_start": 0.00085, "beta_end": 0.012} | _SOLVER
# The classes whose process is Ho et al.'s, with the defaults in which they differ from DDPMScheduler.
CLASSES: dict[str, dict[str, Any]] = {
    "DDPMScheduler": {},
    "DDPMParallelScheduler": {},
    "DDIMScheduler": {},
    "DDIMParallelScheduler": {},
    "DDIMInverseScheduler": {},
    "PNDMScheduler": {"clip_sample": False},
    "RePaintScheduler": {},
    **dict.fromkeys(("DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler"), _SOLVER),
    **dict.fromkeys(("DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"), _SOLVER),
    **dict.fromkeys(("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"), _SOLVER),
    **dict.fromkeys(("LMSDiscreteScheduler", "SASolverScheduler"), _SOLVER),
    **dict.fromkeys(("HeunDiscreteScheduler", "DPMSolverSDEScheduler"), _STABLE),
    **dict.fromkeys(("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"), _STABLE),
}
# Settings of their samplers that change neither the process nor the network.
KEPT = (
    *("algorithm_type", "base_image_seq_len", "base_shift", "corrector_order", "disable_corrector", "eta"),
    *("euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type", "lambda_min_clipped"),
    *("lower_order_final", "max_image_seq_len", "max_shift", "noise_sampler_seed", "predict_x0", "predictor_order"),
    *("set_alpha_to_one", "shift_terminal", "sigma_max", "sigma_min", "skip_prk_steps", "solver_order", "solver_p"),
    *("solver_type", "tau_func", "time_shift_type", "use_beta_sigmas", "use_exponential_sigmas"),
    *("use_karras_sigmas", "use_lu_lambdas"),
)
PREDICT = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}  # theirs: ours
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
VARIANCE = {"fixed_small": "fixed_small", "fixed_small_log": "fixed_small", "fixed_large": "fixed_large"}


@dataclass(frozen=True)
class Process:
    """What a scheduler_config.json says, in our terms."""

    schedule: ScheduleCard
    predict: str
    sampling: SamplingCard


@dataclass(frozen=True)
class _Config:
    """The fields that change the process, or that our samplers follow, with the defaults of DDPMScheduler."""

    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool = False
    use_flow_sigmas: bool = False
    use_dynamic_shifting: bool = False
    timestep_type: str = "discrete"
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    variance_type: str | None = None
    timestep_spacing: str = "leading"
    steps_offset: int = 0


_LIMITS = {
    "num_train_timesteps": LIMITS["T"],
    **dict.fromkeys(("beta_start", "beta_end", "trained_betas"), LIMITS["beta"]),
    "clip_sample_range": LIMITS["clip_range"],
    "dynamic_thresholding_ratio": (0, 1),
    "sample_max_value": (1, 1e6),
    "steps_offset": LIMITS["offset"],
}


class Refusals:
    """Collects the fields of a configuration that cannot be imported, so that one message names them all."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, field: str, value: Any, wanted: Any, why: str) -> None:
        """Note that a field has a value that we do not support."""
        self.found.append(f"{field} is {schema.show(value)}, only {wanted!r} can be imported: {why}")

    def unknown(self, config: dict[str, Any], known: Collection[str]) -> None:
        """Note the fields that we do not know and that are set."""
        for field in sorted(config.keys() - known):
            if not field.startswith("_") and config[field] not in (None, False):
                self(field, config[field], "no such field", "we do not know what it does")

    def done(self) -> None:
        """Raise a ValueError that names what was noted, if anything was."""
        if self.found:
            raise ValueError(f"unsupported: {'; '.join(self.found)}")


def to_process(config: dict[str, Any]) -> Process:
    """Convert a scheduler_config.json: schedule, what is predicted, and the sampler's settings.

    A class or a field that means another function is refused by name; so is a field that we do not know.
    """
    # class and fields
    refuse = Refusals()
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in CLASSES:
        refuse("_class_name", kind, "a scheduler of Ho et al.'s process", f"those are {', '.join(CLASSES)}")
        refuse.done()
    assert isinstance(kind, str)
    refuse.unknown(config, _Config.__dataclass_fields__.keys() | set(KEPT))
    c = schema.read(_Config, CLASSES[kind] | config, "the scheduler", _LIMITS)
    # the process
    if c.prediction_type not in PREDICT:
        refuse("prediction_type", c.prediction_type, tuple(PREDICT), "our models predict ε, x0 or v")
    for field, ours in (("use_flow_sigmas", False), ("use_dynamic_shifting", False), ("timestep_type", "discrete")):
        if getattr(c, field) != ours:
            refuse(field, getattr(c, field), ours, "our networks take the times of a schedule of β")
    if c.rescale_betas_zero_snr and c.prediction_type == "epsilon":
        refuse("rescale_betas_zero_snr", True, False, "at ᾱ_T = 0 an ε says nothing about the image")
    if c.trained_betas is None and c.beta_schedule not in BETAS:
        refuse("beta_schedule", c.beta_schedule, BETAS, "these are the formulas of β that we know")
    sampling = _sampling(c, config, refuse)
    refuse.done()
    return Process(_schedule(c), PREDICT[c.prediction_type], sampling)


def _schedule(c: _Config) -> ScheduleCard:
    """Return the schedule by our name for it, or with all its β where we have none."""
    T, zero = c.num_train_timesteps, c.rescale_betas_zero_snr
    if c.trained_betas is None:
        if c.beta_schedule == "squaredcos_cap_v2":
            return ScheduleCard("cosine", T, zero)
        for name, factor in (("linear_ho", 1.0), ("linear", 1000 / T)):
            ends = (1e-4 * factor, 0.02 * factor)
            if c.beta_schedule == "linear" and np.allclose((c.beta_start, c.beta_end), ends, rtol=1e-6, atol=0):
                return ScheduleCard(name, T, zero)
        name = f"{c.beta_schedule} from {c.beta_start:g} to {c.beta_end:g}"
        power = 0.5 if c.beta_schedule == "scaled_linear" else 1  # √β is linear in t, or β is
        beta = np.linspace(c.beta_start**power, c.beta_end**power, T) ** (1 / power)
    else:
        name, beta = "trained_betas", np.array(c.trained_betas)
    return ScheduleCard(name, T, zero, tuple(beta.tolist()))


def _sampling(c: _Config, config: dict[str, Any], refuse: Refusals) -> SamplingCard:
    """Return the settings that our samplers follow."""
    rules = ("leading", "trailing", "linspace")
    if c.timestep_spacing not in rules:
        refuse("timestep_spacing", c.timestep_spacing, rules, "these are the rules we have")
    if c.variance_type not in (None, "learned_range", *VARIANCE):
        refuse("variance_type", c.variance_type, (*VARIANCE, "learned_range"), "these are the variances we have")
    return SamplingCard(
        rule=c.timestep_spacing,  # type: ignore[arg-type]
        offset=c.steps_offset if c.timestep_spacing == "leading" else 0,
        clip=c.clip_sample,
        clip_range=c.clip_sample_range,
        percentile=100 * c.dynamic_thresholding_ratio if c.thresholding else None,
        most=c.sample_max_value,
        variance=VARIANCE.get(c.variance_type or "fixed_small", "learned"),  # type: ignore[arg-type]
        peer={"_class_name": config["_class_name"]} | {k: config[k] for k in KEPT if config.get(k) is not None},
    )


def to_schedule(config: dict[str, Any]) -> tuple[str, int]:
    """Convert the scheduler of a network that predicts ε to (our name, T): `linear_ho`, `linear` or `cosine`."""
    process = to_process(config)
    if process.predict != "eps" or process.schedule.beta:
        raise ValueError("a name and T do not say all about this scheduler; see to_process")
    return process.schedule.name, process.schedule.T


def from_schedule(
    card: ScheduleCard, schedule: Schedule, predict: str = "eps", learned_variance: bool = False
) -> dict[str, Any]:
    """Return the `DDPMScheduler` of our schedule, with all β listed if diffusers has no name for it.

    card: of the schedule, as it is before `zero_terminal_snr`.
    """
    factor = 1000 / card.T if card.name == "linear" else 1.0
    known: dict[str, Any] = {
        "linear_ho": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        "linear": {"beta_schedule": "linear", "beta_start": 1e-4 * factor, "beta_end": 0.02 * factor},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    }
    beta = list(card.beta or np.asarray(schedule.beta, np.float64)[1:].tolist())
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": card.T,
        **known.get(card.name, {"trained_betas": beta}),
        "prediction_type": next(theirs for theirs, ours in PREDICT.items() if ours == predict),
        "rescale_betas_zero_snr": card.zero_terminal_snr,
        "clip_sample": True,
        "variance_type": "learned_range" if learned_variance else "fixed_small",
    }


def from_sampling(card: SamplingCard) -> dict[str, Any]:
    """Return the fields of a `DDPMScheduler` for these settings of a sampler; the inverse of `to_process`'."""
    return {
        "clip_sample": card.clip,
        "clip_sample_range": card.clip_range,
        "thresholding": card.percentile is not None,
        "dynamic_thresholding_ratio": 0.995 if card.percentile is None else card.percentile / 100,
        "sample_max_value": card.most,
        "variance_type": "learned_range" if card.variance == "learned" else card.variance,
        "timestep_spacing": card.rule,
        "steps_offset": card.offset,
    }
