"""Write and read images in the two formats of common evaluators.

    .npz   arr_0 uint8 (n, H, W, C), arr_1 labels      the evaluator of Dhariwal and Nichol (2021)
    folder 000000.png, 000001.png, …                   torch-fidelity, clean-fid, pytorch-fid

These evaluators expect three channels; grey images are written unchanged, or as three equal channels with `rgb`.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ddpm.tools.files import Damaged, write_atomic


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


def load_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Load (images uint8 (n, H, W, C), labels (n,) or None) from an .npz with `arr_0` and optionally `arr_1`."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise Damaged(f"{path} is not a whole .npz file: {e}") from None
    if "arr_0" not in arrays:
        raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}; samples are wanted under the key arr_0")
    x, labels = arrays["arr_0"], arrays.get("arr_1")
    x = x[..., None] if x.ndim == 3 else x
    if labels is not None and labels.shape != (len(x),):
        raise ValueError(f"{path}: arr_1 has shape {labels.shape}; {len(x)} labels are wanted")
    return _checked(x, False), labels


def load_png(folder: str | Path) -> np.ndarray:
    """Load all PNG images of a folder, sorted by name: uint8 (n, H, W, 1) if all are grey, else (n, H, W, 3)."""
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() == ".png")
    if not files:
        raise ValueError(f"{folder} holds no .png file")
    images = []
    for file in files:
        try:
            with Image.open(file) as image:
                images.append(np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB")))
        except (UnidentifiedImageError, OSError) as e:
            raise Damaged(f"{file} is not a whole PNG image: {e}") from None
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise ValueError(f"{file} has size {images[-1].shape[:2]}, {files[0].name} has {images[0].shape[:2]}")
    grey = all(image.ndim == 2 for image in images)
    return np.stack([im[..., None] if grey else np.dstack([im] * 3) if im.ndim == 2 else im for im in images])


def load(path: str | Path, channels: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Load (images, labels or None) from an .npz file or a folder of PNG images.

    channels = 1 converts colour images with three equal channels back to grey.
    """
    path = Path(path)
    x, labels = (load_png(path), None) if path.is_dir() else load_npz(path)
    if channels == 1 and x.shape[3] == 3 and np.all(x == x[..., :1]):
        x = x[..., :1]
    return x, labels
