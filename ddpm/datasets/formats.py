"""Read published files as four arrays.

The formats are the `.npz` of Keras, the IDX files of Fashion-MNIST, and the binary files of CIFAR-10.

Each reader returns {x_train, y_train, x_test, y_test}; `checked` converts them to uint8 NHWC images and int32 labels,
or reports which file is wrong, and how.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm.tools.files import Damaged, write_atomic

Arrays = dict[str, np.ndarray]
KEYS = ("x_train", "y_train", "x_test", "y_test")
REMEDY = "Delete the file, so that it is fetched anew, or put a whole one in its place"
BROKEN = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


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
    try:
        with zipfile.ZipFile(file):  # np.load alone reports a truncated file as a pickle
            pass
        with np.load(file, allow_pickle=False) as z:
            missing = [k for k in KEYS if k not in z]
            if missing:
                raise Damaged(f"{file} lacks {', '.join(missing)}; it holds {', '.join(z) or 'nothing'}")
            return {k: z[k] for k in KEYS}
    except Damaged:
        raise
    except BROKEN as e:
        raise Damaged(f"{file} is not a whole .npz file ({e}). {REMEDY}") from e


def write_npz(file: Path, arrays: Arrays) -> None:
    """Write the same .npz, completely or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(file, buffer.getvalue())


# --- IDX: Fashion-MNIST -----------------------------------------------------------------------------------------------

IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def find_idx(folder: Path) -> list[Path]:
    """Find the four IDX files, gzipped or not; [] unless all are there.

    Searched are `folder`, `folder`/fashion_mnist and the place where torchvision keeps them.
    """
    for place in (folder, folder / "fashion_mnist", folder / "FashionMNIST" / "raw"):
        both = [[f for f in (place / stem, place / f"{stem}.gz") if f.is_file()] for stem in IDX.values()]
        if all(both):
            return [found[0] for found in both]
    return []


def read_idx(file: Path) -> np.ndarray:
    """Read an IDX file: the bytes 0, 0, 8 (= uint8), the number of axes, their lengths, the data.

    Each length is a big-endian uint32.
    """
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except BROKEN as e:
        raise Damaged(f"{file} is not a whole gzip file ({e}). {REMEDY}") from e
    start = 4 + 4 * data[3] if len(data) > 3 else 4
    if data[:3] != b"\0\0\x08" or len(data) < start:
        raise Damaged(f"{file} is not an IDX file of bytes; it begins with {data[:4].hex() or 'nothing'}. {REMEDY}")
    shape = np.frombuffer(data, ">u4", data[3], offset=4).astype(int)
    if len(data) - start != shape.prod():
        raise Damaged(f"{file} holds {len(data) - start} bytes; its header says {shape.prod()}. {REMEDY}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_idx_files(files: list[Path]) -> Arrays:
    """Read Fashion-MNIST from the four files that `find_idx` found."""
    return {k: read_idx(f) for k, f in zip(IDX, files, strict=True)}


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------

CIFAR_TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
CIFAR_TEST = ["test_batch.bin"]


def find_cifar(folder: Path) -> list[Path]:
    """Find CIFAR-10 in `folder` or `folder`/cifar10: six extracted binary files, or the tar file."""
    for place in (folder, folder / "cifar10"):
        batches = [place / "cifar-10-batches-bin" / f for f in CIFAR_TRAIN + CIFAR_TEST]
        for files in (batches, [place / "cifar-10-binary.tar.gz"]):
            if all(f.is_file() for f in files):
                return files
    return []


def _records(data: bytes, file: object) -> tuple[np.ndarray, np.ndarray]:
    """Read records of 1 + 3·32·32 bytes: the label, then the red, green and blue planes."""
    if not data or len(data) % 3073:
        raise Damaged(f"{file} has {len(data)} bytes, not a multiple of 3,073 (a label and 3 x 32 x 32). {REMEDY}")
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def read_cifar(files: list[Path]) -> Arrays:
    """Read CIFAR-10 from the files that `find_cifar` found."""
    names = CIFAR_TRAIN + CIFAR_TEST
    if len(files) > 1:
        data = {f.name: f.read_bytes() for f in files}
    else:
        data = {}
        try:
            with tarfile.open(files[0], "r:gz") as tar:
                for member in tar:
                    content = tar.extractfile(member) if Path(member.name).name in names else None
                    if content is not None:
                        data[Path(member.name).name] = content.read()
        except BROKEN as e:
            raise Damaged(f"{files[0]} is not a whole tar.gz file ({e}). {REMEDY}") from e
    missing = [n for n in names if n not in data]
    if missing:
        raise Damaged(f"{files[0]} lacks {', '.join(missing)}. {REMEDY}")
    x, y = zip(*(_records(data[n], files[0].with_name(n)) for n in names), strict=True)
    return {"x_train": np.concatenate(x[:5]), "y_train": np.concatenate(y[:5]), "x_test": x[5], "y_test": y[5]}


# --- the published sets -----------------------------------------------------------------------------------------------


class Published(NamedTuple):
    """A published data set: its shape, the address of its files, and how to find and read them."""

    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    url: str  # of the folder
    files: dict[str, str]  # name: SHA-256, as tensorflow-datasets registers it (url_checksums/<name>.txt)
    megabytes: int
    find: Callable[[Path], list[Path]]  # in a folder; [] if not there
    read: Callable[[list[Path]], Arrays]


PUBLISHED: dict[str, Published] = {
    "fashion_mnist": Published(
        (28, 28, 1),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        31,
        find_idx,
        read_idx_files,
    ),
    "cifar10": Published(
        (32, 32, 3),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "https://www.cs.toronto.edu/~kriz",
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        170,
        find_cifar,
        read_cifar,
    ),
}


def fetch(name: str, folder: Path) -> None:
    """Download the files of a published set and refuse a wrong checksum.

    Without a network it fails after seconds, not minutes.
    """
    import pooch

    published = PUBLISHED[name]
    print(f"{name}: downloading {published.megabytes} MB, once", file=sys.stderr)
    get = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=(5, 20))
    for file, sha256 in published.files.items():
        url = f"{published.url}/{file}"
        try:
            pooch.retrieve(url, f"sha256:{sha256}", fname=file, path=folder, downloader=get)
        except ValueError as e:
            raise Damaged(f"{url}: what came is not what was published, and was thrown away. {e}") from e
