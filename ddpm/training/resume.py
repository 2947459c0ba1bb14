"""Decide whether a folder's run may be resumed with these options, on these images, by these versions."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddpm.config import UNetConfig
from ddpm.tools import checkpoint, files
from ddpm.training.adam import learning_rate
from ddpm.training.config import TrainConfig


def saved(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return what a folder says of its run: the card of the newest readable checkpoint, and config.json."""
    found, kept, config = [], folder / "checkpoints", folder / "config.json"
    for step in reversed(checkpoint.steps(kept)):
        with suppress(files.Damaged):
            path = checkpoint.stem(kept, step)
            found = [(path.with_name(path.name + ".json"), files.load_card(path))]
            break
    found = [(file, card) for file, card in found if {"train", "unet"} <= card.keys()]  # version 0.1 had less
    if config.exists():
        remedy = "; delete it: the newest checkpoint knows the configuration" if found else "; give another --name"
        try:
            about = files.read_json(config)
        except files.Damaged as e:
            raise files.Damaged(f"{e}{remedy}") from None
        if not all(isinstance(about.get(part), dict) for part in ("train", "unet")):
            raise files.Damaged(f"{config} is not the configuration of a run: it has no train or no unet{remedy}")
        found.append((config, about))
    return found


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the default of each field of a dataclass, as JSON represents it."""
    return json.loads(json.dumps({f.name: f.default for f in dataclasses.fields(kind)}))


def check_same(folder: Path, config: TrainConfig, unet: UNetConfig, sha256: str = "") -> None:
    """Refuse to resume a run whose configuration or images differ, and name the fields that do.

    A field that is missing from the saved configuration had its default. sha256: of the images; "" is not compared
    """
    new = json.loads(json.dumps({"train": dataclasses.asdict(config), "unet": dataclasses.asdict(unet)}))
    default = {part: _defaults(kind) for part, kind in (("train", TrainConfig), ("unet", type(unet)))}
    for file, old in saved(folder):
        # The configuration, field by field
        wrong = [
            f"{k} was {was!r}, now {v!r}"
            for part in ("train", "unet")
            for k, v in new[part].items()
            if (was := old[part].get(k, default[part][k])) != v and not (part == "train" and k in TrainConfig.FREE)
        ]
        if wrong:
            raise ValueError(
                f"{folder} holds a run with another configuration ({file.name}): {'; '.join(wrong)}. "
                f"Use the old values to resume it, or another --name to start a new run"
            )
        # The images, by their SHA-256
        data = old.get("data")
        was = str(data.get("sha256") or "") if isinstance(data, dict) else ""
        if sha256 and was and was != sha256:
            raise ValueError(
                f"{folder} holds a run on other images ({file.name}): those of {config.data!r} had the SHA-256 "
                f"{was[:12]}…, now it is {sha256[:12]}…. Use the old images to resume it, or another --name to start "
                f"a new run"
            )


def other_versions(card: dict[str, Any], now: dict[str, str]) -> str:
    """Say in one line which versions have changed since `card` was written; "" if none have."""
    then = card.get("versions")
    then = then if isinstance(then, dict) else {}
    changed = [f"{name} {then[name]} (now {now[name]})" for name in then.keys() & now.keys() if then[name] != now[name]]
    return f"it was trained with {', '.join(sorted(changed))}: equal to rounding, not to the bit" if changed else ""


def rate_jump(card: dict[str, Any], config: TrainConfig, step: int) -> str:
    """Say in one line how a changed number of steps changes the learning rate at `step`; "" if it does not."""
    fields = card.get("train")
    before = TrainConfig.saved(fields) if isinstance(fields, dict) else config
    was, now = (float(learning_rate(c)(step)) for c in (before, config))
    if abs(was - now) <= 1e-6 * config.lr:
        return ""
    return (
        f"the learning rate at step {step} was {was:.3g} with --steps {before.steps}; with --steps {config.steps} it "
        f"is {now:.3g}, for {config.lr_schedule} depends on the number of steps"
    )


def set_aside(folder: Path) -> Path | None:
    """Rename a run's folder to the first free NAME.1, NAME.2, … (for `--restart`); return its new name."""
    if not folder.exists():
        return None
    n = 1
    while (new := folder.with_name(f"{folder.name}.{n}")).exists():
        n += 1
    folder.rename(new)
    return new
