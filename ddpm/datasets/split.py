"""Divide images into those to train on and those to test on, by the hash of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Divided(NamedTuple):
    """Images with labels, the test images last."""

    x: np.ndarray  # (N, H, W, C) uint8
    y: np.ndarray  # (N,) int32
    train: int  # how many of them are to train on
    classes: tuple[str, ...]  # () without classes
    notes: list[str]  # remarks about them


def sides(
    hashes: Sequence[bytes],
    y: np.ndarray,
    given: Sequence[bool | None],
    classes: tuple[str, ...],
    share: float,
    source: object,
) -> tuple[np.ndarray, list[str]]:
    """Decide which images are to test on: (N,) bool, and a remark about it.

    An image is tested on if its SHA-256, read as a number in [0, 1), is below `share`. So equal images are on one side,
    and an image stays there when others come. A class without a test image gives the one of smallest hash. Splits that
    are `given` stay as they are.
    """
    # Equal images
    distinct = set(hashes)
    notes = []
    if len(distinct) < len(hashes):
        copies = len(hashes) - len(distinct)
        notes.append(f"{copies:,} image{' equals' if copies == 1 else 's equal'} another one, pixel by pixel")
    both = len({(h, k) for h, k in zip(hashes, y.tolist(), strict=True)}) - len(distinct)
    if both:
        notes.append(f"{both:,} image{' is' if both == 1 else 's are'} in two classes")
    if len(distinct) < 2:
        raise ValueError(f"{source} holds one image, or copies of one; give at least two, to train on and to test on")
    of_class: list[set[bytes]] = [set() for _ in range(max(1, len(classes)))]
    for h, k in zip(hashes, y.tolist(), strict=True):
        of_class[k].add(h)
    # Splits that were given
    if None not in given:
        test = np.array(given, bool)
        for k, name in enumerate(classes):
            if not (~test[y == k]).any():
                raise ValueError(f"{source}: class {name!r} has no training image; add some, or take the class away")
        tested = {h for h, t in zip(hashes, given, strict=True) if t}
        if leaked := len(tested & {h for h, t in zip(hashes, given, strict=True) if not t}):
            notes.append(f"{leaked:,} images are in both train and test: errors on test images will look too small")
        return test, notes
    # By hash; every class is on both sides
    chosen = {h for h in distinct if int.from_bytes(h[:8]) < share * 2**64}
    for k, own in enumerate(of_class):
        if len(own) < 2:
            raise ValueError(
                f"{source}: class {classes[k]!r} has {'one image' if own else 'no image'}; give at least two different "
                f"ones, to train on and to test on, or take the class away"
            )
        if chosen.isdisjoint(own):
            chosen.add(min(own))
    for own in of_class:
        if chosen.issuperset(own):
            chosen.discard(max(own))
    return np.array([h in chosen for h in hashes]), notes


def divided(x: np.ndarray, y: np.ndarray, rows: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Move the test images behind the others, within x itself; only they are copied.

    rows: (n,) the rows of x in use, rising;  y, test: (n,) their labels and sides  ->  x, y, the number to train on.
    """
    held, stay = x[rows[test]], rows[~test]
    for i in range(0, len(stay), 1024):  # row i comes from a row at or behind i
        some = stay[i : i + 1024]
        x[i : i + len(some)] = x[some]
    x = x[: len(rows)]
    x[len(stay) :] = held
    return x, np.concatenate([y[~test], y[test]]), len(stay)
