"""One family of small trainings that several figures share: a run is trained once, then read from the cache folder.

    python -m experiments.lab.small_trainings [recipe …]   trains all recipes, or those named; resumes where it stopped

Every run has the same network, the same number of steps and images, the same constant learning rate and the same seeds:
only the order at an equal, small budget is compared, not the papers' numbers. A run is kept under the hash of its
configuration and of its data, and an interrupted run resumes from its last checkpoint. (The hash does not include the
code: after a change of the training, delete the folder `trainings` in the cache.)
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm import data
from ddpm.cli.start import ask_for_huge_pages, use_compile_cache
from ddpm.config import UNetConfig
from ddpm.datasets import sources
from ddpm.flows.paths import make_chain
from ddpm.networks.skip import make_prior
from ddpm.oracles.low_rank import LowRank
from ddpm.schedule import Schedule, make_schedule
from ddpm.tools import cache, checkpoint, files, machine
from ddpm.training import loop, run, tables
from ddpm.training.config import TrainConfig
from ddpm.training.step import init_state
from ddpm.zoo.model import Model
from experiments.lab.runner import Unavailable


@dataclass(frozen=True)
class Small:
    """The budget of every run. On a GPU: preset=small steps=100000 batch=128. With more patience: preset=cpu."""

    data: str = "fashion_mnist"
    preset: str = "nano"  # 166k parameters, 28 x 28: `cpu`, narrow, so that many runs and their measures are cheap
    steps: int = 3000
    batch: int = 32
    seeds: int = 2
    every: int = field(default=0, repr=False)  # steps between the averages that are kept; 0: a quarter of the way


# What each run changes of the plain one: cosine schedule, ε, L_simple, 10 % of the labels dropped.
RECIPES: dict[str, dict[str, Any]] = {
    "cosine": {"fixed_ema": (0.9, 0.99, 0.999, 0.9999)},  # for the figure of the averages
    "min_snr": {"loss": "min_snr"},
    "p_uncond .2": {"p_uncond": 0.2},
    "p_uncond .5": {"p_uncond": 0.5},
    "linear": {"schedule": "linear"},
    "hybrid": {"loss": "hybrid", "variance": "learned"},
    "vlb": {"loss": "vlb", "variance": "learned", "importance": True},
    "linear, ε, L": {"schedule": "linear", "loss": "vlb"},
    "linear, μ, L": {"schedule": "linear", "predict": "mu", "loss": "vlb"},
    "linear, μ, mse": {"schedule": "linear", "predict": "mu", "loss": "mse"},
    "linear, x0, mse": {"schedule": "linear", "predict": "x0", "loss": "mse"},
    "v": {"predict": "v"},  # what follows: the same loss of ε, and other Gaussians from which the network continues
    "flow": {"predict": "flow", "path": "linear"},  # the error of the velocity; another chain
    "gaussian, isotropic": {"predict": "gaussian", "gaussian": "isotropic"},
    "gaussian, one": {"predict": "gaussian", "gaussian": "one"},
    "gaussian, pooled": {"predict": "gaussian", "gaussian": "pooled"},
    "gaussian, class": {"predict": "gaussian", "gaussian": "class"},
    "gaussian, class, fades": {"predict": "gaussian", "gaussian": "class", "gaussian_fade": (100, 300)},
    # without the Gaussian's estimate of x0 in the network's input
    "gaussian, isotropic, unseen": {"predict": "gaussian", "gaussian": "isotropic", "gaussian_input": False},
    "gaussian, class, unseen": {"predict": "gaussian", "gaussian": "class", "gaussian_input": False},
}
LATER = ("begin", "gaussian_fade", "gaussian_input")  # hashed only where they are set: runs kept before stay valid
AVERAGE = "power_0.1"  # the average that is measured: its width is a tenth of the run, and it forgets the start at once


@dataclass(frozen=True)
class Run:
    """A finished training."""

    key: str
    config: TrainConfig
    unet: UNetConfig
    schedule: Schedule
    params: dict[str, Any]  # by average: params (none), ema, fixed_…, power_0.1
    parts: dict[int, Any]  # AVERAGE along the way, by step
    card: dict[str, Any]
    gaussian: Any = None  # the Gaussian that the network continues, where it predicts `gaussian`
    weight: Any = None  # its w_t, where it fades

    def model(self, average: str = AVERAGE, step: int | None = None) -> Model:
        """The denoiser with that average of the parameters, at the end or at one of the steps in `parts`."""
        last = step in (None, self.config.steps)
        params = self.params[average] if last else self.parts[step]  # type: ignore[index]
        card = {**self.card, "sha256": cache.key(self.key, average, step or self.config.steps)}
        name = f"{self.key}, {average}, {step or self.config.steps} steps"
        params = jax.tree.map(jax.numpy.asarray, params)
        gaussian, weight = jax.tree.map(jax.numpy.asarray, (self.gaussian, self.weight))
        prior = gaussian and make_prior(LowRank(**gaussian), self.schedule, weight)
        return Model(name, self.unet, params, self.schedule, tuple(self.card["classes"]), card, prior)


def config_of(small: Small, recipe: str, seed: int) -> TrainConfig:
    """The whole configuration of a run."""
    every = small.every or max(1, small.steps // 4)
    common: dict[str, Any] = {
        "lr_schedule": "constant",
        "warmup": min(100, every),
        "lr": 2e-3,
        "power_ema": (0.1,),
        "snapshot_every": every,
        "save_every": every,
        "log_every": max(1, small.steps // 60),
        "sample_every": 0,
    }
    return TrainConfig(
        data=small.data,
        preset=small.preset,
        steps=small.steps,
        batch=small.batch,
        seed=seed,
        **common,
        **RECIPES[recipe],
    )


def train(small: Small, recipe: str, seed: int) -> Run:
    """Return the run from the cache, or train it now."""
    config = config_of(small, recipe, seed)
    try:
        dataset = sources.load(config.data)
    except (FileNotFoundError, ConnectionError) as error:
        raise Unavailable(f"the experiment trains on {config.data}, which is not here: {error}") from error
    unet = run.network_for(config, dataset)
    free = set(TrainConfig.FREE) - {"steps"} | {"dropout"}  # dropout: the network's configuration has it
    later = {f.name for f in dataclasses.fields(config) if f.name in LATER and getattr(config, f.name) == f.default}
    chosen = {k: v for k, v in dataclasses.asdict(config).items() if k not in free | later}
    key = cache.key(chosen, config.snapshot_every, dataclasses.asdict(unet), dataset.sha256)
    home = cache.folder() / "trainings"
    if not (home / f"{key}.json").exists():
        print(f"training: {recipe}, seed {seed}, {config.steps:,} steps of {config.batch}", flush=True)
        _share_baseline(home / "unfinished" / key, home, config, dataset)
        folder = run.train(dataclasses.replace(config, name=key), home / "unfinished")
        _keep(folder, home / key, config, unet, dataset)
        shutil.rmtree(folder)
    arrays, card = files.load(home / key)
    parts = {int(k): v for k, v in arrays.pop("parts").items()}
    gaussian, weight = arrays.pop("gaussian", None), arrays.pop("gaussian_weight", None)
    return Run(key, config, unet, make_chain(config.chain, config.T), arrays, parts, card, gaussian, weight)


def _share_baseline(folder: Path, home: Path, config: TrainConfig, dataset: data.Dataset) -> None:
    """Compute the exact loss of the linear denoiser, which the progress bar shows, once for all runs."""
    if config.loss == "simple":
        kept = home / "baselines" / cache.key(config.schedule, config.T, config.conditional, dataset.sha256)
        loop.baseline(kept, dataset, make_schedule(config.schedule, config.T), config.conditional)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept / "baseline.json", folder)


def _keep(folder: Path, path: Path, config: TrainConfig, unet: UNetConfig, dataset: data.Dataset) -> None:
    """Keep all averages at the end, one of them along the training, and the curve of the loss."""
    like = jax.eval_shape(lambda: init_state(config, unet))
    found = checkpoint.restore(folder / "checkpoints", like)
    if found is None:
        raise RuntimeError(f"{folder} has no whole checkpoint; run the same command again")
    state = found[0]
    parts = {str(n): files.load(folder / "ema" / f"step_{n:08d}")[0][AVERAGE] for n in checkpoint.steps(folder / "ema")}
    tree = {"params": state.params, "ema": state.ema, **state.emas, "parts": parts}
    if state.prior:
        tree["gaussian"] = state.prior.gaussian._asdict()
        if state.prior.weight is not None:
            tree["gaussian_weight"] = state.prior.weight
    curve = tables.read_metrics(folder)
    card = {
        "train": dataclasses.asdict(config),
        "unet": dataclasses.asdict(unet),
        "schedule": {"name": config.chain, "T": config.T},
        "classes": list(dataset.class_names),
        "curve": {k: np.round(curve[k], 6).tolist() for k in ("step", "loss", "grad_norm", "seconds")},
        "device": machine.device_name(),
    }
    files.save(path, jax.device_get(tree), card)


def family(small: Small, recipes: Any) -> dict[str, list[Run]]:
    """The runs by recipe, one for each seed."""
    return {recipe: [train(small, recipe, seed) for seed in range(small.seeds)] for recipe in recipes}


def main(recipes: list[str]) -> None:
    """Train the runs that are not in the cache yet."""
    small, wanted = Small(), recipes or list(RECIPES)
    if unknown := [r for r in wanted if r not in RECIPES]:
        raise SystemExit(f"unknown recipes: {', '.join(unknown)}; choose from: {', '.join(RECIPES)}")
    print(
        f"{len(wanted) * small.seeds} runs of {small.steps:,} steps of {small.batch}, about 2 min each on 2 CPU cores"
    )
    for recipe in wanted:
        for seed in range(small.seeds):
            curve = train(small, recipe, seed).card["curve"]
            print(f"{recipe}, seed {seed}: loss {curve['loss'][-1]:.4g}, {curve['seconds'][-1]:.0f} s", flush=True)


if __name__ == "__main__":
    ask_for_huge_pages()
    use_compile_cache()
    main(sys.argv[1:])
