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

Weights in half precision (`.fp16.safetensors`) and in several files (`.safetensors.index.json`) are read too. Pickled
weights (`.bin`) are not read, because loading them can run code. PyTorch is not required.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_bytes

from ddpm.config import UNetConfig
from ddpm.networks.dit_config import DiTConfig
from ddpm.networks.inspect import count, param_shapes
from ddpm.tools import files as store
from ddpm.tools import schema
from ddpm.zoo import diffusers_config
from ddpm.zoo.cards import LIMITS, ScheduleCard
from ddpm.zoo.diffusers_files import CONFIG, OURS, SCHEDULER, WEIGHTS, Misfit, Ours, convert, find, weights
from ddpm.zoo.diffusers_schedule import PREDICT
from ddpm.zoo.model import Model, make

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before diffusers 0.13


# --- names and layouts ------------------------------------------------------------------------------------------------


def layouts(unet: UNetConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map our name of every tensor to diffusers' name and shape: {name: (name, shape)}."""
    one = np.zeros((), np.int8)  # repeated to any shape without memory
    shapes = {name: np.broadcast_to(one, a.shape) for name, a in store.flatten(param_shapes(unet)).items()}
    return {name: (peer_name(name), tuple(to_peer(name, a).shape)) for name, a in shapes.items()}


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


def turn_time(kernel: np.ndarray, shift: int = 1) -> np.ndarray:
    """[sin tω, cos tω] K' = [sin (t+1)ω, cos (t+1)ω] K: return K' for the kernel K, (d, …) -> (d, …)

    This holds for every t, and is computed in float64.

    sin (t+1)ω = sin tω cos ω + cos tω sin ω,   cos (t+1)ω = cos tω cos ω - sin tω sin ω
    """
    half = len(kernel) // 2
    omega = np.exp(-np.log(10_000) / (half - shift) * np.arange(half))[:, None]
    sin, cos = np.split(kernel.astype(np.float64), 2)
    turned = np.cos(omega) * sin - np.sin(omega) * cos, np.sin(omega) * sin + np.cos(omega) * cos
    return np.concatenate(turned).astype(np.float32)


# --- import -----------------------------------------------------------------------------------------------------------


def load(
    source: str | Path, schedule: str = "", T: int = 1000, null_label: str = "", name: str = "", about: str = "",
    size: int = 0,
) -> Model:  # fmt: skip
    """Load a model from a diffusers folder, or from the Hugging Face hub ("owner/name").

    The hub needs the package huggingface_hub. `Misfit` names the field or the tensor that does not fit.
    schedule, T: used only if the folder has no scheduler_config.json. about: what the card gives as the source, if
    not `source`. null_label: "last" if the last row of a class
    table means "no class", as in classifier-free guidance. size: of the images, where config.json leaves it open.
    """
    # configuration of the network
    folder = find(source)
    unet_folder = folder / "unet" if (folder / "unet" / CONFIG).exists() else folder
    ours = (
        convert(folder / OURS, lambda ours: schema.read(Ours, ours, "ours", LIMITS))
        if (folder / OURS).exists()
        else None
    )
    table = "last" if ours and ours.null_label else "" if ours else null_label
    misfits: list[str] = []  # all of them in one message

    def network(config: dict[str, Any]) -> tuple[UNetConfig, bool]:
        unet = diffusers_config.to_unet(config, table, ours.patch if ours else 1, size)
        return unet, diffusers_config.cosines_first(config)

    unet, flip = _noted(misfits, unet_folder / CONFIG, network) or (None, False)
    learned = unet is None or unet.learned_variance
    named, more = _process(folder, ours, ScheduleCard(schedule, T), learned, misfits)
    if misfits or unet is None:
        raise Misfit("; and ".join(misfits))
    # weights and card
    tensors, sha256 = weights(unet_folder)
    params = to_params(unet, tensors, str(unet_folder))
    if flip:
        first = params["time_embedding"]["linear_1"]
        first["kernel"] = np.concatenate(np.split(first["kernel"], 2)[::-1])
    card = {
        "kind": "denoiser",
        "summary": f"{count(params):,} parameters, imported from {about or source}",
        "source": str(about or source),
        "source_sha256": sha256,
        "first_time": 0,
        "schedule": {k: v for k, v in dataclasses.asdict(named).items() if v is not False and v != ()},
        **more,
    }
    classes = (ours.classes if ours else ()) or tuple(map(str, range(unet.num_classes)))
    if len(classes) != unet.num_classes:
        raise Misfit(f"{folder / OURS}: classes has {len(classes)} names, but the network has {unet.num_classes}")
    try:
        made = make(named)
    except ValueError as e:
        raise Misfit(f"the schedule of {folder}: {e}") from None
    return Model(name or Path(source).name, unet, params, made, classes, card)


def _process(
    folder: Path, ours: Ours | None, named: ScheduleCard, learned: bool, misfits: list[str]
) -> tuple[ScheduleCard, dict[str, Any]]:
    """Return the schedule, and what the card says about the prediction and the sampler; note what does not fit.

    named: the schedule if the folder has none.  learned: the network has channels for a variance.
    """
    more: dict[str, Any] = {}
    file = next((f for f in (folder / "scheduler" / SCHEDULER, folder / SCHEDULER) if f.exists()), None)
    if ours and ours.schedule:
        named = ours.schedule
        more = {"sampling": dataclasses.asdict(ours.sampling)} if ours.sampling else {}
        more |= {"predict": ours.predict} if ours.predict != "eps" else {}
    elif file and (process := _noted(misfits, file, diffusers_config.to_process)):
        named = process.schedule
        if process.sampling.variance == "learned" and not learned:
            misfits.append(f"{file}: variance_type is learned_range, but {CONFIG} has no channels for a variance")
        more = {"predict": process.predict, "sampling": dataclasses.asdict(process.sampling)}
    elif not file and not named.name:
        misfits.append(f"{folder} has no {SCHEDULER}: say which schedule, --schedule linear_ho for Ho et al.'s")
    return named, more


def _noted(misfits: list[str], file: Path, into: Callable[[dict[str, Any]], Any]) -> Any:
    """Convert a configuration; if it does not fit, note why and return None."""
    try:
        return convert(file, into)
    except Misfit as e:
        misfits.append(str(e))
        return None


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
    flat = {name: from_peer(name, np.asarray(tensors[peer], np.float32)) for name, (peer, _) in layout.items()}
    return store.unflatten({k: np.ascontiguousarray(a) for k, a in reorder_pixels(unet, flat, back=True).items()})


# --- export -----------------------------------------------------------------------------------------------------------


def to_tensors(model: Model) -> dict[str, np.ndarray]:
    """Convert our parameters to {diffusers' name: array}, for times 0…T-1 and `pixel_unshuffle` order."""
    flat = {name: np.asarray(a, np.float32) for name, a in store.flatten(model.params).items()}
    flat = reorder_pixels(model.unet, flat)
    if model.card.get("first_time", 1) == 1:
        first = "time_embedding/linear_1/kernel"
        flat[first] = turn_time(flat[first], model.unet.time_shift)
    return {peer_name(name): np.ascontiguousarray(to_peer(name, a)) for name, a in flat.items()}


def save(folder: str | Path, model: Model) -> None:
    """Write a folder for `UNet2DModel.from_pretrained` and `DDPMPipeline.from_pretrained`.

    The folder must be new or empty. Raise `Misfit` if diffusers does not support the network.
    """
    # configuration of the network and the schedule
    folder = Path(folder)
    if model.predict not in PREDICT.values():
        names = ", ".join(PREDICT.values())
        why = " (its network continues a Gaussian, which their files do not hold)" * (model.predict == "gaussian")
        raise Misfit(
            f"{model.name!r} predicts {model.predict}; diffusers has networks that predict one of {names}{why}; "
            f"export one of these, as of ddpm train --predict v"
        )
    if isinstance(model.unet, DiTConfig):
        raise Misfit(f"{model.name!r} is a transformer, which UNet2DModel is not; only U-Nets are exported")
    try:
        config = diffusers_config.from_unet(model.unet)
    except ValueError as e:
        raise Misfit(str(e)) from None
    named = schema.read(ScheduleCard, model.card["schedule"], f"{model.name}: schedule", LIMITS)
    scheduler = diffusers_config.from_schedule(named, model.schedule, model.predict, model.unet.learned_variance)
    if "sampling" in model.card:
        scheduler |= diffusers_config.from_sampling(model.sampling)
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
        "null_label": model.unet.null_label,
        "predict": model.predict,
        "schedule": model.card["schedule"],
        "unet": dataclasses.asdict(model.unet),
        **({"sampling": model.card["sampling"]} if "sampling" in model.card else {}),
        "card": {k: v for k, v in model.card.items() if k in ("summary", "commands", "commit", "source")},
    }
    # files
    store.write_atomic(folder / WEIGHTS, save_bytes(to_tensors(model), {"format": "pt"}))
    for name, content in ((SCHEDULER, scheduler), ("model_index.json", index), (OURS, ours), (CONFIG, config)):
        store.write_json(folder / name, content, indent=2)
