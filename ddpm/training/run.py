"""Train a model in a folder: runs/NAME/{config.json, metrics.csv, loss.png, samples_*.png, checkpoints/}.

Options add eval.csv, layers.csv, ema/ and tensorboard/.

`train(config)` starts the run, or resumes it from its last good checkpoint; `model.load("runs/NAME")` reads it back.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from ddpm import data
from ddpm.config import UNETS, UNetConfig, unet_config
from ddpm.datasets import sources
from ddpm.schedule import make_schedule
from ddpm.tools.files import read_json
from ddpm.training import devices as distributed
from ddpm.training import tables
from ddpm.training.config import TrainConfig
from ddpm.training.loop import Training


def network_for(config: TrainConfig, dataset: data.Dataset) -> UNetConfig:
    """Return the preset with the classes of the data; refuse a preset for another image shape."""
    classes = dataset.num_classes if config.conditional else 0
    learns = config.variance == "learned"
    chosen = {"num_classes": classes, "dtype": config.dtype, "learned_variance": learns, "dropout": config.dropout}
    if config.predict == "gaussian":
        chosen["extra_channels"] = UNETS[config.preset].image_channels if config.preset in UNETS else 0
    unet = unet_config(config.preset, **chosen)
    if unet.image_shape != dataset.image_shape:
        fits = [name for name, u in UNETS.items() if u.image_shape == dataset.image_shape]
        raise ValueError(
            f"preset {config.preset!r} is for images {unet.image_shape}, but {config.data} has {dataset.image_shape}; "
            f"presets that fit: {', '.join(fits) or 'none'}"
        )
    return unet


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the default of each field of a dataclass, as JSON represents it."""
    return json.loads(json.dumps({f.name: f.default for f in dataclasses.fields(kind)}))


def check_same(folder: Path, config: TrainConfig, unet: UNetConfig) -> None:
    """Refuse to resume a run whose configuration differs, and name the fields that do.

    A field that is missing from the saved configuration had its default.
    """
    file = folder / "config.json"
    if not file.exists():
        return
    old = read_json(file)
    new = json.loads(json.dumps({"train": dataclasses.asdict(config), "unet": dataclasses.asdict(unet)}))
    default = {part: _defaults(kind) for part, kind in (("train", TrainConfig), ("unet", UNetConfig))}
    wrong = [
        f"{k} was {was!r}, now {v!r}"
        for part in ("train", "unet")
        for k, v in new[part].items()
        if (was := old[part].get(k, default[part][k])) != v and not (part == "train" and k in TrainConfig.FREE)
    ]
    if wrong:
        raise ValueError(
            f"{folder} holds a run with another configuration: {'; '.join(wrong)}. "
            f"Use the old values to resume it, or another --name to start a new run"
        )


def check_batch(config: TrainConfig, images: int, devices: int) -> None:
    """Refuse a batch that cannot be split as requested."""
    if config.batch > images:
        raise ValueError(f"batch is {config.batch}; {config.data} has {images} training images")
    if config.batch % (devices * config.accumulate):
        parts = f"{devices} devices" + (f" x accumulate {config.accumulate}" if config.accumulate > 1 else "")
        least = devices * config.accumulate
        raise ValueError(
            f"batch {config.batch} is not divisible by {parts}; give a multiple of {least}, such as "
            f"{max(1, round(config.batch / least)) * least}, or other devices (0: all, of which there are {devices})"
        )


def train(config: TrainConfig, runs: str | Path = "runs", quiet: bool = False) -> Path:
    """Start or resume Algorithm 1 with the options of `config`; return the run's folder.

    With several processes (`devices.start`) each calls this; only process 0 writes, so only it needs the folder.
    """
    if config.tensorboard:
        tables.refuse_board()
    mesh = distributed.make_mesh(config.devices)
    dataset = sources.load(config.data, config.data_dir)
    unet = network_for(config, dataset)
    check_batch(config, len(dataset.x_train), mesh.size if mesh else 1)
    schedule = make_schedule(config.schedule, config.T)
    folder = Path(runs) / config.run_name
    check_same(folder, config, unet)
    training = Training(config, unet, schedule, dataset, folder, mesh, quiet or not distributed.lead())
    try:
        training.go()
    except jax.errors.JaxRuntimeError as e:
        if jax.process_count() == 1:
            raise
        raise RuntimeError(
            f"another process of this job is gone, or cannot be reached ({str(e).splitlines()[0]}). The same command "
            f"resumes from the last checkpoint in {folder / 'checkpoints'}, on any number of processes"
        ) from e
    return folder
