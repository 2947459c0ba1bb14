"""Turn a training run into weights that ship: the averaged parameters and a card with every number and its command.

    python -m experiments.lab.ship_weights --run runs/fashion_mnist --name fashion_mnist
    python -m experiments.lab.ship_weights --name fashion_mnist     measures shipped weights again and renews their card
    python -m experiments.lab.ship_weights --name NAME --no-measure    renews only the axes, on which times are searched

The card states how the model was trained, on which data, for how long, and what `ddpm evaluate` measures: test ε-MSE
compared with the best linear-Gaussian denoiser, accuracy of conditional samples, Fréchet distance and its floor.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ddpm import data, plot, weights
from ddpm.classifiers import classifier
from ddpm.cli.start import use_compile_cache
from ddpm.datasets import sources
from ddpm.evaluation import denoising_loss
from ddpm.evaluation import measure as measure_
from ddpm.evaluation import model as ev
from ddpm.networks.inspect import count
from ddpm.oracles.spectrum import axes
from ddpm.sample import Sampling
from ddpm.tools import machine
from ddpm.tools.origin import commit
from ddpm.training import config as config_
from ddpm.training import tables
from ddpm.training.gaussian_baseline import axes_card
from ddpm.zoo import model
from ddpm.zoo.cards import DrawingCard


@dataclass(frozen=True)
class Config:
    """Which weights to ship, and how they are measured."""

    name: str  # the weights' name: ddpm/weights/NAME.safetensors
    run: Path | None = None  # folder of the training run; without it, measure the shipped weights of that name again
    n: int = 2000  # images drawn for the distances
    steps: int = 50  # DDIM steps
    guidance: float = 2.0  # scale, which the card then names as the model's own
    gaussian_above: int | None = None  # t* above which the Gaussian of the weights takes over, for the card
    seed: int = 0  # of the samples
    note: str = ""  # a remark about the training
    measure: bool = True  # without it, shipped weights get the principal axes of their data, and nothing else changes
    out: Path = weights.FOLDER  # folder for the weights


def short(measure: measure_.Measure) -> dict[str, Any]:
    """A measure without its long tables."""
    kept = {k: v for k, v in measure.as_dict().items() if k not in ("detail", "closest")}
    detail = {
        k: v for k, v in measure.detail.items() if k in ("by_t", "per_class", "extrapolated", "floor_extrapolated")
    }
    return json.loads(json.dumps(kept | detail), parse_float=lambda s: float(f"{float(s):.5g}"))


def measured(
    config: Config, m: model.Model, about: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, measure_.Measure]]:
    """The measured part of the card, and all measures."""
    dataset = sources.load(about["train"]["data"])
    if f"{dataset.name}_classifier" not in weights.cards("classifier"):
        return denoised(config, m, about, dataset)
    plan = ev.Plan(config.n, Sampling(steps=config.steps, guidance=config.guidance), config.seed)
    judge = classifier.load(dataset.name)
    measures = ev.evaluate(m, dataset, judge, plan)
    print(measure_.table(measures))
    mse, accuracy, frechet = (measures[k] for k in ("eps_mse", "accuracy", "frechet"))
    ratio = mse.value / mse.reference  # type: ignore[operator]
    return {
        "summary": (
            f"{about['train']['schedule']} schedule, {count(m.params):,} parameters: test ε-MSE {mse.value:.4f}, "
            f"{ratio:.3f} of the best linear-Gaussian denoiser; class accuracy {accuracy.value:.3f}; "
            f"Fréchet distance {frechet.value:.2f} (test images {frechet.reference:.2f})"
        ),
        "eps_mse_over_linear_gaussian": round(ratio, 4),
        "measures": {k: short(v) for k, v in measures.items()},
        "measured_on": machine.device_name(),
        "measured_at": commit(),
        "classifier_sha256": judge.card["sha256"],
    }, measures


def denoised(
    config: Config, m: model.Model, about: dict[str, Any], dataset: data.Dataset
) -> tuple[dict[str, Any], dict[str, measure_.Measure]]:
    """The same for a data set without a classifier of samples: denoising alone."""
    measures = denoising_loss.denoising(m.eps, m.schedule, dataset, m.num_classes, seed=config.seed)
    print(measure_.table(measures))
    mse, null = measures["eps_mse"], measures["eps_mse_null"]
    ratio = mse.value / mse.reference  # type: ignore[operator]
    return {
        "summary": (
            f"{about['train']['schedule']} schedule, {count(m.params):,} parameters: test ε-MSE {mse.value:.4f} "
            f"(no class given {null.value:.4f}), {ratio:.3f} of the best linear-Gaussian denoiser"
        ),
        "eps_mse_over_linear_gaussian": round(ratio, 4),
        "measures": {k: short(v) for k, v in measures.items()},
        "measured_on": machine.device_name(),
        "measured_at": commit(),
    }, measures


def main(config: Config) -> None:
    """Measure the run, write the weights, the card and the picture of the evaluation."""
    use_compile_cache()
    if config.run is None:
        m = stored(model.load(config.name))
        m.card.update(drawing_of(config))
        m.card["axes"] = axes_card(axes(sources.load(m.card["train"]["data"]).x_train))
        if not config.measure:
            model.save(config.out / config.name, m, m.card)
            return
        card, measures = measured(config, m, m.card)
        card = {k: v for k, v in {**m.card, **card}.items() if k != "sha256"}
        picture = Path("out") / f"{config.name}_evaluation.png"
    else:
        m = stored(model.load(config.run))
        m.card.update(drawing_of(config))
        card, measures = card_of_run(config, config.run, m)
        picture = config.run / "evaluation.png"
    model.save(config.out / config.name, m, card)
    plot.save_evaluation(picture, measure_.as_json(measures))
    print(f"{card['summary']}\nwritten: {config.out / config.name}.safetensors and its card; {picture}")


def drawing_of(config: Config) -> dict[str, Any]:
    """The card's entry on how the model draws well; none where it is as everywhere."""
    drawing = DrawingCard(config.guidance, config.gaussian_above)
    return {} if drawing == DrawingCard() else {"drawing": dataclasses.asdict(drawing)}


def stored(m: model.Model) -> model.Model:
    """The model as it ships, and as it is measured: the directions of its Gaussian, if any, are those of float16."""
    if m.prior is None:
        return m
    return dataclasses.replace(m, prior=m.prior._replace(gaussian=m.prior.gaussian.half()))


def card_of_run(config: Config, folder: Path, m: model.Model) -> tuple[dict[str, Any], dict[str, measure_.Measure]]:
    """The whole card: how the model was trained, and its measures."""
    about, metrics = m.card, tables.read_metrics(folder)
    found, measures = measured(config, m, about)
    data_name = about["train"]["data"]
    return {
        "parameters": count(m.params),
        "train": about["train"],
        "data": about["data"],
        "steps": about["step"],
        "training_seconds": float(metrics["seconds"][-1]),
        "training_device": about["device"],
        "versions": about["versions"],
        "commit": commit(),
        "note": config.note,
        **found,
        "commands": {
            "train": config_.TrainConfig.saved(about["train"]).command(
                ("name", "data_dir", "sample_every", "save_every")
            ),
            "measure": (
                f"ddpm evaluate --model {config.name} --data {data_name} --n {config.n} --steps {config.steps} "
                f"--guidance {config.guidance:g} --seed {config.seed}"
            ),
        },
    }, measures


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
