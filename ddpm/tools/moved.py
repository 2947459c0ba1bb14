"""Point to the new locations of modules of version 0.1; kept for one release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOVED = {
    "adaptive": "guides.adaptive",
    "augment": "classifiers.augmentation",
    "bits": "evaluation.bits",
    "bound": "losses.bound",
    "cache": "tools.cache",
    "cells": "oracles.cell_grid",
    "check": "tools.check",
    "checkpoint": "tools.checkpoint",
    "classifier": "classifiers.classifier",
    "classifier_config": "classifiers.recipes",
    "classifier_run": "cli.classifier",
    "classifier_train": "classifiers.fitting",
    "commands": "cli.sample",
    "compare": "training.reference",
    "compose": "guides.composition",
    "convnet": "classifiers.convnet",
    "cost": "training.cost",
    "demo": "cli.demo",
    "denoising": "evaluation.denoising_loss",
    "diffusion_classifier": "classifiers.by_denoising",
    "distributed": "training.devices",
    "doersch": "mining.doersch",
    "edm": "samplers.edm",
    "ema": "training.averages",
    "encode": "editing.inversion",
    "evaluate": "evaluation.model",
    "evaluate_run": "cli.evaluate",
    "export": "tools.image_files",
    "feed": "training.feed",
    "finite": "oracles.finite_set",
    "formats": "datasets.formats",
    "generate": "samplers.generation",
    "hog": "mining.hog",
    "importance": "losses.importance",
    "inception": "evaluation.inception",
    "info": "cli.info",
    "inpaint": "editing.inpaint",
    "interop": "zoo.diffusers",
    "langevin": "samplers.langevin_dynamics",
    "layers": "tools.ops",
    "likelihood": "evaluation.ode_likelihood",
    "localisation": "mining.localisation",
    "log": "training.tables",
    "loop": "training.loop",
    "maps": "mining.maps",
    "measure": "evaluation.measure",
    "metrics": "evaluation.distances",
    "mine": "mining.patterns",
    "mine_run": "cli.mine",
    "model": "zoo.model",
    "muon": "classifiers.optimiser",
    "neighbours": "evaluation.neighbours",
    "objective": "losses.objectives",
    "origin": "tools.origin",
    "page": "mining.report",
    "parts": "tools.batches",
    "patches": "mining.patches",
    "peer_config": "zoo.diffusers_config",
    "probe": "features.probe",
    "pytree": "contracts",
    "real": "evaluation.real_features",
    "run": "training.run",
    "saliency": "mining.saliency_maps",
    "scoring": "evaluation.scores",
    "solvers": "samplers.solvers",
    "statistics": "evaluation.statistics",
    "stop": "training.signals",
    "store": "tools.files",
    "teleport": "oracles.gaussian",
    "timenet": "classifiers.timenet",
    "translate": "editing.translation",
    "variance": "samplers.variance",
    "watch": "training.by_layer",
    "weighting": "losses.weighting",
    "world": "datasets.world",
    "xla": "tools.xla",
}


def sentence(old: str) -> str:
    """Return the error message for an import of the old module `ddpm.old`."""
    return f"ddpm.{old} has moved: import ddpm.{MOVED[old]} instead (the map of all modules is ddpm.__doc__)"


class Finder:
    """An import hook for the old names, which Python tries after its own finders."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Raise an ImportError with the new location for old names; return None for all others."""
        package, _, old = name.partition(".")
        if package == "ddpm" and old in MOVED:
            raise ImportError(sentence(old), name=name)
