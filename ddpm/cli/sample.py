"""`ddpm sample`: draw images with a trained model."""

from __future__ import annotations

import jax
import numpy as np

from ddpm import data, plot
from ddpm.cli import options
from ddpm.cli.images import class_list
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.tools import image_files
from ddpm.zoo import model


def run(command: options.Sample) -> None:
    """Draw images and write the grid."""
    m = model.load(command.model)
    how = Sampling(command.sampler, command.steps, command.guidance, command.rule)
    # Images without a class, or of the selected classes
    key = jax.random.key(command.seed)
    if command.label == "none" or not m.num_classes:
        if command.n < 1:
            raise ValueError(f"n is {command.n}; give a whole number >= 1")
        x, c = generate(m.eps, m.schedule, key, m.image_shape, how=how, n=command.n), None
        plot.save_grid(command.out, x, columns=min(10, command.n))
    else:
        classes = class_list(m, command.label)
        if command.n < 1:
            raise ValueError(f"n is {command.n}; give a whole number >= 1")
        c = np.repeat(classes, command.n)
        x = generate(m.eps, m.schedule, key, m.image_shape, c, how)
        if len(classes) == 1:
            plot.save_grid(command.out, x, columns=min(10, command.n))
        else:
            plot.save_rows(command.out, np.split(x, len(classes)), [m.classes[k] for k in classes])
    # Report, and the optional .npz
    print(f"{len(x)} images: {command.out}")
    if command.npz:
        image_files.save_npz(command.npz, data.to_uint8(x), c)
        print(f"as uint8: {command.npz}")
