"""Find a data set on this disk, or download it once.

`load(name)` looks, in this order, for `<data_dir>/<name>.npz`; the published raw files in `data_dir`; a set prepared by
tensorflow-datasets there; the same in the cache folder. Otherwise it downloads the published files once, checks their
SHA-256 and keeps an `.npz`. The default of `data_dir` is DDPM_DATA_DIR; DDPM_OFFLINE=1 forbids the network.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ddpm.data import Dataset
from ddpm.datasets import formats
from ddpm.datasets.formats import PUBLISHED
from ddpm.datasets.handwritten import digits
from ddpm.tools.cache import user_folder
from ddpm.tools.files import Damaged


def cities() -> Dataset:
    """Draw the street fronts of `ddpm.datasets.world`: 28x28 grey, four classes, motifs at known places."""
    from ddpm.datasets import world

    return world.cities()


BUILT_IN: dict[str, Callable[[], Dataset]] = {"digits": digits, "cities": cities}  # sets that need no file
NAMES = (*PUBLISHED, *BUILT_IN)


def cache_dir() -> Path:
    """Return the folder for downloads: DDPM_DATA_DIR if writable, else the cache, such as ~/.cache/ddpm."""
    chosen = os.environ.get("DDPM_DATA_DIR")
    if chosen and os.access(Path(chosen).expanduser(), os.W_OK):
        return Path(chosen).expanduser()
    return user_folder()


def _places(data_dir: str | Path | None) -> list[Path]:
    """List the folders to search: `data_dir` or else DDPM_DATA_DIR, then the cache folder."""
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise FileNotFoundError(f"data_dir {str(data_dir)!r} is not a folder")
    chosen = data_dir or os.environ.get("DDPM_DATA_DIR")
    return list(dict.fromkeys([*([Path(chosen).expanduser()] if chosen else []), cache_dir()]))


def _known(name: str) -> str:
    if name not in NAMES:
        from ddpm.tools import check

        check.choice("data set", name, NAMES)
    return name


def _find(name: str, places: Sequence[Path]) -> tuple[str, list[Path]] | None:
    """Find the first source: its kind (`npz`, `raw` or `tfds`, in this order) and its files."""
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
    """Return one path for the files: the file itself, or the folder of several."""
    return files[0] if len(files) == 1 else files[0].parent


def where(name: str, data_dir: str | Path | None = None) -> str | None:
    """Describe where `load` would find the set; None if it would have to download. Reads no data."""
    if _known(name) in BUILT_IN:
        return "built in"
    found = _find(name, _places(data_dir))
    return str(_source(found[1])) if found else None


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load a data set by name, one of `NAMES`; the top of this file lists the places searched."""
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
    """Cache a set that was slow to get; if it cannot be written, report that and continue."""
    try:
        formats.write_npz(file, arrays)
    except OSError as e:
        print(f"could not keep {file} for the next time: {e}", file=sys.stderr)


def _download(name: str, places: Sequence[Path]) -> formats.Arrays:
    """Download and read the published files; with TensorFlow, tensorflow-datasets prepares them too."""
    reason = "DDPM_OFFLINE is set" if os.environ.get("DDPM_OFFLINE", "0") not in ("", "0") else None
    if reason is None:
        try:
            cache_dir().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=cache_dir()) as tmp:
                formats.fetch(name, Path(tmp))
                if find_spec("tensorflow") and find_spec("tensorflow_datasets"):
                    _tfds_prepare(name, Path(tmp), cache_dir())
                return PUBLISHED[name].read(PUBLISHED[name].find(Path(tmp)))
        except OSError as e:  # the errors of requests are OSErrors too
            reason = f"{type(e).__name__}: {e}"
    raise FileNotFoundError(_help(name, places, reason))


def _help(name: str, places: Sequence[Path], reason: str) -> str:
    """Explain which places were searched, and what to do."""
    files, url = ", ".join(PUBLISHED[name].files), PUBLISHED[name].url
    tfds = "" if find_spec("tensorflow_datasets") else " (which is not installed)"
    looked = "".join(f"\n  {p}{'' if p.is_dir() else ' (no such folder)'}" for p in places)
    return (
        f"{name} is not on this machine and could not be downloaded.\nLooked for {name}.npz, for {files}, "
        f"and for a set prepared by tensorflow-datasets{tfds}, in{looked}\nDownload: {reason}\n"
        f"To get it, set DDPM_DATA_DIR to a folder that holds\n  {name}.npz (keys {' '.join(formats.KEYS)}), or\n"
        f"  {files}, from {url}\nor use the set that needs no file: digits (--data digits)."
    )


def _tfds_prepare(name: str, raw: Path, data_dir: Path) -> None:
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


def _tfds(folder: Path) -> formats.Arrays:
    """Read a set prepared by tensorflow-datasets, in its shuffled order.

    Stored as array_record, it is read without TensorFlow.
    """
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
