"""The data set of pictures and captions: `load_data("wardrobe")`, `--data wardrobe`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ddpm.data import Dataset
from ddpm.datasets import formats
from ddpm.datasets.wardrobe import captions, drawing
from ddpm.datasets.wardrobe.words import GARMENTS, SIZE

TRAIN, TEST = 30_000, 3_000  # pictures


@dataclass(frozen=True, eq=False)
class Captioned(Dataset):
    """A data set whose images have captions beside their labels."""

    text_train: tuple[str, ...]
    text_test: tuple[str, ...]
    words: tuple[str, ...]  # the vocabulary of the captions

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the digest of images and labels, and of the captions."""
        digest = hashlib.sha256(super().sha256.encode())
        digest.update("\n".join((*self.text_train, *self.text_test)).encode())
        return digest.hexdigest()


@lru_cache(maxsize=1)
def wardrobe() -> Captioned:
    """Draw the data set: 30,000 training and 3,000 test pictures; the labels are the garments."""
    arrays: dict[str, np.ndarray] = {}
    texts = []
    for split, n, seed in (("train", TRAIN, 1), ("test", TEST, 2)):
        images, z = drawing.draw(n, seed)
        arrays |= {f"x_{split}": images, f"y_{split}": z.garment}
        texts.append(tuple(map(captions.caption, captions.mentioned(drawing.values_of(z), seed).tolist())))
    arrays = formats.checked(arrays, "the drawn wardrobe", (SIZE, SIZE, 3), len(GARMENTS))
    source = "drawn by ddpm.datasets.wardrobe"
    return Captioned(
        "wardrobe",
        GARMENTS,
        **arrays,
        source=source,
        text_train=texts[0],
        text_test=texts[1],
        words=captions.VOCABULARY,
    )


def values_for(texts: tuple[str, ...]) -> np.ndarray:
    """The values that captions ask for: (n, 8) int32, -1 for what they do not mention."""
    return np.stack([captions.parsed(text) for text in texts])
