"""`ddpm train --config FILE` and `--like MODEL`: begin with the options of an earlier training.

They become the defaults of the command: options that are also given override them, and `--help` shows them. A run keeps
its name with --config, so that it resumes, and gets a new one with --like. JAX is not imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm.cli.options import Train
from ddpm.tools import files, schema
from ddpm.training.config import TrainConfig
from ddpm.zoo import cards

HERE: dict[str, Any] = {"restart": False, "data_dir": None}  # belong to one command or machine: not taken over


def defaults(args: Sequence[str]) -> Train:
    """Return the defaults of `ddpm train` for these words of a command line."""
    words = {name: _value(args, name) for name in ("--config", "--like")}
    config, like = words.get("--config"), words.get("--like")
    if not config and not like:
        return Train()
    if config and like:
        raise ValueError(f"--config {config} and --like {like}: both give all options; leave one of them out")
    return Train(**vars(options(Path(config) if config else None, like or "")))


def _value(args: Sequence[str], name: str) -> str | None:
    """Return the last value given for an option, as `--name value` or `--name=value`."""
    found = None
    for word, after in zip(args, [*args[1:], ""], strict=True):
        found = after if word == name else word.removeprefix(f"{name}=") if word.startswith(f"{name}=") else found
    return found


def options(config: Path | None, like: str = "") -> TrainConfig:
    """Read the options of a training from its config.json (or the folder with it), or of a model from its card."""
    if config is not None:
        file = config / "config.json" if config.is_dir() else config
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is not there; give the config.json of a run, such as runs/NAME/config.json"
            )
        about = files.read_json(file)
        return dataclasses.replace(_read(about, str(file)), **HERE)
    path = cards.find(like)
    if path.is_dir():
        about = cards.run_card(path)[1]
    else:
        cards.weights_card(path, about := files.load_card(path))  # refuses what is not a denoiser
    return dataclasses.replace(_read(about, like), name="", **HERE)


def _read(about: dict, where: str) -> TrainConfig:
    if not isinstance(about.get("train"), dict):
        raise ValueError(f"{where} has no record of how it was trained (train), so no options to begin with")
    return schema.read(TrainConfig, about["train"], f"{where}: train", cards.LIMITS)


def changes(command: Train) -> str:
    """Say with which options a training began, and which of them were changed; "" if it began with the usual ones."""
    if command.config is None and not command.like:
        return ""
    before, now = vars(options(command.config, command.like)), vars(command.kept())
    listed = [f"{k} {now[k]!r} (was {was!r})" for k, was in before.items() if now[k] != was]
    return f"options of {command.config or command.like}; changed: {', '.join(listed) or 'nothing'}"
