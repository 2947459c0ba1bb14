"""What a training gives the network as its condition: labels, or the tokens of captions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.config import UNetConfig
from ddpm.data import Dataset
from ddpm.datasets.wardrobe.pairs import Captioned
from ddpm.loss import drop_labels
from ddpm.networks.text_config import TextConfig
from ddpm.tools import check, tokens
from ddpm.tools.conditions import Condition
from ddpm.training.config import TrainConfig


def with_words(unet: TextConfig, config: TrainConfig, dataset: Dataset) -> TextConfig:
    """Return the network with the vocabulary of the data; refuse options that do not go with captions."""
    if not isinstance(dataset, Captioned):
        raise ValueError(f"preset {config.preset!r} reads captions, and {config.data} has none; take --data wardrobe")
    for option, value, fits in (
        ("conditional", config.conditional, (True,)),
        ("predict", config.predict, ("eps", "x0", "v", "mu", "flow", "edm")),
        ("loss", config.loss, ("simple", "mse", "min_snr", "p2", "velocity")),
        ("coupling", config.coupling, ("independent",)),
        ("flip", config.flip, (False,)),
    ):
        if value not in fits:
            raise ValueError(
                f"{option} is {value}; a network that reads captions is trained with {', '.join(map(str, fits))}"
            )
    return dataclasses.replace(unet, num_classes=0, words=dataset.words)


def conditions(unet: UNetConfig, dataset: Dataset, split: str = "train", most: int | None = None) -> np.ndarray:
    """The condition of each image as numbers: labels (N,), or tokens (N, L) for a network that reads captions."""
    if isinstance(unet, TextConfig) and isinstance(dataset, Captioned):
        texts = dataset.text_train if split == "train" else dataset.text_test
        return tokens.encode(texts[:most], unet.words, unet.tokens)
    return (dataset.y_train if split == "train" else dataset.y_test)[:most]


def dropped(unet: UNetConfig, key: jax.Array, c: jax.Array, rate: float) -> jax.Array | Condition | None:
    """Replace conditions by ∅ with probability `rate`, as `drop_labels` does; None for a network without any."""
    if isinstance(unet, TextConfig):
        check.number("rate", rate, 0, 1)
        drop = jax.random.uniform(key, c.shape[:1]) < rate
        return Condition(text=jnp.where(drop[:, None], tokens.nothing(1, c.shape[1]), c))
    return drop_labels(key, c, unet.num_classes, rate) if unet.num_classes else None
