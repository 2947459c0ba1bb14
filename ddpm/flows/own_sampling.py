"""How a model of few steps draws: by its own sampler, at the numbers of calls that it was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ddpm.contracts import Eps, Partial
from ddpm.flows.paths import LAST
from ddpm.flows.steps import consistency_step, jump_step
from ddpm.flows.table import MOST_SCALE, OWN_STEPS
from ddpm.guide import clip_x0
from ddpm.networks.numbers import told_net
from ddpm.sample import Sampling, ddim_step
from ddpm.schedule import Schedule

USUAL = 4  # calls, where none are given


@dataclass(frozen=True)
class FewStepsCard:
    """The loss of `ddpm.flows.table` that a model was trained with, and for how many calls, if for one number only."""

    loss: Literal["", *OWN_STEPS, "guided"] = ""  # type: ignore[valid-type]
    calls: int = 0
    told: bool = False  # the network is told a number


def raw(few: FewStepsCard, net: Eps, T: int) -> Eps:
    """Return the network as its loss has it: told a number or not, and for average velocities with its t as τ in 0…1.

    The derivative of MeanFlow's loss goes along τ; on t = 0…T the sinusoids of the time would make it T times as large.
    """
    slow = LAST / T if few.loss in ("meanflow", "shortcut") else 0.0
    return told_net(net, slow) if few.told else net


def card_of(card: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a model's card on few steps: its own, or the options of its training."""
    if card.get("few_steps"):
        return card["few_steps"]
    train, unet = (card.get(k) or {} for k in ("train", "unet"))
    if train.get("loss") not in (*OWN_STEPS, "guided"):
        return {}
    calls = train.get("calls", 0) if train["loss"] == "progressive" else 0
    return {"loss": train["loss"], "calls": calls, "told": bool(unet.get("extra_channels"))}


def guided(few: FewStepsCard, name: str, scale: float | None) -> float:
    """Return the guidance scale: of a network that is told one in 1…4, else 1; refuse others."""
    told = few.told and few.loss in ("guided", "progressive")
    if scale is None:
        return 2.0 if told else 1.0
    if told and not 1 <= scale <= MOST_SCALE:
        raise ValueError(f"guidance is {scale:g}; {name!r} has learned the scales 1 to {MOST_SCALE:g}")
    if not told and scale != 1:
        raise ValueError(
            f"guidance is {scale:g}, but {name!r} is a model of few steps (loss {few.loss}) whose guidance is "
            f"settled in its training; leave it out"
        )
    return scale


def how(few: FewStepsCard, name: str, net: Eps, at: Any, steps: int | None, scale: float) -> Sampling:
    """Return the sampling of the model's own: `steps` calls, even times from T, no guidance but what is inside.

    net: the raw network;  at: h -> ε̂ of a network that is told h
    """
    steps = few.calls or USUAL if steps is None else steps
    if few.calls and steps != few.calls:
        raise ValueError(f"steps is {steps}; {name!r} has learned to draw in {few.calls} steps: leave it out")
    if few.loss == "shortcut" and steps & (steps - 1):
        raise ValueError(f"steps is {steps}; the jumps of {name!r} are halves of halves: give 1, 2, 4, 8, …")

    def make(eps: Eps, schedule: Schedule, c: Any) -> Partial:
        if few.loss in ("meanflow", "shortcut"):
            return jump_step(net, schedule, c)
        if few.told:
            eps = clip_x0(at((scale - 1) / (MOST_SCALE - 1)), schedule)
        return (consistency_step if few.loss.startswith("consistency") else ddim_step)(eps, schedule, c)

    make.__name__ = few.loss if not few.told or scale == 1 else f"{few.loss} at scale {scale:g}"
    return Sampling(make, steps)
