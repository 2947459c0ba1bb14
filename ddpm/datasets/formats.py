"""Read published files as four arrays.

The formats are the `.npz` of Keras, the IDX files of MNIST and its kin, and the two kinds of files of CIFAR-10.

Each reader returns {x_train, y_train, x_test, y_test}; `checked` converts them to uint8 NHWC images and int32 labels,
or reports which file is wrong, and how.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import math
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.tools.files import Damaged, check_members, check_regular, read_bytes, write_atomic

Arrays = dict[str, np.ndarray]
KEYS = ("x_train", "y_train", "x_test", "y_test")
MOST_IDX = 1 << 28  # bytes of one IDX file, unpacked
MOST_BATCH = 1 << 26  # bytes of one batch of CIFAR-10
REMEDY = "Delete the file, so that it is fetched anew, or put a whole one in its place"
BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


def checked(arrays: Arrays, source: object, shape: tuple[int, ...], num_classes: int) -> Arrays:
    """Check and convert to read-only uint8 images (N, H, W, C) and int32 labels (N,) in 0..num_classes-1.

    Grey images (N, H, W) become (N, H, W, 1).
    """
    out: Arrays = {}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if shape[-1] == 1 and x.shape[1:] == shape[:2]:
            x = x[..., None]
        if x.dtype != np.uint8 or x.shape[1:] != shape or len(x) == 0:
            raise Damaged(f"{source}: x_{split} is {x.dtype} {x.shape}; wanted uint8 (N, {', '.join(map(str, shape))})")
        if y.shape not in ((len(x),), (len(x), 1)) or not np.issubdtype(y.dtype, np.integer):
            raise Damaged(
                f"{source}: y_{split} is {y.dtype} {y.shape}; wanted one whole number for each of {len(x)} images"
            )
        if not (0 <= y.min() and y.max() < num_classes):
            raise Damaged(f"{source}: y_{split} lies in {y.min()}..{y.max()}; labels are 0..{num_classes - 1}")
        out |= {f"x_{split}": np.ascontiguousarray(x), f"y_{split}": y.reshape(-1).astype(np.int32)}
    for a in out.values():
        a.flags.writeable = False
    return out


# --- .npz -------------------------------------------------------------------------------------------------------------


def read_npz(file: Path) -> Arrays:
    """Read an .npz with the keys x_train, y_train, x_test, y_test."""
    check_regular(file)
    try:
        with zipfile.ZipFile(file) as archive:  # np.load alone reports a truncated file as a pickle
            check_members(archive)
        with np.load(file, allow_pickle=False) as z:
            missing = [k for k in KEYS if k not in z]
            if missing:
                raise Damaged(f"{file} lacks {', '.join(missing)}; it holds {', '.join(z) or 'nothing'}")
            return {k: z[k] for k in KEYS}
    except Damaged:
        raise
    except BROKEN as e:
        raise Damaged(f"{file} is not a whole .npz file ({e}). {REMEDY}") from e


def has_keys(file: Path) -> bool:
    """True if an .npz holds one of the keys x_train, y_train, x_test, y_test."""
    check_regular(file)
    try:
        with zipfile.ZipFile(file) as z:
            return any(f"{k}.npy" in z.namelist() for k in KEYS)
    except BROKEN as e:
        raise Damaged(f"{file} is not a whole .npz file ({e}). {REMEDY}") from e


def class_names(file: Path) -> tuple[str, ...]:
    """Read the key class_names of an .npz; () where it has none."""
    with np.load(file, allow_pickle=False) as z:
        names = z["class_names"] if "class_names" in z else np.array([], dtype=str)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise Damaged(f"{file}: class_names is {names.dtype} {names.shape}; a list of texts is wanted")
    return tuple(names.tolist())


def write_npz(file: Path, arrays: Arrays) -> None:
    """Write the same .npz, completely or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(file, buffer.getvalue())


# --- IDX: MNIST and the sets that took over its format and the names of its files ------------------------------------

IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def idx_files(place: Path) -> list[Path]:
    """Find the four IDX files in a folder, gzipped or not; [] unless all are there.

    Kaggle writes `train-images.idx3-ubyte`, and may unpack each file into a folder of its own name.
    """
    found = []
    for stem in IDX.values():
        dotted = stem.replace("-idx", ".idx")
        names = (stem, f"{stem}.gz", f"{stem}/{stem}", dotted, f"{dotted}.gz", f"{stem}/{dotted}")
        found.append(next((place / name for name in names if (place / name).is_file()), None))
    return [file for file in found if file] if all(found) else []


def unpack(file: Path) -> bytes:
    """Read a file, gunzipped if its name ends in .gz."""
    try:
        data = read_bytes(file, MOST_IDX)
        if file.suffix == ".gz":
            with gzip.open(io.BytesIO(data)) as whole:
                data = whole.read(MOST_IDX + 1)
        if len(data) > MOST_IDX:
            raise Damaged(f"{file} unpacks to more than {MOST_IDX:,} bytes, the limit. {REMEDY}")
        return data
    except Damaged:
        raise
    except BROKEN as e:
        raise Damaged(f"{file} is not a whole gzip file ({e}). {REMEDY}") from e


def read_idx(file: Path) -> np.ndarray:
    """Read an IDX file: the bytes 0, 0, 8 (= uint8), the number of axes, their lengths, the data.

    Each length is a big-endian uint32.
    """
    data = unpack(file)
    start = 4 + 4 * data[3] if len(data) > 3 else 4
    if data[:3] != b"\0\0\x08" or len(data) < start:
        raise Damaged(f"{file} is not an IDX file of bytes; it begins with {data[:4].hex() or 'nothing'}. {REMEDY}")
    shape = np.frombuffer(data, ">u4", data[3], offset=4).astype(int)
    if len(data) - start != math.prod(shape.tolist()):
        raise Damaged(f"{file} holds {len(data) - start} bytes; its header says {math.prod(shape.tolist())}. {REMEDY}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_idx_files(files: list[Path]) -> Arrays:
    """Read the four files that `idx_files` found."""
    return {k: read_idx(f) for k, f in zip(IDX, files, strict=True)}


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------

CIFAR = {  # the six batches, with the MD5 of their records
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CIFAR_PLACES = ("", "cifar10", "cifar-10-python", "cifar-10-batches-py-target", "cifar-10-batches-py.tar.gz")


def find_cifar(folder: Path) -> list[Path]:
    """Find CIFAR-10 in `folder`, or in the folders that Keras and Kaggle put around it.

    It is six binary files, or the six files for Python that torchvision and Keras unpack, or the tar file of either.
    """
    for place in (folder / name for name in CIFAR_PLACES):
        for inner, end in (("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", "")):
            files = [place / inner / f"{name}{end}" for name in CIFAR]
            if all(f.is_file() for f in files):
                return files
        for name in ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz"):
            if (place / name).is_file():
                return [place / name]
    return []


def read_cifar(files: list[Path]) -> Arrays:
    """Read CIFAR-10 from the files that `find_cifar` found.

    A batch of 10,000 images has to be the published one; a smaller one is a part of it.
    """
    data = {f.name: read_bytes(f, MOST_BATCH) for f in files} if len(files) > 1 else _members(files[0])
    binary = "test_batch.bin" in data
    missing = [f"{n}.bin" if binary else n for n in CIFAR if (f"{n}.bin" if binary else n) not in data]
    if missing:
        raise Damaged(f"{files[0]} lacks {', '.join(missing)}. {REMEDY}")
    x, y = [], []
    for name, md5 in CIFAR.items():
        file = files[0].with_name(f"{name}.bin" if binary else name)
        content = data[file.name] if binary else _records(data[name], file)
        if not content or len(content) % 3073:
            raise Damaged(
                f"{file} has {len(content)} bytes, not a multiple of 3,073 (a label and 3 x 32 x 32). {REMEDY}"
            )
        if len(content) == 30_730_000 and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise Damaged(f"{file} is not the published batch: the checksum of its images differs. {REMEDY}")
        records = np.frombuffer(content, np.uint8).reshape(-1, 3073)  # the label, then the planes of red, green, blue
        x.append(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        y.append(records[:, 0])
    return {"x_train": np.concatenate(x[:5]), "y_train": np.concatenate(y[:5]), "x_test": x[5], "y_test": y[5]}


def _members(file: Path) -> dict[str, bytes]:
    """Read the batches of CIFAR-10 from a tar.gz file."""
    data, names = {}, {*CIFAR, *(f"{n}.bin" for n in CIFAR)}
    try:
        with tarfile.open(file, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                content = tar.extractfile(member) if name in names and member.size <= MOST_BATCH else None
                if content is not None:
                    data[name] = content.read()
    except BROKEN as e:
        raise Damaged(f"{file} is not a whole tar.gz file ({e}). {REMEDY}") from e
    return data


def _records(data: bytes, file: Path) -> bytes:
    """Turn a batch for Python, a pickled dict of data (n, 3·32·32) and labels, into the records of the binary files."""
    try:
        batch = _OnlyArrays(io.BytesIO(data), encoding="bytes").load()
        planes, labels = batch[b"data"], np.array(batch[b"labels"], np.uint8)
        return np.column_stack([labels, np.asarray(planes, np.uint8).reshape(len(labels), -1)]).tobytes()
    except Exception as e:  # what is no such pickle can fail anywhere
        raise Damaged(f"{file} is not a batch of CIFAR-10 for Python ({e}). {REMEDY}") from None


class _OnlyArrays(pickle.Unpickler):
    """An unpickler that makes NumPy arrays and nothing else: a pickle is a program."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ("ndarray", "dtype") and module == "numpy":
            return getattr(np, name)
        if name == "_reconstruct" and module.endswith("multiarray"):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in a pickle for Python 2
            return codecs.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array")
