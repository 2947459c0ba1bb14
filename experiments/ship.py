"""Turn a training run into weights that ship: the averaged parameters and a card with every number and its command.

    python -m experiments.ship --run runs/fashion_mnist --name fashion_mnist

The card says how the model was trained, on what, for how long, and what `ddpm evaluate` measures of it: test ε-MSE
beside the best linear-Gaussian denoiser, accuracy of conditional samples, Fréchet distance beside its floor.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ddpm import classifier, data, model, plot, run, weights
from ddpm import evaluate as ev
from ddpm.cli import use_compile_cache
from ddpm.network import count


@dataclass(frozen=True)
class Config:
    """What to ship, and how it is measured."""

    run: Path  # the training run's folder
    name: str  # the weights' name: ddpm/weights/NAME.safetensors
    n: int = 2000  # images drawn for the distances
    steps: int = 50  # DDIM steps
    guidance: float = 2.0  # scale
    seed: int = 0  # of the samples
    note: str = ""  # what else there is to say about the training
    out: Path = weights.FOLDER  # where the weights go


def short(measure: ev.Measure) -> dict[str, Any]:
    """A measure without its long tables."""
    kept = {k: v for k, v in measure.as_dict().items() if k not in ("detail", "closest")}
    detail = {
        k: v for k, v in measure.detail.items() if k in ("by_t", "per_class", "extrapolated", "floor_extrapolated")
    }
    return json.loads(json.dumps(kept | detail), parse_float=lambda s: float(f"{float(s):.5g}"))


def main(config: Config) -> None:
    """Measure the run, write the weights, the card and the picture of the evaluation."""
    use_compile_cache()
    m = model.load(config.run)
    about, metrics = m.card, run.read_metrics(config.run)
    dataset = data.load(about["train"]["data"])
    how = {"n": config.n, "steps": config.steps, "guidance": config.guidance, "seed": config.seed}
    measures = ev.evaluate(m, dataset, classifier.load(dataset.name), **how)  # type: ignore[arg-type]
    print(ev.table(measures))
    mse, accuracy, frechet = (measures[k] for k in ("eps_mse", "accuracy", "frechet"))
    ratio = mse.value / mse.beside  # type: ignore[operator]
    options = " ".join(
        f"--{f.name.replace('_', '-')} {about['train'][f.name]}"
        for f in dataclasses.fields(model.TrainConfig)
        if about["train"][f.name] != f.default and f.name not in ("name", "data_dir", "sample_every", "save_every")
    )
    card = {
        "summary": (
            f"{about['train']['schedule']} schedule, {count(m.params):,} parameters: test ε-MSE {mse.value:.4f}, "
            f"{ratio:.3f} of the best linear-Gaussian denoiser; class accuracy {accuracy.value:.3f}; "
            f"Fréchet distance {frechet.value:.2f} (test images {frechet.beside:.2f})"
        ),
        "parameters": count(m.params),
        "train": about["train"],
        "data": about["data"],
        "steps": about["step"],
        "training_seconds": float(metrics["seconds"][-1]),
        "training_device": about["device"],
        "versions": about["versions"],
        "commit": classifier.commit(),
        "note": config.note,
        "eps_mse_over_linear_gaussian": round(ratio, 4),
        "measures": {k: short(v) for k, v in measures.items()},
        "measured_on": run.device_name(),
        "commands": {
            "train": f"ddpm train {options}".strip(),
            "measure": (
                f"ddpm evaluate --model {config.name} --data {dataset.name} --n {config.n} --steps {config.steps} "
                f"--guidance {config.guidance:g} --seed {config.seed}"
            ),
        },
    }
    model.save(config.out / config.name, m, card)
    picture = config.run / "evaluation.png"
    plot.save_evaluation(picture, ev.as_json(measures))
    print(f"{card['summary']}\nwritten: {config.out / config.name}.safetensors and its card; {picture}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
