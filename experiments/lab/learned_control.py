"""ControlNets of the shipped network `wardrobe`, trained on edges: the copy, and what may stand in its place.

python -m experiments.lab.learned_control [copy] [drawn] [lite]     trains them, and resumes where it stopped
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from ddpm.contracts import Eps
from ddpm.datasets.wardrobe import captions, drawing, evidence, law
from ddpm.datasets.wardrobe.silhouettes import geometry, shapes
from ddpm.losses.objectives import denoiser
from ddpm.networks.control import Control, controlled, make_control
from ddpm.tools import tokens
from ddpm.tools.batches import parts
from ddpm.tools.conditions import Condition
from ddpm.zoo.model import Model
from experiments.control import overlap
from experiments.lab import adapter_trainings as adapters
from experiments.lab import captioned
from experiments.lab.adapter_trainings import Budget, Trained

KINDS = {
    "copy": "a copy of the encoder",
    "drawn": "the same branch, random at first",
    "lite": "lite: convolutions of the hint",
}
BUDGET = Budget(steps=1000, batch=16)
WATCHED = (0, 50, 100, 150, 200, 300, 400, 500, 600, 800, 1000)
PROMPTS = 0.5  # the share of pictures that come with their caption   [Zhang et al. 2023, Sec. 3.4]


def shape_of(z: drawing.Attributes) -> np.ndarray:
    """The number of each picture's geometry."""
    return geometry(z.garment, z.size, z.column, z.row, z.pattern)


def edges_of(z: drawing.Attributes) -> np.ndarray:
    """The hint: (n, 28, 28, 1) of 0 and 1"""
    return evidence.hints("edges")[shape_of(z)][..., None].astype(np.float32)


def obeyed(x: np.ndarray, z: drawing.Attributes) -> np.ndarray:
    """IoU of the silhouettes that the reader finds in pictures with those that were asked: (n,)"""
    outline = shapes().region > 0
    return overlap(outline[law.read(np.clip(x, -1, 1)).geometry], outline[shape_of(z)])


def batch_of(m: Model, budget: Budget, n: int) -> tuple[np.ndarray, Condition]:
    """Pictures with their edges, half of them with their caption too."""
    x0, z = adapters.drawn_batch(n, budget)
    said = captions.mentioned(drawing.values_of(z), n)
    text = tokens.encode([captions.caption(row) for row in said.tolist()], m.unet.words, m.unet.tokens)  # type: ignore[attr-defined]
    silent = np.random.default_rng([n, budget.seed]).random(len(text)) >= PROMPTS
    return x0, Condition(text=np.where(silent[:, None], tokens.nothing(1, m.unet.tokens), text), hint=edges_of(z))  # type: ignore[attr-defined]


@lru_cache(maxsize=8)
def empty(m_name: str, kind: str) -> tuple[Model, Control]:
    """The network, and a control that has learned nothing."""
    m = adapters.base(m_name)
    return m, make_control(jax.random.key(0), m.unet, m.params, kind=kind)  # type: ignore[arg-type]


def eps_of(m: Model, control: Control) -> Eps:
    """The denoiser of both."""
    return denoiser(controlled(m.unet, m.params, control), False, m.schedule, "v")  # type: ignore[arg-type]


def drawn(m: Model, eps: Eps, z: drawing.Attributes, hinted: bool, steps: int = 25, seed: int = 0) -> np.ndarray:
    """A picture under the edges of each of z, or without a hint, in parts of 32, which one program draws."""
    found = []
    for k, (ids, new) in enumerate(parts(len(z.garment), 32)):
        c = Condition(hint=edges_of(z.take(ids))) if hinted else None
        found.append(captioned.drawn_under(m, eps, c, len(ids), steps, seed=seed + 100 * k)[:new])
    return np.concatenate(found)


def train(
    kind: str, budget: Budget = BUDGET, watched: tuple[int, ...] = WATCHED, name: str = captioned.NAME
) -> tuple[Model, Control, Trained]:
    """Train a control of that kind; along the way read the IoU of 32 pictures without a prompt."""
    m, start = empty(name, kind)
    z = drawing.draw_attributes(32, 71)

    def watch(eps: Eps) -> list[float]:
        return [float(obeyed(drawn(m, eps, z, True, 10), z).mean())]

    return m, *branch(f"control, {kind}", m, start, lambda n: batch_of(m, budget, n), budget, watched, watch)


def branch(
    about: str, m: Model, start: Control, batch_of: Callable, budget: Budget, watched: tuple[int, ...], watch: Callable
) -> tuple[Control, Trained]:
    """Train what is added to the frozen network m.   watch: the denoiser of both -> numbers, after `watched` steps"""

    def loss(params: Any, fixed: Any, key: Any, batch: Any) -> jax.Array:
        net = controlled(m.unet, fixed, replace(start, params=params))  # type: ignore[arg-type]
        return adapters.error_of_v(net, m.schedule, key, *batch).mean()

    seen = (watched, lambda params: watch(eps_of(m, replace(start, params=params))))
    about = f"{about}, {m.card['sha256'][:12]}"
    found = adapters.trained(about, start.params, loss, m.params, batch_of, budget, seen)
    return replace(start, params=found.params), found


if __name__ == "__main__":
    adapters.start_quickly()
    for kind in sys.argv[1:] or KINDS:
        print(kind, *(f"{step:.0f}: {iou:.2f}" for step, iou in train(kind)[2].watched), flush=True)
