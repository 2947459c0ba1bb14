"""`ddpm info`: an overview, or a data set. Slow imports happen only if devices or a data set are requested."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from pathlib import Path

import ddpm
from ddpm import data, weights
from ddpm.cli import options
from ddpm.datasets import sources
from ddpm.networks.dit_config import PRESETS, DiTConfig
from ddpm.training.unet_options import suggestion
from ddpm.zoo import cards


def run(command: options.Info) -> None:
    """Print versions, weights, data, presets and runs; or what a data set holds."""
    if command.data:
        return show(*sources.read(command.data, command.data_dir))
    # Versions and devices
    packages = ", ".join(f"{p} {_version(p)}" for p in ("jax", "flax", "optax", "numpy"))
    print(f"ddpm {ddpm.__version__}, Python {platform.python_version()}, {packages}, {os.cpu_count()} CPU cores")
    if command.devices:
        import jax

        print("devices: " + ", ".join(str(d) for d in jax.devices()))

    # What ships with the package
    print("\nshipped weights (ddpm sample --model NAME)")
    for name, card in weights.cards("denoiser").items():
        print(f"  {name:28s} {card.get('summary', '')}")
    print("\nshipped classifiers (ddpm evaluate --classifier NAME)")
    for name, card in weights.cards("classifier").items():
        summary = card.get("summary") or f"classifier, test accuracy {card.get('test', {}).get('accuracy')}"
        print(f"  {name:28s} {summary}")

    if generators := weights.cards("generator"):
        print("\nshipped generators of other kinds (ddpm generator --trained NAME)")
        for name, card in generators.items():
            print(f"  {name:28s} {card.get('summary', '')}")

    print("\ndata sets (ddpm train --data NAME)")
    for name in sources.NAMES:
        print(f"  {name:28s} {sources.where(name) or 'not on this machine; downloaded when first used'}")

    print("\nnetwork presets (ddpm train --preset NAME)")
    for name, u in PRESETS.items():
        shape = "x".join(map(str, u.image_shape))
        patch = f", {u.patch}x{u.patch} pixels a position" if u.patch > 1 else ""
        wide = f"{u.channels} channels x {u.multipliers}"
        if isinstance(u, DiTConfig):
            wide = f"transformer, {u.blocks} blocks of {u.channels} channels"
        print(f"  {name:28s} {shape} images, {wide}{patch}")

    # Reference runs and own runs
    print("\nreference runs (ddpm compare runs/NAME)")
    for file in sorted((Path(ddpm.__file__).parent / "training" / "references").glob("*.json")):
        print(f"  {file.stem:28s} {json.loads(file.read_text(encoding='utf-8'))['summary']}")

    print("\nruns (ddpm sample --model runs/NAME)")
    found = sorted(Path("runs").glob("*/config.json"))
    for file in found:
        try:
            train = cards.run_card(file.parent)[0].train
        except ValueError as e:
            print(f"  {file.parent!s:28s} not a run: {e}")
            continue
        steps = [int(p.stem[5:]) for p in file.parent.glob("checkpoints/step_*.json") if p.stem[5:].isdecimal()]
        print(f"  {file.parent!s:28s} {train.data}, {train.preset}, step {max(steps, default=0)} of {train.steps}")
    if not found:
        print("  none yet; `ddpm train --data digits --preset digits` makes one in a minute")


def show(d: data.Dataset, lines: list[str]) -> None:
    """Print what was read, the exact baseline of these images, and which presets are for them."""
    from ddpm.oracles.spectrum import training_loss
    from ddpm.schedule import cosine

    print("\n  ".join([*lines, f"from {d.source}"]))
    # Baseline
    schedule = cosine(1000)
    print(
        f"\nexact loss of the best linear-Gaussian denoiser on the {len(d.x_train):,} training images "
        f"(ε-MSE, cosine schedule, T = {schedule.T:,}):"
    )
    for name, c in (("no class", None), *([("class given", d.y_train)] if d.num_classes else [])):
        low, high = training_loss(schedule, d.x_train, c)
        exact = high - low <= 5e-5 * high
        print(f"  {name:28s} {high:.4f}" if exact else f"  {name:28s} between {low:.4f} and {high:.4f}")
    print("A network has learned something that a Gaussian cannot once its loss is lower; 1 is the loss of ε̂ = 0.")
    numbers = math.prod(d.image_shape)
    if len(d.x_train) <= numbers:
        print(
            f"The training images are no more than the {numbers:,} numbers of one: this Gaussian has memorised them, "
            "and its loss on fresh images is higher (`ddpm evaluate` measures it on the test images)."
        )
    # Networks
    fits = [name for name, u in PRESETS.items() if u.image_shape == d.image_shape]
    print(f"\nnetwork presets for {'x'.join(map(str, d.image_shape))} images: {', '.join(fits) or 'none'}")
    print(f"or: ddpm train --data … {suggestion(d.image_shape)}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
