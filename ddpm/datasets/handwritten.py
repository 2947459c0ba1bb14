"""scikit-learn's handwritten digits, the data set that needs no file."""

from __future__ import annotations

import numpy as np

from ddpm.data import Dataset
from ddpm.datasets import formats


def digits() -> Dataset:
    """The 1,797 handwritten digits inside scikit-learn: 8x8, 0..16 scaled to 0..255; 1,500 train and 297 test.

    A fixed shuffle (NumPy's legacy stream, which never changes), then of each class the same share for the test: the
    images whose rank within their class is the least. The split is over images; a writer may be on both sides.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    shuffle = np.random.RandomState(0).permutation(1797)
    x = np.round(bunch.images[shuffle] * (255 / 16)).astype(np.uint8)
    y = bunch.target[shuffle].astype(np.int32)
    rank = np.empty(1797)
    for k in range(10):
        rank[y == k] = (np.arange((y == k).sum()) + 0.5) / (y == k).sum()
    test = np.zeros(1797, dtype=bool)
    test[np.argsort(rank, kind="stable")[:297]] = True
    arrays = {"x_train": x[~test], "y_train": y[~test], "x_test": x[test], "y_test": y[test]}
    arrays = formats.checked(arrays, "scikit-learn's digits", (8, 8, 1), 10)
    return Dataset("digits", tuple("0123456789"), **arrays, source="inside scikit-learn")
