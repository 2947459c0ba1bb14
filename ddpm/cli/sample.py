"""`ddpm sample`: draw images with a trained model."""

from __future__ import annotations

import jax
import numpy as np

from ddpm import data, plot
from ddpm.cli import film, options
from ddpm.cli.images import Wanted, pick
from ddpm.networks.text_config import TextConfig
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools import check, image_files, tokens
from ddpm.tools.conditions import Condition
from ddpm.tools.files import check_writable
from ddpm.zoo import model


def run(command: options.Sample) -> None:
    """Draw images and write the grid."""
    m = model.load(command.model)
    m = m.plain if command.plain else m
    how = m.how(command.sampler, command.steps, m.guided(command.guidance), command.times)
    # Refusals, before anything is drawn
    if command.prompt is not None:
        return _prompted(command, m, how)
    label = command.label if m.num_classes or command.label != "all" else "none"
    if label == "none" and command.guidance not in (None, 0, 1):
        raise ValueError(f"guidance is {command.guidance:g}, but no class is given that it could follow; leave it out")
    for path in filter(None, (command.out, command.npz)):
        check_writable(path)
    film.check(command, label != "none")
    # Images, and their grid: a row for each class, if there are several
    picked = pick(m, Wanted(label=label, n=command.n, seed=command.seed, how=how))
    classes = [] if picked.c is None else list(dict.fromkeys(picked.c.tolist()))
    if len(classes) > 1:
        plot.save_rows(command.out, np.split(picked.x, len(classes)), [m.classes[k] for k in classes])
    else:
        plot.save_grid(command.out, picked.x, columns=min(10, command.n))
    # Report, and the optional .npz
    print(f"{len(picked.x)} images: {command.out}")
    if command.npz:
        image_files.save_npz(command.npz, data.to_uint8(picked.x), picked.c)
        print(f"as uint8: {command.npz}")
    if command.film:
        film.run(command, m, picked, how)


def _prompted(command: options.Sample, m: model.Model, how: Sampling) -> None:
    """Draw n images of a prompt."""
    assert command.prompt is not None
    if not isinstance(m.unet, TextConfig):
        raise ValueError(f"prompt is {command.prompt!r}, but {m.name!r} was trained without captions; leave it out")
    if command.label != "all" or command.film:
        raise ValueError("a prompt goes with neither label nor film; leave these out")
    n = check.images_asked("n", command.n)
    c = Condition(text=tokens.encode([command.prompt] * n, m.unet.words, m.unet.tokens))
    for path in filter(None, (command.out, command.npz)):
        check_writable(path)
    x = generate(m.eps, m.schedule, jax.random.key(check.seed(command.seed)), m.image_shape, c, how)
    plot.save_grid(command.out, x, columns=min(10, n))
    print(f"{n} images of {command.prompt!r}: {command.out}")
    if command.npz:
        image_files.save_npz(command.npz, data.to_uint8(x), None)
        print(f"as uint8: {command.npz}")
