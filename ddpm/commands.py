"""What the commands `ddpm sample`, `typicality`, `evaluate`, `compare`, … do; `cli.py` holds their options."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpm import cli, data, export, model, plot
from ddpm.generate import generate
from ddpm.store import write_atomic
from ddpm.typicality import typicality


def class_list(m: model.Model, label: str) -> list[int]:
    """The classes that `label` asks for: one by name or number, or all of them."""
    if not m.num_classes:
        raise ValueError(f"model {m.name!r} was trained without classes; use --label none")
    return list(range(m.num_classes)) if label == "all" else [data.class_index(m.classes, label)]


def sample(command: cli.Sample) -> None:
    """Draw images and write the grid."""
    m = model.load(command.model)
    common: dict[str, Any] = {
        "sampler": command.sampler,
        "steps": command.steps,
        "rule": command.rule,
    }
    key = jax.random.key(command.seed)
    if command.label == "none" or not m.num_classes:
        if command.n < 1:
            raise ValueError(f"n is {command.n}; give a whole number >= 1")
        x, c = generate(m.eps, m.schedule, key, m.image_shape, n=command.n, **common), None
        plot.save_grid(command.out, x, columns=min(10, command.n))
    else:
        classes = class_list(m, command.label)
        if command.n < 1:
            raise ValueError(f"n is {command.n}; give a whole number >= 1")
        c = np.repeat(classes, command.n)
        x = generate(m.eps, m.schedule, key, m.image_shape, c, guidance=command.guidance, **common)
        if len(classes) == 1:
            plot.save_grid(command.out, x, columns=min(10, command.n))
        else:
            plot.save_rows(command.out, np.split(x, len(classes)), [m.classes[k] for k in classes])
    print(f"{len(x)} images: {command.out}")
    if command.npz:
        export.save_npz(command.npz, data.to_uint8(x), c)
        print(f"as uint8: {command.npz}")


def images_to_measure(command: cli.Typicality, m: model.Model) -> tuple[np.ndarray, np.ndarray, str]:
    """The images, their labels, and where they are from: drawn by the model, or the first test images of each class."""
    classes = class_list(m, command.label)
    if command.n < 1:
        raise ValueError(f"n is {command.n}; give a whole number >= 1")
    if command.data == "generated":
        c = np.repeat(classes, command.n)
        key = jax.random.key(command.seed)
        x = generate(m.eps, m.schedule, key, m.image_shape, c, steps=50, guidance=2.0)
        return x, c, f"drawn by {m.name} (DDIM, 50 steps, guidance 2, seed {command.seed})"
    dataset = data.load(command.data, command.data_dir)
    if dataset.image_shape != m.image_shape or dataset.num_classes != m.num_classes:
        raise ValueError(
            f"model {m.name!r} wants images {m.image_shape} of {m.num_classes} classes; "
            f"{command.data} has {dataset.image_shape} of {dataset.num_classes}"
        )
    ids = np.concatenate([np.flatnonzero(dataset.y_test == k)[: command.n] for k in classes])
    return data.to_float(dataset.x_test[ids]), dataset.y_test[ids], f"{command.data} test images"


def measure_typicality(command: cli.Typicality) -> None:
    """Measure T(x|c), print a table by class, write the numbers and the picture."""
    m = model.load(command.model)
    x, c, source = images_to_measure(command, m)
    key = jax.random.fold_in(jax.random.key(command.seed), 1)
    T = typicality(m.eps, m.schedule, x, c, key, draws=command.draws, t_range=command.t_range, progress=True)

    print(f"typicality of {source}: {command.draws} draws, t in ({command.t_range[0]}T, {command.t_range[1]}T]")
    print(f"  {'class':14s} {'n':>4s}   mean T x 1000    share T > 0   median standard error x 1000")
    rows = []
    for k in np.unique(c):
        mine = np.flatnonzero(c == k)
        best = mine[np.argsort(-T.value[mine])]
        print(
            f"  {m.classes[k]:14s} {len(mine):4d}   {1000 * T.value[mine].mean():+8.2f}        "
            f"{(T.value[mine] > 0).mean():8.3f}        {1000 * np.median(T.stderr[mine]):8.2f}"
        )
        show = best if len(best) <= 10 else np.concatenate([best[:7], best[-3:]])
        rows.append((m.classes[k], x[show], T.map[show], T.value[show]))
    plot.save_typicality(command.out, rows, "T(x|c) x 1000, most typical first; red: the class helps to denoise here")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "class", "typicality", "stderr"])
    writer.writerows([i, m.classes[c[i]], f"{T.value[i]:.6g}", f"{T.stderr[i]:.3g}"] for i in range(len(x)))
    numbers = command.out.with_suffix(".csv")
    write_atomic(numbers, text.getvalue().encode())
    print(f"picture: {command.out}\nnumbers: {numbers}")


def evaluate(command: cli.Evaluate) -> None:
    """Measure a model, or a set of images."""
    from ddpm import evaluate_run

    evaluate_run.main(command)


def train_classifier(command: Any) -> None:
    """A classifier, its weights and its card."""
    from ddpm import classifier_run

    classifier_run.main(command)


def demo(command: cli.Demo) -> None:
    """The tour."""
    from ddpm.demo import demo as show

    show(command.out, command.steps)


def compare(command: cli.Compare) -> None:
    """The loss of a run beside a reference."""
    from ddpm.compare import show

    show(command.run, command.reference, command.out)


def import_(command: cli.Import) -> None:
    """Weights of a diffusers folder, as a model of ours."""
    from ddpm import interop

    name = command.name or Path(command.source).resolve().name
    target = command.out / name
    if (command.out / f"{name}.json").exists():
        raise ValueError(f"{target}.json is there already; give another --name or --out")
    m = interop.load(command.source, command.schedule, command.T, command.null_label, name)
    model.save(target, m, m.card)
    print(f"{m.card['summary']}, {m.card['schedule']['name']} schedule, T = {m.schedule.T:,}")
    label = "" if m.num_classes else " --label none"
    print(f"{target}.safetensors and its card; ddpm sample --model {target}{label}")


def export_(command: cli.Export) -> None:
    """A model of ours, as a folder of diffusers."""
    from ddpm import interop

    m = model.load(command.model)
    interop.save(command.to, m)
    print(f"{command.to}: diffusers.UNet2DModel.from_pretrained({str(command.to)!r}); its times are ours minus one")
    if m.unet.patch > 1:
        print(
            f"It sees {m.unet.patch}x{m.unet.patch} pixels as channels: give it torch's pixel_unshuffle(x, "
            f"{m.unet.patch}), and pixel_shuffle(·, {m.unet.patch}) its answer"
        )
    if m.num_classes:
        print(f"class_labels: 0..{m.num_classes - 1}, and {m.num_classes} for no class")


def mine(command: cli.Mine) -> None:
    """Patches and clusters."""
    from ddpm import mine_run

    mine_run.main(command)


RUN: dict[str, Callable[[Any], None]] = {
    "Sample": sample,
    "Typicality": measure_typicality,
    "Mine": mine,
    "Evaluate": evaluate,
    "ClassifierCommand": train_classifier,
    "Compare": compare,
    "Import": import_,
    "Export": export_,
    "Demo": demo,
}
