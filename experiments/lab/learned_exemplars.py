"""The shipped network `wardrobe` with a branch that sees a garment to put on, joined to it in four ways.

    python -m experiments.lab.learned_exemplars [addition] [film] [attention] [token]     trains them, and resumes

The network is frozen; the branch is a copy of its encoder, as in ControlNet and Diffuse-to-Choose. The exemplar stands
at its new place on grey, in a light of its own. The caption has all words of the picture but the light, which only the
scene around shows. So the branch has to bring shades, the row and the 16 bits, and must not bring the light.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import jax
import numpy as np

from ddpm import data
from ddpm.contracts import Eps
from ddpm.datasets.wardrobe import captions, drawing
from ddpm.datasets.wardrobe.silhouettes import shapes
from ddpm.datasets.wardrobe.words import ATTRIBUTES
from ddpm.editing.inpaint import repaint
from ddpm.networks.control import Control, make_control
from ddpm.networks.fusion import WAYS
from ddpm.sample import ddim_step, walk
from ddpm.schedule import make_times
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.zoo.model import Model
from experiments.lab import adapter_trainings as adapters
from experiments.lab import captioned
from experiments.lab.adapter_trainings import Budget, Trained
from experiments.lab.learned_control import branch, shape_of
from experiments.try_on import BADGED, Task, measured, task

BUDGET = Budget(steps=400, batch=16)
WATCHED = (100, 200, 300, 400)


def on_grey(z: drawing.Attributes) -> np.ndarray:
    """The garments alone, their surroundings grey: (n, 28, 28, 3) in [0, 1]"""
    garment = shapes().region[shape_of(z)] > 0
    return np.where(garment[..., None], drawing.painted(z) / np.float32(255), np.float32(0.5))


def words(m: Model, z: drawing.Attributes) -> np.ndarray:
    """The tokens of captions that name all but the light: (n, L)"""
    values = drawing.values_of(z)
    values[:, list(ATTRIBUTES).index("light")] = -1
    texts = [captions.caption(row) for row in values.tolist()]
    return tokens.encode(texts, m.unet.words, m.unet.tokens)  # type: ignore[attr-defined]


def batch_of(m: Model, budget: Budget, n: int) -> tuple[np.ndarray, Condition]:
    """Pictures of garments with a badge, and the same garments in a light drawn anew."""
    seed = 1_000_000 * (1 + budget.seed) + n
    z = drawing.draw_attributes(budget.batch, seed)._replace(pattern=np.full(budget.batch, BADGED, np.int32))
    light = np.random.default_rng([seed, 1]).integers(0, 2, budget.batch, dtype=np.int32)
    return data.to_float(drawing.painted(z)), Condition(text=words(m, z), hint=on_grey(z._replace(light=light)))


@lru_cache(maxsize=8)
def empty(m_name: str, way: str) -> tuple[Model, Control]:
    """The network, and a branch that has learned nothing."""
    m = adapters.base(m_name)
    return m, make_control(jax.random.key(0), m.unet, m.params, channels=3, way=way)  # type: ignore[arg-type]


def put_on(m: Model, eps: Eps, wanted: Task, hinted: bool, steps: int = 25, seed: int = 0) -> np.ndarray:
    """Fill the holes by DDIM, the scene around being known at every step: (n, 28, 28, 3) in [-1, 1]"""
    c = Condition(text=words(m, wanted.wanted), hint=on_grey(exemplar_of(wanted)) if hinted else None)
    known, around = wanted.before.astype(np.float32), ~wanted.hole[..., None]
    down = ddim_step(eps, m.schedule, c)  # type: ignore[arg-type]
    step = repaint(down, m.schedule, known=known, mask=around.astype(np.float32))
    x_T = jax.random.normal(jax.random.key(seed), known.shape)
    return np.clip(np.asarray(walk(step, jax.random.key(seed + 1), x_T, make_times(m.schedule.T, steps))), -1, 1)


def exemplar_of(wanted: Task) -> drawing.Attributes:
    """What is wanted, in the light of the exemplar."""
    return wanted.wanted._replace(light=wanted.subject.light)


def train(
    way: str, budget: Budget = BUDGET, watched: tuple[int, ...] = WATCHED, name: str = captioned.NAME
) -> tuple[Model, Control, Trained]:
    """Train a branch that is joined in this way; along the way read bits and light of 32 fillings."""
    m, start = empty(name, way)
    some = task(32)

    def watch(eps: Eps) -> list[float]:
        found = measured(put_on(m, eps, some, True, 10), some.wanted, some.shape)
        return [float(found[what].mean()) for what in ("bits", "light")]

    return m, *branch(f"exemplar, {way}", m, start, lambda n: batch_of(m, budget, n), budget, watched, watch)


if __name__ == "__main__":
    adapters.start_quickly()
    for way in sys.argv[1:] or WAYS:
        found = train(way)[2]
        print(
            way,
            *(f"{s:.0f}: {b:.2f} {light:.2f}" for s, b, light in found.watched),
            f"{found.seconds:.0f} s",
            flush=True,
        )
