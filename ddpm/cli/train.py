"""`ddpm train`: train a denoiser, or resume a run."""

from __future__ import annotations

from typing import Any

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
    models: dict[str, Any] = {role: model.load(name) for role in ("teacher", "begin") if (name := getattr(kept, role))}
    training_run.train(kept, **models)
