"""Read the cards of models: what a folder or a file is, and whether its numbers can be, before anything is built.

    NAME.json       the card of weights that ship or were imported     -> WeightsCard
    config.json     of a run's folder, and each checkpoint's card      -> RunCard

The limits are far above every network of this field; they keep a damaged or hostile card from taking the machine.
JAX is not imported.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ddpm import weights
from ddpm.config import UNetConfig
from ddpm.networks.dit_config import DiTConfig
from ddpm.networks.text_config import TextConfig
from ddpm.samplers.table import FEW, SAMPLERS
from ddpm.tools import files, schema
from ddpm.training.config import TrainConfig

LIMITS: schema.Limits = {
    "T": (1, 100_000),
    "image_size": (1, 2048),
    "image_channels": (1, 1024),
    "image_width": (0, 2048),
    "head_width": (0, 4096),
    "middle_groups": (0, 4096),
    "norm_eps": (0, 1),
    "time_shift": (0, 1),
    "patch": (1, 256),
    "channels": (1, 4096),
    "multipliers": (1, 64),
    "blocks": (1, 16),
    "attention": (1, 2048),
    "groups": (1, 4096),
    "attention_heads": (1, 4096),
    "tokens": (2, 1024),
    "text_width": (1, 4096),
    "text_layers": (0, 64),
    "text_heads": (1, 256),
    "dropout": (0, 1),
    "num_classes": (0, 100_000),
    "extra_channels": (0, 1024),
    "gaussian_rank": (1, 100_000),
    "guidance": (0, 1000),
    "gaussian_above": (1, 100_000),
    "searched": (0, FEW),
    "first_time": (0, 1),
    "clip_range": (1e-6, 1e6),
    "percentile": (0, 100),
    "offset": (0, 100_000),
    "beta": (0, 1),
    "var": (0, 1e12),
    "mean": (0, 1e9),
    "number": (1, 10**9),
    "calls": (0, 100_000),
}
LEVELS = 8  # the longest list of multipliers
PARAMETERS = 4 * 10**9  # 16 GiB as float32


@dataclass(frozen=True)
class ScheduleCard:
    """A schedule by name, the chain of a path as `linear_path`, or by its β where this library has no name for it.

    `zero_terminal_snr` shifts and scales √ᾱ so that ᾱ_T = 0 (Lin et al. 2023).
    """

    name: str
    T: int
    zero_terminal_snr: bool = False
    beta: tuple[float, ...] = ()  # β_1…β_T of an imported model

    def __post_init__(self) -> None:
        if self.beta and len(self.beta) != self.T:
            raise ValueError(f"beta has {len(self.beta)} numbers, but T is {self.T}")


@dataclass(frozen=True)
class SamplingCard:
    """How the sampler of the model's origin was set, where that differs from ours; our samplers take it as default."""

    rule: Literal["trailing", "leading", "linspace"] = "trailing"  # the list of times
    offset: int = 0  # added to the times of `leading`
    clip: bool = True  # clip x̂0 to [-clip_range, clip_range]
    clip_range: float = 1.0
    percentile: float | None = None  # dynamic thresholding instead of clipping
    most: float = 1.0  # its largest threshold
    variance: Literal["fixed_small", "fixed_large", "learned"] = "fixed_large"
    peer: Any = None  # further settings of its own solver, kept as they were


@dataclass(frozen=True)
class AxesCard:
    """The principal axes of the training images, on which times are searched: `ddpm.oracles.spectrum.Axes`."""

    var: tuple[float, ...]
    mean: tuple[float, ...]
    number: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.var) == len(self.mean) == len(self.number):
            raise ValueError(f"var, mean, number have {len(self.var)}, {len(self.mean)}, {len(self.number)} numbers")


@dataclass(frozen=True)
class DrawingCard:
    """How a model of ours draws well, as measured: the default of the commands, and a part of its denoiser."""

    guidance: float = 2.0  # the scale s
    gaussian_above: int | None = None  # t*: above it, ε̂ is that of the Gaussian which the weights hold
    sampler: str = "ddim"  # a name of `ddpm.samplers.table`, for more than `FEW` steps
    searched: int = FEW  # up to so many steps the times of ddim are searched; from there to `FEW`, dpm_2m draws

    def __post_init__(self) -> None:
        from ddpm.tools import check  # it imports JAX

        check.choice("sampler", self.sampler, SAMPLERS)


@dataclass(frozen=True)
class WeightsCard:
    """What the card of a denoiser's weights must say."""

    unet: UNetConfig
    schedule: ScheduleCard
    classes: tuple[str, ...]
    predict: Literal["eps", "x0", "v", "mu", "flow", "edm", "gaussian"] = "eps"
    first_time: int = 1
    sampling: SamplingCard | None = None
    drawing: DrawingCard | None = None
    axes: AxesCard | None = None
    train: Any = None

    def __post_init__(self) -> None:
        check_network(self.unet)
        if self.unet.num_classes and len(self.classes) != self.unet.num_classes:
            raise ValueError(f"classes has {len(self.classes)} names, but num_classes is {self.unet.num_classes}")


@dataclass(frozen=True)
class DataCard:
    """The data set of a run."""

    classes: tuple[str, ...]


@dataclass(frozen=True)
class RunCard:
    """What the config.json of a run must say."""

    unet: UNetConfig
    train: TrainConfig
    data: DataCard

    def __post_init__(self) -> None:
        check_network(self.unet)
        if self.unet.num_classes and len(self.data.classes) != self.unet.num_classes:
            raise ValueError(
                f"data: {len(self.data.classes)} classes, but unet: num_classes is {self.unet.num_classes}"
            )


KINDS = {"attention_heads": DiTConfig, "text_width": TextConfig}  # networks by a field that no other kind has


@lru_cache
def _card_of(kind: type, network: type) -> type:
    """The same card with a network of another kind."""
    return dataclasses.make_dataclass(kind.__name__, [("unet", network)], bases=(kind,), frozen=True)


def check_network(unet: UNetConfig) -> None:
    """Refuse a network of more than `LEVELS` levels, or of about `PARAMETERS` parameters."""
    if len(unet.multipliers) > LEVELS:
        raise ValueError(f"multipliers has {len(unet.multipliers)} levels; at most {LEVELS} are read")
    widest = unet.channels * max(unet.multipliers)
    if 9 * widest**2 * 4 > PARAMETERS:  # a level has four convolutions of this width at least
        raise ValueError(f"channels {unet.channels} times multipliers {unet.multipliers} is wider than what is read")


# --- which file ------------------------------------------------------------------------------------------------------


def find(name: str | Path) -> Path:
    """The folder of a run, or the path without suffix of weights and card; else say what the name is instead."""
    path = Path(name)
    if path.is_dir() and (path / "config.json").exists():
        return path
    if path.with_name(path.name + ".json").exists():
        return path
    if path.name == str(name) and (weights.FOLDER / f"{name}.json").exists():
        return weights.FOLDER / path
    # what it is instead
    if path.is_dir():
        kinds = {"classifier.json": classifier_sentence, "generator.json": generator_sentence}
        other = diffusers_sentence(path) or "".join(f(path) for file, f in kinds.items() if (path / file).exists())
        raise ValueError(other or f"{path} is a folder without config.json, so no run of `ddpm train`")
    hint = f". Give {path.with_suffix('')} without {path.suffix}" if path.suffix in (".json", ".safetensors") else ""
    raise ValueError(
        f"no model {str(name)!r}: neither shipped weights ({', '.join(weights.cards('denoiser')) or 'none'}), "
        f"nor a run's folder with a config.json, nor NAME.json next to NAME.safetensors{hint}"
    )


def diffusers_sentence(folder: Path, config: dict[str, Any] | None = None) -> str:
    """The sentence about a folder of diffusers; empty if it is none."""
    marks = [m for m in ("model_index.json", "unet", "scheduler_config.json") if (folder / m).exists()]
    if not marks and "_class_name" not in (config or {}):
        return ""
    kind = (config or {}).get("_class_name")
    what = f"diffusers' {kind}" if isinstance(kind, str) else "a pipeline of diffusers"
    return f"{folder} holds {what[:80]}, not a model of this library; convert it with: ddpm import {folder}"


def classifier_sentence(path: Path) -> str:
    """The sentence about a classifier where a denoiser is wanted."""
    return (
        f"{path} is a classifier: it labels images and cannot draw them. "
        f"Shipped denoisers: {', '.join(weights.cards('denoiser')) or 'none'}"
    )


def generator_sentence(path: Path) -> str:
    """The sentence about a VAE or a GAN where a denoiser is wanted."""
    name = path.name if path.parent == weights.FOLDER else path
    return f"{path} is a generator, not a denoiser: it draws in one call, by `ddpm generator --trained {name}`"


# --- what the file says ----------------------------------------------------------------------------------------------


def weights_card(path: Path, card: dict[str, Any]) -> WeightsCard:
    """Check the card of a denoiser's weights; `files.Damaged` or a ValueError names the file and the field."""
    file = path.with_name(path.name + ".json")
    if card.get("kind", "denoiser") == "classifier":
        raise ValueError(classifier_sentence(path))
    if card.get("kind", "denoiser") == "generator":
        raise ValueError(generator_sentence(path))
    if card.get("kind", "denoiser") != "denoiser":
        raise ValueError(f"{file}: kind is {schema.show(card['kind'])}; wanted 'denoiser'")
    if "unet" not in card and (other := diffusers_sentence(path.parent, card)):
        raise ValueError(other)
    train = card.get("train")
    if "predict" not in card and isinstance(train, dict) and "predict" in train:  # cards of version 0.1
        card = card | {"predict": train["predict"]}
    return _read(WeightsCard, card, file)


def run_card(folder: Path) -> tuple[RunCard, dict[str, Any]]:
    """Read and check the config.json of a run: (its fields, all that it says)."""
    file = folder / "config.json"
    config = files.read_json(file)
    if "train" not in config or "unet" not in config:
        if other := diffusers_sentence(folder, config):
            raise ValueError(other)
        missing = " and ".join(k for k in ("train", "unet", "data") if k not in config)
        raise ValueError(f"{file} is not the configuration of a run of `ddpm train`: it has no {missing}")
    return _read(RunCard, config, file), config


def _read(kind: Any, card: dict[str, Any], file: Path) -> Any:
    try:
        unet = card.get("unet")
        mark = next((field for field in KINDS if isinstance(unet, dict) and field in unet), "")
        _names(KINDS.get(mark, UNetConfig), unet, f"{file}: unet")
        return schema.read(_card_of(kind, KINDS[mark]) if mark else kind, card, str(file), LIMITS)
    except ValueError as e:
        unsigned = "" if "card_sha256" in card else " (the file has no digest, so it may also have been changed)"
        raise ValueError(f"{e}{unsigned}") from None


def _names(kind: Any, values: Any, where: str) -> None:
    """Refuse fields of a network that this version does not know: they would change what it computes."""
    known = {f.name for f in dataclasses.fields(kind)}
    if isinstance(values, dict) and (unknown := sorted(values.keys() - known)):
        raise ValueError(f"{where}: {schema.show(unknown[0])} is not a field of it. Known: {', '.join(sorted(known))}")


def same_run(file: Path, run: RunCard, saved: dict[str, Any]) -> None:
    """Refuse a config.json that disagrees with the card of the run's checkpoint, which has a digest."""
    if not {"unet", "train", "data"} <= saved.keys():
        return  # a checkpoint of version 0.1
    then = _read(RunCard, saved, file.parent / "checkpoints" / f"step_{saved['step']:08d}.json")
    for part in ("unet", "train", "data"):
        now, was = (dataclasses.asdict(getattr(card, part)) for card in (run, then))
        for field in now:
            if now[field] != was[field] and not (part == "train" and field in TrainConfig.FREE):
                raise files.Damaged(
                    f"{file}: {part}: {field} is {schema.show(now[field])}, but the checkpoint of step "
                    f"{saved['step']:,} was saved with {schema.show(was[field])}; one of the two was changed"
                )
