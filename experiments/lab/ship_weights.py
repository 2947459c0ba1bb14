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

import jax
import numpy as np
import tyro

from ddpm import data, plot, weights
from ddpm.classifiers import classifier
from ddpm.cli.start import use_compile_cache
from ddpm.datasets import sources
from ddpm.datasets.wardrobe.captions import caption
from ddpm.datasets.wardrobe.pairs import Captioned, values_for
from ddpm.evaluation import denoising_loss, prompts
from ddpm.evaluation import measure as measure_
from ddpm.evaluation import model as ev
from ddpm.networks.inspect import count
from ddpm.networks.text_config import TextConfig
from ddpm.oracles.spectrum import axes
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools import machine, tokens
from ddpm.tools.conditions import Condition
from ddpm.tools.origin import commit
from ddpm.training import config as config_
from ddpm.training import tables
from ddpm.training.gaussian_baseline import axes_card
from ddpm.zoo import half_size, model
from ddpm.zoo.cards import DrawingCard


@dataclass(frozen=True)
class Config:
    """Which weights to ship, and how they are measured."""

    name: str  # the weights' name: ddpm/weights/NAME.safetensors
    run: Path | None = None  # folder of the training run; without it, measure the shipped weights of that name again
    n: int = 2000  # images drawn for the distances
    steps: int = 50  # of the sampler
    # How the model draws, for the card and the measures; what is not given is as in the model's card
    sampler: str | None = None  # a name of `ddpm.samplers.table`
    guidance: float | None = None  # the scale
    gaussian_above: int | None = None  # t* above which the Gaussian of the weights takes over; 0: nowhere
    searched: int | None = None  # the most steps for which the times of ddim are searched
    seed: int = 0  # of the samples
    note: str = ""  # a remark about the training
    half: bool = False  # round the parameters to float16, and measure them so
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
    if isinstance(dataset, Captioned):
        return prompted(config, m, about, dataset)
    if f"{dataset.name}_classifier" not in weights.cards("classifier"):
        return denoised(config, m, about, dataset)
    plan = ev.Plan(config.n, Sampling(m.drawing.sampler, config.steps, m.drawing.guidance), config.seed)
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


def prompted(
    config: Config, m: model.Model, about: dict[str, Any], dataset: Captioned
) -> tuple[dict[str, Any], dict[str, measure_.Measure]]:
    """The same for a network that reads captions: do pictures of captions of the test split show what is asked?"""
    texts = dataset.text_test[: config.n]
    values = values_for(texts)
    measures: dict[str, measure_.Measure] = {}
    scales = dict.fromkeys((1.0, m.drawing.guidance))
    for scale in scales:
        how = Sampling(m.drawing.sampler, config.steps, scale)
        key = jax.random.key(config.seed)

        def drawn(values: np.ndarray, how: Sampling = how, key: jax.Array = key) -> np.ndarray:
            text = tokens.encode([caption(v) for v in values], m.unet.words, m.unet.tokens)  # type: ignore[attr-defined]
            return generate(m.eps, m.schedule, key, m.image_shape, Condition(text=text), how)

        found = prompts.prompts_right(drawn(values), values, config.seed)
        kept, other = prompts.swapped(values)
        found["swapped"] = prompts.told_apart(drawn(kept), drawn(other), kept, config.seed)
        measures |= {f"{name}_at_{scale:g}": measure for name, measure in found.items()}
    print(measure_.table(measures))
    bag = prompts.bag_of_words(values).mean()
    each = ", ".join(f"{measures[f'all_at_{s:g}'].value:.3f} at guidance {s:g}" for s in scales)
    return {
        "summary": (
            f"{about['train']['schedule']} schedule, {count(m.params):,} parameters; of {len(texts)} captions of the "
            f"test split all that is asked is right in {each} (a bag of words: {bag:.3f})"
        ),
        "measures": {k: short(v) for k, v in measures.items()},
        "measured_on": machine.device_name(),
        "measured_at": commit(),
    }, measures


def main(config: Config) -> None:
    """Measure the run, write the weights, the card and the picture of the evaluation."""
    use_compile_cache()
    m = stored(model.load(config.name if config.run is None else config.run), config.half)
    m = dataclasses.replace(m, card=with_drawing(m.card, drawing_of(config, m.drawing)))
    if config.run is None:
        m.card["axes"] = axes_card(axes(sources.load(m.card["train"]["data"]).x_train))
        if not config.measure:
            model.save(config.out / config.name, m, m.card)
            return
        card, measures = measured(config, m, m.card)
        card = {k: v for k, v in {**m.card, **card}.items() if k != "sha256"}
        again = measuring(config, m, m.card["train"]["data"])
        card["commands"] = {**card.get("commands", {}), "measure": again}
        picture = Path("out") / f"{config.name}_evaluation.png"
    else:
        card, measures = card_of_run(config, config.run, m)
        picture = config.run / "evaluation.png"
    kept = dataclasses.replace(m, params=half_size.half(m.params)) if config.half else m
    model.save(config.out / config.name, kept, card)
    plot.save_evaluation(picture, measure_.as_json(measures))
    print(f"{card['summary']}\nwritten: {config.out / config.name}.safetensors and its card; {picture}")


def drawing_of(config: Config, card: DrawingCard) -> DrawingCard:
    """How the model draws: as its card says, but for the options that are given."""
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(DrawingCard)}
    drawing = dataclasses.replace(card, **{k: v for k, v in options.items() if v is not None})
    return dataclasses.replace(drawing, gaussian_above=drawing.gaussian_above or None)


def with_drawing(card: dict[str, Any], drawing: DrawingCard) -> dict[str, Any]:
    """The card with this entry on how the model draws; without one where it is as everywhere."""
    entry = {} if drawing == DrawingCard() else {"drawing": dataclasses.asdict(drawing)}
    return {k: v for k, v in card.items() if k != "drawing"} | entry


def stored(m: model.Model, half: bool) -> model.Model:
    """The model as it ships, and as it is measured: the directions of its Gaussian, if any, are those of float16.

    half: of all parameters
    """
    if half:
        m = dataclasses.replace(m, params=jax.tree.map(lambda a: a.astype(np.float32), half_size.half(m.params)))
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
            "measure": measuring(config, m, data_name),
        },
    }, measures


def measuring(config: Config, m: model.Model, data_name: str) -> str:
    """The command that measures the weights again."""
    options = f"--n {config.n} --steps {config.steps} --guidance {m.drawing.guidance:g} --seed {config.seed}"
    options += f" --sampler {m.drawing.sampler}" if m.drawing.sampler != "ddim" else ""
    if isinstance(m.unet, TextConfig):
        half = " --half" if config.half else ""
        return f"python -m experiments.lab.ship_weights --name {config.name} {options}{half}"
    return f"ddpm evaluate --model {config.name} --data {data_name} {options}"


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
