"""Load and save trained models: parameters, schedule, class names and card.

model = load("fashion_mnist")          shipped weights by name
model = load("runs/fashion_mnist-cpu") the averaged weights of a run's newest checkpoint
model.eps                              the denoiser, for all samplers and guides
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from ddpm import weights
from ddpm.config import UNetConfig
from ddpm.contracts import Eps, Partial
from ddpm.losses.objectives import denoiser
from ddpm.network import eps_fn
from ddpm.networks.inspect import param_shapes
from ddpm.samplers.variance import learned, v_half
from ddpm.schedule import Schedule, make_schedule
from ddpm.tools import checkpoint, files
from ddpm.training.config import TrainConfig


@dataclass(frozen=True)
class Model:
    """A denoiser with everything needed to use it."""

    name: str
    unet: UNetConfig
    params: dict
    schedule: Schedule
    classes: tuple[str, ...]
    card: dict

    @property
    def eps(self) -> Eps:
        """ε̂(x_t, t, c), t = 1…T"""
        return denoiser(self.net, self.unet.learned_variance, self.schedule, self.predict)

    @property
    def net(self) -> Eps:
        """Return the raw network (x_t, t, c), t = 1…T; a learned variance adds v as a second half of channels.

        Imported weights that count their noise levels from 0 are evaluated at t-1.
        """
        net = eps_fn(self.unet, self.params)
        return net if self.card.get("first_time", 1) == 1 else Partial(_from_zero, net)

    @property
    def predict(self) -> str:
        """Return what the network predicts: `eps`, `x0`, `v` or `mu`; `Model.eps` derives ε̂ from it."""
        return self.card.get("predict", self.card.get("train", {}).get("predict", "eps"))

    @property
    def variance(self) -> Partial | str:
        """Return σ² of the reverse steps for samplers and the bound: learned, or `fixed_large` (β)."""
        return learned(v_half(self.net)) if self.unet.learned_variance else "fixed_large"

    @property
    def num_classes(self) -> int:
        """Return the number of classes, which is also the null label; 0 if the network takes no labels."""
        return self.unet.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        return self.unet.image_shape


def _from_zero(net: Eps, x_t: jax.Array, t: jax.Array, c: jax.Array | None = None) -> jax.Array:
    return net(x_t, t - 1, c)


def load(name: str | Path) -> Model:
    """Load a shipped model by name, a run from its folder, or weights from a path without suffix."""
    path = Path(name)
    if (path / "config.json").exists():
        return _from_run(path)
    if not path.with_name(path.name + ".json").exists():
        path = weights.FOLDER / str(name)
    if not path.with_name(path.name + ".json").exists():
        raise ValueError(
            f"no model {str(name)!r}: neither shipped weights ({', '.join(weights.cards('denoiser')) or 'none'}), "
            f"nor a run's folder with a config.json, nor NAME.json next to NAME.safetensors"
        )
    params, card = files.load(path)
    return _model(path.stem, card, params)


def save(path: str | Path, model: Model, card: dict) -> None:
    """Save the weights and the card; `load(path)` reads them back."""
    about = {
        "kind": "denoiser",
        "unet": dataclasses.asdict(model.unet),
        "schedule": {"name": model.card["schedule"]["name"], "T": model.schedule.T},
        "classes": list(model.classes),
    } | ({"predict": model.predict} if model.predict != "eps" else {})
    files.save(path, model.params, about | card)


def _unet(fields: dict[str, Any]) -> UNetConfig:
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return UNetConfig(**known)


def _model(name: str, card: dict, params: dict) -> Model:
    unet = _unet(card["unet"])
    wanted, found = ({k: a.shape for k, a in files.flatten(tree).items()} for tree in (param_shapes(unet), params))
    for tensor in sorted(wanted.keys() | found.keys()):
        if wanted.get(tensor) != found.get(tensor):
            raise ValueError(
                f"weights {name!r} do not fit their config: {tensor} should have shape {wanted.get(tensor)}, "
                f"the file has {found.get(tensor)}"
            )
    schedule = make_schedule(card["schedule"]["name"], card["schedule"]["T"])
    return Model(name, unet, jax.tree.map(jax.numpy.asarray, params), schedule, tuple(card["classes"]), card)


def _from_run(folder: Path) -> Model:
    from ddpm.training.step import init_state

    about = files.read_json(folder / "config.json")
    unet = _unet(about["unet"])
    config = TrainConfig.saved(about["train"])
    about["train"] = dataclasses.asdict(config)
    found = checkpoint.restore(folder / "checkpoints", jax.eval_shape(lambda: init_state(config, unet)))
    if found is None:
        raise ValueError(f"{folder} has no whole checkpoint yet; let `ddpm train` reach its first --save-every")
    card = {**about, "schedule": {"name": config.schedule, "T": config.T}, "step": found[1]["step"]}
    return Model(
        folder.name, unet, found[0].ema, make_schedule(config.schedule, config.T), tuple(about["data"]["classes"]), card
    )
