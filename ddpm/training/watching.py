"""What a run reports between its steps: pictures, and the loss on test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from ddpm import data
from ddpm.config import UNetConfig
from ddpm.contracts import Eps
from ddpm.flows import own_sampling
from ddpm.flows.own_sampling import FewStepsCard
from ddpm.losses.objectives import denoiser
from ddpm.networks.dit import eps_fn
from ddpm.networks.numbers import at_number
from ddpm.networks.skip import Prior
from ddpm.sample import Sampling, images
from ddpm.schedule import Schedule
from ddpm.tools import movies
from ddpm.tools.conditions import Condition
from ddpm.train import TrainState
from ddpm.training import captions


def grid_labels(unet: UNetConfig, per_class: int = 8) -> np.ndarray | None:
    """Return the labels of a sample grid, one row per class."""
    return np.repeat(np.arange(unet.num_classes), per_class) if unet.num_classes else None


def sample_grid(
    unet: UNetConfig,
    schedule: Schedule,
    params: dict,
    seed: int = 0,
    predict: str = "eps",
    prior: Any = None,
    few: FewStepsCard | None = None,
) -> np.ndarray:
    """Sample images for a grid, one row per class: DDIM, min(25, T) steps, guidance 2; or by the sampler of `few`."""
    c = grid_labels(unet)
    shape = (64 if c is None else len(c), *unet.image_shape)
    few = few or FewStepsCard()
    net = own_sampling.raw(few, eps_fn(unet, params), schedule.T)
    prior = prior if isinstance(prior, Prior) else None

    def at(h: float) -> Eps:
        here = at_number(net, h) if few.told else net
        return denoiser(here, unet.learned_variance, schedule, predict, prior, unet.extra_channels > 0)

    eps, how = at(0.0), Sampling(steps=min(25, schedule.T), guidance=2.0)
    if few.loss:
        how = own_sampling.how(few, "this run", net, at, None, own_sampling.guided(few, "this run", None))
    return np.asarray(images(eps, schedule, jax.random.key(seed), shape, c, how))


def save_film(folder: Path) -> Path:
    """Write film.webp: the sample grids of a run in the order of their steps, from the same noise and labels."""
    frames: list[np.ndarray] = []
    for file in sorted(folder.glob("samples_*.png")):
        grid = np.asarray(Image.open(file).convert("RGB"))
        if not frames or len(grid) + movies.BAR == len(frames[0]):  # a resumed run of another version may draw others
            frames.append(movies.titled(grid, f"step {int(file.stem.removeprefix('samples_')):,}"))
    movies.save(folder / "film.webp", frames)
    return folder / "film.webp"


def loss_on_test(
    unet: UNetConfig,
    schedule: Schedule,
    state: TrainState,
    dataset: data.Dataset,
    conditional: bool,
    most: int = 1000,
    predict: str = "eps",
) -> dict[str, float]:
    """Compute the ε-MSE on the first test images for each average, with fixed times and noises."""
    from ddpm.evaluation.denoising_loss import eps_mse

    x, c = (
        data.to_float(dataset.x_test[:most]),
        captions.conditions(unet, dataset, "test", most) if conditional else None,
    )
    given: Any = Condition(text=c) if c is not None and c.ndim == 2 else c  # tokens of captions, or labels
    which = {"params": state.params, "ema": state.ema, **state.emas}
    sees = unet.extra_channels > 0
    denoisers = {
        name: denoiser(eps_fn(unet, p), unet.learned_variance, schedule, predict, state.prior, sees)
        for name, p in which.items()
    }
    return {name: eps_mse(eps, schedule, x, given, jax.random.key(0)).value for name, eps in denoisers.items()}
