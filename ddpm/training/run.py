"""Train a model in a folder: runs/NAME/{config.json, metrics.csv, loss.png, samples_*.png, checkpoints/}.

Options add eval.csv, layers.csv, ema/ and tensorboard/.

`train(config)` starts the run, or resumes it from its last good checkpoint; `model.load("runs/NAME")` reads it back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax

from ddpm import data
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.datasets.reading import is_own
from ddpm.flows.paths import make_chain
from ddpm.networks.dit_config import PRESETS, network_config
from ddpm.networks.text_config import TextConfig
from ddpm.tools import lock
from ddpm.training import auto, captions, few_steps, resume, unet_options
from ddpm.training import devices as distributed
from ddpm.training.begin import check_begin
from ddpm.training.config import TrainConfig
from ddpm.training.loggers import Logger
from ddpm.training.loggers import check as check_loggers
from ddpm.training.loop import Training


def network_for(config: TrainConfig, dataset: data.Dataset) -> UNetConfig:
    """Return the preset with its changes and the classes of the data; refuse a preset for another image shape."""
    classes = dataset.num_classes if config.conditional else 0
    learns = config.variance == "learned"
    chosen = {"num_classes": classes, "dtype": config.dtype, "learned_variance": learns, "dropout": config.dropout}
    unet = network_config(config.preset, **chosen)
    if isinstance(unet, TextConfig):
        unet = captions.with_words(unet, config, dataset)
    if changed := unet_options.given(config):
        unet = unet_options.adapted(unet, dataset.image_shape, changed)
    if config.predict == "gaussian" and config.gaussian_input:
        unet = dataclasses.replace(unet, extra_channels=unet.image_channels)
    if unet.image_shape != dataset.image_shape:
        fits = [name for name, u in PRESETS.items() if u.image_shape == dataset.image_shape]
        size, C = unet.image_size, unet.image_channels
        own = is_own(config.data, sources.NAMES) and (C == dataset.image_shape[-1] or C == 1)
        brought = f"; or bring the images to its size: --size {size}{' --grey' if C == 1 else ''}" if own else ""
        words = unet_options.suggestion(dataset.image_shape)
        raise ValueError(
            f"preset {config.preset!r} is for images {unet.image_shape}, but {config.data} has {dataset.image_shape}; "
            f"presets that fit: {', '.join(fits) or 'none'}; options that do: {words}{brought}"
        )
    return unet


def check_batch(config: TrainConfig, images: int, devices: int) -> None:
    """Refuse a batch that cannot be split as requested."""
    if config.batch > images:
        raise ValueError(
            f"batch is {config.batch}; {config.data} has {images} training images, so give --batch {images} or less"
        )
    if config.batch % (devices * config.accumulate):
        parts = f"{devices} devices" + (f" x accumulate {config.accumulate}" if config.accumulate > 1 else "")
        least = devices * config.accumulate
        raise ValueError(
            f"batch {config.batch} is not divisible by {parts}; give a multiple of {least}, such as "
            f"{max(1, round(config.batch / least)) * least}, or other devices (0: all, of which there are {devices})"
        )


def train(
    config: TrainConfig,
    runs: str | Path = "runs",
    quiet: bool = False,
    loggers: Sequence[Logger] = (),
    teacher: Any = None,
    begin: Any = None,
) -> Path:
    """Start or resume Algorithm 1 with the options of `config`; return the run's folder.

    teacher: the `ddpm.zoo.model.Model` of config.teacher, for a loss that learns from one;
    begin: that of config.begin, whose parameters are the first ones.
    loggers: objects with `add(step, values)`, which get all numbers of the training too (`ddpm.training.loggers`).
    With several processes (`devices.start`) each calls this; only process 0 writes, so only it needs the folder.
    """
    check_loggers(loggers, config.tensorboard)
    # Data, network and schedule, checked before the folder is touched
    mesh = distributed.make_mesh(config.devices)
    if mesh and config.coupling == "transport":
        raise ValueError("coupling transport pairs the batch of one device; give devices 1")
    dataset = sources.load(config.data, config.data_dir)
    quiet = quiet or not distributed.lead()
    if config.preset == "auto":
        config = _auto(config, dataset, Path(runs), mesh, quiet)
    unet = network_for(config, dataset)
    check_batch(config, len(dataset.x_train), mesh.size if mesh else 1)
    schedule = make_chain(config.chain, config.T)
    few_steps.check_teacher(config, unet, schedule, dataset.sha256, teacher)
    unet = few_steps.network(config, unet, teacher)
    check_begin(config, unet, schedule, begin)
    folder = Path(runs) / config.run_name
    # The run, with the folder held
    with _held(folder, config.restart, quiet) if distributed.lead() else nullcontext():
        config = dataclasses.replace(config, restart=False)
        resume.check_same(folder, config, unet, dataset.sha256)
        training = Training(config, unet, schedule, dataset, folder, mesh, quiet, loggers)
        training.teacher, training.begin = teacher, begin
        try:
            training.go()
        except jax.errors.JaxRuntimeError as e:
            if jax.process_count() == 1:
                raise
            raise RuntimeError(
                f"another process of this job is gone, or cannot be reached ({str(e).splitlines()[0]}). The same "
                f"command resumes from the last checkpoint in {folder / 'checkpoints'}, on any number of processes"
            ) from e
    return folder


def _auto(config: TrainConfig, dataset: data.Dataset, runs: Path, mesh: Any, quiet: bool) -> TrainConfig:
    """Return the options with the network and the steps that fit into the time, or those that the folder's run has."""
    if jax.process_count() > 1:
        raise ValueError("preset auto measures on one process, and would choose otherwise on each; give a preset")
    say = (lambda line: None) if quiet else print
    folder = runs / config.run_name
    if (old := auto.settled(config, folder)) is not None:
        say(f"auto: {folder} goes on with the network and the steps that it has; --restart chooses anew")
        return old
    check_batch(config, len(dataset.x_train), mesh.size if mesh else 1)
    schedule = make_chain(config.chain, config.T)

    def training(wanted: TrainConfig, unet: UNetConfig, where: Path) -> Training:
        return Training(wanted, unet, schedule, dataset, where, mesh, quiet=True)

    return auto.fitted(config, dataset.image_shape, lambda c: network_for(c, dataset), training, say)


@contextmanager
def _held(folder: Path, restart: bool, quiet: bool) -> Iterator[None]:
    """Hold the folder of a run for this process; with `restart`, an empty one: what was there is set aside."""
    if restart and folder.exists():
        with lock.held(folder):
            pass  # nobody trains in it
        aside = resume.set_aside(folder)
        print(f"--restart: what {folder} held is now in {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder) as owner:
        if owner and not quiet:
            print(f"{folder} was left locked by {owner}, which has ended; this process takes over")
        yield
