"""What is in a folder of images: paths, splits and classes; nothing is decoded, and nothing is changed.

    photos/cat/1.jpg, photos/dog/2.png            classes are the sub-folders
    photos/1.jpg, photos/2.png                    no classes; or those of a table of labels
    photos/train/cat/1.jpg, photos/test/dog/2.png both, with the two splits given

A .zip of such a folder is read without unpacking it.
"""

from __future__ import annotations

import csv
import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ddpm.tools.files import Damaged, read_bytes
from ddpm.tools.pictures import SUFFIXES

JUNK = {"thumbs.db", "desktop.ini", "__macosx"}
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
LABELS = "labels.csv"  # the table of labels that is looked for in the folder
FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "path", "name", "id")
LABEL_COLUMNS = ("label", "class", "category", "target")
MOST_FILES = 10_000_000
MOST_FILE = 1 << 28  # bytes of one


class Entry(NamedTuple):
    """One image: its path inside the folder, and what the path tells about it."""

    path: str
    label: str | None  # the name of its class
    test: bool | None  # None where the folder has no splits


class Listing(NamedTuple):
    """The images of a folder in the order of their paths, and what was left out."""

    entries: list[Entry]
    classes: tuple[str, ...]  # in the order of their numbers; () without classes
    read: Callable[[str], bytes]
    skipped: Counter[str]  # why: how many


def listed(root: Path, labels: str | None = None) -> Listing:
    """List the images of a folder or of a .zip; labels: a table of labels, else `labels.csv` in the folder."""
    skipped: Counter[str] = Counter()
    if root.is_dir():
        paths = sorted(_walk(root, "", skipped))
        read = _reader(root)
    else:
        paths, read = _zipped(root, skipped)
    tables = [p for p in paths if p.lower() == LABELS]
    images = [p for p in paths if os.path.splitext(p)[1].lower() in SUFFIXES]
    for path in set(paths) - set(images) - set(tables):
        skipped[f"{os.path.splitext(path)[1] or 'other'} files"] += 1
    if not images:
        what = ", ".join(f"{n} {why}" for why, n in skipped.items()) or "nothing"
        raise ValueError(f"{root} holds no image (.png .jpg .webp .bmp .gif); it holds {what}")
    entries = _entries(images, root, skipped)
    if labels or tables:
        text = read_bytes(Path(labels).expanduser(), MOST_FILE) if labels else read(tables[0])
        entries = _labelled(entries, text, labels or f"{root}/{LABELS}")
    classes = in_order({e.label for e in entries if e.label is not None})
    check_names(classes, root)
    return Listing(entries, classes, read, skipped)


# --- files ------------------------------------------------------------------------------------------------------------


def _walk(root: Path, inside: str, skipped: Counter[str]) -> Iterator[str]:
    """Yield the paths of regular files; hidden ones, symbolic links and what is no file are counted instead."""
    try:
        found = list(os.scandir(root / inside))
    except OSError as e:
        raise Damaged(f"{root / inside} cannot be listed: {e.strerror}. Make it readable, or take it out") from None
    for item in found:
        path = f"{inside}/{item.name}" if inside else item.name
        if item.name.startswith(".") or item.name.lower() in JUNK:
            skipped["hidden or system files"] += 1
        elif item.is_symlink():
            skipped["symbolic links"] += 1
        elif item.is_dir():
            yield from _walk(root, path, skipped)
        elif item.is_file():
            yield path
        else:
            skipped["pipes, sockets and devices"] += 1


def _reader(root: Path) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        file = os.path.join(root, path)  # a Path would take as long as to read a small file
        try:
            about = os.stat(file)
            if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_FILE:
                return read_bytes(file, MOST_FILE)  # says why not
            with open(file, "rb") as content:
                return content.read()
        except (Damaged, FileNotFoundError):
            if os.path.exists(file):
                raise
            raise ValueError(f"{file} has gone while {root} was read; repeat when nothing changes it") from None
        except OSError as e:
            raise Damaged(f"{file} cannot be read: {e.strerror}") from None

    return read


def _zipped(file: Path, skipped: Counter[str]) -> tuple[list[str], Callable[[str], bytes]]:
    """List the files of a .zip, without a folder that is around all of them."""
    try:
        archive = zipfile.ZipFile(file)
        infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError) as e:
        raise Damaged(f"{file} is not a whole .zip file ({e}). Put a whole file in its place") from None
    # Paths that stay inside, without hidden files and links
    kept: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        parts = PurePosixPath(info.filename).parts
        if ".." in parts or info.filename.startswith("/") or "\\" in info.filename:
            raise Damaged(f"{file} holds {info.filename!r}, a path that leads out of it; pack the folder anew")
        if any(p.startswith(".") or p.lower() in JUNK for p in parts):
            skipped["hidden or system files"] += 1
        elif stat.S_ISLNK(info.external_attr >> 16):
            skipped["symbolic links"] += 1
        else:
            kept["/".join(parts)] = info
    # A folder around everything is left away
    outer = {p.split("/")[0] for p in kept if "/" in p}
    if len(outer) == 1 and all(p.count("/") for p in kept):
        (name,) = outer
        kept = {p.removeprefix(f"{name}/"): info for p, info in kept.items()}

    def read(path: str) -> bytes:
        info = kept[path]
        try:
            if info.file_size > MOST_FILE:
                raise Damaged(f"{file}: {path} claims {info.file_size:,} bytes; {MOST_FILE:,} are read at most")
            return archive.read(info)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as e:
            raise Damaged(f"{file}: {path} cannot be unpacked: {e}") from None

    return sorted(kept), read


# --- splits and classes -----------------------------------------------------------------------------------------------


def _entries(paths: Sequence[str], root: Path, skipped: Counter[str]) -> list[Entry]:
    """Read splits and classes from the paths."""
    if len(paths) > MOST_FILES:
        raise ValueError(f"{root} holds {len(paths):,} images; {MOST_FILES:,} are read at most")
    # The two splits, if the outer folders are named so
    outer = {p.split("/")[0] if "/" in p else "" for p in paths}
    train = next((n for n in outer if n.lower() in TRAIN), None)
    second = sorted((n for n in outer if n.lower() in TEST), key=lambda n: TEST.index(n.lower()))
    if train and len(outer) == 1 + len(second):
        used = {train, *second[:1]}
        for p in paths:
            if p.split("/")[0] not in used:
                skipped[f"images in {p.split('/')[0]}/ (the test images are in {second[0]}/)"] += 1
        inner = [
            (p, p.split("/")[1:], p.split("/")[0] != train if second else None)
            for p in paths
            if p.split("/")[0] in used
        ]
    else:
        inner = [(p, p.split("/"), None) for p in paths]
    # Classes: all images lie in sub-folders, or none does
    deep = next((p for p, parts, _ in inner if len(parts) > 2), None)
    if deep:
        raise ValueError(
            f"{root / deep} lies two folders deep; the sub-folders are the classes, with the images in them"
        )
    flat = next((p for p, parts, _ in inner if len(parts) == 1), None)
    if flat and any(len(parts) == 2 for _, parts, _ in inner):
        raise ValueError(f"{root / flat} lies next to class folders; move it into one of them, or out of {root}")
    return [Entry(p, None if len(parts) == 1 else parts[0], test) for p, parts, test in inner]


def _labelled(entries: list[Entry], content: bytes, table: str) -> list[Entry]:
    """Give each image its label from a table: each image has one row, and each row its image."""
    if any(e.label is not None for e in entries):
        raise ValueError(f"{table} gives labels, and so do the sub-folders; take one of them away")
    label = _table(content, table)
    out, used = [], set()
    for e in entries:
        path = PurePosixPath(e.path)
        keys = (e.path, path.name, path.with_suffix("").as_posix(), path.stem)
        key = next((k for k in keys if k in label), None)
        if key is None:
            raise ValueError(f"{table} has no row for {e.path}; add one, or take the image away")
        used.add(key)
        out.append(e._replace(label=label[key]))
    if left := [k for k in label if k not in used]:
        raise ValueError(f"{table} has {len(left)} rows without an image, such as {left[0]!r}; take them out")
    return out


def _table(content: bytes, table: str) -> dict[str, str]:
    """Read {file: label} from a CSV file with a header, separated by commas, semicolons or tabs."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Damaged(f"{table} is not UTF-8 text; save it as CSV UTF-8") from None
    first = text.split("\n", 1)[0]
    rows = [r for r in csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)) if any(r)]
    header = [h.strip().lower() for h in rows[0]] if rows else []
    file = next((header.index(n) for n in FILE_COLUMNS if n in header), None)
    column = next((header.index(n) for n in LABEL_COLUMNS if n in header), None)
    if file is None or column is None:
        raise ValueError(
            f"{table} begins with {', '.join(header) or 'nothing'}; a header with the columns file and label is wanted"
        )
    label: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise ValueError(f"{table}, row {number} has {len(row)} columns; the header has {len(header)}")
        name, value = row[file].strip().removeprefix("./"), row[column].strip()
        if label.setdefault(name, value) != value:
            raise ValueError(f"{table} gives {name} two labels: {label[name]!r} and {value!r}; take one row away")
    return label


def in_order(names: set[str]) -> tuple[str, ...]:
    """Sort the names of classes, as numbers if all of them are."""
    return tuple(sorted(names, key=lambda n: (int(n), n) if all(m.isdecimal() for m in names) else (0, n)))


def check_names(names: Sequence[str], root: object) -> None:
    """Refuse names of classes that a page, a file name or a command could take for something else."""
    lowered: dict[str, str] = {}
    for name in names:
        if not name or name != name.strip() or not name.isprintable() or any(c in "/\\<>" for c in name):
            raise ValueError(
                f"{root}: {name!r} cannot be the name of a class; it needs visible characters, without / \\ < > "
                f"and without spaces around it. Rename it"
            )
        if (other := lowered.setdefault(name.casefold(), name)) != name:
            raise ValueError(f"{root}: the classes {other!r} and {name!r} differ only in case; rename one")
