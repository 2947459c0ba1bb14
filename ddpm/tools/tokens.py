"""Split texts into words, and words into numbers: the tokens of a small, closed vocabulary."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

PAD, BEGIN = 0, 1  # the numbers of what fills up a row, and of what begins it; word i of a vocabulary is 2 + i


def split(text: str, vocabulary: Sequence[str]) -> list[str]:
    """Split a prompt into known words; unknown ones are named, with near ones suggested.

    Case, commas and full stops do not matter.
    """
    if not isinstance(text, str):
        raise TypeError(f"the prompt is {text!r}; give words. No prompt at all is the condition None")
    words = re.sub(r"[.,;]", " ", text.lower()).split()
    if not words:
        raise ValueError("the prompt is empty; give words, such as those of " + " ".join(vocabulary[:12]))
    for word in words:
        if word not in vocabulary:
            near = difflib.get_close_matches(word, vocabulary, n=3, cutoff=0.6)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"the prompt holds {word!r}, which is not known. Known: {', '.join(vocabulary)}.{hint}")
    return words


@lru_cache(maxsize=8)
def _numbers(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {word: 2 + i for i, word in enumerate(vocabulary)}


def encode(texts: Sequence[str], vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Number the words of texts: (n, length) int32, each row BEGIN, the words, and PAD to the end."""
    if isinstance(texts, str):
        raise ValueError(f"texts is the one text {texts!r}; give a list of texts")
    number, vocabulary = _numbers(tuple(vocabulary)), tuple(vocabulary)
    rows = np.full((len(texts), length), PAD, np.int32)
    rows[:, 0] = BEGIN
    for row, text in zip(rows, texts, strict=True):
        words = split(text, vocabulary)
        if len(words) >= length:
            raise ValueError(f"the prompt has {len(words)} words; at most {length - 1} are read. Shorten {text!r}")
        row[1 : 1 + len(words)] = [number[word] for word in words]
    return rows


def nothing(n: int, length: int) -> np.ndarray:
    """The tokens of ∅, BEGIN alone: (n, length) int32, the same in training and in sampling."""
    rows = np.full((n, length), PAD, np.int32)
    rows[:, 0] = BEGIN
    return rows
