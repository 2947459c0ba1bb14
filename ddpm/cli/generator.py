"""`ddpm generator`: train an autoencoder, a VAE or a GAN, and draw what it makes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from ddpm import plot, weights
from ddpm.classifiers import classifier
from ddpm.cli.generator_options import GeneratorCommand
from ddpm.data import Dataset, to_float, to_uint8
from ddpm.datasets import sources
from ddpm.evaluation.measure import as_json, table
from ddpm.evaluation.scores import score_images
from ddpm.generators import fitting, trained
from ddpm.generators.networks import GeneratorConfig, build
from ddpm.generators.table import ENCODED, KINDS
from ddpm.generators.trained import Generator
from ddpm.networks.inspect import count
from ddpm.tools.files import check_writable
from ddpm.tools.machine import device_name, versions
from ddpm.tools.origin import commit
from ddpm.zoo.half_size import half


def config_of(command: GeneratorCommand, dataset: Dataset) -> GeneratorConfig:
    """The networks for these images."""
    H, W, C = dataset.image_shape
    if H != W:
        raise ValueError(f"{dataset.name} has images {H}x{W}, which are not square; give --size")
    codes = command.codes if command.codes is not None else 16 if command.kind in ENCODED else 64
    return GeneratorConfig(command.kind, H, C, dataset.num_classes, codes, command.width)


def picture(g: Generator, file: Path, n: int, seed: int, classes: tuple[str, ...] = ()) -> None:
    """Rows of n images: one for each label, or ten of any."""
    K = g.config.labels
    names = list(classes) if K == len(classes) and K else [f"code {k}" for k in range(K)] or [""] * 10
    c = np.repeat(np.arange(K), n) if K else None
    x = g.draw(jax.random.key(seed), n * len(names), c)
    plot.save_rows(file, np.split(x, len(names)), names, f"{g.config.kind}, seed {seed}")


def copies(g: Generator, file: Path, dataset: Dataset, n: int) -> None:
    """Two rows: test images, and what decoder and encoder make of them."""
    x = to_float(dataset.x_test[:n])
    plot.save_rows(file, [x, np.clip(g.copies(x), -1, 1)], ["test images", "their copies"])


def ship(g: Generator, n: int = 2000) -> None:
    """Measure n images, and write float16 weights with their card to the package's folder."""
    about = g.card.get("data")
    if about is None or g.config.kind == "ae":
        raise ValueError(f"{g.name} cannot be shipped: it draws no images, or its card does not name its data")
    dataset = sources.load(about["name"])
    K = g.config.labels
    c = np.arange(n, dtype=np.int32) % K if K else None
    small = half(g.params)  # what is shipped is what is measured
    x = to_uint8(dataclasses.replace(g, params=jax.tree.map(np.float32, small)).draw(jax.random.key(1), n, c))
    name = f"{dataset.name}_{g.config.kind}"
    labels = c if K == dataset.num_classes and g.config.kind != "infogan" else None
    measures = score_images(x, labels, dataset, classifier.load(dataset.name), of=f"images of {name}, seed 1")
    found = {k: round(measures[k].value, 3) for k in ("accuracy", "frechet", "recall") if k in measures}
    summary = ", ".join(f"{k} {v:g}" for k, v in found.items())
    how = g.card["train"]
    again = f"ddpm generator --data {dataset.name} --kind {g.config.kind} --steps {how['steps']} --seed {how['seed']}"
    commands = {"train": again, "measure": f"ddpm generator --trained {name} --ship"}
    card = g.card | {"summary": f"{KINDS[g.config.kind]}: {summary}", "measures": as_json(measures)}
    card |= {"commands": commands}
    trained.save(check_writable(weights.FOLDER / name), dataclasses.replace(g, params=small, card=card))
    print(f"{table(measures)}\n\n{weights.FOLDER / name}.safetensors, .json")


def run(command: GeneratorCommand) -> Generator:
    """Train, or load, and draw."""
    if command.trained:
        command.refuse_training()
        g = trained.load(command.trained)
        file = check_writable((command.out or Path("out")) / "samples.png")
        picture(g, file, command.n, command.seed, tuple(g.card.get("classes", ())))
        print(f"{g.name}: {file}")
        if command.ship:
            ship(g)
        return g
    # Recipe, data and networks; all errors before the work
    how, dataset = command.recipe(), sources.load(command.data, command.data_dir)
    config, folder = config_of(command, dataset), command.folder
    file = check_writable(folder / "samples.png")
    params = jax.eval_shape(build(config).init, jax.random.key(0))
    sizes = " + ".join(f"{count(params[name]):,} ({name})" for name in params if name != "log_r2")
    length = f"{command.minutes:g} minutes" if command.minutes else f"{how.steps:,} steps"
    print(f"{config.kind} of {dataset.name}: {sizes} parameters, {length} of {how.batch} images on {device_name()}")
    # Training, files, picture
    g = fitting.fit(config, how, dataset.x_train, dataset.y_train if dataset.num_classes else None)
    about = {
        "data": {"name": command.data, "sha256": dataset.sha256, "train_images": len(dataset.x_train)},
        "classes": list(dataset.class_names),
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
    }
    g = dataclasses.replace(g, card=g.card | about, name=folder.name)
    trained.save(folder / trained.FILE, g)
    if config.kind == "ae":
        copies(g, file, dataset, command.n)
    else:
        picture(g, file, command.n, command.seed, dataset.class_names)
    losses = ", ".join(f"{a:.4g}" for a in g.card["loss"])
    what = "loss" if config.kind in ENCODED else "losses of discriminator and generator"
    print(f"{g.card['minutes']:.1f} minutes of processor time; {what} of the last 100 steps: {losses}")
    print(f"{folder / trained.FILE}.safetensors, .json; {file}")
    if command.ship:
        ship(g)
    return g
