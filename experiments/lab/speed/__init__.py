"""Speed and memory, each number with its reference, measured in turns in one run of under six minutes.

    python -m experiments.lab.speed [--quick] [--batch 64] [--parts training_step operators …]

- the training step of the `small` U-Net against diffusers' UNet2DModel of the same architecture, eager and under
  torch.compile, and against the nearest Unet of denoising-diffusion-pytorch (what is not installed is skipped);
- which operator lowers the ratio: all of them, timed alone on both sides;
- a DDIM walk of the same network on both sides; the loop against the bare network calls in it; guidance; recompilation;
- typicality's throughput against the network's bare forward, and its memory at 10 and at 100 draws;
- the cost of a start, with the persistent cache empty and filled.

Parts that are not measured are kept as they were; `measured_at` has the commit of each.

Times are medians of rounds in which the sides take turns, so that a machine that slows down slows all; ratios are taken
inside each round and reported with their quartiles.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm import plot
from ddpm.config import UNetConfig, unet_config
from ddpm.tools import machine
from ddpm.tools.files import write_atomic
from ddpm.tools.origin import commit
from experiments.lab.speed import operators, parts, peers, startup

PEERS = ("torch", "diffusers", "denoising-diffusion-pytorch")
RESULTS = Path(__file__).parents[2] / "results" / "speed"
PARTS = ("training_step", "operators", "ddim", "sampling", "typicality", "startup")


@dataclass(frozen=True)
class Config:
    """What to measure, and how often."""

    preset: str = "small"  # the network of the training step: small is Ho et al.'s design at 32 channels
    batch: int = 64  # images a step
    rounds: int = 5  # each side is timed once in a round
    compile: bool = True  # also measure diffusers under torch.compile
    parts: tuple[str, ...] = PARTS  # which parts to measure
    quick: bool = False  # a tiny network, two rounds: to check that it runs; nothing is written
    out: Path = RESULTS  # the folder of metrics.json and figure.png


def tiny(config: Config) -> Config:
    """The configuration of `--quick`."""
    few = tuple(p for p in config.parts if p != "startup")
    return dataclasses.replace(config, rounds=2, batch=4, compile=False, parts=few)


def main(config: Config) -> dict[str, Any]:
    """Measure, print and write the result."""
    unet, laptop, steps, draws = unet_config(config.preset), unet_config("cpu", num_classes=10), 50, 100
    if config.quick:
        config, steps, draws = tiny(config), 5, 5
        unet = UNetConfig(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(8,), groups=4)
        laptop = dataclasses.replace(unet, num_classes=10)
    few, batch = min(3, config.rounds), config.batch
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "training_step": lambda: parts.training_step(unet, batch, config.rounds, config.compile),
        "operators": lambda: operators.table(unet, batch, few),
        "ddim": lambda: parts.ddim(unet, max(1, batch // 4), max(2, steps // 5), config.rounds, config.compile),
        "sampling": lambda: parts.sampling(laptop, batch, steps, few),
        "typicality": lambda: parts.typical(laptop, batch, draws, min(2, config.rounds)),
        "startup": startup.measure,
    }
    if peers.diffusers_unet(unet) is None:
        measures["operators"] = lambda: {"note": "diffusers is not installed"}
    start, path = time.perf_counter(), config.out / "metrics.json"
    kept = json.loads(path.read_text()) if path.exists() and not config.quick else {}
    result: dict[str, Any] = {
        "config": {k: v for k, v in dataclasses.asdict(config).items() if k != "out"},
        "device": machine.device_name(),
        "versions": kept.get("versions", {}) | machine.versions() | {p: v for p in PEERS if (v := _version(p))},
        "commit": commit() or "unknown",
    }
    result["measured_at"] = {name: kept.get("measured_at", {}).get(name, kept.get("commit")) for name in PARTS}
    result |= {name: kept[name] for name in PARTS if name in kept}  # of parts that are not measured now
    for name in config.parts:
        before = time.perf_counter()
        result[name], result["measured_at"][name] = measures[name](), result["commit"]
        print(f"{name} ({time.perf_counter() - before:.0f} s): {_line(result[name])}", flush=True)
    result["seconds"] = round(time.perf_counter() - start, 1)
    figure = picture(result)
    if not config.quick:
        write_atomic(path, (json.dumps(result, indent=1) + "\n").encode())
        plot.save_figure(config.out / "figure.png", figure)
        print(f"written to {config.out}")
    return result


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _line(part: dict[str, Any]) -> str:
    rows = [(k, v) for k, v in part.items() if not isinstance(v, dict)]
    text = ", ".join(f"{k} {v}" for k, v in rows)
    tables = [f"\n  {k}: " + _line(v) for k, v in part.items() if isinstance(v, dict)]
    return text + "".join(tables)


def picture(result: dict[str, Any]) -> Any:
    """Seconds of a training step on each side, and milliseconds of each operator."""
    step, table = result.get("training_step", {}), result.get("operators", {}).get("operators", {})
    with plot.style():
        figure = plot.new_figure(9.0, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
        timed = [k.removesuffix("_seconds") for k in step if k.endswith("_seconds")]
        names = [n for n in timed if f"{n}_quartiles" in step]
        colours = ["#c0392b" if n == "ddpm" else "#8fa9bd" for n in names]
        left.bar([n.replace("_", "\n") for n in names], [step[f"{n}_seconds"] for n in names], color=colours)
        left.tick_params(axis="x", labelsize=7)
        left.set(ylabel="seconds a training step", title=f"batch {step.get('batch', '')}, {result['device']}")
        y = range(len(table))
        right.barh([i - 0.2 for i in y], [r["ours_ms"] for r in table.values()], 0.4, color="#c0392b", label="ddpm")
        right.barh([i + 0.2 for i in y], [r["peer_ms"] for r in table.values()], 0.4, color="#8fa9bd", label="PyTorch")
        right.set_yticks(list(y), list(table), fontsize=8)
        right.invert_yaxis()
        right.set(xlabel="ms, summed over the network, each operator alone")
        right.legend()
    return figure


__all__ = ["Config", "main"]
