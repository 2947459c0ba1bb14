"""The options of one's own images, which every command with --data takes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from ddpm.datasets.reading import divided, is_own


@dataclass(frozen=True)
class Own:
    """Your own images: --data photos reads a folder, a .zip of one, or an .npz; nothing in it is changed.

    Classes are its sub-folders, or the column label of a table labels.csv; there may be none. photos/train and
    photos/test are kept apart if they are there; else a tenth is kept for testing, chosen by the content of each image.
    `ddpm info --data photos` shows what is read, and how well a Gaussian does on it.
    """

    size: int | None = None  # bring the images to squares of this side, pixels; else to their most common size
    fit: Literal["crop", "pad", "stretch"] | None = None  # how: crop (the middle; if not given), pad, or stretch
    grey: bool = False  # without colours
    skip_bad: bool = False  # leave out files that cannot be read, and name them; else one such file stops the command


NONE = Own()  # no option given


def folded(command: Any) -> Any:
    """Move the options of `Own` into the text of --data, `photos,size=32,grey`, which the config of a run keeps."""
    own = getattr(command, "own", NONE)
    given = {k: v for k, v in vars(own).items() if v is not None and v is not False}
    if not given:
        return command
    from ddpm.datasets.sources import NAMES

    if not is_own(command.data, NAMES):
        flags = ", ".join(f"--{k.replace('_', '-')}" for k in given)
        what = f"--data is {command.data}" if command.data else "no --data is given"
        raise ValueError(f"{flags}: this is for your own images, given by their path, but {what}; leave it out")
    path, words = divided(command.data)
    words = [w for w in words if w.partition("=")[0] not in given]
    words += [k if v is True else f"{k}={v}" for k, v in given.items()]
    return dataclasses.replace(command, data=",".join([path, *words]), own=NONE)
