"""Read a folder of diffusers: its configurations, and its weights in one file, in half precision, or in several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ddpm.tools import files as store
from ddpm.tools import schema
from ddpm.zoo.cards import SamplingCard, ScheduleCard

WEIGHTS, CONFIG, SCHEDULER, OURS = (
    "diffusion_pytorch_model.safetensors",
    "config.json",
    "scheduler_config.json",
    "ddpm.json",  # what diffusers' files cannot hold; diffusers ignores it
)


class Misfit(ValueError):
    """A folder does not match its configuration, or our network does not support it."""


def find(source: str | Path) -> Path:
    """Return the folder itself, or the cached copy of a repository on the hub."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise Misfit(f"{source} is neither a folder nor the name of a repository on the hub (owner/name)")
    try:
        import huggingface_hub
    except ImportError:
        raise Misfit(
            f"{source} is not a folder here; to fetch it from the hub: pip install huggingface_hub, or copy "
            f"{CONFIG}, {WEIGHTS} and {SCHEDULER} from https://huggingface.co/{source} into a folder and import that"
        ) from None
    wanted = (CONFIG, WEIGHTS, f"{WEIGHTS}.index.json", WEIGHTS.replace(".", "-*-of-*.", 1), SCHEDULER, OURS)
    files = [f"{part}{file}" for file in wanted for part in ("", "unet/", "scheduler/")]
    try:
        return Path(huggingface_hub.snapshot_download(str(source), allow_patterns=files))
    except Exception as e:  # no network, repository or permission: the exception classes differ between versions
        raise Misfit(
            f"{source} is not a folder here and could not be fetched from the hub "
            f"({type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else 'no reason given'}). "
            f"Without network: copy its {CONFIG}, {WEIGHTS} and {SCHEDULER} into a folder and import that"
        ) from e


@dataclass(frozen=True)
class Ours:
    """What ddpm.json says, the file for what diffusers' files have no room for."""

    schedule: ScheduleCard | None = None
    patch: int = 1
    classes: tuple[str, ...] = ()
    sampling: SamplingCard | None = None
    predict: Literal["eps", "x0", "v"] = "eps"
    null_label: bool = True


def convert(file: Path, into: Callable[[dict[str, Any]], Any]) -> Any:
    """Convert a configuration; `Misfit` names the file."""
    if not file.exists():
        raise Misfit(f"{file} is missing: this is not a folder of a diffusers UNet2DModel")
    try:
        return into(store.read_json(file))
    except store.Damaged as e:
        raise Misfit(str(e)) from None
    except ValueError as e:
        raise Misfit(f"{file}: {e}") from None


def weights(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Read the tensors of one file, of its half-precision variant, or of several files: (tensors, SHA-256)."""
    stem = WEIGHTS.removesuffix(".safetensors")
    for name in (WEIGHTS, f"{stem}.fp16.safetensors", f"{stem}.bf16.safetensors"):
        parts = (
            [name]
            if (folder / name).exists()
            else _shards(folder / f"{stem}.safetensors.index{name[len(stem) : -12]}.json")
        )
        if parts:
            break
    else:
        raise Misfit(_no_weights(folder))
    tensors: dict[str, np.ndarray] = {}
    sha256 = hashlib.sha256()
    for part in parts:
        try:
            data = store.read_bytes(folder / part)
            tensors |= store.tensors(data, folder / part)
        except store.Damaged as e:
            raise Misfit(str(e)) from None
        sha256.update(data)
    return tensors, sha256.hexdigest()


def _shards(index: Path) -> list[str]:
    """The names of the files that an index lists, all of them in its own folder; none if it is not there."""
    if not index.exists():
        return []
    names = convert(index, lambda found: found.get("weight_map"))
    if not isinstance(names, dict) or not names or not all(isinstance(v, str) for v in names.values()):
        raise Misfit(f"{index}: weight_map is {schema.show(names)}; wanted {{tensor: file}}")
    for name in set(names.values()):
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise Misfit(f"{index}: {schema.show(name)} is not the name of a .safetensors file in this folder")
    return sorted(set(names.values()))


def _no_weights(folder: Path) -> str:
    found = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".safetensors", ".ckpt", ".msgpack"))
    pickled = any(name.endswith((".bin", ".pt", ".ckpt")) for name in found)
    why = " Pickled weights (.bin) are not read, because loading one can run any code." if pickled else ""
    if any("-of-" in name for name in found):
        why += f" The index of the parts, {WEIGHTS}.index.json, is missing."
    remedy = f"UNet2DModel.from_pretrained({str(folder)!r}).save_pretrained('converted') with diffusers writes it"
    return f"{folder} has no {WEIGHTS}; it holds {', '.join(found) or 'no weights'}.{why} {remedy}"
