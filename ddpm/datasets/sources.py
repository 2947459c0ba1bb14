"""Find a data set on this disk, or download it once; or read one's own images.

`load(name)` looks, in this order, for `<data_dir>/<name>.npz`; the published raw files in `data_dir`; a set prepared by
tensorflow-datasets there; the same in the cache folder. Otherwise it downloads the published files once, checks their
SHA-256 and keeps an `.npz`. The default of `data_dir` is DDPM_DATA_DIR; DDPM_OFFLINE=1 forbids the network.

`load(path)` reads a folder of images, a .zip of one, or an .npz: `ddpm.datasets.own`. `load("tfds:NAME")` reads any set
of images with labels that tensorflow-datasets has prepared. Options are given as keywords, or in the same text, after
commas: `load("photos", size=32, grey=True)` is `load("photos,size=32,grey")`.
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ddpm.data import Dataset
from ddpm.datasets import formats, own, prepared, published, reading
from ddpm.datasets.handwritten import digits
from ddpm.datasets.published import PUBLISHED
from ddpm.tools import cache


def cities() -> Dataset:
    """Draw the street fronts of `ddpm.datasets.world`: 28x28 grey, four classes, motifs at known places."""
    from ddpm.datasets import world

    return world.cities()


def blocks() -> Dataset:
    """Draw views of the shapes of `ddpm.datasets.blocks`: 24x24 grey, four styles, parts at known places in 3-D."""
    from ddpm.datasets import blocks as world

    return world.views_data()


def volumes() -> Dataset:
    """Draw the shapes of `ddpm.datasets.blocks` themselves: 24 x 24 pixels with 24 channels, four styles."""
    from ddpm.datasets import volumes as world

    return world.volumes_data()


def wardrobe() -> Dataset:
    """Draw the garments of `ddpm.datasets.wardrobe`: 28x28 RGB, six classes, with captions."""
    from ddpm.datasets.wardrobe import pairs

    return pairs.wardrobe()


# Sets that need no file
BUILT_IN: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "cities": cities,
    "blocks": blocks,
    "volumes": volumes,
    "wardrobe": wardrobe,
}
NAMES = tuple(dict.fromkeys(["fashion_mnist", "cifar10", *BUILT_IN, *PUBLISHED]))


def cache_dir() -> Path:
    """Return the folder for downloads: DDPM_DATA_DIR if writable, else the cache, such as ~/.cache/ddpm."""
    chosen = os.environ.get("DDPM_DATA_DIR")
    if chosen and os.access(Path(chosen).expanduser(), os.W_OK):
        return Path(chosen).expanduser()
    return cache.user_folder()


def _places(data_dir: str | Path | None) -> list[Path]:
    """List the folders to search: `data_dir` or else DDPM_DATA_DIR, then the cache folder."""
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise FileNotFoundError(f"data_dir {str(data_dir)!r} is not a folder")
    chosen = data_dir or os.environ.get("DDPM_DATA_DIR")
    return list(dict.fromkeys([*([Path(chosen).expanduser()] if chosen else []), cache_dir()]))


def _known(name: str) -> str:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"data set {name!r} is not known. Known: {', '.join(NAMES)}.{hint} Or give the path of a folder of images, "
            f"of a .zip of one, or of an .npz; or tfds:NAME"
        )
    return name


def _find(name: str, places: Sequence[Path]) -> tuple[str, list[Path]] | None:
    """Find the first source: its kind (`npz`, `raw` or `tfds`, in this order) and its files."""
    for folder in places:
        if (folder / f"{name}.npz").is_file():
            return "npz", [folder / f"{name}.npz"]
        if files := published.find(name, folder):
            return "raw", files
        prepared = sorted(folder.glob(f"{name}/[0-9]*/dataset_info.json"))
        if prepared and find_spec("tensorflow_datasets"):
            return "tfds", [prepared[-1].parent]
    return None


def _source(files: list[Path]) -> Path:
    """Return one path for the files: the file itself, or the folder of several."""
    return files[0] if len(files) == 1 else files[0].parent


def where(name: str, data_dir: str | Path | None = None) -> str | None:
    """Describe where `load` would find the set; None if it would have to download. Reads no images."""
    if reading.is_path(name, NAMES):
        return str(reading.parse(name)[0])
    if _known(name) in BUILT_IN:
        return "built in"
    found = _find(name, _places(data_dir))
    return str(_source(found[1])) if found else None


def load(name: str | Path, data_dir: str | Path | None = None, **options: Any) -> Dataset:
    """Load a data set by name, one of `NAMES`, or one's own images by their path; these are described on stderr.

    The top of this file lists the places searched;  options: of `reading.Reading`, for one's own images.
    """
    dataset, lines = read(name, data_dir, **options)
    if reading.is_own(str(name), NAMES):
        print("\n  ".join(lines), file=sys.stderr)
    return dataset


def read(name: str | Path, data_dir: str | Path | None = None, **options: Any) -> tuple[Dataset, list[str]]:
    """Load a data set as `load` does; also return what was read, and what was left out, in lines."""
    name = str(name)
    if name.startswith("tfds:"):
        return prepared.images(name, _places(data_dir), **options)
    if reading.is_path(name, NAMES):
        return own.read(name, **options)
    dataset = _published(name, data_dir, options)
    return dataset, own.described(dataset)


def _published(name: str, data_dir: str | Path | None, options: dict[str, Any]) -> Dataset:
    """Load a set that is known by name: built in, found here, or fetched once."""
    first, *words = name.split(",")
    if first in NAMES and (options or words):
        given = ", ".join([*words, *options])
        raise ValueError(f"{given} is for one's own images; {first} is read as it was published: give it alone")
    if _known(name) in BUILT_IN:
        return BUILT_IN[name]()
    about, places = PUBLISHED[name], _places(data_dir)
    found = _find(name, places)
    if found is None:
        arrays, source = _download(name, places), cache_dir() / f"{name}.npz"
    else:
        arrays, source = _read(name, *found), _source(found[1])
    arrays = formats.checked(arrays, source, about.shape, len(about.class_names))
    if found is None:
        _keep(arrays, source)
    elif found[0] == "tfds":  # 14 s, against .4 s from the .npz
        _keep(arrays, source.parent.parent / f"{name}.npz")
    return Dataset(name, about.class_names, **arrays, source=str(source))


def _read(name: str, kind: str, files: list[Path]) -> formats.Arrays:
    if kind == "npz":
        return formats.read_npz(files[0])
    return prepared.read(files[0]) if kind == "tfds" else published.read(name, files)


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
                published.fetch(name, Path(tmp))
                if find_spec("tensorflow") and find_spec("tensorflow_datasets"):
                    prepared.prepare(name, Path(tmp), cache_dir())
                return published.read(name, published.find(name, Path(tmp)))
        except OSError as e:  # the errors of requests are OSErrors too
            reason = f"{type(e).__name__}: {e}"
    raise FileNotFoundError(_help(name, places, reason))


def _remark(place: Path) -> str:
    """Say what is wrong with a place: it is not there, or its IDX files are another set's."""
    if not place.is_dir():
        return " (no such folder)"
    files = formats.idx_files(place)
    owner = published.belongs_to(files[-1]) if files else None
    return f" (its four IDX files are those of {owner})" if owner else ""


def _help(name: str, places: Sequence[Path], reason: str) -> str:
    """Explain which places were searched, and what to do."""
    files, url = ", ".join(PUBLISHED[name].files), PUBLISHED[name].url
    tfds = "" if find_spec("tensorflow_datasets") else " (which is not installed)"
    looked = "".join(f"\n  {p}{_remark(p)}" for p in places)
    return (
        f"{name} is not on this machine and could not be downloaded.\nLooked for {name}.npz, for {files}, "
        f"and for a set prepared by tensorflow-datasets{tfds}, in{looked}\nDownload: {reason}\n"
        f"To get it, set DDPM_DATA_DIR to a folder that holds\n  {name}.npz (keys {' '.join(formats.KEYS)}), or\n"
        f"  {files}, from {url}\nor use the set that needs no file: digits (--data digits)."
    )
