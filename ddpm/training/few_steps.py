"""Losses of few-step models as trainings: what each draws, what it compares, and what it wants of a teacher.

The losses are those of `ddpm.flows` and `ddpm.losses.distillation`; `ddpm.flows.table` names them. A network of
velocities on the chain of the linear path serves all but `progressive` and `guided`, which take any prediction. What a
teacher knows is a part of the state that stays fixed, so a run resumes without the teacher's files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.contracts import Eps, Partial
from ddpm.flows import consistency, matching, meanflow, own_sampling, progressive, shortcut
from ddpm.flows.conversions import shaped
from ddpm.flows.own_sampling import FewStepsCard
from ddpm.flows.paths import LAST, make_path
from ddpm.flows.steps import average_of, end_of, velocity_of
from ddpm.flows.table import FEW_STEPS, MOST_SCALE, NUMBERED, TAUGHT
from ddpm.forward import q_sample
from ddpm.guide import cfg
from ddpm.loss import per_image, stratified_times
from ddpm.losses import objectives, times
from ddpm.losses.distillation import distillation_loss
from ddpm.networks.dit import build
from ddpm.networks.numbers import CHANNELS, widened, with_channels, without_channels
from ddpm.sample import ddim_step, walk
from ddpm.schedule import Schedule, make_times
from ddpm.training.config import TrainConfig

EQUAL = 0.25  # meanflow: the share r = t, as on CIFAR-10   [Geng et al. 2025, Table 4]
FINEST = 128  # shortcut: steps of the finest grid   [Frans et al. 2024]
GROWS = (10, 160)  # consistency: intervals at the first step and at the last, doubled   [after Song and Dhariwal 2023]
INTERVALS = 8  # consistency_distillation: on 32 times, the same error of each hop adds up faster than training removes it


class Teacher(NamedTuple):
    """The parameters that a few-step loss learns from, fixed while the network learns."""

    params: Any


class Nets(NamedTuple):
    """The networks that a loss compares, as of `nets`."""

    student: Eps
    teacher: Eps | None
    told: bool  # the student is told a number
    null: int  # the null label


# --- the networks -----------------------------------------------------------------------------------------------------


def network(config: TrainConfig, unet: UNetConfig, teacher: Any = None) -> UNetConfig:
    """Return the network with the channels of a number, if the loss or the teacher of `progressive` has one."""
    told = config.loss in NUMBERED or (config.loss == "progressive" and teacher.unet.extra_channels == CHANNELS)
    return with_channels(unet) if told else unet


def of_teacher(config: TrainConfig, unet: UNetConfig) -> UNetConfig:
    """Return the network of the teacher: the student without its number, but in `progressive` the student itself."""
    return unet if config.loss == "progressive" else without_channels(unet)


def nets(config: TrainConfig, unet: UNetConfig, params: Any, prior: Any, key: Any = None) -> Nets:
    """Return the networks that a loss compares: (x_t, t, c), or (x_t, t, (c, h)) if they are told a number."""

    def of(unet: UNetConfig, params: Any, **dropout: Any) -> Eps:
        told = unet.extra_channels == CHANNELS
        return own_sampling.raw(
            FewStepsCard(config.loss, 0, told), Partial(build(unet)[1], params, **dropout), config.T
        )

    student = of(unet, params, **({"key": key} if unet.dropout else {}))
    teacher = of(of_teacher(config, unet), prior.params) if prior else None
    return Nets(student, teacher, unet.extra_channels == CHANNELS, unet.num_classes)


def first_params(unet: UNetConfig, params: Any, prior: Any) -> Any:
    """Return the teacher's parameters as those of a student that begins with them, else `params`."""
    if not isinstance(prior, Teacher):
        return params
    return jax.tree.map(jnp.array, widened(prior.params, params, without_channels(unet)))


def check_teacher(config: TrainConfig, unet: UNetConfig, schedule: Schedule, sha256: str, teacher: Any) -> None:
    """Refuse a teacher that is missing or not wanted, and one of another prediction, schedule, network or data.

    teacher: with predict, schedule, unet and card, as a `ddpm.zoo.model.Model`; or None.
    """
    if config.loss not in TAUGHT:
        return
    if teacher is None:
        raise ValueError(f"loss {config.loss} learns from a teacher; give teacher, such as runs/NAME of a trained flow")
    card, name = teacher.card, f"teacher {teacher.name!r}"
    train = card.get("train") or {}
    if teacher.predict != config.predict:
        raise ValueError(f"{name} predicts {teacher.predict}, but predict is {config.predict}; give the same")
    if not np.array_equal(np.asarray(teacher.schedule.alpha_bar), np.asarray(schedule.alpha_bar)):
        raise ValueError(
            f"{name} has the schedule {card['schedule']['name']} with T = {teacher.schedule.T}, but this training has "
            f"{config.chain} with T = {config.T}; give the same"
        )
    of = (card.get("data") or {}).get("sha256")
    if of != sha256 if of else train.get("data", config.data) != config.data:
        raise ValueError(f"{name} was trained on other images than {config.data}; give one of the same data")
    # what it has learned
    loss, told = train.get("loss", "simple"), teacher.unet.extra_channels == CHANNELS
    again = config.loss == "progressive" and loss in ("progressive", "guided")
    if loss in FEW_STEPS and loss != "reflow" and not again:
        raise ValueError(f"{name} is a few-step model of loss {loss}; give one that is trained on all its times")
    if loss == "progressive" and train.get("calls") != 2 * config.calls:
        raise ValueError(f"{name} draws with {train.get('calls')} calls, and calls is {config.calls}; give half of it")
    if dataclasses.replace(without_channels(teacher.unet), dropout=0.0) != dataclasses.replace(unet, dropout=0.0):
        raise ValueError(
            f"{name} is another network than preset {config.preset!r} makes; begin with like {config.teacher}"
        )
    # guidance
    guides = config.loss == "guided" or config.guidance != 1
    if guides and told:
        raise ValueError(f"{name} has guidance inside it already; leave guidance at 1")
    if guides and not (teacher.unet.num_classes and teacher.unet.null_label and train.get("p_uncond", 0.1) > 0):
        raise ValueError(f"{name} has learned no answer without a class, which guidance needs; give one that has")


# --- what is drawn ----------------------------------------------------------------------------------------------------


def draw(config: TrainConfig, key: jax.Array, B: int, schedule: Schedule, step: Any) -> tuple[jax.Array, Any]:
    """Draw the times (B,), and a tuple of what else the loss compares: other times, jumps or scales, each (B,)."""
    key, key_scale = jax.random.split(key)
    match config.loss:
        case "meanflow":
            r, t = meanflow.draw_pairs(key, B, EQUAL, times=config.times)
            return t, (r,)
        case "shortcut":  # the first quarter of a batch compares jumps, the rest is flow matching   [Sec. 3.2]
            t, d = shortcut.draw_jumps(key, B, FINEST)
            grid = jnp.ceil(jax.random.uniform(key_scale, (B,)) * FINEST) / FINEST
            jumps = jnp.arange(B) < B // 4
            return jnp.where(jumps, t, grid), (jnp.where(jumps, d, 0),)
        case "consistency" | "consistency_distillation":
            N = INTERVALS
            if config.loss == "consistency":
                N = consistency.number_of_times(step, config.steps, *GROWS) - 1
            i = jnp.floor(jax.random.uniform(key, (B,)) * N) + 1
            return i / N, ((i - 1) / N,)
        case "progressive":
            grid = jnp.asarray(make_times(config.T, 2 * config.calls))
            i = 2 * jax.random.randint(key, (B,), 0, config.calls)
            return grid[i], (grid[i + 1], grid[i + 2], jax.random.uniform(key_scale, (B,)))
    t = (
        stratified_times(key, B, schedule.T)
        if config.times == "uniform"
        else times.draw(key, B, schedule, config.times)
    )
    return t, (jax.random.uniform(key_scale, (B,)),)


# --- what is compared -------------------------------------------------------------------------------------------------


def terms(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """The loss of each image: (B,).   draws: x0, t, noise, c, and of `draw` what else there is"""
    return LOSSES[config.loss](config, nets, schedule, draws)


def _meanflow(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """[Geng et al. 2025, Eq. 9; with guidance, Eq. 19]   Its value is the plain loss, its gradient the weighted one."""
    x0, t, noise, c, (r,) = draws.x0, draws.t, draws.noise, draws.c, draws.more
    u, x, velocity = average_of(nets.student, config.T), _state(t, x0, noise), noise - x0
    if config.guidance != 1:
        free = jax.lax.stop_gradient(u(x, t, t, None))
        guided = config.guidance * velocity + (1 - config.guidance) * free
        velocity = jnp.where(shaped(c == nets.null, x), velocity, guided)
    target = meanflow.meanflow_target(u, x, r, t, velocity, c)
    error = per_image((u(x, r, t, c) - target) ** 2)
    D = x0[0].size
    weighted = D * meanflow.adaptive_weight(D * error) * error
    return weighted + jax.lax.stop_gradient(error - weighted)


def _shortcut(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """Two jumps against one, then flow matching at d = 0.   [Frans et al. 2024, Algorithm 1]"""
    plain, k = shortcut.as_shortcut(average_of(nets.student, config.T)), len(draws.x0) // 4
    few, rest = (jax.tree.map(lambda a, i=i: a[i], draws) for i in (slice(k), slice(k, None)))
    compared = _guided_at_0(plain, config.guidance)
    x = _state(few.t, few.x0, few.noise)
    first = shortcut.self_consistency_loss(compared, x, few.t, few.more[0], few.c, FINEST)
    velocity = lambda x, tau, c: plain(x, tau, 0 * tau, c)  # noqa: E731
    flow = matching.flow_matching_loss(velocity, make_path("linear"), rest.x0, rest.t, rest.noise, rest.c)
    return jnp.concatenate([first, flow])


def _guided_at_0(plain: Callable[..., jax.Array], scale: float) -> Callable[..., jax.Array]:
    """s(x, t, d, c), guided where d = 0: the jumps are then those of the guided flow."""
    if scale == 1:
        return plain

    def guided(x: jax.Array, t: jax.Array, d: jax.Array, c: Any) -> jax.Array:
        s, free = plain(x, t, d, c), jax.lax.stop_gradient(plain(x, t, d, None))
        return s + jnp.where(shaped(d == 0, x), (scale - 1) * (s - free), 0)

    return guided


def _consistency(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """Song and Dhariwal 2023's loss: pseudo-Huber, with the weight 1/(t - s)."""
    x0, t, noise, c, (s,) = draws.x0, draws.t, draws.noise, draws.c, draws.more
    f = end_of(nets.student, config.T)
    loss = consistency.consistency_training_loss(f, make_path("linear"), x0, t, s, noise, c, _huber(x0))
    return loss / (t - s)


def _distilled(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """Song et al. 2023, Eq. 7, by one step of Heun's method of the teacher's velocity, guided or not."""
    x0, t, noise, c, (s,) = draws.x0, draws.t, draws.noise, draws.c, draws.more
    velocity = velocity_of(_guided(nets.teacher, config.guidance), config.T)
    s = jnp.maximum(s, LAST / config.T)  # the teacher knows no time below t = 1
    f, x = end_of(nets.student, config.T), _state(t, x0, noise)
    return consistency.consistency_distillation_loss(f, velocity, x, t, s, c, _huber(x0))


def _progressive(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """Salimans and Ho 2022, Algorithm 2; of a student that is told a scale, stage 2 of Meng et al. 2023."""
    m, s, h = draws.more
    c = (draws.c, h) if nets.told else draws.c
    teacher = _guided(_denoiser(config, nets.teacher, schedule), config.guidance)
    x_t = q_sample(schedule, draws.x0, draws.t, draws.noise)
    student = _denoiser(config, nets.student, schedule)
    return progressive.progressive_loss(student, teacher, schedule, x_t, draws.t, m, s, c)


def _of_scale(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """Meng et al. 2023, stage 1: the answer of two guided calls, at a scale 1 + 3h."""
    (h,) = draws.more
    student = _denoiser(config, nets.student, schedule)
    scaled = lambda x, t, c: student(x, t, (c[0], (c[1] - 1) / (MOST_SCALE - 1)))  # noqa: E731
    x_t, scale = q_sample(schedule, draws.x0, draws.t, draws.noise), 1 + (MOST_SCALE - 1) * h
    return distillation_loss(scaled, _denoiser(config, nets.teacher, schedule), x_t, draws.t, draws.c, scale)


def _reflow(config: TrainConfig, nets: Nets, schedule: Schedule, draws: Any) -> jax.Array:
    """Flow matching between the noise and what the teacher makes of it, in place of the data.   [Liu et al. 2023]"""
    teacher = _guided(_denoiser(config, nets.teacher, schedule), config.guidance)
    step, grid = ddim_step(teacher, schedule, draws.c), make_times(config.T, config.calls)
    x0 = jax.lax.stop_gradient(walk(step, jax.random.key(0), draws.noise, grid))  # without noise, the key is not used
    objective = objectives.objective("mse", config.predict)
    return objective(nets.student, schedule, jnp.clip(x0, -1, 1), draws.t, draws.noise, draws.c)


def _state(t: jax.Array, x0: jax.Array, noise: jax.Array) -> jax.Array:
    return (1 - shaped(t, x0)) * x0 + shaped(t, x0) * noise


def _huber(x0: jax.Array) -> float:
    return 0.00054 * x0[0].size ** 0.5


def _guided(eps: Any, scale: float) -> Eps:
    return eps if scale == 1 else cfg(eps, scale)


def _denoiser(config: TrainConfig, net: Any, schedule: Schedule) -> Eps:
    return objectives.denoiser(net, False, schedule, config.predict)


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "meanflow": _meanflow,
    "shortcut": _shortcut,
    "consistency": _consistency,
    "consistency_distillation": _distilled,
    "progressive": _progressive,
    "guided": _of_scale,
    "reflow": _reflow,
}
