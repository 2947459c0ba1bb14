"""`ddpm train`: train a denoiser, or resume a run."""

from __future__ import annotations

from ddpm.cli import earlier, options
from ddpm.training import devices
from ddpm.training import run as training_run
from ddpm.zoo import model


def run(command: options.Train) -> None:
    """Train in runs/NAME, on as many devices as were requested."""
    if changes := earlier.changes(command):
        print(changes)
    devices.start(command.devices)  # before any other use of JAX
    kept = command.kept()
    teacher, begin = (model.load(name) if name else None for name in (kept.teacher, kept.begin))
    training_run.train(kept, teacher=teacher, begin=begin)
