"""Speed and memory, each figure beside what it is compared with, measured in turn in one run.

    python -m experiments.speed [--quick] [--batch 64]

- the training step of the `small` U-Net against diffusers' UNet2DModel with the same widths (if PyTorch is installed);
- the sampler's loop against the bare network calls in it;
- guided against unguided sampling, and what compiles again when guidance, seed and schedule change;
- typicality's throughput against the network's bare forward, and its memory at 10 and at 100 draws.

Times are medians of rounds in which the two sides take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from ddpm import run, sample, typicality
from ddpm.cli import ask_for_huge_pages
from ddpm.config import TrainConfig, UNetConfig, unet_config
from ddpm.guide import cfg, clip_x0
from ddpm.network import build, count, eps_fn
from ddpm.schedule import cosine, linear, make_times
from ddpm.store import write_atomic
from ddpm.train import init_state, make_step

PEERS = ("torch", "diffusers")


@dataclass(frozen=True)
class Config:
    """What is measured."""

    preset: str = "small"  # the network of the training step: small is Ho et al.'s design at 32 channels
    batch: int = 64  # images a step
    rounds: int = 7  # each side once a round
    quick: bool = False  # a tiny network, two rounds: to see that it runs


def turns(rounds: int, **sides: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each side; the sides take turns, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for r in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if r:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def training_step(config: Config, unet: UNetConfig) -> dict[str, Any]:
    """Loss, gradient, clipping, Adam and the average, on one batch: ours and, if it is there, PyTorch's."""
    setup = TrainConfig(batch=config.batch)
    step, schedule = make_step(setup, unet), linear(1000)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (4 * config.batch, *unet.image_shape)).astype(np.uint8))
    labels, ids = jnp.zeros(len(images), jnp.int32), jnp.arange(config.batch)
    state = init_state(setup, unet)

    def ours() -> None:
        nonlocal state
        state, metrics = step(state, schedule, images, labels, ids)
        jax.block_until_ready((state, metrics))

    sides: dict[str, Callable[[], Any]] = {"ddpm": ours}
    theirs = diffusers_step(unet, config.batch)
    if theirs is not None:
        sides["diffusers"] = theirs
    seconds = turns(config.rounds, **sides)
    result: dict[str, Any] = {"parameters": count(state.params), "batch": config.batch}
    result |= {f"{name}_seconds": round(s, 4) for name, s in seconds.items()}
    if theirs is not None:
        result["ratio"] = round(seconds["diffusers"] / seconds["ddpm"], 3)
    return result


def diffusers_step(unet: UNetConfig, batch: int) -> Callable[[], None] | None:
    """The same training step with diffusers' UNet2DModel in eager PyTorch, or None where it is not installed."""
    try:
        import diffusers
        import torch
    except ImportError:
        return None
    sizes = [unet.image_size // 2**i for i in range(len(unet.multipliers))]
    attend = [s in unet.attention for s in sizes]
    model: Any = diffusers.UNet2DModel(
        sample_size=unet.image_size,
        in_channels=unet.image_channels,
        out_channels=unet.image_channels,
        block_out_channels=tuple(unet.channels * m for m in unet.multipliers),
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attend),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
        layers_per_block=unet.blocks,
        downsample_padding=0,
        norm_num_groups=unet.groups,
        norm_eps=1e-6,
        attention_head_dim=None,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    ema = [p.detach().clone() for p in model.parameters()]
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    x0 = torch.rand(batch, unet.image_channels, unet.image_size, unet.image_size) * 2 - 1

    def step() -> None:
        t, noise = torch.randint(0, 1000, (batch,)), torch.randn_like(x0)
        a = alpha_bar[t][:, None, None, None]
        loss = ((model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t).sample - noise) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        torch._foreach_lerp_(ema, list(model.parameters()), 0.001)

    return step


def sampling(config: Config, unet: UNetConfig, steps: int) -> dict[str, Any]:
    """One walk against its bare network calls; guided against unguided; and what compiles again."""
    eps, schedule, times = eps_fn(unet, init_state(TrainConfig(), unet).params), cosine(1000), make_times(1000, steps)
    x = jax.random.normal(jax.random.key(0), (config.batch, *unet.image_shape))
    c, t = jnp.zeros(config.batch, jnp.int32), jnp.full(config.batch, 500)
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

    seconds = turns(config.rounds, network=network, walk=walk, guided=lambda: walk(2.0))
    compiled = programs()
    walk(3.5, key=9, schedule=linear(1000))
    return {
        "batch": config.batch,
        "steps": steps,
        "walk_seconds": round(seconds["walk"], 3),
        "network_share": round(seconds["network"] / seconds["walk"], 3),
        "guided_over_unguided": round(seconds["guided"] / seconds["walk"], 3),
        "compiled_again_for_new_guidance_seed_schedule": programs() - compiled,
    }


def typical(config: Config, unet: UNetConfig, draws: int) -> dict[str, Any]:
    """Typicality's images x draws x 2 a second against the bare forward's, and the memory of its compiled loop."""
    eps, schedule = eps_fn(unet, init_state(TrainConfig(), unet).params), cosine(1000)
    x = np.asarray(jax.random.uniform(jax.random.key(0), (config.batch, *unet.image_shape), minval=-1, maxval=1))
    c, t = jnp.zeros(config.batch, jnp.int32), jnp.full(config.batch, 500)
    bare = jax.jit(lambda e, x, t, c: e(x, t, c))

    def network() -> None:
        for _ in range(2 * draws):
            jax.block_until_ready(bare(eps, x, t, c))

    def measure() -> None:
        typicality.typicality(eps, schedule, x, 0, jax.random.key(0), draws=draws, batch=config.batch)

    seconds = turns(config.rounds, network=network, typicality=measure)

    def memory(n: int) -> int:
        window, weight = jnp.array([101, 701]), jnp.ones(1001)
        args = (eps, schedule, x, c, None, jax.random.key(0), window, weight, n, True)
        analysis: Any = typicality._typicality.lower(*args).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    return {
        "draws": draws,
        "image_draws_per_second": round(config.batch * draws / seconds["typicality"], 1),
        "share_of_bare_forward": round(seconds["network"] / seconds["typicality"], 3),
        "temporary_MiB_at_10_draws": round(memory(10) / 2**20, 2),
        "temporary_MiB_at_100_draws": round(memory(100) / 2**20, 2),
    }


def main(config: Config) -> dict[str, Any]:
    """Measure, print and keep."""
    unet, laptop, steps, draws = unet_config(config.preset), unet_config("cpu", num_classes=10), 50, 100
    if config.quick:
        config = dataclasses.replace(config, rounds=2, batch=8)
        unet, steps, draws = UNetConfig(8, 1, channels=8, multipliers=(1, 2), attention=(4,), groups=4), 5, 5
        laptop = dataclasses.replace(unet, num_classes=10)
    build(unet)
    start = time.perf_counter()
    result: dict[str, Any] = {
        "config": dataclasses.asdict(config),
        "device": run.device_name(),
        "versions": run.versions() | {p: importlib.metadata.version(p) for p in PEERS if importlib.util.find_spec(p)},
    }
    for name, part in (
        ("training_step", lambda: training_step(config, unet)),
        ("sampling", lambda: sampling(config, laptop, steps)),
        ("typicality", lambda: typical(dataclasses.replace(config, rounds=min(3, config.rounds)), laptop, draws)),
    ):
        result[name] = part()
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in result[name].items()), flush=True)
    result["seconds"] = round(time.perf_counter() - start, 1)
    if not config.quick:
        out = Path(__file__).parent / "results" / "speed" / "metrics.json"
        write_atomic(out, (json.dumps(result, indent=1) + "\n").encode())
        print(f"kept in {out}")
    return result


if __name__ == "__main__":
    ask_for_huge_pages()  # as the command `ddpm` does; both sides of each comparison have them
    main(tyro.cli(Config, description=__doc__))
