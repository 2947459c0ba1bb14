"""The network that reads captions, for experiments that compare it with ε*: `load_model("wardrobe")`, if it ships."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ddpm import plot
from ddpm.contracts import Eps
from ddpm.datasets.wardrobe.captions import caption
from ddpm.networks.text_config import TextConfig
from ddpm.sample import Sampling, images
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.zoo import model

NAME = "wardrobe"


def network(name: str = NAME) -> model.Model | None:
    """The network of that name, or None, with a sentence, where there is none."""
    try:
        return model.load(name)
    except (FileNotFoundError, ValueError) as missing:
        print(f"the rows of the network are left out: load_model({name!r}) does not load it: {missing}", flush=True)
        return None


def drawn_by(m: model.Model, values: np.ndarray, guidance: float, steps: int = 25, seed: int = 0) -> np.ndarray:
    """Pictures of the captions that ask for values (n, 8), (n, 28, 28, 3) in [-1, 1]."""
    assert isinstance(m.unet, TextConfig), f"{m.name!r} was trained without captions"
    text = tokens.encode([caption(row) for row in values.tolist()], m.unet.words, m.unet.tokens)
    return drawn_under(m, m.eps, Condition(text=text), len(values), steps, guidance, seed)


def drawn_under(
    m: model.Model, eps: Eps, c: Condition | None, n: int, steps: int = 25, guidance: float = 1.0, seed: int = 0
) -> np.ndarray:
    """n pictures under a condition, by a denoiser that was made of the network: (n, 28, 28, 3) in [-1, 1]"""
    how = Sampling(steps=steps, guidance=guidance)
    return np.clip(np.asarray(images(eps, m.schedule, jax.random.key(seed), (n, *m.image_shape), c, how)), -1, 1)


def named_rows(axes: Any, shown: dict[str, Any], columns: int, fontsize: float = 8) -> None:
    """Draw rows of pictures with their names on the left.   shown: name -> (columns, 28, 28, 3) in [-1, 1]"""
    axes.imshow(plot.grid(np.concatenate([np.array(x) for x in shown.values()]), columns))
    axes.set_yticks(16 + 30 * np.arange(len(shown)), shown, fontsize=fontsize)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
