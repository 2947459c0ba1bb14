"""Weights in and out: folders of diffusers' `UNet2DModel`, such as google/ddpm-cifar10-32, and back.

    FOLDER/config.json  diffusion_pytorch_model.safetensors  scheduler_config.json     (or unet/… and scheduler/…)

Our layers carry the peer's names; what differs is their spelling (`layouts`), and two things that are settled here:

  time     The peer counts the noise levels 0…T-1, we count 1…T. Imported weights keep their numbers and the card's
           `first_time` = 0 makes `Model.eps` call them with t-1: the one place. The peer has no such switch, so an
           export of weights that count from 1 turns the first layer of the time embedding instead (`turn_time`):
           sin and cos of (t+1)ω are a rotation of those of tω, and a linear layer swallows a rotation.
  pixels   The peer has no space-to-depth. A network with patch p is exported as one of p²-times as many channels on
           images after torch's `pixel_unshuffle(x, p)`; `pixel_shuffle` brings its answer back.

Pickled weights (`.bin`) are not read: loading one runs code from it. PyTorch is not needed for anything here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes

from ddpm.config import UNetConfig
from ddpm.networks.inspect import count, param_shapes
from ddpm.schedule import make_schedule
from ddpm.tools import files as store
from ddpm.zoo import diffusers_config
from ddpm.zoo.model import Model

WEIGHTS, CONFIG, SCHEDULER, OURS = (
    "diffusion_pytorch_model.safetensors",
    "config.json",
    "scheduler_config.json",
    "ddpm.json",  # what the peer's files have no room for; it ignores this one
)
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before diffusers 0.13


class Misfit(ValueError):
    """A folder that does not hold what its configuration says, or what our network cannot be."""


# --- names and layouts ------------------------------------------------------------------------------------------------


def layouts(unet: UNetConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{our name: (the peer's name, the peer's shape)} of every tensor of this network."""
    shapes = {name: a.shape for name, a in store.flatten(param_shapes(unet)).items()}
    return {name: (peer_name(name), tuple(to_peer(name, np.empty(s, np.int8)).shape)) for name, s in shapes.items()}


def peer_name(name: str) -> str:
    """`down_blocks/0/resnets/0/conv1/kernel` -> `down_blocks.0.resnets.0.conv1.weight`"""
    name = re.sub(r"/(kernel|scale)$|^(class_embedding)$", r"\2/weight", name)
    return name.replace("/", ".").lstrip(".")


def to_peer(name: str, a: np.ndarray) -> np.ndarray:
    """Kernels HWIO -> OIHW and (in, out) -> (out, in); norms, biases and the class table stay."""
    return a if not name.endswith("kernel") else a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T


def from_peer(name: str, a: np.ndarray) -> np.ndarray:
    """The inverse of `to_peer`."""
    return a if not name.endswith("kernel") else a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T


def new_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Attention layers of old checkpoints (`query`, `key`, `value`, `proj_attn`) under their names of today."""
    old = re.compile(r"(?<=\.attentions\.)(\d+)\.(query|key|value|proj_attn)\.")
    return {old.sub(lambda m: f"{m[1]}.{OLD_NAMES[m[2]]}.", name): a for name, a in tensors.items()}


def pixel_order(channels: int, p: int) -> np.ndarray:
    """Where torch's `pixel_unshuffle(·, p)` finds each of its p²·channels channels among those of `space_to_depth`."""
    return np.arange(p * p * channels).reshape(p * p, channels).T.ravel()


def reorder_pixels(unet: UNetConfig, flat: dict[str, np.ndarray], back: bool = False) -> dict[str, np.ndarray]:
    """The first and last layer for pixels in the order of `pixel_unshuffle`, or back in ours."""
    if unet.patch == 1:
        return flat
    one, two = (pixel_order(unet.image_channels * k, unet.patch) for k in (1, 1 + unet.learned_variance))
    one, two = (np.argsort(i) if back else i for i in (one, two))
    new = {"conv_in/kernel": flat["conv_in/kernel"][:, :, one]}
    new |= {f"conv_out/{leaf}": flat[f"conv_out/{leaf}"][..., two] for leaf in ("kernel", "bias")}
    return flat | new


def turn_time(kernel: np.ndarray) -> np.ndarray:
    """K' with [sin tω, cos tω] K' = [sin (t+1)ω, cos (t+1)ω] K for every t: (d, …) -> (d, …), computed in float64.

    sin (t+1)ω = sin tω cos ω + cos tω sin ω,   cos (t+1)ω = cos tω cos ω - sin tω sin ω
    """
    half = len(kernel) // 2
    omega = np.exp(-np.log(10_000) / (half - 1) * np.arange(half))[:, None]
    sin, cos = np.split(kernel.astype(np.float64), 2)
    turned = np.cos(omega) * sin - np.sin(omega) * cos, np.sin(omega) * sin + np.cos(omega) * cos
    return np.concatenate(turned).astype(np.float32)


# --- in ---------------------------------------------------------------------------------------------------------------


def load(
    source: str | Path, schedule: str = "", T: int = 1000, null_label: str = "", name: str = "", about: str = ""
) -> Model:
    """The model of a diffusers folder, or of one on the Hugging Face hub ("owner/name"; needs `ddpm[hub]`).

    schedule, T: only where the folder has no scheduler_config.json. null_label: "last" where the last row of a class
    table is "no class", as classifier-free guidance has it. `Misfit` names the field or the tensor that does not fit.
    """
    folder = find(source)
    unet_folder = folder / "unet" if (folder / "unet" / CONFIG).exists() else folder
    ours = _json(folder / OURS) if (folder / OURS).exists() else {}
    config = _json(unet_folder / CONFIG)
    try:
        unet = diffusers_config.to_unet(config, "last" if ours else null_label, ours.get("patch", 1))
    except ValueError as e:
        raise Misfit(f"{unet_folder / CONFIG}: {e}") from None
    if "schedule" in ours:
        schedule, T = ours["schedule"]["name"], ours["schedule"]["T"]
    elif schedule_file := next((f for f in (folder / "scheduler" / SCHEDULER, folder / SCHEDULER) if f.exists()), None):
        try:
            schedule, T = diffusers_config.to_schedule(_json(schedule_file))
        except ValueError as e:
            raise Misfit(f"{schedule_file}: {e}") from None
    elif not schedule:
        raise Misfit(f"{folder} has no {SCHEDULER}: say which schedule, --schedule linear_ho for Ho et al.'s")
    data = _weights(unet_folder)
    params = to_params(unet, _tensors(data, unet_folder / WEIGHTS), str(unet_folder / WEIGHTS))
    card = {
        "kind": "denoiser",
        "summary": f"{count(params):,} parameters, imported from {about or source}",
        "source": str(about or source),
        "source_sha256": hashlib.sha256(data).hexdigest(),
        "first_time": 0,
        "schedule": {"name": schedule, "T": T},
    }
    classes = tuple(ours.get("classes", map(str, range(unet.num_classes))))
    return Model(name or Path(source).name, unet, params, make_schedule(schedule, T), classes, card)


def to_params(unet: UNetConfig, tensors: dict[str, np.ndarray], where: str = "these weights") -> dict:
    """Our parameters from the peer's tensors; `Misfit` names the first five that are missing, unknown or misshapen.

    tensors: {the peer's name: array}; float16 and bfloat16 become float32.
    """
    tensors, layout = new_names(tensors), layouts(unet)
    wanted = dict(layout.values())
    wrong = [f"{k} is missing" for k in wanted if k not in tensors]
    wrong += [f"{k} does not belong to this network" for k in sorted(tensors.keys() - wanted.keys())]
    wrong += [
        f"{k} has shape {tuple(tensors[k].shape)}, this network wants {shape}"
        for k, shape in wanted.items()
        if k in tensors and tuple(tensors[k].shape) != shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise Misfit(f"{where} do not fit: {'; '.join(wrong[:5])}{more}")
    flat = {name: from_peer(name, np.asarray(tensors[theirs], np.float32)) for name, (theirs, _) in layout.items()}
    return store.unflatten({k: np.ascontiguousarray(a) for k, a in reorder_pixels(unet, flat, back=True).items()})


def find(source: str | Path) -> Path:
    """The folder itself, or the copy of a repository of the hub in its cache."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise Misfit(f"{source} is neither a folder nor the name of a repository on the hub (owner/name)")
    try:
        import huggingface_hub
    except ImportError:
        raise Misfit(
            f"{source} is not a folder here; to fetch it from the hub: pip install 'ddpm[hub]', or copy "
            f"{CONFIG}, {WEIGHTS} and {SCHEDULER} from https://huggingface.co/{source} into a folder and import that"
        ) from None
    files = [f"{part}{file}" for file in (CONFIG, WEIGHTS, SCHEDULER, OURS) for part in ("", "unet/", "scheduler/")]
    try:
        return Path(huggingface_hub.snapshot_download(str(source), allow_patterns=files))
    except Exception as e:  # no network, no such repository, not allowed: its classes differ between versions
        raise Misfit(
            f"{source} is not a folder here and could not be fetched from the hub "
            f"({type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else 'no reason given'}). "
            f"Without network: copy its {CONFIG}, {WEIGHTS} and {SCHEDULER} into a folder and import that"
        ) from e


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise Misfit(f"{file} is missing: this is not a folder of a diffusers UNet2DModel") from None
    except ValueError as e:
        raise Misfit(f"{file} is not valid JSON ({e})") from None


def _weights(folder: Path) -> bytes:
    if (folder / WEIGHTS).exists():
        return (folder / WEIGHTS).read_bytes()
    found = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".safetensors", ".index.json"))
    remedy = f"UNet2DModel.from_pretrained({str(folder)!r}).save_pretrained('converted') with diffusers writes it"
    why = " Pickled weights (.bin) are not read, because loading one can run any code." if found else ""
    raise Misfit(f"{folder} has no {WEIGHTS}; it holds {', '.join(found) or 'no weights'}.{why} {remedy}")


def _tensors(data: bytes, file: Path) -> dict[str, np.ndarray]:
    try:
        return load_bytes(data)
    except SafetensorError as e:
        raise Misfit(f"{file} is damaged or cut short ({e})") from None


# --- out --------------------------------------------------------------------------------------------------------------


def to_tensors(model: Model) -> dict[str, np.ndarray]:
    """{the peer's name: array}, for times 0…T-1 and pixels in the order of `pixel_unshuffle`."""
    flat = {name: np.asarray(a, np.float32) for name, a in store.flatten(model.params).items()}
    flat = reorder_pixels(model.unet, flat)
    if model.card.get("first_time", 1) == 1:
        first = "time_embedding/linear_1/kernel"
        flat[first] = turn_time(flat[first])
    return {peer_name(name): np.ascontiguousarray(to_peer(name, a)) for name, a in flat.items()}


def save(folder: str | Path, model: Model) -> None:
    """Write the folder that `UNet2DModel.from_pretrained` and `DDPMPipeline.from_pretrained` read; it must not exist.

    `Misfit` where the peer's network cannot be this one.
    """
    folder = Path(folder)
    if model.predict != "eps":
        raise Misfit(f"{model.name!r} predicts {model.predict}; only a network that predicts eps is exported")
    try:
        config = diffusers_config.from_unet(model.unet)
    except ValueError as e:
        raise Misfit(str(e)) from None
    scheduler = diffusers_config.from_schedule(
        model.card["schedule"]["name"], model.schedule.T, model.schedule, model.unet.learned_variance
    )
    if folder.exists() and any(folder.iterdir()):
        raise Misfit(f"{folder} is not empty; give --to a new folder")
    index = {
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    ours = {
        "about": "what diffusers' files have no room for; ddpm import reads it",
        "patch": model.unet.patch,
        "classes": list(model.classes),
        "schedule": {"name": model.card["schedule"]["name"], "T": model.schedule.T},
        "unet": dataclasses.asdict(model.unet),
        "card": {k: v for k, v in model.card.items() if k in ("summary", "commands", "commit", "source")},
    }
    store.write_atomic(folder / WEIGHTS, save_bytes(to_tensors(model), {"format": "pt"}))
    for name, content in ((SCHEDULER, scheduler), ("model_index.json", index), (OURS, ours), (CONFIG, config)):
        store.write_atomic(folder / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
