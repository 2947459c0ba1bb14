"""Timings of the training step, sampling, guidance and typicality, each in turns with its reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm import sample, typicality
from ddpm.config import UNetConfig
from ddpm.contracts import Partial
from ddpm.guide import cfg, clip_x0
from ddpm.loss import squared_error
from ddpm.network import eps_fn
from ddpm.networks.inspect import count
from ddpm.schedule import cosine, linear, make_times
from ddpm.tools import machine
from ddpm.training.config import TrainConfig
from ddpm.training.step import init_state, make_step
from experiments.lab.speed import peers

Sides = dict[str, Callable[[], Any]]


def rounds_of(rounds: int, sides: Sides) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for r in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if r:
                times[name].append(time.perf_counter() - start)
    return times


def turns(rounds: int, **sides: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each side."""
    return {name: statistics.median(t) for name, t in rounds_of(rounds, sides).items()}


def compared(times: dict[str, list[float]], ours: str = "ddpm") -> dict[str, Any]:
    """Median seconds with quartiles, and the speed of `ours` as a share of each other side's, likewise.

    Ratios are taken inside each round: a machine that slows down for a while slows both sides.
    """
    result: dict[str, Any] = {}
    for name, t in times.items():
        low, middle, high = statistics.quantiles(t, n=4, method="inclusive") if len(t) > 1 else t * 3
        result[f"{name}_seconds"] = round(middle, 4)
        result[f"{name}_quartiles"] = [round(low, 4), round(high, 4)]
    for name in times.keys() - {ours}:
        ratios = [b / a for a, b in zip(times[ours], times[name], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        result["ratio" if name == "diffusers" else f"ratio_{name}"] = round(middle, 3)
        result[f"ratio_{name}_quartiles"] = [round(low, 3), round(high, 3)]
    return result


def our_step(unet: UNetConfig, batch: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Our training step on one batch as a function, and its size and compile time."""
    setup = TrainConfig(batch=batch)
    schedule, rng = linear(1000), np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (4 * batch, *unet.image_shape)).astype(np.uint8))
    labels, ids = jnp.zeros(len(images), jnp.int32), jnp.arange(batch)
    state = init_state(setup, unet)
    lowered = make_step(setup, unet).lower(state, schedule, images, labels, ids)
    machine.give_memory_back()  # here and below, as a training does
    start = time.perf_counter()
    step = lowered.compile()
    seconds = time.perf_counter() - start
    machine.give_memory_back()
    analysis: Any = step.cost_analysis() or {}
    about = {
        "parameters": count(state.params),
        "batch": batch,
        "GFLOP": round(analysis.get("flops", float("nan")) / 1e9, 2),
        "compile_seconds": round(seconds, 1),
    }

    def run() -> None:
        nonlocal state
        state, metrics = step(state, schedule, images, labels, ids)
        jax.block_until_ready((state, metrics))

    return run, about


def training_step(unet: UNetConfig, batch: int, rounds: int, compiled: bool = True) -> dict[str, Any]:
    """Loss, gradient, clipping, Adam and the average, on one batch: ours and the other libraries'."""
    ours, about = our_step(unet, batch)
    sides: Sides = {"ddpm": ours}
    notes = []
    for name, model in (("diffusers", peers.diffusers_unet(unet)), ("lucidrains", peers.lucidrains_unet(unet))):
        if model is None:
            notes.append(f"{name} is not installed")
            continue
        about[f"{name}_parameters"] = sum(p.numel() for p in model.parameters())
        sides[name] = peers.training_step(model, unet, batch)
    if "diffusers" in sides and compiled:
        seconds = add_compiled(sides, "diffusers", peers.diffusers_unet(unet), unet, batch, notes)
        about |= {"torch_compile_seconds": seconds} if seconds else {}
    return about | compared(rounds_of(rounds, sides)) | ({"notes": notes} if notes else {})


def add_compiled(sides: Sides, name: str, model: Any, unet: UNetConfig, batch: int, notes: list[str]) -> float | None:
    """Add the network under torch.compile as `NAME_compiled`; return seconds of its first step, None if it fails."""
    import torch

    step = peers.training_step(torch.compile(model), unet, batch)
    start = time.perf_counter()
    try:
        step()
    except Exception as e:  # no C++ compiler, an unsupported Python, …: the classes of its errors are many
        notes.append(f"torch.compile does not work here: {type(e).__name__}")
        return None
    sides[f"{name}_compiled"] = step
    return round(time.perf_counter() - start, 1)


def ddim(unet: UNetConfig, batch: int, steps: int, rounds: int, compiled: bool = True) -> dict[str, Any]:
    """A DDIM walk of the same network: ours (one compiled loop) and diffusers' network in the plainest loop."""
    schedule, times = cosine(1000), make_times(1000, steps)
    eps = eps_fn(unet, init_state(TrainConfig(), unet).params)
    x = jax.random.normal(jax.random.key(0), (batch, *unet.image_shape))
    step = sample.ddim_step(clip_x0(eps, schedule), schedule)
    sides: Sides = {"ddpm": lambda: jax.block_until_ready(sample.walk(step, jax.random.key(0), x, times))}
    model = peers.diffusers_unet(unet)
    if model is not None:
        model.eval()
        sides["diffusers"] = peers.ddim(model, unet, batch, times, schedule.alpha_bar)
        if compiled:
            import torch

            sides["diffusers_compiled"] = peers.ddim(torch.compile(model), unet, batch, times, schedule.alpha_bar)
    return {"batch": batch, "steps": steps} | compared(rounds_of(rounds, sides))


def sampling(unet: UNetConfig, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Time a walk against its bare network calls and guided against unguided; count what compiles again."""
    eps, schedule, times = eps_fn(unet, init_state(TrainConfig(), unet).params), cosine(1000), make_times(1000, steps)
    x = jax.random.normal(jax.random.key(0), (batch, *unet.image_shape))
    c, t = jnp.zeros(batch, jnp.int32), jnp.full(batch, 500)
    bare = jax.jit(lambda e, x, t, c: e(x, t, c))

    def network() -> None:
        for _ in range(steps):
            jax.block_until_ready(bare(eps, x, t, c))

    def walk(scale: float | None = None, key: int = 0, schedule: Any = schedule) -> None:
        denoiser = eps if scale is None else cfg(eps, scale)
        step = sample.ddim_step(clip_x0(denoiser, schedule), schedule, c)
        jax.block_until_ready(sample.walk(step, jax.random.key(key), x, times))

    def programs() -> int:
        return sample._walk._cache_size()  # type: ignore[attr-defined]

    seconds = turns(rounds, network=network, walk=walk, guided=lambda: walk(2.0))
    compiled = programs()
    walk(3.5, key=9, schedule=linear(1000))
    return {
        "batch": batch,
        "steps": steps,
        "walk_seconds": round(seconds["walk"], 3),
        "network_share": round(seconds["network"] / seconds["walk"], 3),
        "guided_over_unguided": round(seconds["guided"] / seconds["walk"], 3),
        "compiled_again_for_new_guidance_seed_schedule": programs() - compiled,
    }


def typical(unet: UNetConfig, batch: int, draws: int, rounds: int) -> dict[str, Any]:
    """Typicality's images x draws x 2 a second against the bare forward pass, and the memory of its compiled loop."""
    eps, schedule = eps_fn(unet, init_state(TrainConfig(), unet).params), cosine(1000)
    x = np.asarray(jax.random.uniform(jax.random.key(0), (batch, *unet.image_shape), minval=-1, maxval=1))
    c, t = jnp.zeros(batch, jnp.int32), jnp.full(batch, 500)
    bare = jax.jit(lambda e, x, t, c: e(x, t, c))

    def network() -> None:
        for _ in range(2 * draws):
            jax.block_until_ready(bare(eps, x, t, c))

    def measure() -> None:
        typicality.measure(eps, schedule, x, 0, jax.random.key(0), typicality.Draws(draws), batch=batch)

    seconds = turns(rounds, network=network, typicality=measure)

    def memory(n: int) -> int:
        window, weight = jnp.array([101, 701]), jnp.ones(1001)
        loss = Partial(squared_error, eps, schedule)
        args = (loss, x, (c, None), jax.random.key(0), window, weight, n, True)
        analysis: Any = typicality._measure.lower(*args).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    return {
        "draws": draws,
        "image_draws_per_second": round(batch * draws / seconds["typicality"], 1),
        "share_of_bare_forward": round(seconds["network"] / seconds["typicality"], 3),
        "temporary_MiB_at_10_draws": round(memory(10) / 2**20, 2),
        "temporary_MiB_at_100_draws": round(memory(100) / 2**20, 2),
    }
