"""Import and export weights of diffusers' `UNet2DModel`, such as google/ddpm-cifar10-32.

    FOLDER/config.json  diffusion_pytorch_model.safetensors  scheduler_config.json     (or unet/… and scheduler/…)

Our layers have the names of diffusers' layers, with another spelling (`layouts`). Two further differences are resolved
here:

  time     diffusers counts the noise levels 0…T-1, we count 1…T. Imported weights keep their values, and `first_time`
           = 0 in the card makes `Model.net` evaluate them at t-1. diffusers has no such option, so the export of
           weights that count from 1 rotates the first layer of the time embedding instead (`turn_time`): sin and cos
           of (t+1)ω are a rotation of those of tω, and a linear layer can absorb a rotation.
  pixels   diffusers has no space-to-depth. A network with patch p is exported as one with p² times as many channels,
           for images after torch's `pixel_unshuffle(x, p)`; `pixel_shuffle` converts its output back.

Pickled weights (`.bin`) are not read, because loading them can run code. PyTorch is not required.
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
    "ddpm.json",  # what diffusers' files cannot hold; diffusers ignores it
)
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before diffusers 0.13


class Misfit(ValueError):
    """A folder does not match its configuration, or our network does not support it."""


# --- names and layouts ------------------------------------------------------------------------------------------------


def layouts(unet: UNetConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map our name of every tensor to diffusers' name and shape: {name: (name, shape)}."""
    shapes = {name: a.shape for name, a in store.flatten(param_shapes(unet)).items()}
    return {name: (peer_name(name), tuple(to_peer(name, np.empty(s, np.int8)).shape)) for name, s in shapes.items()}


def peer_name(name: str) -> str:
    """`down_blocks/0/resnets/0/conv1/kernel` -> `down_blocks.0.resnets.0.conv1.weight`"""
    name = re.sub(r"/(kernel|scale)$|^(class_embedding)$", r"\2/weight", name)
    return name.replace("/", ".").lstrip(".")


def to_peer(name: str, a: np.ndarray) -> np.ndarray:
    """Kernels HWIO -> OIHW and (in, out) -> (out, in); norms, biases and the class table are unchanged."""
    return a if not name.endswith("kernel") else a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T


def from_peer(name: str, a: np.ndarray) -> np.ndarray:
    """Invert `to_peer`."""
    return a if not name.endswith("kernel") else a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T


def new_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename attention layers of old checkpoints (`query`, `key`, `value`, `proj_attn`) to the current names."""
    old = re.compile(r"(?<=\.attentions\.)(\d+)\.(query|key|value|proj_attn)\.")
    return {old.sub(lambda m: f"{m[1]}.{OLD_NAMES[m[2]]}.", name): a for name, a in tensors.items()}


def pixel_order(channels: int, p: int) -> np.ndarray:
    """Return the `space_to_depth` channel of each of the p²·channels channels of torch's `pixel_unshuffle(·, p)`."""
    return np.arange(p * p * channels).reshape(p * p, channels).T.ravel()


def reorder_pixels(unet: UNetConfig, flat: dict[str, np.ndarray], back: bool = False) -> dict[str, np.ndarray]:
    """Reorder the first and last layer to the pixel order of `pixel_unshuffle`, or back to ours."""
    if unet.patch == 1:
        return flat
    one, two = (pixel_order(unet.image_channels * k, unet.patch) for k in (1, 1 + unet.learned_variance))
    one, two = (np.argsort(i) if back else i for i in (one, two))
    new = {"conv_in/kernel": flat["conv_in/kernel"][:, :, one]}
    new |= {f"conv_out/{leaf}": flat[f"conv_out/{leaf}"][..., two] for leaf in ("kernel", "bias")}
    return flat | new


def turn_time(kernel: np.ndarray) -> np.ndarray:
    """[sin tω, cos tω] K' = [sin (t+1)ω, cos (t+1)ω] K: return K' for the kernel K, (d, …) -> (d, …)

    This holds for every t, and is computed in float64.

    sin (t+1)ω = sin tω cos ω + cos tω sin ω,   cos (t+1)ω = cos tω cos ω - sin tω sin ω
    """
    half = len(kernel) // 2
    omega = np.exp(-np.log(10_000) / (half - 1) * np.arange(half))[:, None]
    sin, cos = np.split(kernel.astype(np.float64), 2)
    turned = np.cos(omega) * sin - np.sin(omega) * cos, np.sin(omega) * sin + np.cos(omega) * cos
    return np.concatenate(turned).astype(np.float32)


# --- import -----------------------------------------------------------------------------------------------------------


def load(
    source: str | Path, schedule: str = "", T: int = 1000, null_label: str = "", name: str = "", about: str = ""
) -> Model:
    """Load a model from a diffusers folder, or from the Hugging Face hub ("owner/name").

    The hub needs the package huggingface_hub. `Misfit` names the field or the tensor that does not fit.
    schedule, T: used only if the folder has no scheduler_config.json. null_label: "last" if the last row of a class
    table means "no class", as in classifier-free guidance.
    """
    # configuration of the network
    folder = find(source)
    unet_folder = folder / "unet" if (folder / "unet" / CONFIG).exists() else folder
    ours = _json(folder / OURS) if (folder / OURS).exists() else {}
    config = _json(unet_folder / CONFIG)
    try:
        unet = diffusers_config.to_unet(config, "last" if ours else null_label, ours.get("patch", 1))
    except ValueError as e:
        raise Misfit(f"{unet_folder / CONFIG}: {e}") from None
    # schedule
    if "schedule" in ours:
        schedule, T = ours["schedule"]["name"], ours["schedule"]["T"]
    elif schedule_file := next((f for f in (folder / "scheduler" / SCHEDULER, folder / SCHEDULER) if f.exists()), None):
        try:
            schedule, T = diffusers_config.to_schedule(_json(schedule_file))
        except ValueError as e:
            raise Misfit(f"{schedule_file}: {e}") from None
    elif not schedule:
        raise Misfit(f"{folder} has no {SCHEDULER}: say which schedule, --schedule linear_ho for Ho et al.'s")
    # weights and card
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
    """Convert diffusers' tensors to our parameters.

    `Misfit` names the first five tensors that are missing, unknown or of the wrong shape.
    tensors: {diffusers' name: array}; float16 and bfloat16 become float32.
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
    files = [f"{part}{file}" for file in (CONFIG, WEIGHTS, SCHEDULER, OURS) for part in ("", "unet/", "scheduler/")]
    try:
        return Path(huggingface_hub.snapshot_download(str(source), allow_patterns=files))
    except Exception as e:  # no network, repository or permission: the exception classes differ between versions
        raise Misfit(
            f"{source} is not a folder here and could not be fetched from the hub "
            f"({type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else 'no reason given'}). "
            f"Without network: copy its {CONFIG}, {WEIGHTS} and {SCHEDULER} into a folder and import that"
        ) from e


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
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


# --- export -----------------------------------------------------------------------------------------------------------


def to_tensors(model: Model) -> dict[str, np.ndarray]:
    """Convert our parameters to {diffusers' name: array}, for times 0…T-1 and `pixel_unshuffle` order."""
    flat = {name: np.asarray(a, np.float32) for name, a in store.flatten(model.params).items()}
    flat = reorder_pixels(model.unet, flat)
    if model.card.get("first_time", 1) == 1:
        first = "time_embedding/linear_1/kernel"
        flat[first] = turn_time(flat[first])
    return {peer_name(name): np.ascontiguousarray(to_peer(name, a)) for name, a in flat.items()}


def save(folder: str | Path, model: Model) -> None:
    """Write a folder for `UNet2DModel.from_pretrained` and `DDPMPipeline.from_pretrained`.

    The folder must be new or empty. Raise `Misfit` if diffusers does not support the network.
    """
    # configuration of the network and the schedule
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
    # pipeline index, and what diffusers cannot hold
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
    # files
    store.write_atomic(folder / WEIGHTS, save_bytes(to_tensors(model), {"format": "pt"}))
    for name, content in ((SCHEDULER, scheduler), ("model_index.json", index), (OURS, ours), (CONFIG, config)):
        store.write_atomic(folder / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
