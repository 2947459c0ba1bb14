"""The drawn garments: two of each class, and the command beside them draws them again."""

import numpy as np
import pytest

from ddpm.classifiers import classifier
from ddpm.cli import options, sample
from ddpm.data import to_float
from ddpm.datasets import garments


def test_two_different_garments_of_each_class():
    x, c = garments.load()
    assert x.shape == (20, 28, 28, 1) and x.dtype == np.uint8
    assert np.array_equal(c, np.repeat(np.arange(10), 2))
    assert x.min() == 0 and x.max() == 255 and len(np.unique(x.reshape(20, -1), axis=0)) == 20


@pytest.mark.slow
def test_the_command_draws_them_and_the_classifier_recognises_them(tmp_path):
    """Another machine may round a few pixels to the next grey level."""
    x, c = garments.load()
    ask = {"model": "fashion_mnist", "n": 2, "steps": 50, "guidance": 2.0, "seed": 1}
    sample.run(options.Sample(**ask, out=tmp_path / "x.png", npz=tmp_path / "x.npz"))
    with np.load(tmp_path / "x.npz") as again:
        assert np.abs(again["arr_0"].astype(int) - x).mean() < 1 and np.array_equal(again["arr_1"], c)
    logits, _ = classifier.load("fashion_mnist")(np.asarray(to_float(x)))
    assert np.mean(np.asarray(logits).argmax(1) == c) > 0.8
