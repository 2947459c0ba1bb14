"""Sets that tensorflow-datasets has prepared: read them, or let it prepare one from files that are here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.data import Dataset
from ddpm.datasets import formats, own
from ddpm.datasets.reading import reading_of, short_name
from ddpm.tools.files import Damaged


def prepare(name: str, raw: Path, data_dir: Path) -> None:
    """Let tensorflow-datasets prepare the set in `data_dir` for other tools, from the files in `raw`.

    It shuffles the images; we read the published files, so that order and `sha256` are the same everywhere.
    """
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
        config = tfds.download.DownloadConfig(manual_dir=str(raw))
        builder.download_and_prepare(download_dir=str(raw), download_config=config)
    except Exception as e:  # any failure is harmless: the files are here
        print(f"tensorflow-datasets could not prepare {name}: {e}", file=sys.stderr)


def _rows(builder: Any, split: str, folder: Path) -> Any:
    """Return the examples of a split, in the shuffled order in which they are stored.

    Stored as array_record, they are read without TensorFlow.
    """
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(split=split)
    except NotImplementedError as e:
        if not find_spec("tensorflow"):
            raise Damaged(f"{folder} is stored as tfrecord: install TensorFlow, or prepare it as array_record") from e
        return tfds.as_numpy(builder.as_dataset(split=split))


def read(folder: Path) -> formats.Arrays:
    """Read the images and labels of a prepared set whose images are of one size."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    out: formats.Arrays = {}
    for split in ("train", "test"):
        images, labels = zip(*((row["image"], row["label"]) for row in _rows(builder, split, folder)), strict=True)
        out |= {f"x_{split}": np.stack(images), f"y_{split}": np.array(labels)}
    return out


def images(name: str, places: Sequence[Path], **options: Any) -> tuple[Dataset, list[str]]:
    """Read `tfds:NAME`, a prepared set of images with labels, as `own.read` does; sizes that differ are brought to one.

    It is looked for in the data folders and in tensorflow-datasets' own. Its splits train and test (or validation) are
    kept; where there is one only, it is divided by the hash of each image.
    """
    if not find_spec("tensorflow_datasets"):
        raise ValueError(
            f"{name} needs tensorflow-datasets, which is missing: pip install tensorflow-datasets; or give a folder"
        )
    import tensorflow_datasets as tfds

    # The set and its classes
    wanted, *words = name.removeprefix("tfds:").split(",")
    reading = reading_of(name, words, options)
    builder = _builder(tfds, wanted, places)
    features = builder.info.features
    if "image" not in features or "label" not in features:
        raise ValueError(f"{name} has the features {', '.join(features)}; a set with image and label is wanted")
    names = tuple(features["label"].names)
    # Its images
    have = list(builder.info.splits)
    second = next((s for s in ("test", "validation") if s in have), None)
    splits = ["train", second] if "train" in have and second else [have[0]]
    images, labels, test = [], [], []
    for i, split in enumerate(splits):
        for row in _rows(builder, str(split), Path(str(builder.data_dir))):
            images.append(np.asarray(row["image"]))
            labels.append(int(row["label"]))
            test.append(bool(i) if len(splits) == 2 else None)
    return own.from_arrays(images, labels, test, names, reading, name=short_name(name), source=str(builder.data_dir))


def _builder(tfds: Any, name: str, places: Sequence[Path]) -> Any:
    """Find the newest prepared version of a set in the data folders, or in tensorflow-datasets' own."""
    for place in places:
        if found := sorted(place.glob(f"{name}/**/dataset_info.json")):
            return tfds.builder_from_directory(str(found[-1].parent))
    try:
        builder = tfds.builder(name)
    except Exception as e:  # it has an error of its own for an unknown name
        raise ValueError(f"tensorflow-datasets does not know {name!r}: {e}") from None
    if not Path(str(builder.data_dir)).is_dir():
        raise FileNotFoundError(
            f"tfds:{name} is not prepared yet; run `tfds build {name}` once, and repeat the command"
        )
    return builder
