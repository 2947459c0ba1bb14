"""One's own images as a data set: a folder, a .zip of one, or an .npz; all brought to one size and divided once.

The split is by the hash of each image's pixels as the network will see them, so that equal images are on one side, and
an image stays on its side when others come. What was read is kept in the cache under a digest of all files and options;
nothing in the folder is changed.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from ddpm.data import Dataset
from ddpm.datasets import formats, kept, listing, split
from ddpm.datasets.reading import Reading, parse, short_name
from ddpm.datasets.split import Divided, divided, sides
from ddpm.tools import cache, pictures
from ddpm.tools.files import Damaged

MOST_SIDE = 256  # pixels, where no size is asked for
MOST_BYTES = 1 << 35


# --- reading ----------------------------------------------------------------------------------------------------------


def read(text: str, **options: Any) -> tuple[Dataset, list[str]]:
    """Read the images of a folder, a .zip or an .npz; also return a description of them, in lines."""
    root, reading = parse(text, options)
    if not root.exists():
        raise FileNotFoundError(f"{root} is not there; give a folder of images, a .zip of one, or an .npz")
    name = short_name(text)
    if root.suffix == ".npz" and not root.is_dir():
        return _from_npz(root, reading, name)
    if not root.is_dir() and root.suffix != ".zip":
        raise ValueError(f"{root} is not a folder of images, a .zip of one, or an .npz")
    # The digest of all contents is the key of what was kept
    found = listing.listed(root, reading.labels)
    with ThreadPoolExecutor(max(1, min(16, os.cpu_count() or 1))) as pool:
        digests = _each(pool, lambda e: sha256(found.read(e.path)).digest(), found.entries, f"{name}: looking", reading)
        key = cache.key(
            [(*e, d.hex() if isinstance(d, bytes) else None) for e, d in zip(found.entries, digests, strict=True)],
            dataclasses.replace(reading, labels=None).__dict__,
            cache.code(pictures, listing, split, sys.modules[__name__]),
            PIL.__version__,
        )
        ready = kept.find(key)
        if ready is None:
            ready = kept.keep(key, _read(pool, root, found, digests, reading, name))
    # Nothing may have changed meanwhile
    again = listing.listed(root, reading.labels)
    if again.entries != found.entries:
        raise ValueError(f"{root} has changed while it was read; repeat when nothing changes it")
    return _dataset(ready, name, str(root))


def _each(
    pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Sequence[Any], what: str, reading: Reading
) -> list[Any]:
    """Do some work for each item; with `skip_bad` a file that cannot be read gives its error instead."""

    def one(chunk: Sequence[Any]) -> list[Any]:
        out: list[Any] = []
        for item in chunk:
            try:
                out.append(work(item))
            except Damaged as e:
                if not reading.skip_bad:
                    raise Damaged(f"{e}. Or leave such files out: --skip-bad, or ,skip_bad after the path") from None
                out.append(e)
        return out

    chunks = [items[i : i + 64] for i in range(0, len(items), 64)]
    results: list[Any] = []
    with tqdm(total=len(items), desc=what, unit=" images", delay=2, disable=None, leave=False) as bar:
        for done in pool.map(one, chunks):
            results += done
            bar.update(len(done))
    return results


def _read(pool: Any, root: Path, found: listing.Listing, digests: list, reading: Reading, name: str) -> Divided:
    """Decode all images into one array, and divide it."""
    n = len(found.entries)
    words: dict[str, Any] = {"fit": reading.fit, "ground": reading.ground}

    def one(i: int, shape: tuple[int, int, int] | None) -> tuple[pictures.Head, bytes]:
        """Read the header of image i, and its pixels to their place if the shape is known."""
        entry, digest = found.entries[i], digests[i]
        if isinstance(digest, Damaged):
            raise digest
        content, file = _same(found, entry, digest), f"{root}/{entry.path}"
        if shape is None:
            return pictures.head(content, file), b""
        head, x[i] = pictures.read(content, file, shape[:2], grey=shape[2] == 1, **words)
        return head, sha256(x[i].data).digest()

    # In one pass, if all images are like the first one; else, headers first
    shape = _like_the_first(found, digests, reading, root)
    x = np.empty((n, *shape) if shape else 0, np.uint8)
    seen = _each(pool, lambda i: one(i, shape), range(n), f"{name}: reading", reading)
    heads = [s[0] for s in seen if not isinstance(s, Damaged)]
    if not heads:
        raise Damaged(f"{root} holds no image that can be read: {seen[0]}")
    sizes = Counter((h.height, h.width) for h in heads)
    right = (*_size(sizes, reading, root), 1 if reading.grey or all(h.grey for h in heads) else 3)
    _check_memory(n, right, root)
    if shape != right:
        x = np.empty((n, *right), np.uint8)
        seen = _each(pool, lambda i: one(i, right), range(n), f"{name}: reading", reading)

    # Labels, splits, and remarks
    whole = [i for i, s in enumerate(seen) if not isinstance(s, Damaged)]
    entries, hashes = [found.entries[i] for i in whole], [seen[i][1] for i in whole]
    number = {c: k for k, c in enumerate(found.classes)}
    y = np.array([number[e.label] if e.label is not None else 0 for e in entries], np.int32)
    test, notes = sides(hashes, y, [e.test for e in entries], found.classes, reading.test, root)
    bad = [str(s) for s in seen if isinstance(s, Damaged)]
    notes = [*_sizes_note(sizes, right), *notes, *_skip_notes(found.skipped, bad, [e.path for e in entries])]
    return Divided(*divided(x, y, np.array(whole), test), found.classes, notes)


def _like_the_first(found: listing.Listing, digests: list, reading: Reading, root: Path) -> tuple[int, int, int] | None:
    """Return the shape of all images if they are like the first one; None if it is not one to decode unasked."""
    try:
        head = pictures.head(found.read(found.entries[0].path), root)
    except Damaged:
        return None
    height, width = (reading.size, reading.size) if reading.size else head[:2]
    shape = (height, width, 1 if reading.grey or head.grey else 3)
    small = max(height, width) <= MOST_SIDE and len(digests) * height * width * 3 <= MOST_BYTES
    return shape if small else None


def _same(found: listing.Listing, entry: listing.Entry, digest: bytes) -> bytes:
    """Read a file again, and check that it is still the same."""
    content = found.read(entry.path)
    if sha256(content).digest() != digest:
        raise ValueError(f"{entry.path} has changed while it was read; repeat when nothing changes it")
    return content


def _size(sizes: Counter[tuple[int, int]], reading: Reading, root: Path) -> tuple[int, int]:
    """Return (H, W): the size asked for, or the most common one, the smallest of equals."""
    if reading.size:
        return reading.size, reading.size
    size = min(sizes, key=lambda s: (-sizes[s], s))
    if max(size) > MOST_SIDE:
        raise ValueError(f"the images of {root} are {size[0]}x{size[1]}; give a size, such as --size 64")
    return size


def _check_memory(n: int, shape: tuple[int, ...], root: object) -> None:
    total = n * int(np.prod(shape))
    if total > MOST_BYTES:
        raise ValueError(f"{n:,} images of {shape} from {root} take {total / 1e9:.0f} GB; give a smaller size")


def _sizes_note(sizes: Counter[tuple[int, int]], shape: tuple[int, ...]) -> list[str]:
    if set(sizes) == {shape[:2]}:
        return []
    listed = ", ".join(f"{n:,} of {h}x{w}" for (h, w), n in sizes.most_common(5))
    rest = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
    small = sum(n for (h, w), n in sizes.items() if h < shape[0] or w < shape[1])
    enlarged = f"; {small:,} of them smaller than that" if small else ""
    return [f"sizes: {listed}{rest}, brought to {shape[0]}x{shape[1]}{enlarged}"]


def _skip_notes(skipped: Counter[str], bad: Sequence[str], paths: Sequence[str]) -> list[str]:
    notes = [f"skipped: {n:,} {why}" for why, n in sorted(skipped.items())]
    if bad:
        notes.append(f"skipped: {len(bad):,} files that cannot be read: {'; '.join(bad[:5])}{' …' * (len(bad) > 5)}")
    if twice := len(paths) - len({p.casefold() for p in paths}):
        differ = "1 name differs" if twice == 1 else f"{twice:,} names differ"
        notes.append(f"{differ} from another only in case: a copy for Windows or macOS would lose images")
    return notes


# --- arrays -----------------------------------------------------------------------------------------------------------


def _from_npz(file: Path, reading: Reading, name: str) -> tuple[Dataset, list[str]]:
    """Load an .npz with our four keys and perhaps class_names, or with arr_0 and perhaps arr_1."""
    for field in ("size", "grey", "labels", "skip_bad"):
        if getattr(reading, field):
            raise ValueError(f"{field} is for image files; the arrays of {file} are read as they are, so leave it out")
    if formats.has_keys(file):
        arrays, names = formats.read_npz(file), formats.class_names(file)
        shape, top = arrays["x_train"].shape[1:], max(int(arrays[k].max(initial=0)) for k in ("y_train", "y_test"))
        classes = names or tuple(str(k) for k in range(top + 1))
        shape = (*shape, 1) if len(shape) == 2 else shape
        arrays = formats.checked(arrays, file, shape, len(classes))
        return _described(Dataset(name, classes, **arrays, source=str(file)), [])
    from ddpm.tools import image_files

    x, y = image_files.load_npz(file)
    classes = () if y is None else tuple(str(k) for k in range(int(y.max(initial=0)) + 1))
    if y is not None and y.min(initial=0) < 0:
        raise ValueError(f"{file}: arr_1 has the label {y.min()}; labels are 0 and above")
    return from_arrays(
        list(x), [0] * len(x) if y is None else y.tolist(), [None] * len(x), classes, reading, name, str(file)
    )


def from_arrays(
    images: Sequence[np.ndarray], labels: Sequence[int], test: Sequence[bool | None], classes: tuple[str, ...],
    reading: Reading, name: str, source: str,
) -> tuple[Dataset, list[str]]:  # fmt: skip
    """Make a data set of uint8 images (H, W), (H, W, 1) or (H, W, 3) of any sizes, as `read` does of files."""
    for image in images:
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise Damaged(f"{source} holds an image {image.dtype} {image.shape}; uint8 (H, W, 1 or 3) is wanted")
    sizes = Counter(image.shape[:2] for image in images)
    grey = reading.grey or all(image.ndim == 2 or image.shape[2] == 1 for image in images)
    shape = (*_size(sizes, reading, Path(source)), 1 if grey else 3)
    _check_memory(len(images), shape, source)
    x = np.empty((len(images), *shape), np.uint8)
    for i, image in enumerate(images):
        flat = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
        pixels = np.asarray(
            pictures.fitted(flat, shape[:2], reading.fit, reading.ground).convert("L" if grey else "RGB")
        )
        x[i] = pixels.reshape(shape)
    y, hashes = np.array(labels, np.int32), [sha256(image.data).digest() for image in x]
    test_side, notes = sides(hashes, y, test, classes, reading.test, source)
    notes = [*_sizes_note(sizes, shape), *notes]
    return _dataset(Divided(*divided(x, y, np.arange(len(x)), test_side), classes, notes), name, source)


# --- the data set -----------------------------------------------------------------------------------------------------


def _dataset(d: Divided, name: str, source: str) -> tuple[Dataset, list[str]]:
    """Make the data set of images that are divided, and describe it."""
    for a in (d.x, d.y):
        a.flags.writeable = False
    n = d.train
    return _described(Dataset(name, d.classes, d.x[:n], d.y[:n], d.x[n:], d.y[n:], source=source), d.notes)


def described(d: Dataset) -> list[str]:
    """Describe a data set in lines: its images, and its classes with their numbers."""
    n, m = len(d.x_train), len(d.x_test)
    lines = [f"{d.name}: {n + m:,} images {'x'.join(map(str, d.image_shape))}, {n:,} to train and {m:,} to test on"]
    if d.num_classes:
        count = np.bincount(np.concatenate([d.y_train, d.y_test]), minlength=d.num_classes)
        listed = ", ".join(f"{c} {k:,}" for c, k in zip(d.class_names[:20], count, strict=False))
        lines.append(f"{d.num_classes} classes: {listed}{', …' if d.num_classes > 20 else ''}")
    return lines


def _described(d: Dataset, notes: Sequence[str]) -> tuple[Dataset, list[str]]:
    return d, [*described(d), *notes]
