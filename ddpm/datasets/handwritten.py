"""scikit-learn's handwritten digits, a data set that needs no download."""

from __future__ import annotations

import numpy as np

from ddpm.data import Dataset
from ddpm.datasets import formats


def digits() -> Dataset:
    """Load the 1,797 handwritten digits of scikit-learn, 8x8: 1,500 train and 297 test.

    Values 0..16 are scaled to 0..255. After a fixed shuffle (NumPy's legacy stream, which never changes) the same share
    of each class becomes the test set: the images of lowest rank within their class. The split is over images, so a
    writer may be on both sides.
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
