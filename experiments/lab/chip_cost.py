"""What a training costs on 1, 8, 64 and 4,096 chips, from the FLOPs that XLA counts: a calculation, not a measurement.

    python -m experiments.lab.chip_cost [--preset cifar10] [--images 102400000]

The FLOPs of a step and the bytes of its gradient and of a checkpoint are counted on the program and its state. The
speed of a chip is an assumption, printed with its source. Nothing here was run on such chips.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from ddpm.config import unet_config
from ddpm.networks.inspect import count
from ddpm.schedule import linear
from ddpm.tools.files import write_atomic
from ddpm.training.config import TrainConfig
from ddpm.training.step import init_state, make_step

# Dense bf16 peak in FLOP/s, and the slowest link of the all-reduce in bytes/s, each way: data sheets, not measured.
CHIPS: dict[str, tuple[float, float, str]] = {
    "NVIDIA H100 SXM": (989e12, 50e9, "NVIDIA H100 data sheet: 989 TFLOP/s; 400 Gbit/s network for each chip"),
    "TPU v5e": (
        197e12,
        50e9,
        "Google Cloud TPU v5e page: 197 TFLOP/s; 1,600 Gbit/s a chip, a quarter counted",
    ),
}
CHIPS_OF = (1, 8, 64, 4096)


@dataclass(frozen=True)
class Config:
    """The training and the chips of the calculation."""

    preset: str = "cifar10"  # the network; cifar10 is Ho et al.'s, 35.7 M parameters
    batch: int = 8  # images of the step whose FLOPs are counted
    images: int = 800_000 * 128  # images of the whole training: 800,000 steps of 128 in Ho et al. 2020, App. B
    share: float = 0.3  # of the peak that a chip is assumed to reach
    per_chip: int = 128  # images of a step on one chip, where the batch grows with the chips
    total: int = 4096  # images of a step on all chips, where the batch is fixed
    out: Path = Path("experiments/results/scale/metrics.json")  # file for the numbers


def flops_per_image(config: Config) -> dict[str, float]:
    """FLOPs an image of a training step, as XLA counts them, by the difference of two batches: Adam cancels."""
    unet = unet_config(config.preset, dropout=0.1)
    schedule, found = linear(1000), {}
    for batch in (config.batch, 2 * config.batch):
        setup = TrainConfig(batch=batch, preset=config.preset)
        state = jax.eval_shape(lambda setup=setup: init_state(setup, unet))
        images = jax.ShapeDtypeStruct((64, *unet.image_shape), jnp.uint8)
        numbers = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (64, batch)]
        lowered = make_step(setup, unet).lower(state, schedule, images, *numbers)
        found[batch] = float((lowered.cost_analysis() or {})["flops"])  # before XLA's optimisation: no compilation
    per_image = (found[2 * config.batch] - found[config.batch]) / config.batch
    sizes = jax.eval_shape(lambda: init_state(TrainConfig(preset=config.preset), unet))
    return {
        "parameters": count(sizes.params),
        "flops_per_image": per_image,
        "flops_per_step_besides": found[config.batch] - config.batch * per_image,
        "gradient_bytes": 4.0 * count(sizes.params),
        "checkpoint_bytes": float(sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(sizes))),
    }


def row(
    measured: dict[str, float], config: Config, chips: int, batch: int, peak: float, link: float
) -> dict[str, float]:
    """One row: `batch` images a step on `chips` chips, then a ring all-reduce without overlap."""
    compute = batch / chips * measured["flops_per_image"] / (config.share * peak)
    reduce = 2 * (chips - 1) / chips * measured["gradient_bytes"] / link
    steps = math.ceil(config.images / batch)
    return {
        "chips": chips,
        "batch": batch,
        "steps": steps,
        "compute_ms": 1e3 * compute,
        "all_reduce_ms": 1e3 * reduce,
        "hours": steps * (compute + reduce) / 3600,
        "chip_hours": chips * steps * (compute + reduce) / 3600,
        "images_per_s": batch / (compute + reduce),
    }


def main(config: Config) -> dict[str, Any]:
    """Count, calculate, print, write."""
    measured = flops_per_image(config)
    print(f"{config.preset}: {measured['parameters']:,.0f} parameters; counted by XLA, dropout 0.1, float32")
    print(f"  training step   {measured['flops_per_image'] / 1e9:.2f} GFLOP an image")
    print(f"  gradient        {measured['gradient_bytes'] / 1e6:.0f} MB a step and chip")
    print(f"  checkpoint      {measured['checkpoint_bytes'] / 1e6:.0f} MB (parameters, average, Adam's two moments)")
    print(f"\ncalculated, not run: {config.images:,} images, {config.share:.0%} of the peak")
    table: dict[str, list[dict[str, float]]] = {}
    for chip, (peak, link, source) in CHIPS.items():
        print(f"\n{chip}: {peak / 1e12:.0f} TFLOP/s bf16, {link / 1e9:.0f} GB/s   [{source}]")
        print("  chips    batch     steps   compute ms   all-reduce ms   hours   chip-hours   images/s")
        pairs = [(n, n * config.per_chip) for n in CHIPS_OF] + [(n, config.total) for n in CHIPS_OF]
        table[chip] = [row(measured, config, n, batch, peak, link) for n, batch in pairs]
        for r in table[chip]:
            print(
                f"  {r['chips']:5.0f}  {r['batch']:7,.0f}  {r['steps']:8,.0f}   {r['compute_ms']:10.1f}   "
                f"{r['all_reduce_ms']:13.1f}   {r['hours']:5.2f}   {r['chip_hours']:10.1f}   {r['images_per_s']:8,.0f}"
            )
    about = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()}
    result = {"config": about, "jax": jax.__version__, "measured": measured, "calculated": table}
    write_atomic(config.out, (json.dumps(result, indent=1) + "\n").encode())
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
