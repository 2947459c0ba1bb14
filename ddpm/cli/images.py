"""The images that a command works on: drawn by the model, or taken from a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from ddpm import data
from ddpm.datasets import sources
from ddpm.sample import Sampling
from ddpm.samplers.generation import generate
from ddpm.samplers.names import name, times_name
from ddpm.tools import check
from ddpm.zoo import model


@dataclass(frozen=True)
class Wanted:
    """Which images."""

    data: str = "generated"  # a data set; "generated": drawn by the model
    label: str = "all"  # a class by name or number; "all"; "none": drawn without a class
    n: int = 10  # images of each of these classes
    others: int = 0  # images of the other classes, in equal shares
    split: str = "test"  # of the data set
    data_dir: str | None = None  # where it is
    seed: int = 0  # of drawn images
    how: Sampling = Sampling(guidance=2.0)  # those are drawn


class Picked(NamedTuple):
    """Images, those of the other classes last."""

    x: np.ndarray  # (N, H, W, C) in [-1, 1]
    c: np.ndarray | None  # (N,) labels; None: drawn without a class
    ids: np.ndarray  # (N,) their places in the data set, or in the order of drawing
    classes: tuple[str, ...]  # the class names of the data set or model
    source: str  # in words

    def take(self, ids: np.ndarray) -> Picked:
        """Select some of the images."""
        return self._replace(x=self.x[ids], c=None if self.c is None else self.c[ids], ids=self.ids[ids])


def class_list(m: model.Model, label: str) -> list[int]:
    """Return the classes that `label` selects: one by name or number, or all of them."""
    if not m.num_classes:
        raise ValueError(f"model {m.name!r} was trained without classes; use --label none")
    return list(range(m.num_classes)) if label == "all" else [data.class_index(m.classes, label)]


def pick(m: model.Model, wanted: Wanted) -> Picked:
    """Return the images that are wanted; what cannot be had is refused before anything is drawn."""
    check.images_asked("n", wanted.n)
    check.images_asked("others", wanted.others, 0)
    if wanted.label == "none" and wanted.data == "generated":
        return _drawn(m, wanted, None, wanted.n)
    classes = class_list(m, wanted.label)
    rest = [k for k in range(m.num_classes) if k not in classes]
    share = -(-wanted.others // len(rest)) if rest else 0
    if wanted.data == "generated":
        c = np.concatenate([np.repeat(classes, wanted.n), np.repeat(rest, share)[: wanted.others]]).astype(int)
        return _drawn(m, wanted, c, len(c))
    return _selected(m, wanted, classes, rest, share)


def _drawn(m: model.Model, wanted: Wanted, c: np.ndarray | None, n: int) -> Picked:
    how, steps = wanted.how, len(wanted.how.times(m.schedule)) - 1
    x = generate(m.eps, m.schedule, jax.random.key(check.seed(wanted.seed)), m.image_shape, c, how, n)
    guided = "" if c is None else f", guidance {how.guidance:g}"
    source = f"drawn by {m.name} ({name(how).upper()}, {steps} steps{times_name(how)}{guided}, seed {wanted.seed})"
    return Picked(x, c, np.arange(n), m.classes, source)


def _selected(m: model.Model, wanted: Wanted, classes: list[int], rest: list[int], share: int) -> Picked:
    # The data set, which has to fit the model
    d = sources.load(wanted.data, wanted.data_dir)
    if d.image_shape != m.image_shape or d.num_classes != m.num_classes:
        raise ValueError(mismatch(m, wanted.data, d.image_shape, d.class_names))
    x, y = (d.x_test, d.y_test) if wanted.split == "test" else (d.x_train, d.y_train)

    # The first images of each class
    def first(some: list[int], n: int) -> np.ndarray:
        return np.concatenate([np.zeros(0, int), *(np.flatnonzero(y == k)[:n] for k in some)])

    of_label, others = first(classes, wanted.n), first(rest, share)[: wanted.others]
    if not len(of_label):
        raise ValueError(
            f"{wanted.data} has no {wanted.split} image of {', '.join(repr(m.classes[k]) for k in classes)}; "
            f"take another --split or --label"
        )
    ids = np.concatenate([of_label, others])
    return Picked(data.to_float(x[ids]), y[ids], ids, d.class_names, f"{wanted.data} {wanted.split} images")


def mismatch(m: model.Model, name: str, shape: tuple[int, ...], classes: tuple[str, ...]) -> str:
    """Say that a data set does not fit a model."""
    return (
        f"model {m.name!r} wants images {m.image_shape} of {', '.join(m.classes)}; "
        f"{name} has {shape} of {', '.join(classes)}"
    )
