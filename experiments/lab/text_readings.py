"""Three ways to read a caption, with equal parameters and budgets: each word by cross-attention, their mean, or both.

    python -m experiments.lab.text_readings [context] [pooled] [both]      trains them, and resumes where it stopped
    python -m experiments.lab.text_readings uniform middle                 context, with other times

The picture's part is that of the shipped network `wardrobe`, frozen; encoder of the text and cross-attentions are drawn
anew and trained. What is pooled is the mean of the encoder's outputs, so that it too may hold the order.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit, ndtr

from ddpm.contracts import Partial
from ddpm.datasets.wardrobe import captions, drawing
from ddpm.losses import times
from ddpm.networks.crossattention import build_text
from ddpm.schedule import Schedule
from ddpm.tools import tokens
from ddpm.tools.conditions import Condition
from ddpm.tools.files import flatten, unflatten
from ddpm.zoo.model import Model
from experiments.lab import adapter_trainings as adapters
from experiments.lab import captioned
from experiments.lab.adapter_trainings import Budget, Trained

WAYS = {"context": "words", "pooled": "mean", "both": "both"}  # what the cross-attentions hear
TIMES = ("logit_normal", "uniform", "middle")  # how often each t is drawn
BUDGET = Budget(1000, 16, 2e-3)
DROPPED = 0.1  # captions


def reads(key: str) -> bool:
    """True for the name of a parameter of the text encoder or of a cross-attention."""
    return key.startswith("text/") or "/cross/" in key


def untrained(way: str, name: str = captioned.NAME) -> Model:
    """The shipped network whose reading is drawn anew, with the same parameters in every way."""
    m = adapters.base(name)
    config = replace(m.unet, text_heard=WAYS[way])  # type: ignore[call-arg]
    new = flatten(build_text(config)[0](jax.random.key(5)))
    params = unflatten({k: new[k] if reads(k) else a for k, a in flatten(m.params).items()})
    return replace(m, name=way, unet=config, params=params)


def batch_of(m: Model, budget: Budget, n: int) -> tuple[np.ndarray, Condition]:
    """Pictures with their captions, of which a tenth is left out."""
    x0, z = adapters.drawn_batch(n, budget)
    given = captions.mentioned(drawing.values_of(z), n)
    text = tokens.encode([captions.caption(row) for row in given.tolist()], m.unet.words, m.unet.tokens)  # type: ignore[attr-defined]
    silent = np.random.default_rng([n, budget.seed]).random(len(text)) < DROPPED
    return x0, Condition(text=np.where(silent[:, None], tokens.nothing(1, m.unet.tokens), text))  # type: ignore[attr-defined]


def cumulative(schedule: Schedule, drawn: str) -> jax.Array:
    """P(t ≤ i) of the times of that name, (T+1,): those of the library, and `middle`, logit(t/T) ~ N(0, .5²)."""
    if drawn != "middle":
        return times.cumulative(schedule, drawn)
    return ndtr(2 * logit(jnp.arange(schedule.T + 1) / schedule.T))


def train(
    way: str, budget: Budget = BUDGET, name: str = captioned.NAME, drawn: str = TIMES[0]
) -> tuple[Model, Trained]:
    """Train the network that reads in this way, at the times of that name: only what reads."""
    m = untrained(way, name)
    apply, params = build_text(m.unet)[1], jax.tree.map(jnp.asarray, flatten(m.params))
    learned, frozen = ({k: a for k, a in params.items() if reads(k) == of} for of in (True, False))

    def loss(learned: Any, frozen: Any, key: Any, batch: Any) -> jax.Array:
        net = Partial(apply, unflatten(frozen | learned))
        x0, c = batch
        return adapters.error_of_v(net, m.schedule, key, x0, c, cumulative=share).mean()

    share = cumulative(m.schedule, drawn)
    about = f"{way}, {'' if drawn == TIMES[0] else f'{drawn} t, '}{m.card['sha256'][:12]}"
    found = adapters.trained(about, learned, loss, frozen, lambda n: batch_of(m, budget, n), budget)
    return replace(m, params=unflatten(frozen | found.params)), found


if __name__ == "__main__":
    adapters.start_quickly()
    for way in sys.argv[1:] or WAYS:
        found = (train("context", drawn=way) if way in TIMES else train(way))[1]
        print(way, f"loss {np.mean(found.loss[:50]):.4f}, {np.mean(found.loss[-100:]):.4f}, {found.seconds:.0f} s")
