"""Trainings of few-step models that figures share: each is trained once, then read from the cache folder.

    python -m experiments.lab.few_trainings [name …]   trains all, or those named; resumes where it stopped

All have one network and one budget of steps: a model with a teacher gets half of them, since its teacher has had the
other half. (The name of a folder holds the options and the data, not the code: after a change of the training, delete
the folder `few` in the cache.)
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.cli.start import ask_for_huge_pages, use_compile_cache
from ddpm.datasets import sources
from ddpm.tools import cache
from ddpm.training import run
from ddpm.training.config import TrainConfig
from ddpm.zoo import model
from experiments.lab.runner import Unavailable


@dataclass(frozen=True)
class Budget:
    """The budget of every model. With a GPU: preset=cpu steps=40000 batch=128."""

    data: str = "fashion_mnist"
    preset: str = "nano"
    steps: int = 2400
    batch: int = 32
    guidance: float = 2.0
    seed: int = 0


TEACHER = "teacher"
# name -> (share of the steps, options); `teacher` is another name of this table
RECIPES: dict[str, tuple[float, dict[str, Any]]] = {
    TEACHER: (0.5, {}),
    "flow": (1, {}),
    "consistency distillation": (0.5, {"loss": "consistency_distillation", "teacher": TEACHER, "guidance": None}),
    "MeanFlow": (1, {"loss": "meanflow", "guidance": None}),
    "shortcut": (1, {"loss": "shortcut", "guidance": None}),
    "progressive, 8": (0.125, {"loss": "progressive", "calls": 8, "teacher": TEACHER, "guidance": None}),
    "progressive, 4": (0.125, {"loss": "progressive", "calls": 4, "teacher": "progressive, 8"}),
    "progressive, 2": (0.125, {"loss": "progressive", "calls": 2, "teacher": "progressive, 4"}),
    "progressive, 1": (0.125, {"loss": "progressive", "calls": 1, "teacher": "progressive, 2"}),
    "consistency training": (1, {"loss": "consistency"}),
    "guided": (0.5, {"loss": "guided", "teacher": TEACHER}),
    "reflow": (0.5, {"loss": "reflow", "calls": 8, "teacher": TEACHER, "guidance": None}),
    "flow, logit-normal times": (0.5, {"times": "logit_normal"}),
    "MeanFlow, no guidance": (0.5, {"loss": "meanflow"}),
}


def config_of(budget: Budget, name: str) -> TrainConfig:
    """Return the options of a training; guidance None is that of the budget, and a teacher is named by its recipe."""
    share, options = RECIPES[name]
    options = {k: budget.guidance if v is None else v for k, v in options.items()}
    steps = max(1, round(share * budget.steps))
    return TrainConfig(
        data=budget.data,
        preset=budget.preset,
        steps=steps,
        batch=budget.batch,
        lr=2e-3,
        warmup=min(100, max(1, steps // 4)),
        ema=0.995,
        seed=budget.seed,
        predict="flow",
        path="linear",
        save_every=max(1, steps // 4),
        log_every=max(1, steps // 40),
        sample_every=0,
        **options,
    )


def folder_of(budget: Budget, name: str) -> Path:
    """Return the folder of a training in the cache; its name is that of its options, its teacher and the data."""
    config = config_of(budget, name)
    try:
        sha256 = sources.load(config.data).sha256
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the experiment trains on {config.data}, which is not here: {error}") from error
    of = folder_of(budget, config.teacher).name if config.teacher else ""
    return cache.folder() / "few" / cache.key(config.command(), of, sha256)


def train(budget: Budget, name: str) -> model.Model:
    """Return the model from the cache, or train it now, its teacher before it."""
    config, folder = config_of(budget, name), folder_of(budget, name)
    if not (folder / f"samples_{config.steps:08d}.png").exists():
        teacher = train(budget, config.teacher) if config.teacher else None
        print(f"training: {name}, {config.steps:,} steps of {config.batch}", flush=True)
        run.train(dataclasses.replace(config, name=folder.name), folder.parent, teacher=teacher)
    return model.load(folder)


def main(names: list[str]) -> None:
    """Train the models that are not in the cache yet."""
    for name in names or RECIPES:
        m = train(Budget(), name)
        print(f"{name}: {m.name}, step {m.card['step']}", flush=True)


if __name__ == "__main__":
    ask_for_huge_pages()
    use_compile_cache()
    main(sys.argv[1:])
