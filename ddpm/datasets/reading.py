"""How one's own images are read: the options, and the text `PATH,size=32,grey` that holds a path with its options.

One text is enough wherever a data set is named, and a run's config.json keeps it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Reading:
    """How one's own images are read."""

    size: int | None = None  # side of the square images, pixels; None: the most common size in the folder
    fit: str = "crop"  # how others get there: crop (around the centre), pad (with the ground) or stretch
    grey: bool = False  # without colours; they are also left out where all images are grey
    ground: int = 255  # the grey behind transparent pixels and around padded images: 255 white, 0 black
    labels: str | None = None  # a CSV with the columns file and label; else labels.csv in the folder, if it is there
    test: float = 0.1  # share of the images to test on, where the folder has no train/ and test/
    skip_bad: bool = False  # leave out files that cannot be read, and name them; else they are refused

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}; give a side of 1..4096 pixels")
        if self.fit not in FITS:
            raise ValueError(f"fit {self.fit!r} is not known. Known: {', '.join(FITS)}")
        if not 0 <= self.ground <= 255:
            raise ValueError(f"ground is {self.ground}; give a grey level in 0..255 (255 is white)")
        if not 0 < self.test < 1:
            raise ValueError(f"test is {self.test}; give a share in (0, 1)")


# --- the text of an option --------------------------------------------------------------------------------------------


def is_path(text: str, names: Sequence[str] = ()) -> bool:
    """True if `text` is meant as a path: it is no known name, and it exists, or is written like one."""
    first = text.split(",")[0]
    if first in names or not first or text.startswith("tfds:"):
        return False
    written = any(c in text for c in ("/", os.sep)) or first.endswith((".npz", ".zip")) or first in (".", "..", "~")
    return written or Path(divided(text)[0]).expanduser().exists()


def is_own(text: str, names: Sequence[str] = ()) -> bool:
    """True if `text` means images that can be brought to a size: a path, or a set of tensorflow-datasets."""
    return text.startswith("tfds:") or is_path(text, names)


def divided(text: str) -> tuple[str, list[str]]:
    """Divide `PATH,size=32,grey` at a comma; the path is the longest part that exists, for its name may have commas."""
    parts = text.split(",")
    for n in range(len(parts), 0, -1):
        if Path(path := ",".join(parts[:n])).expanduser().exists():
            return path, parts[n:]
    return parts[0], parts[1:]


def parse(text: str, options: dict[str, Any] | None = None) -> tuple[Path, Reading]:
    """Divide `PATH,size=32,grey` into the path and how it is read; keywords in `options` win."""
    path, words = divided(text)
    return Path(path).expanduser(), reading_of(text, words, options or {})


def reading_of(text: str, words: Sequence[str], options: dict[str, Any]) -> Reading:
    """Make the options from words such as `size=32` and `grey`; keywords in `options` win."""
    fields = {f.name: f for f in dataclasses.fields(Reading)}
    given: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        kind = str(fields[name].type) if name in fields else ""
        try:
            if kind == "bool":
                given[name] = {"": True, "true": True, "1": True, "false": False, "0": False}[value.lower()]
            else:
                given[name] = int(value) if "int" in kind else float(value) if kind == "float" else value
        except (ValueError, KeyError):
            raise ValueError(f"{word!r} in {text!r}: {value!r} is not a value for {name}") from None
    unknown = sorted(({*given} | {*options}) - {*fields})
    if unknown:
        raise ValueError(f"{text!r}: {', '.join(unknown)} is not an option. Known: {', '.join(fields)}")
    return Reading(**(given | {k: v for k, v in options.items() if v is not None}))


def short_name(data: str) -> str:
    """A word for a data set that can stand in a file name: its name, or that of its folder without options."""
    if data.startswith("tfds:"):
        return re.sub(r"\W+", "-", data.removeprefix("tfds:").split(",")[0]).strip("-")
    if not is_path(data):
        return data
    path = parse(data)[0]
    return (
        re.sub(r"[^\w.-]+", "-", path.resolve().name.removesuffix(".npz").removesuffix(".zip")).strip("-.") or "images"
    )
