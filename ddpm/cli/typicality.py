"""`ddpm typicality`: measure T(x|c) of images, with a table, a CSV file and a picture."""

from __future__ import annotations

import csv
import io

import jax
import numpy as np

from ddpm import data, plot, typicality
from ddpm.cli import options
from ddpm.cli.images import class_list
from ddpm.datasets import sources
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools.files import write_atomic
from ddpm.zoo import model


def images_to_measure(command: options.Typicality, m: model.Model) -> tuple[np.ndarray, np.ndarray, str]:
    """Return images, labels and a description of their source.

    They are drawn by the model, or are the first test images of each class.
    """
    classes = class_list(m, command.label)
    if command.n < 1:
        raise ValueError(f"n is {command.n}; give a whole number >= 1")
    if command.data == "generated":
        c = np.repeat(classes, command.n)
        key = jax.random.key(command.seed)
        x = generate(m.eps, m.schedule, key, m.image_shape, c, Sampling(steps=50, guidance=2.0))
        return x, c, f"drawn by {m.name} (DDIM, 50 steps, guidance 2, seed {command.seed})"
    dataset = sources.load(command.data, command.data_dir)
    if dataset.image_shape != m.image_shape or dataset.num_classes != m.num_classes:
        raise ValueError(
            f"model {m.name!r} wants images {m.image_shape} of {m.num_classes} classes; "
            f"{command.data} has {dataset.image_shape} of {dataset.num_classes}"
        )
    ids = np.concatenate([np.flatnonzero(dataset.y_test == k)[: command.n] for k in classes])
    return data.to_float(dataset.x_test[ids]), dataset.y_test[ids], f"{command.data} test images"


def run(command: options.Typicality) -> None:
    """Measure T(x|c), print a table by class, write the numbers and the picture."""
    # Images and their typicality
    m = model.load(command.model)
    x, c, source = images_to_measure(command, m)
    key = jax.random.fold_in(jax.random.key(command.seed), 1)
    T = typicality.measure(m.eps, m.schedule, x, c, key, typicality.Draws(command.draws, command.t_range))

    # Table by class; the picture shows the best and the worst images
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
    # The numbers of all images
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "class", "typicality", "stderr"])
    writer.writerows([i, m.classes[c[i]], f"{T.value[i]:.6g}", f"{T.stderr[i]:.3g}"] for i in range(len(x)))
    numbers = command.out.with_suffix(".csv")
    write_atomic(numbers, text.getvalue().encode())
    print(f"picture: {command.out}\nnumbers: {numbers}")
