"""Images and labels: found on this disk or fetched once, uint8 at rest, float32 in [-1, 1] inside.

`load(name)` looks, in this order, for `<data_dir>/<name>.npz`; the published raw files in `data_dir`; a set prepared by
tensorflow-datasets there; the same in the cache folder. Else it downloads the published files once, checks their
SHA-256 and keeps an `.npz`. If not given, `data_dir` is DDPM_DATA_DIR; DDPM_OFFLINE=1 keeps off the network.

Batches are a pure function of (seed, step): the only position to keep in a checkpoint is the step.
This module does not import JAX; `to_float` and `to_uint8` take arrays of either kind, inside `jit` too.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import formats
from ddpm.formats import PUBLISHED
from ddpm.store import Damaged


@dataclass(frozen=True, eq=False)
class Dataset:
    """A whole set in memory; the arrays are read-only."""

    name: str
    class_names: tuple[str, ...]
    x_train: np.ndarray  # (N, H, W, C) uint8
    y_train: np.ndarray  # (N,) int32 in 0..num_classes-1
    x_test: np.ndarray
    y_test: np.ndarray
    source: str  # where it was found

    @property
    def num_classes(self) -> int:
        """K; it is the null label too."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)"""
        return self.x_train.shape[1:]

    @cached_property
    def sha256(self) -> str:
        """Of the content, wherever it came from: shapes and bytes of the four arrays."""
        digest = hashlib.sha256()
        for a in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{a.shape}".encode() + a.astype(a.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()


def digits() -> Dataset:
    """The 1,797 handwritten digits inside scikit-learn: 8x8, 0..16 scaled to 0..255; 1,500 train and 297 test.

    A fixed shuffle (NumPy's legacy stream, which never changes), then of each class the same share for the test: the
    images whose rank within their class is the least. The split is over images; a writer may be on both sides.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    shuffle = np.random.RandomState(0).permutation(1797)
    x = np.round(bunch.images[shuffle] * (255 / 16)).astype(np.uint8)
    y = bunch.target[shuffle].astype(np.int32)
    rank = np.empty(1797)
    for k in range(10):
        rank[y == k] = (np.arange((y == k).sum()) + 0.5) / (y == k).sum()
    test = np.zeros(1797, dtype=bool)
    test[np.argsort(rank, kind="stable")[:297]] = True
    arrays = {"x_train": x[~test], "y_train": y[~test], "x_test": x[test], "y_test": y[test]}
    arrays = formats.checked(arrays, "scikit-learn's digits", (8, 8, 1), 10)
    return Dataset("digits", tuple("0123456789"), **arrays, source="inside scikit-learn")


def cities() -> Dataset:
    """The street fronts that `ddpm.world` draws: 28x28 grey, four classes with motifs planted at known places."""
    from ddpm import world  # which imports this module

    return world.cities()


BUILT_IN: dict[str, Callable[[], Dataset]] = {"digits": digits, "cities": cities}  # sets that need no file
NAMES = (*PUBLISHED, *BUILT_IN)


# --- where it is ------------------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """Where a downloaded set is kept: DDPM_DATA_DIR if it is a folder one can write to, else ~/.cache/ddpm or alike."""
    chosen = os.environ.get("DDPM_DATA_DIR")
    if chosen and os.access(Path(chosen).expanduser(), os.W_OK):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("ddpm"))


def _places(data_dir: str | Path | None) -> list[Path]:
    """The folders to look into: `data_dir`, or else DDPM_DATA_DIR, and then the cache folder."""
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise FileNotFoundError(f"data_dir {str(data_dir)!r} is not a folder")
    chosen = data_dir or os.environ.get("DDPM_DATA_DIR")
    return list(dict.fromkeys([*([Path(chosen).expanduser()] if chosen else []), cache_dir()]))


def _known(name: str) -> str:
    if name not in NAMES:
        from ddpm import check  # which imports JAX

        check.choice("data set", name, NAMES)
    return name


def _find(name: str, places: Sequence[Path]) -> tuple[str, list[Path]] | None:
    """The kind of source (`npz`, `raw` or `tfds`, in this order) and its files, in the first place that has one."""
    for folder in places:
        if (folder / f"{name}.npz").is_file():
            return "npz", [folder / f"{name}.npz"]
        if files := PUBLISHED[name].find(folder):
            return "raw", files
        prepared = sorted(folder.glob(f"{name}/[0-9]*/dataset_info.json"))
        if prepared and find_spec("tensorflow_datasets"):
            return "tfds", [prepared[-1].parent]
    return None


def _source(files: list[Path]) -> Path:
    """One path to name them all: the file, or the folder of several."""
    return files[0] if len(files) == 1 else files[0].parent


def where(name: str, data_dir: str | Path | None = None) -> str | None:
    """Where `load` would find the set, in words, or None where it would have to download. Quick; reads no data."""
    if _known(name) in BUILT_IN:
        return "built in"
    found = _find(name, _places(data_dir))
    return str(_source(found[1])) if found else None


# --- load -------------------------------------------------------------------------------------------------------------


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """The data set of that name: one of `NAMES`. See the top of this file for where it is looked for."""
    if _known(name) in BUILT_IN:
        return BUILT_IN[name]()
    published, places = PUBLISHED[name], _places(data_dir)
    found = _find(name, places)
    if found is None:
        arrays, source = _download(name, places), cache_dir() / f"{name}.npz"
    else:
        arrays, source = _read(name, *found), _source(found[1])
    arrays = formats.checked(arrays, source, published.shape, len(published.class_names))
    if found is None:
        _keep(arrays, source)
    elif found[0] == "tfds":  # 14 s, against .4 s from the .npz
        _keep(arrays, source.parent.parent / f"{name}.npz")
    return Dataset(name, published.class_names, **arrays, source=str(source))


def _read(name: str, kind: str, files: list[Path]) -> formats.Arrays:
    if kind == "npz":
        return formats.read_npz(files[0])
    return _tfds(files[0]) if kind == "tfds" else PUBLISHED[name].read(files)


def _keep(arrays: formats.Arrays, file: Path) -> None:
    """Cache what was slow to get; where that cannot be written, say so and go on."""
    try:
        formats.write_npz(file, arrays)
    except OSError as e:
        print(f"could not keep {file} for the next time: {e}", file=sys.stderr)


def _download(name: str, places: Sequence[Path]) -> formats.Arrays:
    """Fetch and read the published files; where TensorFlow is there, tensorflow-datasets prepares them too."""
    reason = "DDPM_OFFLINE is set" if os.environ.get("DDPM_OFFLINE", "0") not in ("", "0") else None
    if reason is None:
        try:
            cache_dir().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=cache_dir()) as tmp:
                formats.fetch(name, Path(tmp))
                if find_spec("tensorflow") and find_spec("tensorflow_datasets"):
                    _tfds_prepare(name, Path(tmp), cache_dir())
                return PUBLISHED[name].read(PUBLISHED[name].find(Path(tmp)))
        except OSError as e:  # those of requests are OSErrors too
            reason = f"{type(e).__name__}: {e}"
    raise FileNotFoundError(_help(name, places, reason))


def _help(name: str, places: Sequence[Path], reason: str) -> str:
    """What was looked for, and what to do."""
    files, url = ", ".join(PUBLISHED[name].files), PUBLISHED[name].url
    tfds = "" if find_spec("tensorflow_datasets") else " (which is not installed)"
    looked = "".join(f"\n  {p}{'' if p.is_dir() else ' (no such folder)'}" for p in places)
    return (
        f"{name} is not on this machine and could not be downloaded.\nLooked for {name}.npz, for {files}, "
        f"and for a set prepared by tensorflow-datasets{tfds}, in{looked}\nDownload: {reason}\n"
        f"To get it, set DDPM_DATA_DIR to a folder that holds\n  {name}.npz (keys {' '.join(formats.KEYS)}), or\n"
        f"  {files}, from {url}\nor use the set that needs no file: digits (--data digits)."
    )


# --- tensorflow-datasets ----------------------------------------------------------------------------------------------


def _tfds_prepare(name: str, raw: Path, data_dir: Path) -> None:
    """Have tensorflow-datasets prepare the set in `data_dir` too, from the published files in `raw`; for other tools.

    It shuffles while it prepares; we read the files themselves, so that order and `sha256` are the same everywhere.
    """
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
        config = tfds.download.DownloadConfig(manual_dir=str(raw))
        builder.download_and_prepare(download_dir=str(raw), download_config=config)
    except Exception as e:  # whatever it is, the files are here
        print(f"tensorflow-datasets could not prepare {name}: {e}", file=sys.stderr)


def _tfds(folder: Path) -> formats.Arrays:
    """A prepared set, in its own, shuffled order. Stored as array_record it is read without TensorFlow."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    out: formats.Arrays = {}
    for split in ("train", "test"):
        try:
            rows = builder.as_data_source(split=split)
        except NotImplementedError as e:
            if not find_spec("tensorflow"):
                raise Damaged(
                    f"{folder} is stored as tfrecord: install TensorFlow, or prepare it as array_record"
                ) from e
            rows = tfds.as_numpy(builder.as_dataset(split=split))
        images, labels = zip(*((row["image"], row["label"]) for row in rows), strict=True)
        out |= {f"x_{split}": np.stack(images), f"y_{split}": np.array(labels)}
    return out


# --- scaling, classes, batches ----------------------------------------------------------------------------------------


def to_float(x: Any) -> Any:
    """x/127.5 - 1: uint8 0..255 -> float32 in [-1, 1]"""
    if getattr(x, "dtype", None) != np.uint8:
        raise TypeError(f"x has type {getattr(x, 'dtype', type(x).__name__)}; to_float scales uint8 images")
    return x.astype("float32") / 127.5 - 1


def to_uint8(x: Any) -> Any:
    """clip(round((x + 1)·127.5), 0, 255): floats in [-1, 1] -> uint8. The inverse of `to_float`."""
    if getattr(getattr(x, "dtype", None), "kind", "b") in "biu":
        raise TypeError(f"x has type {getattr(x, 'dtype', type(x).__name__)}; to_uint8 takes floats in [-1, 1]")
    return ((x.astype("float32") + 1) * 127.5).round().clip(0, 255).astype("uint8")


def class_index(names: Sequence[str], label: int | str) -> int:
    """The class number of `label`: a number, '3', or a name in any case."""
    text = str(label).strip().lower()
    by_name = {n.lower(): i for i, n in enumerate(names)}
    if text in by_name:
        return by_name[text]
    if text.removeprefix("-").isdecimal():
        if 0 <= int(text) < len(names):
            return int(text)
        raise ValueError(f"class {text} is not known; the classes are 0..{len(names) - 1}: {', '.join(names)}")
    near = difflib.get_close_matches(text, by_name, n=1)
    hint = f" Did you mean {names[by_name[near[0]]]!r}?" if near else ""
    raise ValueError(f"class {label!r} is not known. Known: {', '.join(names)}, or 0..{len(names) - 1}.{hint}")


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    ids = np.random.default_rng([seed, epoch]).permutation(n).astype(np.int32)
    ids.flags.writeable = False
    return ids


def batch_ids(seed: int, step: int, n: int, batch: int) -> np.ndarray:
    """Which of n images make up the batch of that step: (batch,) int32, a pure function of (seed, step).

    Steps count from 0. An epoch is a permutation of the n images, without the last n mod batch of them.
    """
    if not 1 <= batch <= n:
        raise ValueError(f"batch is {batch}; a set of {n} images makes batches of 1..{n}")
    if seed < 0 or step < 0:
        raise ValueError(f"seed is {seed} and step is {step}; neither may be negative")
    epoch, i = divmod(int(step), n // batch)
    return _permutation(int(seed), epoch, n)[i * batch : (i + 1) * batch]
