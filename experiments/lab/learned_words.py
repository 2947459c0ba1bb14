"""One subject taught to the shipped network `wardrobe`: by a new word, by LoRA, and by DreamBooth.

    python -m experiments.lab.learned_words [name …]      trains them, and resumes where it stopped

All see the same four pictures. The word stands for the garment, "a S*"; LoRA and DreamBooth learn "a S* hat", S* being
a word that no caption holds. DreamBooth's class prior is of pictures that the frozen network draws of "a hat".
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm.contracts import Eps, Partial
from ddpm.datasets.wardrobe import drawing
from ddpm.datasets.wardrobe.words import GARMENTS
from ddpm.losses.objectives import denoiser
from ddpm.networks.crossattention import build_text
from ddpm.networks.lora import make_lora, merged
from ddpm.networks.new_word import row, spoken, with_word
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.zoo.model import Model
from experiments.lab import adapter_trainings as adapters
from experiments.lab import captioned
from experiments.lab.adapter_trainings import Budget, Trained
from experiments.personal import subject

WORD, PRIOR = "<s1>", 64  # S*; pictures of the class
BUDGETS = {
    "word": Budget(300, 8, 3e-2),
    "LoRA, rank 4": Budget(400, 8, 3e-3),
    "DreamBooth, no prior": Budget(400, 8, 3e-4),
    "DreamBooth": Budget(400, 8, 3e-4),
}


@dataclass(frozen=True)
class Taught:
    """A network with the word S*, how it says the subject, and how its class is said."""

    model: Model
    config: Any
    params: dict
    said: str
    of_class: str
    training: Trained | None = None

    def drawn(self, text: str, n: int, guidance: float = 2.0, seed: int = 0) -> np.ndarray:
        """n pictures of a text, (n, 28, 28, 3) in [-1, 1]"""
        c = Condition(text=tokens.encode([text] * n, self.config.words, self.config.tokens))
        return captioned.drawn_under(self.model, self.eps, c, n, 25, guidance, seed)

    @property
    def eps(self) -> Eps:
        """Its denoiser."""
        return denoiser(Partial(build_text(self.config)[1], self.params), False, self.model.schedule, "v")


def untaught(kind: str, z: drawing.Attributes, name: str = captioned.NAME) -> Taught:
    """The shipped network with a word that it has not learned yet."""
    m, noun = adapters.base(name), GARMENTS[z.garment[0]]
    like = noun if kind == "word" else "thing"
    config, params = with_word(m.unet, m.params, WORD, like)  # type: ignore[arg-type]
    return Taught(m, config, params, f"a {WORD}" if kind == "word" else f"a {WORD} {noun}", f"a {noun}")


def teach(kind: str, z: drawing.Attributes, budget: Budget | None = None, name: str = captioned.NAME) -> Taught:
    """Teach the subject of the pictures z by the method of that name."""
    budget, new = BUDGETS[kind] if budget is None else budget, untaught(kind, z, name)
    apply, schedule = build_text(new.config)[1], new.model.schedule
    lora = make_lora(jax.random.key(1), new.params, int(kind.split()[-1])) if kind.startswith("LoRA") else None

    def whole(learned: Any, fixed: dict) -> dict:
        """All parameters, of those that are learned and those that are not."""
        if kind == "word":
            return spoken(fixed, learned)
        return learned if lora is None else merged(fixed, replace(lora, pairs=learned))

    def loss(learned: Any, fixed: dict, key: Any, batch: Any) -> jax.Array:
        keys, net = jax.random.split(key), Partial(apply, whole(learned, fixed))
        return sum(adapters.error_of_v(net, schedule, k, x0, c).mean() for k, (x0, c) in zip(keys, batch, strict=False))

    own, B = jnp.asarray(drawing.painted(z) / 127.5 - 1, jnp.float32), budget.batch
    ours = (own[jnp.arange(B) % len(own)], _said(new, new.said, B))
    prior = jnp.asarray(new.drawn(new.of_class, PRIOR, 1.0, 9)) if kind == "DreamBooth" else None

    def batch_of(n: int) -> Any:
        if prior is None:
            return (ours,)
        picked = np.random.default_rng([n, budget.seed]).integers(0, PRIOR, B)
        return ours, (prior[picked], _said(new, new.of_class, B))

    start = row(new.params) if kind == "word" else new.params if lora is None else lora.pairs
    about = f"{kind}, {z.garment[0]} {z.colour[0]} {z.bits[0]}, {new.model.card['sha256'][:12]}"
    found = adapters.trained(about, start, loss, new.params, batch_of, budget)
    params = whole(found.params, new.params)
    return Taught(new.model, new.config, params, new.said, new.of_class, found)


def _said(new: Taught, text: str, n: int) -> Condition:
    return Condition(text=tokens.encode([text] * n, new.config.words, new.config.tokens))


if __name__ == "__main__":
    adapters.start_quickly()
    for kind in sys.argv[1:] or BUDGETS:
        curve: Any = teach(kind, subject(4, 41)).training
        print(kind, f"loss {np.mean(curve.loss[:20]):.4f}, {np.mean(curve.loss[-50:]):.4f}, {curve.seconds:.0f} s")
