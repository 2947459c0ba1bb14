"""Write and read images in the two formats of common evaluators.

    .npz   arr_0 uint8 (n, H, W, C), arr_1 labels      the evaluator of Dhariwal and Nichol (2021)
    folder 000000.png, 000001.png, …                   torch-fidelity, clean-fid, pytorch-fid

These evaluators expect three channels; grey images are written unchanged, or as three equal channels with `rgb`.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm.tools import pictures
from ddpm.tools.files import Damaged, check_members, check_regular, read_bytes, write_atomic

MOST_BYTES = 1 << 32  # of pixels that are read into memory
MOST_FILE = 1 << 28  # bytes of one image file


def _checked(x: Any, rgb: bool) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype != np.uint8:
        raise TypeError(f"x has type {x.dtype}; files hold 8-bit images: give uint8 (ddpm.data.to_uint8)")
    if x.ndim != 4 or x.shape[3] not in (1, 3) or len(x) == 0:
        raise ValueError(f"x has shape {x.shape}; give images (n, H, W, 1) or (n, H, W, 3)")
    return np.repeat(x, 3, axis=3) if rgb and x.shape[3] == 1 else x


def save_npz(path: str | Path, x: Any, labels: Any = None, rgb: bool = False) -> None:
    """Write x (n, H, W, C) uint8 as `arr_0` and the labels (n,) as `arr_1`."""
    x = _checked(x, rgb)
    arrays = {"arr_0": x}
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(x),) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels have shape {labels.shape} and type {labels.dtype}; give {len(x)} integers")
        arrays["arr_1"] = labels.astype(np.int64)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    write_atomic(Path(path), out.getvalue())


def save_png(folder: str | Path, x: Any, rgb: bool = False) -> None:
    """Write x (n, H, W, C) uint8 as 000000.png, 000001.png, … into a new or empty folder."""
    x, folder = _checked(x, rgb), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):  # an evaluator would include any other images
        raise ValueError(f"{folder} is not empty; an evaluator would take its files for samples. Give a new folder")
    for i, image in enumerate(x):
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{i:06d}.png")


def load_npz(path: str | Path, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Load (images uint8 (n, H, W, C), labels (n,) or None) from an .npz with `arr_0` and optionally `arr_1`.

    size: the (H, W) that is wanted; other images are refused by their header, before they are unpacked.
    """
    path = Path(path)
    if path.suffix == ".npy":
        raise ValueError(f"{path} is a .npy file; save the images with numpy.savez(NAME, arr_0=x), as an .npz")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive)
            for name in archive.namelist():
                if name in ("arr_0.npy", "arr_1.npy"):
                    _check_header(archive, name, path, size)
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files if k in ("arr_0", "arr_1")}
            held = ", ".join(file.files) or "nothing"
    except Damaged:
        raise
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as e:
        raise Damaged(f"{path} is not a whole .npz file: {e}") from None
    # What the arrays must be
    if "arr_0" not in arrays:
        raise ValueError(
            f"{path} holds {held}; images are wanted under arr_0; or a data set under x_train y_train x_test y_test"
        )
    x, labels = arrays["arr_0"], arrays.get("arr_1")
    x = x[..., None] if x.ndim == 3 else x
    if labels is not None and labels.shape != (len(x),):
        raise ValueError(f"{path}: arr_1 has shape {labels.shape}; {len(x)} labels are wanted")
    if labels is not None and labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: arr_1 has type {labels.dtype}; labels are the numbers of the classes, from 0")
    if x.dtype != np.uint8:
        raise ValueError(f"{path}: arr_0 has type {x.dtype}; 8-bit images are wanted: uint8 (ddpm.data.to_uint8)")
    return _checked(x, False), labels


def _check_header(archive: zipfile.ZipFile, name: str, path: Path, size: tuple[int, int] | None) -> None:
    """Check the shape that an array of an .npz claims against the bytes that are there, and against `size`."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
        if read is None:
            raise Damaged(f"{path}: {name} has the .npy version {version}; 1 and 2 are read")
        shape, _, dtype = read(file)
        there = archive.getinfo(name).file_size - file.tell()
    if math.prod(shape) * dtype.itemsize != there:
        raise Damaged(f"{path}: {name} claims {dtype} {shape}, and holds {there:,} bytes; it was cut short or changed")
    if there > MOST_BYTES:
        raise Damaged(f"{path}: {name} unpacks to {there:,} bytes; {MOST_BYTES:,} are read at most. Divide it")
    if size and name == "arr_0.npy" and shape[1:3] != size:
        raise Damaged(f"{path}: arr_0 has shape {shape}; images of {size[0]}x{size[1]} are wanted")


def load_folder(
    folder: str | Path, size: tuple[int, int] | None = None, classes: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Load the images of a folder, sorted by name: uint8 (n, H, W, 1) if all are grey, else (n, H, W, 3).

    Images in sub-folders have these as labels: numbers, or names of `classes`. All headers are looked at first, and no
    pixel is decoded unless all sizes are equal (to `size`).
    """
    # Files and labels
    folder = Path(folder)
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in pictures.SUFFIXES)
    names: list[str] = []
    if not files:
        files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in pictures.SUFFIXES)
        names = [p.parent.name for p in files]
    if not files:
        raise ValueError(f"{folder} holds no .png file, and no JPEG, WebP or BMP either")
    labels = np.array([_label(folder, name, classes) for name in names]) if names else None
    # Headers
    heads = [pictures.head(read_bytes(file, MOST_FILE), file) for file in files]
    height, width = size or heads[0][:2]
    for file, head in zip(files, heads, strict=True):
        if head[:2] != (height, width):
            other = "are wanted" if size else f"has {files[0].name}"
            raise ValueError(f"{file} has size {head[0]}x{head[1]}; {height}x{width} {other}")
    grey = all(head.grey for head in heads)
    total = len(files) * height * width * (1 if grey else 3)
    if total > MOST_BYTES:
        raise ValueError(f"{folder} holds {total:,} bytes of pixels; {MOST_BYTES:,} are read at most. Divide it")
    # Pixels
    x = np.empty((len(files), height, width, 1 if grey else 3), np.uint8)
    for i, file in enumerate(files):
        x[i] = pictures.decode(read_bytes(file, MOST_FILE), file, grey=grey)
    return x, labels


def load_png(folder: str | Path) -> np.ndarray:
    """Load the images alone that `load_folder` finds."""
    return load_folder(folder)[0]


def _label(folder: Path, name: str, classes: Sequence[str]) -> int:
    """Return the class that a sub-folder stands for: its number, or the place of its name in `classes`."""
    lowered = [c.lower() for c in classes]
    if name.lower() in lowered:
        return lowered.index(name.lower())
    if name.isdecimal():
        return int(name)
    known = f", or one of {', '.join(classes)}" if classes else ""
    raise ValueError(
        f"{folder / name} is not a class; name sub-folders by number{known}, or put all images in one folder"
    )


def load(
    path: str | Path, channels: int | None = None, size: tuple[int, int] | None = None, classes: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Load (images, labels or None) from an .npz file or a folder of images.

    channels = 1 converts colour images with three equal channels back to grey;  size: the (H, W) that is wanted,
    checked before pixels are decoded;  classes: the names of sub-folders that are not numbers.
    """
    path = Path(path)
    x, labels = load_folder(path, size, classes) if path.is_dir() else load_npz(path, size)
    if channels == 1 and x.shape[3] == 3 and np.all(x == x[..., :1]):
        x = x[..., :1]
    return x, labels
