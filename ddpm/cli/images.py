"""The classes that an option `--label` selects."""

from __future__ import annotations

from ddpm import data
from ddpm.zoo import model


def class_list(m: model.Model, label: str) -> list[int]:
    """Return the classes that `label` selects: one by name or number, or all of them."""
    if not m.num_classes:
        raise ValueError(f"model {m.name!r} was trained without classes; use --label none")
    return list(range(m.num_classes)) if label == "all" else [data.class_index(m.classes, label)]
