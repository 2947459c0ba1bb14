"""The published data sets: their files with checksums, where they may lie, and how to download them.

MNIST, Fashion-MNIST and Kuzushiji-MNIST have files of the same four names; their checksums tell them apart.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

from ddpm.datasets import formats
from ddpm.datasets.formats import IDX, Arrays
from ddpm.tools.files import Damaged, read_bytes


class Published(NamedTuple):
    """A published data set: its shape, the address of its files, their checksums, and the folders they may lie in."""

    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    url: str  # of the folder
    files: dict[str, str]  # name: SHA-256, as tensorflow-datasets registers it (url_checksums/<name>.txt)
    megabytes: int
    places: tuple[str, ...] = ()  # folders inside a data folder, in addition to that folder
    unpacked: tuple[str, ...] = ()  # SHA-256 of the four files without gzip, in the order of `files`


def _idx(*sha256: str) -> dict[str, str]:
    return dict(zip((f"{stem}.gz" for stem in IDX.values()), sha256, strict=True))


PUBLISHED: dict[str, Published] = {
    "fashion_mnist": Published(
        (28, 28, 1),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        _idx(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        31,
        ("fashion_mnist", "fashion-mnist", "fashionmnist", "FashionMNIST/raw"),
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "cifar10": Published(
        (32, 32, 3),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "https://www.cs.toronto.edu/~kriz",
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        170,
    ),
    "mnist": Published(
        (28, 28, 1),
        tuple("0123456789"),
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        _idx(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        12,
        ("mnist", "MNIST/raw", "mnist-dataset"),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "kmnist": Published(
        (28, 28, 1),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
        _idx(
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        21,
        ("kmnist", "KMNIST/raw"),
    ),
}


def find(name: str, folder: Path) -> list[Path]:
    """Find the files of a published set in a folder; [] if they are not there, or are another set's."""
    if name == "cifar10":
        return formats.find_cifar(folder)
    for place in ("", *PUBLISHED[name].places):
        files = formats.idx_files(folder / place)
        if files and belongs_to(files[-1]) in (name, None):
            return files
    return []


def read(name: str, files: list[Path]) -> Arrays:
    """Read the files that `find` found, if their checksums are the published ones."""
    if name == "cifar10":
        return formats.read_cifar(files)
    for i, file in enumerate(files):
        owner = belongs_to(file, i)
        if owner != name:
            formats.read_idx(file)  # names what is broken, if the file is
            whose = (
                f"{owner}'s file of that name" if owner else f"not the published file of {name}: its SHA-256 differs"
            )
            gz = "" if PUBLISHED[name].unpacked else "; this set is recognised by its .gz files"
            raise Damaged(f"{file} is {whose}{gz}. {formats.REMEDY}")
    return formats.read_idx_files(files)


def belongs_to(file: Path, which: int = 3) -> str | None:
    """Find the set to which an IDX file belongs, by its checksum, gzipped or not; None if it is nobody's.

    which: 0…3 for training images, training labels, test images, test labels.
    """
    packed = hashlib.sha256(read_bytes(file, formats.MOST_IDX)).hexdigest()
    for name, published in PUBLISHED.items():
        if len(published.files) == 4 and list(published.files.values())[which] == packed:
            return name
    try:
        content = hashlib.sha256(formats.unpack(file)).hexdigest()
    except Damaged:
        return None
    return next((n for n, p in PUBLISHED.items() if p.unpacked and p.unpacked[which] == content), None)


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
