"""The shipped network `wardrobe` with a picture as further input: one for Palette's four tasks, one for instructions.

    python -m experiments.lab.learned_images [L2] [L1] [edits]      trains them, and resumes where it stopped

The first layer is widened by weights 0, so that both begin as the shipped network; then all of it is trained.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np

from ddpm.contracts import Eps
from ddpm.datasets.wardrobe import captions, drawing
from ddpm.datasets.wardrobe.edits import INSTRUCTIONS, SHADE_OF
from ddpm.datasets.wardrobe.words import ATTRIBUTES, SHADES
from ddpm.losses.objectives import denoiser
from ddpm.networks.dit import eps_fn
from ddpm.networks.image_input import seeing, with_image
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.zoo.model import Model
from experiments.lab import adapter_trainings as adapters
from experiments.lab import captioned
from experiments.lab.adapter_trainings import Budget, Trained
from experiments.lab.wardrobe_exact import LUMA
from experiments.palette import GREY_SIGMA, SIGMA, tasks

BUDGETS = {"L2": Budget(500, 16), "L1": Budget(500, 16), "edits": Budget(900, 16)}
NAMES = list(ATTRIBUTES)


def network(name: str = captioned.NAME) -> tuple[Model, Any, dict]:
    """The shipped model, and the configuration and parameters of the network that sees a picture too."""
    m = adapters.base(name)
    return m, *with_image(m.unet, m.params)


def eps_of(m: Model, params: dict) -> Eps:
    """The denoiser ε̂(x_t, t, Condition(text, image)) of the wider network."""
    wide, _ = with_image(m.unet, m.params)
    return denoiser(seeing(eps_fn(wide, params)), False, m.schedule, "v")


# --- four tasks -------------------------------------------------------------------------------------------------------


def given(x0: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator, noise: float = 1.0) -> np.ndarray:
    """What the network sees of x0 (n, 28, 28, 3): its grey values, or its known pixels and noise in the hole.

    noise: factor of the noise on what is known, 1 in training: so the posterior of the exact column is the optimum.
    """
    if mask is None:
        grey = (x0 @ LUMA)[..., None]
        seen = np.repeat(grey + noise * GREY_SIGMA * rng.normal(size=grey.shape), 3, -1)
    else:
        known = x0 + noise * SIGMA * rng.normal(size=x0.shape)
        seen = np.where(mask[..., None] > 0, known, rng.normal(size=x0.shape))
    return seen.astype(np.float32)


def palette_batch(budget: Budget, n: int) -> tuple[np.ndarray, Condition]:
    """Pictures, a quarter for each task, and what is given of them."""
    x0, _ = adapters.drawn_batch(n, budget)
    rng, masks = np.random.default_rng([n, budget.seed]), list(tasks().values())
    seen = [given(x0[i : i + 1], masks[i % 4], rng) for i in range(len(x0))]
    return x0, Condition(image=np.concatenate(seen))


# --- instructions -----------------------------------------------------------------------------------------------------


def instruction_text(i: int) -> str:
    """The words of instruction i of INSTRUCTIONS: a caption of the new value alone, such as `a thing on blue`."""
    name, value = INSTRUCTIONS[i]
    return captions.caption([value if other == name else -1 for other in NAMES])


def instruction_tokens(m: Model, which: np.ndarray) -> np.ndarray:
    """The tokens of instructions, (n, L)."""
    texts = [instruction_text(int(i)) for i in which]
    return tokens.encode(texts, m.unet.words, m.unet.tokens)  # type: ignore[attr-defined]


def drawn_edits(z: drawing.Attributes, rng: np.random.Generator) -> tuple[drawing.Attributes, np.ndarray]:
    """An edit of each picture: an attribute, each as often, and a value; a changed colour has a new shade."""
    which = np.zeros(len(z.garment), int)
    after = {k: v.copy() for k, v in z._asdict().items()}
    for k in range(len(which)):
        name = NAMES[rng.integers(len(NAMES))]
        value = rng.integers(len(ATTRIBUTES[name]))
        which[k] = INSTRUCTIONS.index((name, int(value)))
        after[name][k] = value
        if name in SHADE_OF:
            after["shade"][k, SHADE_OF[name]] = rng.integers(SHADES)
    return drawing.Attributes(**after), which


def edits_batch(m: Model, budget: Budget, n: int) -> tuple[np.ndarray, Condition]:
    """Pictures after an edit, with the one before and the instruction; each is left out in 10 %, both in 5 %."""
    before, z = adapters.drawn_batch(n, budget)
    rng = np.random.default_rng([n, budget.seed])
    after, which = drawn_edits(z, rng)
    u = rng.random(len(which))
    text = np.where((u < 0.10)[:, None], tokens.nothing(1, m.unet.tokens), instruction_tokens(m, which))  # type: ignore[attr-defined]
    image = np.where(((u >= 0.05) & (u < 0.15))[:, None, None, None], 0, before).astype(np.float32)
    return (drawing.painted(after) / np.float32(127.5) - 1), Condition(text=text, image=image)


# --- training ---------------------------------------------------------------------------------------------------------


def train(kind: str, budget: Budget | None = None, name: str = captioned.NAME) -> tuple[Model, Trained]:
    """Train the network of that kind: `L2` and `L1` on the four tasks, `edits` on instructions."""
    budget = BUDGETS[kind] if budget is None else budget
    m, wide, start = network(name)
    untaught: Any = eps_fn(wide, start)

    def loss(params: Any, fixed: Any, key: Any, batch: Any) -> jax.Array:
        net = seeing(jax.tree_util.Partial(untaught.func, params))
        x0, c = batch
        return adapters.error_of_v(net, m.schedule, key, x0, c, absolute=kind == "L1").mean()

    def batch_of(n: int) -> Any:
        return edits_batch(m, budget, n) if kind == "edits" else palette_batch(budget, n)

    return m, adapters.trained(f"{kind}, {m.card['sha256'][:12]}", start, loss, (), batch_of, budget)


if __name__ == "__main__":
    adapters.start_quickly()
    for kind in sys.argv[1:] or BUDGETS:
        found = train(kind)[1]
        print(kind, f"loss {np.mean(found.loss[:50]):.4f}, {np.mean(found.loss[-100:]):.4f}", f"{found.seconds:.0f} s")
